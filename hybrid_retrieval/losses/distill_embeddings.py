"""Distillation of a teacher's embeddings (arXiv 2004.09813)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hybrid_retrieval.losses.candidates import passages_of, ranking
from hybrid_retrieval.losses.loss import Divisor, EmbeddedPairs, Loss, Scored, Side
from hybrid_retrieval.values import NotNegative


@dataclass(eq=False, repr=False, kw_only=True)
class DistillEmbeddings(Loss):
    """Both texts of a pair are drawn to what the teacher makes of them.

    With x_i, y_i the embeddings of the sides of pair i and u_i, v_i the teacher's:
    L_i = ( |h(x_i) - u_i|^2 + |h(y_i) - v_i|^2 ) / 2, where h is the identity when the dimensions agree and a learned linear
    layer when they do not. In the paper the sides are a text and its translation (``sampler=x_y``), and the teacher reads both
    in its own language: ``loss.teacher.source_language``. Each of the `dimensions` has its own layer h.

    With `translation_ranking` w, w times the softmax cross-entropy of y_i among the batch's y_j at `temperature` is added
    (arXiv 2408.10536, Eq. 1, other translations left out): x_i is to find its y_i. There is no margin, and one direction.
    """

    teacher: dict[str, Any]
    translation_ranking: NotNegative = 0.0
    temperature: Divisor = 0.05
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
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.translation_ranking > 0):
            ranked = ranking(passages_of(pairs, rows), distance.new_tensor(self.temperature))
        if not self.translation_ranking:
            return Scored(distance / 2, ranked.hit)
        figures = {"distance": distance.detach() / 2, "translation_ranking": ranked.loss.detach()}
        return Scored(distance / 2 + self.translation_ranking * ranked.loss, ranked.hit, figures)

    def _distance(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Squared Euclidean distance, [r]."""
        width = str(student.shape[1])
        if width in self.projections:
            student = self.projections[width](student)
        return (student - teacher).pow(2).sum(1)
