"""Samplers of one stream: the four of LAReQA (arXiv 2004.05484), of which the paper mixes X-X-mono and X-Y."""

from __future__ import annotations

import dataclasses

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.sampling.availability import Availability
from hybrid_retrieval.sampling.ratio import always
from hybrid_retrieval.sampling.sampler import Key, Sampler, Streams
from hybrid_retrieval.sampling.streams import MixedBatches


@dataclasses.dataclass(frozen=True)
class English(Sampler):
    """En-En: every pair in English."""

    def streams(self, available: Availability, seed: int, short: bool = False, steps: int | None = None) -> Streams:
        cells = [cell for cell in available.cells(same_language=True) if available.languages[cell.query_language] == "en"]
        if not cells:
            raise InputError(f"sampler=english needs pairs in 'en', not dataset.languages=[{','.join(available.languages)}]")
        pairs = self.mixed(available, cells, seed, Key.SAME_LANGUAGE, short)
        return Streams(MixedBatches(pairs, self.size), None, always(1.0))


@dataclasses.dataclass(frozen=True)
class XX(Sampler):
    """X-X: query and passage of a pair in one language, languages mixed in the batch."""

    def streams(self, available: Availability, seed: int, short: bool = False, steps: int | None = None) -> Streams:
        return Streams(MixedBatches(self.same_language(available, seed, short), self.size), None, always(1.0))


@dataclasses.dataclass(frozen=True)
class XXMono(Sampler):
    """X-X-mono: every pair of a batch in one language, drawn for the batch (the paper's monolingual batch)."""

    def streams(self, available: Availability, seed: int, short: bool = False, steps: int | None = None) -> Streams:
        return Streams(self.monolingual(available, seed, short), None, always(1.0))


@dataclasses.dataclass(frozen=True)
class XY(Sampler):
    """X-Y: the two sides of a pair in different languages, languages mixed in the batch (the paper's cross-lingual batch)."""

    def streams(self, available: Availability, seed: int, short: bool = False, steps: int | None = None) -> Streams:
        return Streams(None, MixedBatches(self.crosslingual(available, seed, short), self.size), always(0.0))
