"""X-Y: query and passage of each pair in different languages, languages mixed in the batch (the paper; LAReQA)."""

from __future__ import annotations

import dataclasses

from hybrid_retrieval.sampling.availability import Availability
from hybrid_retrieval.sampling.sampler import Sampler
from hybrid_retrieval.sampling.streams import MixedBatches


@dataclasses.dataclass(frozen=True)
class XY(Sampler):
    """Cross-lingual batches only."""

    def batches(self, available: Availability, seed: int, short: bool, steps: int | None) -> MixedBatches:
        return MixedBatches(self.cross_lingual(available, seed, short), self.batch_size)
