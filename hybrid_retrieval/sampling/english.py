"""En-En: English pairs only (LAReQA, arXiv 2004.05484)."""

from __future__ import annotations

import dataclasses

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.sampling.availability import Availability
from hybrid_retrieval.sampling.sampler import Sampler, Stream
from hybrid_retrieval.sampling.streams import MixedBatches


@dataclasses.dataclass(frozen=True)
class English(Sampler):
    """Every pair in English."""

    def batches(self, available: Availability, seed: int, short: bool, steps: int | None) -> MixedBatches:
        cells = [cell for cell in available.cells(same_language=True) if available.languages[cell.query_language] == "en"]
        if not cells:
            raise InputError(f"sampler=english needs pairs in 'en', not dataset.languages=[{','.join(available.languages)}]")
        return MixedBatches(self.mixed(available, cells, seed, Stream.SAME_LANGUAGE, short), self.batch_size)
