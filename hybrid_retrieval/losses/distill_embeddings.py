"""Distillation of a teacher's embeddings (arXiv 2004.09813)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hybrid_retrieval.losses.candidates import passages_of, ranking
from hybrid_retrieval.losses.loss import EmbeddedPairs, Loss, Scored, Side


@dataclass(eq=False, repr=False, kw_only=True)
class DistillEmbeddings(Loss):
    """Both texts of a pair are drawn to what the teacher makes of them.

    With x_i, y_i the embeddings of the sides of pair i and u_i, v_i the teacher's:
    L_i = ( |h(x_i) - u_i|^2 + |h(y_i) - v_i|^2 ) / 2, where h is the identity when the dimensions agree and a learned linear
    layer when they do not. In the paper the sides are a text and its translation (``sampler=x_y``), and the teacher reads both
    in its own language: ``loss.teacher.source_language``. Each of the `dimensions` has its own layer h.
    """

    teacher: dict[str, Any]
    sides: tuple[Side, Side] = ("passage", "passage")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.projections = nn.ModuleDict()

    def bind(self, dimensions: int, languages: Sequence[str], teacher_dimensions: int = 0) -> None:
        super().bind(dimensions, languages, teacher_dimensions)
        for width in self.widths:
            if width != teacher_dimensions:
                self.projections[str(width)] = nn.Linear(width, teacher_dimensions)

    def score(self, pairs: EmbeddedPairs, rows: slice) -> Scored:
        asked, answered = pairs.taught
        distance = self._distance(pairs.queries[rows], asked[rows]) + self._distance(pairs.passages[rows], answered[rows])
        with torch.no_grad():
            hit = ranking(passages_of(pairs, rows), distance.new_ones(())).hit
        return Scored(distance / 2, hit)

    def _distance(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Squared Euclidean distance, [r]."""
        width = str(student.shape[1])
        if width in self.projections:
            student = self.projections[width](student)
        return (student - teacher).pow(2).sum(1)
