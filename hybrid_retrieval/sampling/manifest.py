"""The record of what was really drawn: pairs per step, set, query language and passage language."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hybrid_retrieval.errors import reading
from hybrid_retrieval.files import check_recorded, recorded
from hybrid_retrieval.sampling.batch import PairIndices
from hybrid_retrieval.sampling.permutation import Ints

SCHEMA = pa.schema(
    [
        ("step", pa.int64()),
        ("set", pa.string()),
        ("query_language", pa.string()),
        ("passage_language", pa.string()),
        ("pairs", pa.int32()),
    ]
)


def languages_drawn(path: Path) -> tuple[str, ...] | None:
    """The languages of the pairs that a file says were drawn; None where there is no such file.

    Raises:
        InputError: the file is no manifest.
    """
    if not path.is_file():
        return None
    check_recorded(path)
    names = ["query_language", "passage_language"]
    with reading(f"{path} is not a batch manifest"):
        columns = pq.read_table(path, columns=names).select(names).columns
        return tuple(sorted({str(name) for column in columns for name in pc.unique(column).to_pylist()}))


class Manifest:
    """Grows by one global batch a step; written as ``batch_manifest.parquet``."""

    def __init__(self, sets: Sequence[str], languages: Sequence[str]) -> None:
        self._names = [pa.array(names, pa.string()) for names in (sets, languages, languages)]
        self._parts: list[Ints] = []

    @property
    def rows(self) -> Ints:
        """int64 [5, rows]: step, set, query language, passage language, pairs; sets and languages as indices."""
        if len(self._parts) != 1:
            self._parts = [np.concatenate([np.empty((5, 0), np.int64), *self._parts], axis=1)]
        return self._parts[0]

    def add(self, step: int, batch: PairIndices) -> None:
        """Count the pairs of a global batch."""
        shape = tuple(map(len, self._names))
        codes = np.ravel_multi_index((batch.set_index, batch.query_language, batch.passage_language), shape)
        counts = np.bincount(codes)
        cells = np.flatnonzero(counts)
        self._parts.append(np.stack([np.full(len(cells), step), *np.unravel_index(cells, shape), counts[cells]]))

    def restore(self, path: Path, before: int) -> None:
        """Take up the rows of an earlier process, up to the step it is resumed from."""
        if path.exists():
            check_recorded(path)
            with reading(f"{path} is not the run's manifest"):
                table = pq.read_table(path, schema=SCHEMA)
                table = table.filter(pc.less(table["step"], before))
                cells = [pc.index_in(table[field], known) for field, known in zip(SCHEMA.names[1:4], self._names, strict=True)]
                columns = [table["step"], *cells, table["pairs"]]
                if any(column.null_count for column in columns):
                    raise ValueError("it has empty cells, or sets and languages that are not the run's")
                self._parts = [np.stack([column.to_numpy().astype(np.int64) for column in columns])]

    def write(self, path: Path) -> None:
        """Write all rows, whole or not at all."""
        step, *cells, pairs = self.rows
        named = [names.take(index) for names, index in zip(self._names, cells, strict=True)]
        arrays = [pa.array(step), *named, pa.array(pairs, pa.int32())]
        with recorded(path) as part:
            pq.write_table(pa.table(arrays, schema=SCHEMA), part)

    def summary(self) -> dict[str, float]:
        """Batches and pairs by kind, and the largest and smallest count over the cells that were drawn."""
        step, _, query, passage, pairs = self.rows
        same = query == passage
        steps, mixed = np.unique(step), np.unique(step[~same])
        _, cell = np.unique(self.rows[1:4], axis=1, return_inverse=True)
        of_cell = np.bincount(cell.ravel(), weights=pairs) if len(pairs) else np.zeros(1)
        total = int(pairs.sum())
        return {
            "steps": len(steps),
            "pairs": total,
            "monolingual_pair_share": int(pairs[same].sum()) / max(1, total),
            "monolingual_batch_share": (len(steps) - len(mixed)) / max(1, len(steps)),
            "cells": int(np.count_nonzero(of_cell)),
            "fewest_pairs_of_a_cell": int(of_cell.min()),
            "most_pairs_of_a_cell": int(of_cell.max()),
        }
