"""Questions without their marks."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from random import Random

from hybrid_retrieval.evaluation.perturbations.perturbation import Edit, Perturbation


class Punctuation(Perturbation):
    """A punctuation mark is left out."""

    name = "punctuation"

    def edits(self, units: Sequence[str], language: str, draw: Random) -> list[Edit]:
        return [Edit(at, at + 1, ()) for at, unit in enumerate(units) if unicodedata.category(unit[0])[0] == "P"]
