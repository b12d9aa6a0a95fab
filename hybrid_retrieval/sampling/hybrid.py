"""Hybrid batches (arXiv 2408.10536): a monolingual and a cross-lingual stream, mixed by whole batches or within each."""

from __future__ import annotations

import dataclasses
from typing import Any

from hybrid_retrieval.config import construct, share
from hybrid_retrieval.errors import choice
from hybrid_retrieval.sampling.availability import Availability
from hybrid_retrieval.sampling.batch import PairIndices, distinct
from hybrid_retrieval.sampling.composer import Composer
from hybrid_retrieval.sampling.ratio import RATIOS, Exact, Ratio
from hybrid_retrieval.sampling.sampler import Sampler, Stream
from hybrid_retrieval.sampling.schedule import Schedule, ScheduleConfig
from hybrid_retrieval.sampling.streams import REPEATS, MixedBatches, MixedPairs


@dataclasses.dataclass(frozen=True)
class TwoStreams(Sampler):
    """What both samplers of two streams have; a schedule moves the ratio on from alpha."""

    alpha: float = 0.5
    schedule: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        share("sampler.alpha", self.alpha)
        self.planned(None)

    def planned(self, steps: int | None) -> Schedule:
        """The schedule of a run of `steps` steps; without steps, as in validation, the ratio stays `alpha`."""
        return construct(ScheduleConfig, self.schedule, "sampler.schedule").planned(self.alpha, steps)


@dataclasses.dataclass(frozen=True)
class Hybrid(TwoStreams):
    """The paper's: each batch is monolingual with probability alpha, cross-lingual otherwise; the streams of XXMono and XY."""

    ratio_mode: str = "exact"

    def __post_init__(self) -> None:
        super().__post_init__()
        choice("sampler.ratio_mode", self.ratio_mode, RATIOS)

    def batches(self, available: Availability, seed: int, short: bool, steps: int | None) -> Composer:
        schedule = self.planned(steps)
        if schedule.lowest == 1:
            return self.monolingual(available, seed, short)
        crosslingual = MixedBatches(self.cross_lingual(available, seed, short), self.batch_size)
        if schedule.highest == 0:
            return crosslingual
        ratio = RATIOS[self.ratio_mode](schedule, seed, Stream.RATIO)
        return HybridBatches(self.monolingual(available, seed, short), crosslingual, ratio)


class HybridBatches(Composer):
    """The ratio says whose turn it is; each stream goes on where it was left."""

    def __init__(self, monolingual: Composer, crosslingual: Composer, ratio: Ratio) -> None:
        super().__init__(ratio.schedule)
        self.monolingual, self.crosslingual, self.ratio = monolingual, crosslingual, ratio

    def batch(self, step: int) -> PairIndices:
        number = self.ratio.before(step)
        if self.ratio.before(step + 1) > number:
            return self.monolingual.batch(number)
        return self.crosslingual.batch(step - number)


@dataclasses.dataclass(frozen=True)
class HybridWithinBatch(TwoStreams):
    """Every batch holds alpha same-language pairs of all languages beside cross-lingual ones; the streams of XX and XY.

    Where alpha x batch size is not whole, batches take turns so that the sum is exact.
    """

    def batches(self, available: Availability, seed: int, short: bool, steps: int | None) -> Composer:
        schedule = self.planned(steps)
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
