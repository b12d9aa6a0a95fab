"""Samplers of one stream: the four of LAReQA (arXiv 2004.05484), of which the paper mixes X-X-mono and X-Y."""

from __future__ import annotations

import dataclasses

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.sampling.availability import Availability
from hybrid_retrieval.sampling.sampler import Sampler, Stream
from hybrid_retrieval.sampling.streams import MixedBatches, MonolingualBatches


@dataclasses.dataclass(frozen=True)
class English(Sampler):
    """En-En: every pair in English."""

    def batches(self, available: Availability, seed: int, short: bool, steps: int | None) -> MixedBatches:
        cells = [cell for cell in available.cells(same_language=True) if available.languages[cell.query_language] == "en"]
        if not cells:
            raise InputError(f"sampler=english needs pairs in 'en', not dataset.languages=[{','.join(available.languages)}]")
        return MixedBatches(self.mixed(available, cells, seed, Stream.SAME_LANGUAGE, short), self.batch_size)


@dataclasses.dataclass(frozen=True)
class XX(Sampler):
    """X-X: query and passage of a pair in one language, languages mixed in the batch."""

    def batches(self, available: Availability, seed: int, short: bool, steps: int | None) -> MixedBatches:
        return MixedBatches(self.same_language(available, seed, short), self.batch_size)


@dataclasses.dataclass(frozen=True)
class XXMono(Sampler):
    """X-X-mono: every pair of a batch in one language, drawn for the batch (the paper's monolingual batch)."""

    def batches(self, available: Availability, seed: int, short: bool, steps: int | None) -> MonolingualBatches:
        return self.monolingual(available, seed, short)


@dataclasses.dataclass(frozen=True)
class XY(Sampler):
    """X-Y: the two sides of a pair in different languages, languages mixed in the batch (the paper's cross-lingual batch)."""

    def batches(self, available: Availability, seed: int, short: bool, steps: int | None) -> MixedBatches:
        return MixedBatches(self.cross_lingual(available, seed, short), self.batch_size)
