"""Spaces that are missing, and, where none part words, spaces that should not be there."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from random import Random

from hybrid_retrieval.evaluation.perturbations.perturbation import Edit, Perturbation, letter, unspaced


class Spaces(Perturbation):
    """A space is lost; in languages without spaces between words one may also come between two letters."""

    name = "spaces"

    def by_words(self, language: str) -> bool:
        return not unspaced(language)

    def edits(self, units: Sequence[str], language: str, draw: Random) -> list[Edit]:
        lost = [Edit(at, at + 1, ()) for at, unit in enumerate(units) if unit.isspace()]
        if not unspaced(language):
            return lost
        return lost + [Edit(at, at + 1, (a, " ")) for at, (a, b) in enumerate(pairwise(units)) if letter(a) and letter(b)]
