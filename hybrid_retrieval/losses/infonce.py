"""InfoNCE over in-batch negatives (arXiv 2408.10536, Eq. 1), with translation- and duplicate-aware masks."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from hybrid_retrieval.config import not_negative, positive
from hybrid_retrieval.errors import InputError, choice
from hybrid_retrieval.losses.masks import MODES, PassageIds, QueryIds, answering

SMALLEST_TEMPERATURE = 0.01
"""Where a learned temperature stops."""
NEVER = -1e9
"""A score that no softmax sees; finite, so that a query without negatives has loss 0 and gradient 0."""


class InfoNCE(nn.Module):
    """-log of the softmax share of the right passage among all candidates.

    With s_ij the dot product of unit vectors over the temperature, N_i the candidates that are negatives of query i and
    P_i = {i}:  L_i = -1/|P_i| sum_{p in P_i} log( exp s_ip / (exp s_ip + sum_{j in N_i} exp s_ij) ).
    """

    def __init__(
        self,
        temperature: float = 0.05,
        learn_temperature: bool = False,
        directions: str = "query",
        mask: str = "ignore",
        hard_negatives: int = 0,
    ) -> None:
        """
        Args:
            temperature: divides the cosine; 1.0 is the paper as printed.
            learn_temperature: train its logarithm (kept at 0.01 or more).
            directions: query (each query among passages) or both (also each passage among queries; mean of the two).
            mask: what becomes of candidates that answer the query beside its own passage. ignore: left out; positive:
                they join P_i; keep: they stay negatives (for the ablation).
            hard_negatives: how many of a pair's mined negatives to use where the data has them.
        """
        super().__init__()
        positive("loss.temperature", temperature)
        if learn_temperature and temperature < SMALLEST_TEMPERATURE:
            raise InputError(f"loss.temperature={temperature} is learned, and then must be {SMALLEST_TEMPERATURE} or more")
        choice("loss.directions", directions, ["query", "both"])
        choice("loss.mask", mask, MODES)
        not_negative("loss.hard_negatives", hard_negatives)
        self.directions, self.mask, self.hard_negatives = directions, mask, hard_negatives
        self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature)), requires_grad=learn_temperature)

    @property
    def temperature(self) -> Tensor:
        """The divisor of the cosine, a scalar."""
        temperature = self.log_temperature.exp()
        if not self.log_temperature.requires_grad:
            return temperature
        # The gradient passes the bound, so that a temperature that reached it can rise again.
        return temperature + (temperature.clamp(min=SMALLEST_TEMPERATURE) - temperature).detach()

    def forward(self, queries: Tensor, passages: Tensor, of_queries: QueryIds, of_passages: PassageIds, own: Tensor) -> Tensor:
        """Loss of each query, [b].

        Args:
            queries: [b, dimensions].
            passages: [c, dimensions], candidates of all ranks.
            own: int64 [b], each query's own passage among the candidates.
        """
        return self._one_way(_similarity(queries, passages), answering(of_queries, of_passages), of_passages.group < 0, own)

    def reverse(self, passages: Tensor, queries: Tensor, of_queries: QueryIds, of_passages: PassageIds, own: Tensor) -> Tensor:
        """Loss of each passage among the queries, [b]; a query that the passage answers is no negative of it.

        Args:
            passages: [b, dimensions], the pairs' own passages on this rank.
            queries: [c, dimensions], the queries of all ranks, with `of_queries` for them.
            own: int64 [b], each passage's own query.
        """
        empty = torch.zeros(len(queries), dtype=torch.bool, device=queries.device)
        return self._one_way(_similarity(passages, queries), answering(of_queries, of_passages).T, empty, own)

    def _one_way(self, similarity: Tensor, answers: Tensor, empty: Tensor, own: Tensor) -> Tensor:
        scores = similarity / self.temperature
        right = nn.functional.one_hot(own, scores.shape[1]).bool()
        if self.mask == "keep":
            answers = right
        scores = scores.masked_fill(empty, NEVER)
        own_score = scores.gather(1, own[:, None]).squeeze(1)
        if self.mask != "positive":
            negatives = scores.masked_fill(answers & ~right, NEVER)
            return torch.logsumexp(negatives, 1) - own_score
        positives = (answers | right) & ~empty
        negatives = torch.logsumexp(scores.masked_fill(positives, NEVER), 1, keepdim=True)
        each = torch.logaddexp(scores, negatives) - scores
        return each.masked_fill(~positives, 0).sum(1) / positives.sum(1)


def _similarity(left: Tensor, right: Tensor) -> Tensor:
    """[left, right] dot products in float32 or better, also under autocast: a temperature multiplies their rounding."""
    wide = torch.promote_types(left.dtype, torch.float32)
    with torch.autocast(left.device.type, enabled=False):
        return left.to(wide) @ right.to(wide).T
