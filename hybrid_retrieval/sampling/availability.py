"""What can be drawn: for each set and language pair, the edges whose two sides exist there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt

from hybrid_retrieval.config import positive
from hybrid_retrieval.sampling.permutation import Ints

GUIDES = 16
"""Stretches of places that are looked up at once, for each range of edges."""


def item_codes(set_index: Ints | int, edge: Ints) -> Ints:
    """One integer for each item."""
    codes: Ints = (np.asarray(set_index, np.int64) << 40) | edge
    return codes


class Patterns(Protocol):
    """Disjoint runs of edges with the same languages on either side; `hybrid_retrieval.data.parallel` has the real one."""

    @property
    def queries(self) -> npt.NDArray[np.uint64]:
        """Bit l set: the query exists in language l."""

    @property
    def passages(self) -> npt.NDArray[np.uint64]:
        """Bit l set: the passage exists in language l."""

    @property
    def starts(self) -> Ints:
        """First edge of each run."""

    @property
    def stops(self) -> Ints:
        """One past the last edge of each run."""


@dataclass(frozen=True)
class SetAvailability:
    """One parallel set as a sampler sees it."""

    name: str
    languages: tuple[str, ...]
    patterns: Patterns
    weight: float = 1.0
    """How often it is drawn, relative to the other sets that have the same language pair."""

    def __post_init__(self) -> None:
        positive(f"dataset.sources[{self.name}].weight", self.weight)


@dataclass(frozen=True)
class Cell:
    """The edges of one set that can serve one (query language, passage language) pair: a union of ranges."""

    set_index: int
    query_language: int
    passage_language: int
    starts: Ints
    stops: Ints

    @cached_property
    def ends(self) -> Ints:
        """Cumulative sizes of the ranges."""
        return np.cumsum(self.stops - self.starts)

    @property
    def size(self) -> int:
        """Number of edges."""
        return int(self.ends[-1]) if len(self.ends) else 0

    def edges(self, positions: Ints) -> Ints:
        """The edges at `positions` 0..size-1."""
        which = np.searchsorted(self.ends, positions, side="right")
        return positions + (self.stops - self.ends)[which]


class Cells:
    """The cells of a stream; their ranges lie end to end, so that one search finds the edges of any mixture of cells."""

    def __init__(self, members: Sequence[Cell]) -> None:
        self.members = tuple(members)
        names = [(cell.set_index, cell.query_language, cell.passage_language) for cell in members]
        self.names: Ints = np.array(names, dtype=np.int64).T
        """int64 [3, cells]: set, query language, passage language."""
        self.sizes: Ints = np.array([cell.size for cell in members], dtype=np.int64)
        self._bases = np.cumsum(self.sizes) - self.sizes
        stops = np.concatenate([cell.stops for cell in members])
        self._starts = np.concatenate([cell.starts for cell in members])
        self._ends = np.cumsum(stops - self._starts)
        self._shifts = stops - self._ends
        # A guide to the search: the range in which each of many stretches of 2**shift places begins.
        total = int(self._ends[-1])
        self._guide_shift = max(0, (total // (GUIDES * len(stops))).bit_length())
        firsts = np.arange((total >> self._guide_shift) + 2) << self._guide_shift
        self._guide: Ints = np.searchsorted(self._ends, firsts, side="right")

    def edges(self, which: Ints, positions: Ints) -> Ints:
        """The edge at each of `positions` of the cells `which`."""
        places = self._bases[which] + positions
        stretch = places >> self._guide_shift
        ranges = self._guide[stretch]
        unsure = np.flatnonzero(ranges != self._guide[stretch + 1])
        ranges[unsure] = np.searchsorted(self._ends, places[unsure], side="right")
        edges: Ints = places + self._shifts[ranges]
        return edges

    @cached_property
    def distinct_items(self) -> int:
        """How many different items the cells hold together; two ranges of a set are the same or have nothing in common."""
        sets = np.repeat(self.names[0], [len(cell.starts) for cell in self.members])
        _, first = np.unique(item_codes(sets, self._starts), return_index=True)
        return int((self._shifts + self._ends - self._starts)[first].sum())


class Availability:
    """All cells of a mixture of sets, over one sorted list of languages."""

    def __init__(self, sets: Sequence[SetAvailability]) -> None:
        self.sets = tuple(sets)
        self.languages = tuple(sorted({language for part in sets for language in part.languages}))

    def cell(self, set_index: int, query_language: int, passage_language: int) -> Cell:
        """The cell of a set and a pair of languages (indices into `languages`); empty where the set lacks them."""
        part = self.sets[set_index]
        names = self.languages[query_language], self.languages[passage_language]
        if not set(names) <= set(part.languages):
            none = np.empty(0, np.int64)
            return Cell(set_index, query_language, passage_language, none, none)
        left, right = (np.uint64(1) << np.uint64(part.languages.index(name)) for name in names)
        patterns = part.patterns
        chosen = ((patterns.queries & left) != 0) & ((patterns.passages & right) != 0)
        return Cell(set_index, query_language, passage_language, patterns.starts[chosen], patterns.stops[chosen])

    def cells(self, same_language: bool) -> list[Cell]:
        """The non-empty cells of all sets with equal, or with different, languages on the two sides."""
        count = len(self.languages)
        found = [
            self.cell(index, query, passage)
            for index in range(len(self.sets))
            for query in range(count)
            for passage in range(count)
            if (query == passage) == same_language
        ]
        return [cell for cell in found if cell.size]
