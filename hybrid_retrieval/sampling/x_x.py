"""X-X: query and passage of a pair in one language, languages mixed in the batch (LAReQA, arXiv 2004.05484)."""

from __future__ import annotations

import dataclasses

from hybrid_retrieval.sampling.availability import Availability
from hybrid_retrieval.sampling.sampler import Sampler
from hybrid_retrieval.sampling.streams import MixedBatches


@dataclasses.dataclass(frozen=True)
class XX(Sampler):
    """Same-language pairs of all languages in one batch."""

    def batches(self, available: Availability, seed: int, short: bool, steps: int | None) -> MixedBatches:
        return MixedBatches(self.same_language(available, seed, short), self.batch_size)
