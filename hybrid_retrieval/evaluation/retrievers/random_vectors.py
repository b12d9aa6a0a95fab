"""Random directions in the place of embeddings: the floor that any retriever should be above."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from hybrid_retrieval.evaluation.collection import RetrievalCollection
from hybrid_retrieval.evaluation.retrievers.retriever import Index, Retriever
from hybrid_retrieval.evaluation.scoring.scorer import DenseScorer
from hybrid_retrieval.evaluation.scoring.vectors import Vectors

DIMENSIONS = 64
ROWS = 4096
"""Rows that are drawn together."""


@dataclass(frozen=True)
class RandomVectors(Retriever):
    """A direction for every row, equally likely all, whatever its text. The same seed gives the same scores."""

    seed: int = 0

    def index(self, collection: RetrievalCollection, label: str = "") -> Index:
        sides = enumerate((collection.queries, collection.corpus))
        queries, corpus = (cast(Vectors, Directions((self.seed, number), len(side))) for number, side in sides)
        return Index(DenseScorer(queries, corpus), embeddings=(queries, corpus))


class Directions:
    """float32 [rows, 64], drawn when they are asked for: a row depends on the seed and its number only."""

    def __init__(self, seed: tuple[int, ...], rows: int) -> None:
        self.seed = seed
        self.shape = (rows, DIMENSIONS)
        self.dtype = np.dtype(np.float32)
        self.nbytes = rows * DIMENSIONS * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        if not isinstance(rows, slice):
            return self._rows(np.flatnonzero(rows) if rows.dtype == bool else rows)
        start, stop, _ = rows.indices(len(self))
        first = start // ROWS
        blocks = [self._block(number) for number in range(first, -(-stop // ROWS))]
        drawn = np.concatenate([np.empty((0, DIMENSIONS), np.float32), *blocks])
        return drawn[start - first * ROWS : max(start, stop) - first * ROWS]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.asarray(self[:], dtype)

    def _rows(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        found = np.empty((len(rows), DIMENSIONS), np.float32)
        for number in np.unique(rows // ROWS).tolist():
            mine = rows // ROWS == number
            found[mine] = self._block(number)[rows[mine] % ROWS]
        return found

    def _block(self, number: int) -> npt.NDArray[np.float32]:
        drawn = np.random.default_rng((*self.seed, number)).standard_normal((ROWS, DIMENSIONS), np.float32)
        drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
        return drawn
