"""InfoNCE over in-batch negatives (arXiv 2408.10536, Eq. 1), with translation- and duplicate-aware masks."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from hybrid_retrieval.errors import choice
from hybrid_retrieval.losses.candidates import passages_of, queries_of, ranking
from hybrid_retrieval.losses.loss import EmbeddedPairs, InBatchLoss, Scored
from hybrid_retrieval.values import NotNegative


@dataclass(eq=False, repr=False, kw_only=True)
class InfoNCE(InBatchLoss):
    """-log of the softmax probability of the right passage among all candidates.

    With c_ij the dot product of unit vectors, t the temperature, m the margin, N_i the candidates that are negatives of query i
    and P_i = {i} (with ``mask=positive`` also what else answers it):
    L_i = -1/|P_i| sum_{p in P_i} log( exp((c_ip - m)/t) / (exp((c_ip - m)/t) + sum_{j in N_i} exp(c_ij/t)) ).
    P_i is the same whatever the pool. With ``directions=both`` it is the mean of this and of each passage among the queries,
    where the pool compares the languages of queries.

    Other losses are its configs. SimCSE (arXiv 2104.08821) and mSimCSE (arXiv 2211.06127): two views of one passage find each
    other. With both sides in one language they are the same text, encoded twice, and differ by dropout only, so that an encoder
    without dropout learns nothing from them but to spread; in two languages they are translations. Translation ranking (LaBSE,
    arXiv 2007.01852, 1902.08564) has a margin and both directions.
    """

    directions: str = "query"
    margin: NotNegative = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        choice("loss.directions", self.directions, ["query", "both"])

    def contrasts(self, pairs: EmbeddedPairs) -> Tensor:
        return passages_of(pairs, slice(None), self.mask, self.pool).negative.any(1)

    def score(self, pairs: EmbeddedPairs, rows: slice) -> Scored:
        forth = ranking(passages_of(pairs, rows, self.mask, self.pool), self.divisor, self.margin)
        if self.directions == "query":
            return forth
        back = ranking(queries_of(pairs, rows, self.mask, self.pool), self.divisor, self.margin)
        return Scored((forth.loss + back.loss) / 2, forth.hit)
