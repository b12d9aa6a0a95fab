"""What a sampler is: a config that composes batches from streams."""

from __future__ import annotations

import dataclasses
import enum
import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

from hybrid_retrieval.config import divides, positive
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.sampling.availability import Availability, Cell
from hybrid_retrieval.sampling.composer import Composer, HybridBatches, SubBatches
from hybrid_retrieval.sampling.languages import probabilities
from hybrid_retrieval.sampling.streams import MixedPairs, MonolingualBatches, mixed_pairs, monolingual_batches

log = logging.getLogger(__name__)


class Key(enum.IntEnum):
    """The part of a key after the seed: what is drawn for one stream is independent of the others."""

    SAME_LANGUAGE = 0
    CROSS_LINGUAL = 1
    RATIO = 2


class Streams(NamedTuple):
    """Two streams of batches (or of pairs, where batches are mixed), and how often the first has its turn.

    Attributes:
        monolingual, crosslingual: None where the ratio never gives the stream a turn.
    """

    monolingual: Any
    crosslingual: Any
    ratio: Any


@dataclasses.dataclass(frozen=True)
class Sampler(ABC):
    """Config of a sampler (``conf/sampler/base/sampler.yaml``). A new one is a subclass, and a config that names it."""

    batch_size: int
    language_choice: str | float = "uniform"
    sub_batches: int = 1

    def __post_init__(self) -> None:
        positive("sampler.batch_size", self.batch_size)
        positive("sampler.sub_batches", self.sub_batches)
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
        """Global batches from two streams, of which one may be absent."""
        batches = self.batches(monolingual, crosslingual, ratio)
        return batches if self.sub_batches == 1 else SubBatches(batches, self.sub_batches)

    def batches(self, monolingual: Any, crosslingual: Any, ratio: Any) -> Composer:
        """Whole batches of either stream, by turns."""
        return HybridBatches(monolingual, crosslingual, ratio)

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
        return self.mixed(available, _same_language_cells(available), seed, Key.SAME_LANGUAGE, short)

    def crosslingual(self, available: Availability, seed: int, short: bool) -> MixedPairs:
        """The stream of pairs in two different languages."""
        cells = available.cells(same_language=False)
        if not cells:
            raise InputError(
                f"dataset.languages=[{','.join(available.languages)}] gives no cross-lingual pairs: "
                "they need an item with its query in one language and its passage in another"
            )
        return self.mixed(available, cells, seed, Key.CROSS_LINGUAL, short)

    def monolingual(self, available: Availability, seed: int, short: bool) -> MonolingualBatches:
        """Batches in one language each, every language of which can fill a batch."""
        cells = _same_language_cells(available)
        silent = set(available.languages) - {available.languages[cell.query_language] for cell in cells}
        if silent and not short:
            log.warning("no item has both sides in %s: no monolingual batch will be drawn there", ", ".join(sorted(silent)))
        batches = monolingual_batches(available, cells, self.language_choice, self.size, seed, Key.SAME_LANGUAGE)
        if not short:
            for part in batches.languages:
                self._refuse_too_few(available, part.pairs)
        return batches

    def mixed(self, available: Availability, cells: Sequence[Cell], seed: int, stream: Key, short: bool) -> MixedPairs:
        """A mixed stream over `cells` that can fill a batch."""
        pairs = mixed_pairs(available, cells, self.language_choice, seed, stream)
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


def _same_language_cells(available: Availability) -> list[Cell]:
    cells = available.cells(same_language=True)
    if not cells:
        raise InputError(
            f"dataset.languages=[{','.join(available.languages)}] gives no same-language pairs: "
            "they need an item with its query and its passage in one language"
        )
    return cells
