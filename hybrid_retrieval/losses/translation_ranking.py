"""Translation ranking with an additive margin (LaBSE, arXiv 2007.01852; arXiv 1902.08564)."""

from __future__ import annotations

from hybrid_retrieval.config import not_negative
from hybrid_retrieval.losses.infonce import InfoNCE
from hybrid_retrieval.losses.loss import Dimensions, Sides


class TranslationRanking(InfoNCE):
    """Each text among the translations of the batch, in both directions, its own a margin behind.

    With c_ij the cosine, m the margin, t the temperature and N_i as in InfoNCE, one direction is
    L_i = -log( exp((c_ii - m)/t) / (exp((c_ii - m)/t) + sum_{j in N_i} exp(c_ij/t)) ),
    and the loss is the mean of both (the paper's is their sum). For ``sampler=x_y``, which draws translations.
    """

    def __init__(
        self,
        temperature: float = 0.05,
        learn_temperature: bool = False,
        margin: float = 0.3,
        mask: str = "ignore",
        pool: str = "all",
        hard_negatives: int = 0,
        sides: Sides = ("passage", "passage"),
        dimensions: Dimensions = None,
    ) -> None:
        """
        Args:
            margin: subtracted from the cosine of a positive.
            temperature, learn_temperature, mask, pool, hard_negatives: see `InfoNCE`.
            sides, dimensions: see `Loss`.
        """
        super().__init__(temperature, learn_temperature, "both", mask, pool, hard_negatives, sides, dimensions)
        not_negative("loss.margin", margin)
        self.margin = margin
