"""A global batch as indices, and the removal of repeated items from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from hybrid_retrieval.hashing import Words, mix
from hybrid_retrieval.sampling.availability import Cells, item_codes
from hybrid_retrieval.sampling.permutation import Ints

ATTEMPTS = 8
"""Random tries of a repeated item's replacement; where half of a cell is in the batch, one in 256 needs more."""

SIEVE = 2**17
"""Remainders by which most items are seen to come once without a search."""


@dataclass(frozen=True)
class PairIndices:
    """Which pairs a batch holds; each field is int64 [pairs].

    Languages index the sorted union of the sets' languages; an edge belongs to its set.
    """

    set_index: Ints
    edge: Ints
    query_language: Ints
    passage_language: Ints

    def __len__(self) -> int:
        return len(self.edge)

    @classmethod
    def join(cls, parts: Sequence[PairIndices]) -> PairIndices:
        """Pairs of several, one after another."""
        if len(parts) == 1:
            return parts[0]
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)))


@dataclass(frozen=True)
class Draws:
    """Pairs of one stream as drawn: its cells, the cell of each pair, and its edge; items may repeat."""

    cells: Cells
    cell: Ints
    edge: Ints


def distinct(parts: Sequence[Draws], *key: int) -> PairIndices:
    """The pairs of all `parts`, with each repeated item replaced by another one of the same cell.

    Two cells can bring the same edge in different languages. The later pair then takes a random unused edge of its own
    cell, so that the ratios of languages stay exact; only where its cell has none left does it move to another cell of its
    part. A part never runs out if its cells hold as many distinct items as all parts have pairs.
    """
    names = np.concatenate([part.cells.names.take(part.cell, axis=1) for part in parts], axis=1)
    edge = np.concatenate([part.edge for part in parts])
    codes = item_codes(names[0], edge)
    ranked = np.sort(codes)
    twice = ranked[1:][ranked[1:] == ranked[:-1]]
    if len(twice):
        slots = _repeated(codes, twice)
        first = 0
        for part in parts:
            mine = slots[(slots >= first) & (slots < first + len(part.cell))]
            cell, edge[mine], ranked = _replacements(part.cells, part.cell[mine - first], mix(*key, mine), ranked)
            names[:, mine] = part.cells.names[:, cell]
            first += len(part.cell)
    return PairIndices(names[0], edge, names[1], names[2])


def _repeated(codes: Ints, twice: Ints) -> Ints:
    """The places in `codes` of every item of the sorted `twice` but its first."""
    sieve = np.zeros(SIEVE, dtype=bool)
    sieve[twice % SIEVE] = True
    there = np.flatnonzero(sieve[codes % SIEVE])
    near = twice[np.minimum(np.searchsorted(twice, codes[there]), len(twice) - 1)]
    there = there[near == codes[there]]
    _, first = np.unique(codes[there], return_index=True)
    return np.delete(there, first)


def _replacements(cells: Cells, wanted: Ints, offsets: Words, used: Ints) -> tuple[Ints, Ints, Ints]:
    """A cell, the `wanted` one where possible, and an edge for each, none of them in the sorted codes `used`.

    All try places of their cells at random, a few times; what is then left searches its cell from end to end.

    Returns:
        cells, edges, and `used` with the new items.
    """
    cell, edge = wanted.copy(), np.empty(len(wanted), np.int64)
    left = np.arange(len(wanted))
    for attempt in range(ATTEMPTS):
        if not len(left):
            break
        places = mix(offsets[left], attempt) % cells.sizes[wanted[left]].astype(np.uint64)
        edge[left] = cells.edges(wanted[left], places.astype(np.int64))
        codes = item_codes(cells.names[0, wanted[left]], edge[left])
        fresh = np.zeros(len(left), dtype=bool)
        fresh[np.unique(codes, return_index=True)[1]] = True
        fresh &= used[np.minimum(np.searchsorted(used, codes), len(used) - 1)] != codes
        used = np.insert(used, np.searchsorted(used, np.sort(codes[fresh])), np.sort(codes[fresh]))
        left = left[~fresh]
    taken = set(used.tolist()) if len(left) else set()
    for slot in left.tolist():
        cell[slot], edge[slot], code = _unused(cells, int(wanted[slot]), taken, int(offsets[slot]))
        taken.add(code)
    return cell, edge, used if not len(left) else np.sort(np.fromiter(taken, np.int64, len(taken)))


def _unused(cells: Cells, wanted: int, used: set[int], offset: int) -> tuple[int, int, int]:
    """A cell, `wanted` where possible, its first edge from a random offset on that is not in `used`, and that item's code."""
    count = len(cells.sizes)
    for index in [wanted, *((offset + step) % count for step in range(count))]:
        size = int(cells.sizes[index])
        places = (offset % size + np.arange(min(size, len(used) + 1))) % size
        edges = cells.edges(np.full(len(places), index), places)
        for edge, code in zip(edges.tolist(), item_codes(cells.names[0, index], edges).tolist(), strict=True):
            if code not in used:
                return index, edge, code
    raise ValueError(f"a batch of more than {len(used)} pairs needs more distinct items than its {count} cells hold")
