"""Samplers: configs that compose batches from streams. Those of one stream are LAReQA's (arXiv 2004.05484)."""

from __future__ import annotations

import dataclasses
import enum
import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.sampling.availability import Availability, Cell
from hybrid_retrieval.sampling.composer import ITEMS, Composer, HybridBatches, MixedBatches, MixedPairs, MonolingualBatches
from hybrid_retrieval.sampling.languages import probabilities
from hybrid_retrieval.sampling.ratio import always
from hybrid_retrieval.values import Count, Temperature, check, divides

log = logging.getLogger(__name__)

Streams = tuple[Any, Any, Any]
"""A monolingual and a cross-lingual stream of batches (or of pairs, where batches are mixed), and how often the first has its
turn; a stream is None where the ratio never gives it one."""


class Key(enum.IntEnum):
    """The part of a key after the seed: what is drawn for one stream is independent of the others."""

    SAME_LANGUAGE = 0
    CROSS_LINGUAL = 1
    RATIO = 2


@dataclasses.dataclass(frozen=True)
class Sampler(ABC):
    """Config of a sampler (``conf/sampler/base/sampler.yaml``). A new one is a subclass, and a config that names it."""

    batch_size: Count
    language_choice: str | Temperature = "uniform"
    sub_batches: Count = 1

    def __post_init__(self) -> None:
        check(type(self), vars(self), "sampler")
        divides("sampler.batch_size", self.batch_size, "sampler.sub_batches", self.sub_batches)
        probabilities([1], self.language_choice)  # refuses an unknown one before any data is read

    @property
    def size(self) -> int:
        """Pairs of a batch of a stream, of which a global batch has `sub_batches`."""
        return self.batch_size // self.sub_batches

    def compose(self, available: Availability, seed: int, short: bool = False, steps: int | None = None) -> Composer:
        """The global batches of a split: its two streams, mixed."""
        return self.mix(*self.streams(available, seed, short, steps))

    def mix(self, monolingual: Any, crosslingual: Any, ratio: Any) -> Composer:
        """Global batches from two streams, of which one may be absent: whole batches of either, by turns."""
        return HybridBatches(monolingual, crosslingual, ratio, self.sub_batches)

    @abstractmethod
    def streams(self, available: Availability, seed: int, short: bool = False, steps: int | None = None) -> Streams:
        """The sampler's two streams, of which one may be absent, and the ratio between them.

        Args:
            available: what can be drawn.
            seed: the run's seed; all batches are a function of it.
            short: let a batch be smaller than `batch_size` where its stream has too few items (validation).
            steps: of the run, which a schedule spans; without them (validation) ratios stay as they start.

        Raises:
            InputError: the sets cannot fill a batch.
        """

    def same_language(self, available: Availability, seed: int, short: bool) -> MixedPairs:
        """The stream of same-language pairs, languages mixed."""
        return self.mixed(available, _cells(available, "same-language"), seed, Key.SAME_LANGUAGE, short)

    def crosslingual(self, available: Availability, seed: int, short: bool) -> MixedPairs:
        """The stream of pairs in two different languages."""
        return self.mixed(available, _cells(available, "cross-lingual"), seed, Key.CROSS_LINGUAL, short)

    def monolingual(self, available: Availability, seed: int, short: bool) -> MonolingualBatches:
        """Batches in one language each, every language of which can fill a batch."""
        of_language: dict[int, list[Cell]] = {}
        for cell in _cells(available, "same-language"):
            of_language.setdefault(cell.query_language, []).append(cell)
        silent = [name for index, name in enumerate(available.languages) if index not in of_language]
        if silent and not short:
            log.warning("no item has both sides in %s: no monolingual batch will be drawn there", ", ".join(silent))
        key = seed, Key.SAME_LANGUAGE
        streams = {
            language: MixedPairs(available, cells, "uniform", *key, ITEMS, language) for language, cells in of_language.items()
        }
        if not short:
            for pairs in streams.values():
                self._refuse_too_few(available, pairs)
        of_languages = probabilities([int(pairs.cells.sizes.sum()) for pairs in streams.values()], self.language_choice)
        return MonolingualBatches([MixedBatches(pairs, self.size) for pairs in streams.values()], of_languages, *key)

    def mixed(self, available: Availability, cells: Sequence[Cell], seed: int, stream: Key, short: bool) -> MixedPairs:
        """A mixed stream over `cells` that can fill a batch."""
        pairs = MixedPairs(available, cells, self.language_choice, seed, stream)
        if not short:
            self._refuse_too_few(available, pairs)
        return pairs

    def _refuse_too_few(self, available: Availability, pairs: MixedPairs) -> None:
        items = pairs.cells.distinct_items
        if items < self.size:
            names = pairs.cells.names[1:]
            kind = "same-language" if pairs.same_language else "cross-lingual"
            languages = ",".join(available.languages[index] for index in sorted(set(names.ravel().tolist())))
            raise InputError(
                f"sampler.batch_size={self.size} is more than the {items} {kind} items in [{languages}]: "
                "lower it, or change dataset.languages"
            )


def _cells(available: Availability, kind: str) -> list[Cell]:
    """The cells of ``same-language`` or of ``cross-lingual`` pairs."""
    cells = available.cells(same_language=kind == "same-language")
    if not cells:
        languages = "one language" if kind == "same-language" else "two different languages"
        raise InputError(
            f"dataset.languages=[{','.join(available.languages)}] gives no {kind} pairs: "
            f"they need an item with its query and its passage in {languages}"
        )
    return cells


@dataclasses.dataclass(frozen=True)
class English(Sampler):
    """En-En: every pair in English."""

    def streams(self, available: Availability, seed: int, short: bool = False, steps: int | None = None) -> Streams:
        cells = [cell for cell in available.cells(same_language=True) if available.languages[cell.query_language] == "en"]
        if not cells:
            raise InputError(f"sampler=english needs pairs in 'en', not dataset.languages=[{','.join(available.languages)}]")
        return MixedBatches(self.mixed(available, cells, seed, Key.SAME_LANGUAGE, short), self.size), None, always(1.0)


@dataclasses.dataclass(frozen=True)
class XX(Sampler):
    """X-X: query and passage of a pair in one language, languages mixed in the batch."""

    def streams(self, available: Availability, seed: int, short: bool = False, steps: int | None = None) -> Streams:
        return MixedBatches(self.same_language(available, seed, short), self.size), None, always(1.0)


@dataclasses.dataclass(frozen=True)
class XXMono(Sampler):
    """X-X-mono: every pair of a batch in one language, drawn for the batch (the paper's monolingual batch)."""

    def streams(self, available: Availability, seed: int, short: bool = False, steps: int | None = None) -> Streams:
        return self.monolingual(available, seed, short), None, always(1.0)


@dataclasses.dataclass(frozen=True)
class XY(Sampler):
    """X-Y: the two sides of a pair in different languages, languages mixed in the batch (the paper's cross-lingual batch)."""

    def streams(self, available: Availability, seed: int, short: bool = False, steps: int | None = None) -> Streams:
        return None, MixedBatches(self.crosslingual(available, seed, short), self.size), always(0.0)
