"""Letters that were typed twice."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from hybrid_retrieval.evaluation.perturbations.perturbation import Edit, Perturbation, letter


class Repeat(Perturbation):
    """A letter comes twice, with its marks."""

    name = "repeat"

    def edits(self, units: Sequence[str], language: str, draw: Random) -> list[Edit]:
        return [Edit(at, at + 1, (unit, unit)) for at, unit in enumerate(units) if letter(unit)]
