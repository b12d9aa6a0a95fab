"""SimCSE (arXiv 2104.08821) and its multilingual form, mSimCSE (arXiv 2211.06127)."""

from __future__ import annotations

from hybrid_retrieval.losses.infonce import InfoNCE
from hybrid_retrieval.losses.loss import Dimensions, Sides


class SimCSE(InfoNCE):
    """Two views of one passage find each other among the other passages of the batch.

    What the views are is the sampler's matter. With both sides in one language (``sampler=x_x``) they are the same text,
    encoded twice, and differ by dropout only, so that an encoder without dropout learns nothing from them but to spread; with
    two languages (``sampler=x_y``) they are translations. The softmax is InfoNCE's, over the second views.
    """

    def __init__(
        self,
        temperature: float = 0.05,
        learn_temperature: bool = False,
        mask: str = "ignore",
        pool: str = "all",
        hard_negatives: int = 0,
        sides: Sides = ("passage", "passage"),
        dimensions: Dimensions = None,
    ) -> None:
        """
        Args:
            pool: same_language contrasts every language with itself, as in training on each alone; all contrasts them together.
            temperature, learn_temperature, mask, hard_negatives: see `InfoNCE`.
            sides, dimensions: see `Loss`.
        """
        super().__init__(temperature, learn_temperature, "query", mask, pool, hard_negatives, sides, dimensions)
