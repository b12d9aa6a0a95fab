"""Hybrid batches (arXiv 2408.10536): a monolingual and a cross-lingual stream, mixed by whole batches or within each."""

from __future__ import annotations

import dataclasses
from typing import Any

from hybrid_retrieval.errors import choice
from hybrid_retrieval.sampling.availability import Availability
from hybrid_retrieval.sampling.composer import Composer, HybridWithinBatches, MixedBatches, MixedPairs
from hybrid_retrieval.sampling.ratio import RATIOS, Exact, Schedule, ScheduleConfig, always
from hybrid_retrieval.sampling.sampler import Key, Sampler, Streams
from hybrid_retrieval.values import Share, construct


@dataclasses.dataclass(frozen=True)
class TwoStreams(Sampler):
    """What both samplers of two streams have; a schedule moves the ratio on from alpha."""

    alpha: Share = 0.5
    schedule: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.planned(None)

    def planned(self, steps: int | None) -> Schedule:
        """The schedule of a run of `steps` steps; without steps, as in validation, the ratio stays `alpha`."""
        config = construct(ScheduleConfig, self.schedule, "sampler.schedule")
        return config.planned(self.alpha, None if steps is None else steps * self.sub_batches)


@dataclasses.dataclass(frozen=True)
class Hybrid(TwoStreams):
    """The paper's: each batch is monolingual with probability alpha, cross-lingual otherwise; the streams of XXMono and XY."""

    ratio_mode: str = "exact"

    def __post_init__(self) -> None:
        super().__post_init__()
        choice("sampler.ratio_mode", self.ratio_mode, RATIOS)

    def streams(self, available: Availability, seed: int, short: bool = False, steps: int | None = None) -> Streams:
        schedule = self.planned(steps)
        monolingual = self.monolingual(available, seed, short) if schedule.highest > 0 else None
        crosslingual = self.crosslingual(available, seed, short) if schedule.lowest < 1 else None
        ratio = RATIOS[self.ratio_mode](schedule, seed, Key.RATIO)
        return monolingual, crosslingual and MixedBatches(crosslingual, self.size), ratio


@dataclasses.dataclass(frozen=True)
class HybridWithinBatch(TwoStreams):
    """Every batch holds alpha same-language pairs of all languages beside cross-lingual ones; the streams of XX and XY.

    Where alpha x batch size is not whole, batches take turns so that the sum is exact.
    """

    def streams(self, available: Availability, seed: int, short: bool = False, steps: int | None = None) -> Streams:
        schedule = self.planned(steps)
        monolingual = self.same_language(available, seed, short) if schedule.highest > 0 else None
        crosslingual = self.crosslingual(available, seed, short) if schedule.lowest < 1 else None
        size = min([self.size, *(part.cells.distinct_items for part in (monolingual, crosslingual) if part)])
        return monolingual, crosslingual, Exact(schedule, seed, Key.RATIO, turns=size)

    def mix(self, monolingual: MixedPairs | None, crosslingual: MixedPairs | None, ratio: Exact) -> Composer:
        """Pairs of both streams in every batch."""
        if monolingual and crosslingual:
            return HybridWithinBatches(monolingual, crosslingual, ratio, self.sub_batches)
        alone = [part and MixedBatches(part, self.size) for part in (monolingual, crosslingual)]
        return super().mix(alone[0], alone[1], always(float(monolingual is not None)))
