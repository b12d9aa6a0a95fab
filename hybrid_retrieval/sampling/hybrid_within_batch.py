"""Hybrid within the batch: every batch holds the share alpha of same-language pairs, the rest cross-lingual."""

from __future__ import annotations

import dataclasses
from typing import Any

from hybrid_retrieval.config import share
from hybrid_retrieval.sampling.availability import Availability
from hybrid_retrieval.sampling.batch import PairIndices, distinct
from hybrid_retrieval.sampling.composer import Composer
from hybrid_retrieval.sampling.ratio import Exact, Ratio
from hybrid_retrieval.sampling.sampler import Sampler, Stream
from hybrid_retrieval.sampling.schedule import planned, schedule_config
from hybrid_retrieval.sampling.streams import REPEATS, MixedBatches, MixedPairs


@dataclasses.dataclass(frozen=True)
class HybridWithinBatch(Sampler):
    """Same-language pairs of all languages beside cross-lingual ones in one batch; the same streams as x_x and x_y."""

    alpha: float = 0.5
    """Share of same-language pairs; where alpha x batch size is not whole, batches take turns so that the sum is exact."""

    schedule: dict[str, Any] = dataclasses.field(default_factory=dict)
    """How the share goes on from alpha: keys of `ScheduleConfig`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        share("sampler.alpha", self.alpha)
        schedule_config(self.schedule, self.alpha)

    def batches(self, available: Availability, seed: int, short: bool, steps: int | None) -> Composer:
        schedule = planned(schedule_config(self.schedule, self.alpha), self.alpha, steps)
        if schedule.lowest == 1:
            return MixedBatches(self.same_language(available, seed, short), self.batch_size)
        crosslingual = self.cross_lingual(available, seed, short)
        if schedule.highest == 0:
            return MixedBatches(crosslingual, self.batch_size)
        same_language = self.same_language(available, seed, short)
        size = min(self.batch_size, same_language.cells.distinct_items, crosslingual.cells.distinct_items)
        ratio = Exact(schedule, seed, Stream.RATIO, turns=size)
        return HybridWithinBatches(same_language, crosslingual, ratio, size, seed)


class HybridWithinBatches(Composer):
    """The ratio counts pairs: `size` of them a step. Either stream alone has items enough for a batch."""

    def __init__(self, same_language: MixedPairs, crosslingual: MixedPairs, ratio: Ratio, size: int, seed: int) -> None:
        super().__init__(ratio.schedule)
        self.same_language, self.crosslingual, self.ratio = same_language, crosslingual, ratio
        self.size, self.seed = size, seed

    def batch(self, step: int) -> PairIndices:
        before, after = self.ratio.before(step), self.ratio.before(step + 1)
        same_language = self.same_language.draw(before, after - before)
        crosslingual = self.crosslingual.draw(step * self.size - before, self.size - (after - before))
        return distinct([same_language, crosslingual], self.seed, Stream.RATIO, REPEATS, step)
