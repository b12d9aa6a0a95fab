"""Hybrid batches (arXiv 2408.10536): each batch is monolingual with share alpha, cross-lingual otherwise."""

from __future__ import annotations

import dataclasses

from hybrid_retrieval.config import share
from hybrid_retrieval.errors import choice
from hybrid_retrieval.sampling.availability import Availability
from hybrid_retrieval.sampling.batch import PairIndices
from hybrid_retrieval.sampling.sampler import Composer, Sampler, Stream
from hybrid_retrieval.sampling.schedule import RATIOS, Ratio
from hybrid_retrieval.sampling.streams import MixedBatches


@dataclasses.dataclass(frozen=True)
class Hybrid(Sampler):
    """Whole batches of either kind; the same streams as x_x_mono and x_y."""

    alpha: float = 0.5
    """Share of monolingual batches."""
    ratio_mode: str = "exact"
    """exact (the count is right at every step), or bernoulli (the paper's coin)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        share("sampler.alpha", self.alpha)
        choice("sampler.ratio_mode", self.ratio_mode, RATIOS)

    def compose(self, available: Availability, seed: int, short: bool = False) -> Composer:
        if self.alpha == 1:
            return self.monolingual(available, seed, short)
        crosslingual = MixedBatches(self.cross_lingual(available, seed, short), self.batch_size)
        if self.alpha == 0:
            return crosslingual
        ratio = RATIOS[self.ratio_mode](self.alpha, seed, Stream.RATIO)
        return HybridBatches(self.monolingual(available, seed, short), crosslingual, ratio)


@dataclasses.dataclass(frozen=True)
class HybridBatches:
    """The ratio says whose turn it is; each stream goes on where it was left."""

    monolingual: Composer
    crosslingual: Composer
    ratio: Ratio

    def batch(self, step: int) -> PairIndices:
        number = self.ratio.before(step)
        if self.ratio.before(step + 1) > number:
            return self.monolingual.batch(number)
        return self.crosslingual.batch(step - number)
