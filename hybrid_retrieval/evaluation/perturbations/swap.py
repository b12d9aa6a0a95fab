"""Neighbouring letters in the wrong order."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from random import Random

from hybrid_retrieval.evaluation.perturbations.perturbation import Edit, Perturbation, letter


class Swap(Perturbation):
    """Two letters of a word that stand side by side change places, as one edit."""

    name = "swap"

    def edits(self, units: Sequence[str], language: str, draw: Random) -> list[Edit]:
        return [Edit(at, at + 2, (b, a)) for at, (a, b) in enumerate(pairwise(units)) if letter(a) and letter(b) and a != b]
