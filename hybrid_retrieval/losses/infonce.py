"""InfoNCE over in-batch negatives (arXiv 2408.10536, Eq. 1), with translation- and duplicate-aware masks."""

from __future__ import annotations

from hybrid_retrieval.config import not_negative
from hybrid_retrieval.errors import choice
from hybrid_retrieval.losses.candidates import POOLS, passages_of, queries_of, ranking
from hybrid_retrieval.losses.loss import SIDES, Dimensions, EmbeddedPairs, Scored, Sides
from hybrid_retrieval.losses.masks import MODES
from hybrid_retrieval.losses.temperature import SoftmaxLoss


class InfoNCE(SoftmaxLoss):
    """-log of the softmax share of the right passage among all candidates.

    With s_ij the dot product of unit vectors over the temperature, N_i the candidates that are negatives of query i and
    P_i = {i}:  L_i = -1/|P_i| sum_{p in P_i} log( exp s_ip / (exp s_ip + sum_{j in N_i} exp s_ij) ).
    """

    margin: float = 0.0
    """Subtracted from the cosine of a positive."""

    def __init__(
        self,
        temperature: float = 0.05,
        learn_temperature: bool = False,
        directions: str = "query",
        mask: str = "ignore",
        pool: str = "all",
        hard_negatives: int = 0,
        sides: Sides = SIDES,
        dimensions: Dimensions = None,
    ) -> None:
        """
        Args:
            temperature: divides the cosine; 1.0 is the paper as printed.
            learn_temperature: train its logarithm (kept at 0.01 or more).
            directions: query (each query among passages) or both (also each passage among queries; mean of the two).
            mask: what becomes of candidates that answer the query beside its own passage. ignore: left out; positive:
                they join P_i; keep: they stay negatives (for the ablation).
            pool: which candidates are in N_i, as far as the mask leaves them: all; same_language, those in the language of
                the query's own passage; other_languages, those in any other. P_i is the same whatever the pool. Where a
                passage is set among queries, what counts is the language of its own query.
            hard_negatives: how many of a pair's mined negatives to use where the data has them; the pool is theirs too.
            sides, dimensions: see `Loss`.
        """
        super().__init__(temperature, learn_temperature, sides, dimensions)
        choice("loss.directions", directions, ["query", "both"])
        choice("loss.mask", mask, MODES)
        choice("loss.pool", pool, POOLS)
        not_negative("loss.hard_negatives", hard_negatives)
        self.directions, self.mask, self.pool, self.hard_negatives = directions, mask, pool, hard_negatives

    def score(self, pairs: EmbeddedPairs, rows: slice) -> Scored:
        forth = ranking(passages_of(pairs, rows, self.mask, self.pool), self.temperature, self.margin)
        if self.directions == "query":
            return forth
        back = ranking(queries_of(pairs, rows, self.mask, self.pool), self.temperature, self.margin)
        return Scored((forth.loss + back.loss) / 2, forth.hit)
