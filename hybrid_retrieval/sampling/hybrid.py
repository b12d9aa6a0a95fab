"""Hybrid batches (arXiv 2408.10536): each batch is monolingual with share alpha, cross-lingual otherwise."""

from __future__ import annotations

import dataclasses
from typing import Any

from hybrid_retrieval.config import share
from hybrid_retrieval.errors import choice
from hybrid_retrieval.sampling.availability import Availability
from hybrid_retrieval.sampling.batch import PairIndices
from hybrid_retrieval.sampling.composer import Composer
from hybrid_retrieval.sampling.ratio import RATIOS, Ratio
from hybrid_retrieval.sampling.sampler import Sampler, Stream
from hybrid_retrieval.sampling.schedule import planned, schedule_config
from hybrid_retrieval.sampling.streams import MixedBatches


@dataclasses.dataclass(frozen=True)
class Hybrid(Sampler):
    """Whole batches of either kind; the same streams as x_x_mono and x_y."""

    alpha: float = 0.5
    """Share of monolingual batches, at the start where a schedule moves it."""
    ratio_mode: str = "exact"
    """exact (the count is right at every step), or bernoulli (the paper's coin)."""
    schedule: dict[str, Any] = dataclasses.field(default_factory=dict)
    """How the share goes on from alpha: keys of `ScheduleConfig`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        share("sampler.alpha", self.alpha)
        choice("sampler.ratio_mode", self.ratio_mode, RATIOS)
        schedule_config(self.schedule, self.alpha)

    def batches(self, available: Availability, seed: int, short: bool, steps: int | None) -> Composer:
        schedule = planned(schedule_config(self.schedule, self.alpha), self.alpha, steps)
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
