"""Hybrid within the batch: every batch holds the share alpha of same-language pairs, the rest cross-lingual."""

from __future__ import annotations

import dataclasses

from hybrid_retrieval.config import share
from hybrid_retrieval.sampling.availability import Availability
from hybrid_retrieval.sampling.batch import PairIndices, distinct
from hybrid_retrieval.sampling.sampler import Composer, Sampler, Stream
from hybrid_retrieval.sampling.schedule import Exact, Ratio
from hybrid_retrieval.sampling.streams import REPEATS, MixedBatches, MixedPairs


@dataclasses.dataclass(frozen=True)
class HybridWithinBatch(Sampler):
    """Same-language pairs of all languages beside cross-lingual ones in one batch; the same streams as x_x and x_y."""

    alpha: float = 0.5
    """Share of same-language pairs; where alpha x batch size is not whole, batches take turns so that the sum is exact."""

    def __post_init__(self) -> None:
        super().__post_init__()
        share("sampler.alpha", self.alpha)

    def compose(self, available: Availability, seed: int, short: bool = False) -> Composer:
        if self.alpha == 1:
            return MixedBatches(self.same_language(available, seed, short), self.batch_size)
        crosslingual = self.cross_lingual(available, seed, short)
        if self.alpha == 0:
            return MixedBatches(crosslingual, self.batch_size)
        same_language = self.same_language(available, seed, short)
        size = min(self.batch_size, same_language.cells.distinct_items, crosslingual.cells.distinct_items)
        return HybridWithinBatches(same_language, crosslingual, Exact(self.alpha, seed, Stream.RATIO), size, seed)


@dataclasses.dataclass(frozen=True)
class HybridWithinBatches:
    """The ratio counts pairs: `size` of them a step. Either stream alone has items enough for a batch."""

    same_language: MixedPairs
    crosslingual: MixedPairs
    ratio: Ratio
    size: int
    seed: int

    def batch(self, step: int) -> PairIndices:
        start = step * self.size
        before, after = self.ratio.before(start), self.ratio.before(start + self.size)
        same_language = self.same_language.draw(before, after - before)
        crosslingual = self.crosslingual.draw(start - before, self.size - (after - before))
        return distinct([same_language, crosslingual], self.seed, Stream.RATIO, REPEATS, step)
