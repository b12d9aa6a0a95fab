"""X-X-mono: every pair of a batch in one language, drawn for the batch (LAReQA; the paper's monolingual batch)."""

from __future__ import annotations

import dataclasses

from hybrid_retrieval.sampling.availability import Availability
from hybrid_retrieval.sampling.sampler import Sampler
from hybrid_retrieval.sampling.streams import MonolingualBatches


@dataclasses.dataclass(frozen=True)
class XXMono(Sampler):
    """Monolingual batches only."""

    def batches(self, available: Availability, seed: int, short: bool, steps: int | None) -> MonolingualBatches:
        return self.monolingual(available, seed, short)
