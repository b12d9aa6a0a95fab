"""Questions as keywords: without articles, prepositions and the like."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from hybrid_retrieval.data.languages import primary
from hybrid_retrieval.evaluation.perturbations.perturbation import Edit, Perturbation
from hybrid_retrieval.evaluation.perturbations.tables import table


class FunctionWords(Perturbation):
    """A function word is left out, with the space after it."""

    name = "function_words"
    needs = "a list of its function words"

    def knows(self, language: str) -> bool:
        return primary(language) in table("function_words")

    def by_words(self, language: str) -> bool:
        return True

    def edits(self, units: Sequence[str], language: str, draw: Random) -> list[Edit]:
        known = table("function_words")[primary(language)]
        spaced = [*(unit.isspace() for unit in units[1:]), False]
        return [Edit(at, at + 1 + spaced[at], ()) for at, unit in enumerate(units) if unit.lower() in known]
