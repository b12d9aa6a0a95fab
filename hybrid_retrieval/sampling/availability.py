"""What can be drawn: for each set and language pair, the edges whose two sides exist there."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hybrid_retrieval.hashing import Words
from hybrid_retrieval.sampling.permutation import Ints

GUIDES = 16
"""Stretches of places that are looked up at once, for each range of edges."""


def item_codes(set_index: Ints | int, edge: Ints) -> Ints:
    """One integer for each item."""
    codes: Ints = (np.asarray(set_index, np.int64) << 40) | edge
    return codes


@dataclass(frozen=True)
class SetAvailability:
    """One parallel set as a sampler sees it: disjoint runs of edges with the same languages on either side.

    Attributes:
        queries, passages: uint64 [runs], bit l set where the side exists in language l.
        starts, stops: int64 [runs], first edge of each run and one past its last.
        weight: how often it is drawn, relative to the other sets that have the same language pair.
    """

    name: str
    languages: tuple[str, ...]
    queries: Words
    passages: Words
    starts: Ints
    stops: Ints
    weight: float = 1.0


@dataclass(frozen=True)
class Cell:
    """The edges of one set that can serve one (query language, passage language) pair: a union of ranges."""

    set_index: int
    query_language: int
    passage_language: int
    starts: Ints
    stops: Ints

    @cached_property
    def size(self) -> int:
        """Number of edges."""
        return int((self.stops - self.starts).sum())


class Cells:
    """The cells of a stream; their ranges lie end to end, so that one search finds the edges of any mixture of cells."""

    def __init__(self, members: Sequence[Cell]) -> None:
        names = [(cell.set_index, cell.query_language, cell.passage_language) for cell in members]
        self.names: Ints = np.array(names, dtype=np.int64).T
        """int64 [3, cells]: set, query language, passage language."""
        self.sizes: Ints = np.array([cell.size for cell in members], dtype=np.int64)
        self._bases = np.cumsum(self.sizes) - self.sizes
        stops = np.concatenate([cell.stops for cell in members])
        self._starts = np.concatenate([cell.starts for cell in members])
        self._ranges = np.array([len(cell.starts) for cell in members])
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
        sets = np.repeat(self.names[0], self._ranges)
        _, first = np.unique(item_codes(sets, self._starts), return_index=True)
        return int((self._shifts + self._ends - self._starts)[first].sum())


class Availability:
    """All cells of a mixture of sets, over one sorted list of languages."""

    def __init__(self, sets: Sequence[SetAvailability]) -> None:
        self.sets = tuple(sets)
        self.languages = tuple(sorted({language for part in sets for language in part.languages}))

    def cells(self, same_language: bool) -> list[Cell]:
        """The non-empty cells of all sets with equal, or with different, languages on the two sides."""
        found = []
        for index, part in enumerate(self.sets):
            bit_of = {self.languages.index(name): np.uint64(1 << bit) for bit, name in enumerate(part.languages)}
            for query, passage in itertools.product(sorted(bit_of), repeat=2):
                if (query == passage) == same_language:
                    chosen = ((part.queries & bit_of[query]) != 0) & ((part.passages & bit_of[passage]) != 0)
                    found.append(Cell(index, query, passage, part.starts[chosen], part.stops[chosen]))
        return [cell for cell in found if cell.size]
