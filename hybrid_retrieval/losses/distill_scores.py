"""Distillation of a teacher's scores over the batch (TCT-ColBERT, arXiv 2010.11386; here the teacher is a bi-encoder)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from hybrid_retrieval.config import Share
from hybrid_retrieval.losses.candidates import NEVER, passages_of, ranking, similarity
from hybrid_retrieval.losses.loss import Divisor, EmbeddedPairs, InBatchLoss, Scored


@dataclass(eq=False, repr=False, kw_only=True)
class DistillScores(InBatchLoss):
    """Each query's distribution over the batch's passages is drawn to the teacher's.

    With S_i the softmax of the student's scores of query i over all C passages (at the temperature), T_i the teacher's (at its
    own) and w the weight:  L_i = w KL(T_i || S_i) + (1 - w) InfoNCE_i.
    Every passage is a candidate of the first term: that two passages answer the same query is for the teacher to say. Mask and
    pool are those of InfoNCE. The teacher's embeddings may have other dimensions than the student's.
    """

    teacher: dict[str, Any]
    weight: Share = 1.0
    teacher_temperature: Divisor = 0.05

    def contrasts(self, pairs: EmbeddedPairs) -> Tensor:
        return passages_of(pairs, slice(None)).negative.any(1)

    def score(self, pairs: EmbeddedPairs, rows: slice) -> Scored:
        candidates = passages_of(pairs, rows, self.mask, self.pool)
        asked, answered = pairs.taught
        empty = pairs.of_passages.group < 0
        theirs = (similarity(asked[rows], answered) / self.teacher_temperature).masked_fill(empty, NEVER).log_softmax(1)
        mine = (candidates.similarity / self.divisor).masked_fill(empty, NEVER).log_softmax(1)
        divergence = nn.functional.kl_div(mine, theirs, reduction="none", log_target=True).sum(1)
        contrast = ranking(candidates, self.divisor)
        loss = self.weight * divergence + (1 - self.weight) * contrast.loss
        figures = {"divergence": divergence.detach(), "contrast": contrast.loss.detach()}
        return Scored(loss, contrast.hit, figures)
