"""Letters that were not typed."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from hybrid_retrieval.evaluation.perturbations.perturbation import Edit, Perturbation, letter


class Drop(Perturbation):
    """A letter is lost, with its marks."""

    name = "drop"

    def edits(self, units: Sequence[str], language: str, draw: Random) -> list[Edit]:
        return [Edit(at, at + 1, ()) for at, unit in enumerate(units) if letter(unit)]
