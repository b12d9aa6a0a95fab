"""Distillation of a teacher's scores over the batch (TCT-ColBERT, arXiv 2010.11386; here the teacher is a bi-encoder)."""

from __future__ import annotations

from typing import Any

from torch import nn

from hybrid_retrieval.config import not_negative, positive, share
from hybrid_retrieval.errors import choice
from hybrid_retrieval.losses.candidates import NEVER, POOLS, passages_of, ranking, similarity
from hybrid_retrieval.losses.loss import SIDES, Dimensions, EmbeddedPairs, Scored, Sides
from hybrid_retrieval.losses.masks import MODES
from hybrid_retrieval.losses.temperature import SoftmaxLoss


class DistillScores(SoftmaxLoss):
    """Each query's distribution over the batch's passages is drawn to the teacher's.

    With S_i the softmax of the student's scores of query i over all C passages (at the temperature), T_i the teacher's (at its
    own) and w the weight:  L_i = w KL(T_i || S_i) + (1 - w) InfoNCE_i.
    Every passage is a candidate of the first term: that two passages answer the same query is for the teacher to say. Mask and
    pool are those of InfoNCE. The teacher's embeddings may have other dimensions than the student's.
    """

    def __init__(
        self,
        teacher: dict[str, Any],
        weight: float = 1.0,
        teacher_temperature: float = 0.05,
        temperature: float = 0.05,
        learn_temperature: bool = False,
        mask: str = "ignore",
        pool: str = "all",
        hard_negatives: int = 0,
        sides: Sides = SIDES,
        dimensions: Dimensions = None,
    ) -> None:
        """
        Args:
            teacher: its config (`hybrid_retrieval.training.teacher.Teacher`).
            weight: of the distillation; the rest is InfoNCE's.
            teacher_temperature: divides the teacher's scores.
            temperature, learn_temperature, mask, pool, hard_negatives: see `InfoNCE`.
            sides, dimensions: see `Loss`.
        """
        super().__init__(temperature, learn_temperature, sides, dimensions)
        share("loss.weight", weight)
        positive("loss.teacher_temperature", teacher_temperature)
        choice("loss.mask", mask, MODES)
        choice("loss.pool", pool, POOLS)
        not_negative("loss.hard_negatives", hard_negatives)
        self.teacher, self.weight, self.teacher_temperature = teacher, weight, teacher_temperature
        self.mask, self.pool, self.hard_negatives = mask, pool, hard_negatives

    def score(self, pairs: EmbeddedPairs, rows: slice) -> Scored:
        candidates = passages_of(pairs, rows, self.mask, self.pool)
        asked, answered = pairs.taught
        empty = pairs.of_passages.group < 0
        theirs = (similarity(asked[rows], answered) / self.teacher_temperature).masked_fill(empty, NEVER).log_softmax(1)
        mine = (candidates.similarity / self.temperature).masked_fill(empty, NEVER).log_softmax(1)
        divergence = nn.functional.kl_div(mine, theirs, reduction="none", log_target=True).sum(1)
        contrast = ranking(candidates, self.temperature)
        loss = self.weight * divergence + (1 - self.weight) * contrast.loss
        figures = {"divergence": divergence.detach(), "contrast": contrast.loss.detach()}
        return Scored(loss, contrast.hit, figures)
