"""Words in another order."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from hybrid_retrieval.evaluation.perturbations.perturbation import WORD, Edit, Perturbation, unspaced


class WordOrder(Perturbation):
    """Two neighbouring words change places, as one edit. Languages without spaces between words are not known."""

    name = "word_order"
    needs = "spaces between its words"

    def knows(self, language: str) -> bool:
        return not unspaced(language)

    def by_words(self, language: str) -> bool:
        return True

    def edits(self, units: Sequence[str], language: str, draw: Random) -> list[Edit]:
        three = zip(units, units[1:], units[2:], strict=False)
        return [
            Edit(at, at + 3, (c, b, a))
            for at, (a, b, c) in enumerate(three)
            if b.isspace() and WORD.fullmatch(a) and WORD.fullmatch(c) and a != c
        ]
