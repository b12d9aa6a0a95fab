"""Random directions in the place of embeddings: the floor that any retriever should be above."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hybrid_retrieval.evaluation.collection import Ints, RetrievalCollection
from hybrid_retrieval.evaluation.retrievers.retriever import Index, Retriever
from hybrid_retrieval.evaluation.scoring.scorer import DenseScorer
from hybrid_retrieval.evaluation.scoring.vectors import LazyRows
from hybrid_retrieval.values import Seed

DIMENSIONS = 64
ROWS = 4096
"""Rows that are drawn together."""


@dataclass(frozen=True)
class RandomVectors(Retriever):
    """A direction for every row, equally likely all, whatever its text. The same seed gives the same scores."""

    seed: Seed = 0

    def index(self, collection: RetrievalCollection, label: str = "") -> Index:
        sides = enumerate((collection.queries, collection.corpus))
        queries, corpus = (Directions((self.seed, number), len(side)).in_memory() for number, side in sides)
        return Index(DenseScorer(queries, corpus), embeddings=(queries, corpus))


class Directions(LazyRows):
    """float32 [rows, 64], drawn when they are asked for: a row depends on the seed and its number only."""

    def __init__(self, seed: tuple[int, ...], rows: int) -> None:
        super().__init__(rows, DIMENSIONS)
        self.seed = seed

    def __getitem__(self, rows: slice | Ints) -> npt.NDArray[np.float32]:
        numbers = np.arange(*rows.indices(len(self))) if isinstance(rows, slice) else rows
        found = np.empty((len(numbers), DIMENSIONS), np.float32)
        for block in np.unique(numbers // ROWS).tolist():
            mine = numbers // ROWS == block
            drawn = np.random.default_rng((*self.seed, block)).standard_normal((ROWS, DIMENSIONS), np.float32)
            drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
            found[mine] = drawn[numbers[mine] % ROWS]
        return found
