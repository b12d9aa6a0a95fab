"""What every data set offers: where it was found, its pairs, and in which split an item falls."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hybrid_retrieval.data.parallel import ParallelPairs
from hybrid_retrieval.errors import InputError, nearest


@dataclass(frozen=True)
class WeightedPairs:
    """One set of a training mixture and its share of the draws, relative to the other sets."""

    pairs: ParallelPairs
    weight: float


class Source(ABC):
    """A data set by name. Constructors take config values and the job's ``paths``; nothing is read before `pairs`."""

    name: str

    @abstractmethod
    def at_hand(self) -> bool:
        """Whether `pairs` can be had without the network."""

    @abstractmethod
    def pairs(self) -> ParallelPairs:
        """The set, built on first use.

        Raises:
            InputError: not to be found, damaged, or without the languages that were asked for.
        """

    def sets(self) -> list[WeightedPairs]:
        """The sets to draw training batches from."""
        return [WeightedPairs(self.pairs(), 1.0)]

    def provenance(self) -> list[dict[str, Any]]:
        """Where the data came from: revision or version, and checksum."""
        return [{"name": weighted.pairs.name, **weighted.pairs.meta["provenance"]} for weighted in self.sets()]


def split_of(key: str, validation: float, test: float) -> str:
    """The split of an item (or of a component of items) by a hash of its stable name; the shares lie in 0..1."""
    draw = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big") / 2**64
    if draw < test:
        return "test"
    return "validation" if draw < test + validation else "train"


def find_folder(path: str, data: str | None) -> Path:
    """`path` as given, or under ``paths.data`` (`data`) where only that is a folder."""
    given = Path(path).expanduser()
    if data and not given.is_absolute() and not given.is_dir():
        below = Path(data).expanduser() / given
        if below.is_dir():
            return below
    return given


def choose_languages(wanted: Sequence[str] | None, present: Sequence[str], key: str = "dataset.languages") -> list[str]:
    """The languages to use, sorted; all of `present` when none is asked for."""
    if wanted is None:
        return sorted(present)
    for language in wanted:
        if language not in present:
            raise InputError(f"{key} asks for {language!r}, which the data lacks{nearest(language, present)}")
    if not wanted:
        raise InputError(f"{key} is empty; expected at least one of: {', '.join(sorted(present))}")
    return sorted(set(wanted))
