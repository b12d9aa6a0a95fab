"""Distillation of a teacher's scores: a bi-encoder's over the batch (TCT-ColBERT, arXiv 2010.11386), or those of the data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hybrid_retrieval.errors import InputError, choice
from hybrid_retrieval.losses.candidates import NEVER, Candidates, passages_of, ranking, similarity
from hybrid_retrieval.losses.loss import Divisor, EmbeddedPairs, InBatchLoss, Scored
from hybrid_retrieval.values import Share


@dataclass(eq=False, repr=False, kw_only=True)
class DistillScores(InBatchLoss):
    """Each query's distribution over the batch's passages is drawn to the teacher's.

    With S_i the softmax of the student's scores of query i over all C passages (at the temperature), T_i the teacher's (at its
    own) and w the weight:  L_i = w KL(T_i || S_i) + (1 - w) InfoNCE_i.
    Every passage is a candidate of the first term: that two passages answer the same query is for the teacher to say. Mask and
    pool are those of InfoNCE. The teacher's embeddings may have other dimensions than the student's.

    With ``targets=data`` T_i is the softmax of the scores that the data brings, a cross-encoder's say, and C holds the pair's
    own passage and its hard negatives, as far as their scores are known; of fewer than two there is nothing to learn.
    """

    teacher: dict[str, Any] | None
    targets: str = "teacher"
    weight: Share = 1.0
    teacher_temperature: Divisor = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        choice("loss.targets", self.targets, ["teacher", "data"])
        if self.targets == "teacher":
            return
        given = [key for key in ("run", "model") if (self.teacher or {}).get(key)]
        if given:
            raise InputError(f"loss.targets=data and loss.teacher.{given[0]}: the scores are the data's or a teacher's")
        if not self.hard_negatives:
            raise InputError("loss.targets=data needs loss.hard_negatives=1 or more: scores of one passage have no order")
        self.scored, self.teacher = True, None

    def contrasts(self, pairs: EmbeddedPairs) -> Tensor:
        return passages_of(pairs, slice(None)).negative.any(1)

    def score(self, pairs: EmbeddedPairs, rows: slice) -> Scored:
        candidates = passages_of(pairs, rows, self.mask, self.pool)
        theirs, mine, empty = self._of_data(pairs, rows, candidates) if self.scored else self._of_batch(pairs, rows, candidates)
        theirs = (theirs / self.teacher_temperature).masked_fill(empty, NEVER).log_softmax(1)
        mine = (mine / self.divisor).masked_fill(empty, NEVER).log_softmax(1)
        divergence = nn.functional.kl_div(mine, theirs, reduction="none", log_target=True).sum(1)
        contrast = ranking(candidates, self.divisor)
        loss = self.weight * divergence + (1 - self.weight) * contrast.loss
        figures = {"divergence": divergence.detach(), "contrast": contrast.loss.detach()}
        return Scored(loss, contrast.hit, figures)

    def _of_batch(self, pairs: EmbeddedPairs, rows: slice, candidates: Candidates) -> tuple[Tensor, Tensor, Tensor]:
        """The teacher's and the student's scores of all passages, [r, C], and which of those are none."""
        asked, answered = pairs.taught
        return similarity(asked[rows], answered), candidates.similarity, pairs.of_passages.group < 0

    def _of_data(self, pairs: EmbeddedPairs, rows: slice, candidates: Candidates) -> tuple[Tensor, Tensor, Tensor]:
        """The same of the pair's own passages, [r, 1 + hard negatives]."""
        assert pairs.scores is not None
        theirs = pairs.scores[rows].to(candidates.similarity.dtype)
        own = candidates.own[:, None] + len(pairs.queries) * torch.arange(theirs.shape[1], device=theirs.device)
        return theirs, candidates.similarity.gather(1, own), theirs.isnan()
