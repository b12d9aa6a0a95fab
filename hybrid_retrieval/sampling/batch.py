"""A global batch as indices, and the removal of repeated items from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hybrid_retrieval.sampling.availability import Cell, Cells
from hybrid_retrieval.sampling.permutation import Ints, mix


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

    def __getitem__(self, part: slice) -> PairIndices:
        return PairIndices(self.set_index[part], self.edge[part], self.query_language[part], self.passage_language[part])


@dataclass(frozen=True)
class Draws:
    """Pairs of one stream as drawn: its cells, the cell of each pair, and its edge; items may repeat."""

    cells: Cells
    cell: Ints
    edge: Ints


def distinct(parts: Sequence[Draws], *key: int) -> PairIndices:
    """The pairs of all `parts`, with each repeated item replaced by another one of the same cell.

    Two cells can bring the same edge in different languages. The later pair then takes a random unused edge of its own
    cell, so that the shares of languages stay exact; only where its cell has none left does it move to another cell of its
    part. A part never runs out if its cells hold as many distinct items as all parts have pairs.
    """
    set_index, query_language, passage_language = np.concatenate([part.cells.names[:, part.cell] for part in parts], axis=1)
    edge = np.concatenate([part.edge for part in parts])
    _, first = np.unique((set_index << 40) | edge, return_index=True)
    if len(first) < len(edge):
        fresh = np.zeros(len(edge), dtype=bool)
        fresh[first] = True
        used = set(zip(set_index[fresh].tolist(), edge[fresh].tolist(), strict=True))
        repeated = np.flatnonzero(~fresh)
        cells = [(part.cells, cell) for part in parts for cell in part.cell.tolist()]
        for slot, offset in zip(repeated.tolist(), mix(*key, repeated).tolist(), strict=True):
            cell, edge[slot] = _unused(*cells[slot], used, offset)
            set_index[slot] = cell.set_index
            query_language[slot], passage_language[slot] = cell.query_language, cell.passage_language
            used.add((cell.set_index, int(edge[slot])))
    return PairIndices(set_index, edge, query_language, passage_language)


def _unused(cells: Cells, wanted: int, used: set[tuple[int, int]], offset: int) -> tuple[Cell, int]:
    """A cell, `wanted` where possible, and its first edge from a random offset on that is not in `used`."""
    count = len(cells.members)
    for index in [wanted, *((offset + step) % count for step in range(count))]:
        cell = cells.members[index]
        places = (offset % cell.size + np.arange(min(cell.size, len(used) + 1))) % cell.size
        for edge in cell.edges(places).tolist():
            if (cell.set_index, edge) not in used:
                return cell, edge
    raise ValueError(f"a batch of more than {len(used)} pairs needs more distinct items than its {count} cells hold")
