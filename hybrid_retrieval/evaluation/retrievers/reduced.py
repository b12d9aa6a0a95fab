"""An encoder's embeddings at less cost: fewer dimensions, or fewer bits of each. Nothing is encoded for them.

Queries stay float32 against quantised passages (asymmetric scoring, as sentence-transformers rescores): only what is stored
becomes smaller. Passages are quantised as its ``quantize_embeddings`` does.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.evaluation.collection import Ints, RetrievalCollection
from hybrid_retrieval.evaluation.retrievers.dense import OverDense
from hybrid_retrieval.evaluation.retrievers.retriever import Index
from hybrid_retrieval.evaluation.scoring.scorer import DenseScorer
from hybrid_retrieval.evaluation.scoring.vectors import LazyRows, Vectors, release

ROWS_AT_ONCE = 1 << 14
Singles = npt.NDArray[np.float32]
Change = Callable[[Singles], Singles]
"""From [rows, dimensions] to [rows, dimensions or fewer]."""


class Reduced(OverDense):
    """Embeddings with less in them.

    Attributes:
        key: of the config that asks for it.
    """

    key: str

    def check_dimensions(self, dimensions: int) -> None:
        """Refuse an encoder whose embeddings have too few."""

    @abstractmethod
    def changes(self, queries: Vectors, corpus: Vectors) -> tuple[Change, Change]:
        """What becomes of the queries' embeddings and of the passages'."""

    @abstractmethod
    def bytes_per_passage(self, corpus: Vectors) -> int:
        """What a passage's embedding takes where it is stored."""

    def index(self, collection: RetrievalCollection, label: str = "") -> Index:
        plain = self.dense.index(collection, label)
        assert plain.embeddings is not None
        self.check_dimensions(plain.embeddings[1].shape[1])
        changes = self.changes(*plain.embeddings)
        queries, corpus = (
            ChangedRows(vectors, change).in_memory() for vectors, change in zip(plain.embeddings, changes, strict=True)
        )
        scorer = DenseScorer(queries, corpus, self.dense.device)
        return Index(scorer, embeddings=(queries, corpus), bytes_per_passage=self.bytes_per_passage(plain.embeddings[1]))


class Truncated(Reduced):
    """The first dimensions (Matryoshka, arXiv 2205.13147), made one long again where the whole embeddings are."""

    def __init__(self, dimensions: int) -> None:
        self.dimensions, self.key = dimensions, f"evaluation.dimensions=[{dimensions}]"

    def check_dimensions(self, dimensions: int) -> None:
        if self.dimensions > dimensions:
            raise InputError(f"{self.key}: the encoder has {dimensions}; expected at most as many")

    def changes(self, queries: Vectors, corpus: Vectors) -> tuple[Change, Change]:
        lengths = np.concatenate([np.linalg.norm(np.asarray(side[:10], np.float32), axis=1) for side in (queries, corpus)])
        unit = np.allclose(lengths[lengths > 0], 1, atol=1e-2)  # a text without a known token has none

        def change(rows: Singles) -> Singles:
            part = rows[:, : self.dimensions]
            if not unit:
                return part
            length = np.linalg.norm(part, axis=1, keepdims=True)
            return np.asarray(part / np.where(length > 0, length, 1), np.float32)

        return change, change

    def bytes_per_passage(self, corpus: Vectors) -> int:
        return self.dimensions * int(corpus.dtype.itemsize)


class Int8(Reduced):
    """256 steps a dimension, between the least and the largest value of the corpus; a step stands for its lower end."""

    key = "evaluation.quantization=[int8]"

    def changes(self, queries: Vectors, corpus: Vectors) -> tuple[Change, Change]:
        ends = [(part.min(0), part.max(0)) for part in _parts(corpus)]
        low, high = np.min([least for least, _ in ends], axis=0), np.max([largest for _, largest in ends], axis=0)
        step = (high - low) / np.float32(255)
        step = np.where(step == 0, np.float32(1), step)
        return lambda rows: rows, lambda rows: np.clip(np.floor((rows - low) / step), 0, 255) * step + low

    def bytes_per_passage(self, corpus: Vectors) -> int:
        return int(corpus.shape[1])


class Binary(Reduced):
    """A bit a dimension: whether it is above 0. A passage scores as the sum of the query's values where it has a one."""

    key = "evaluation.quantization=[binary]"

    def changes(self, queries: Vectors, corpus: Vectors) -> tuple[Change, Change]:
        return lambda rows: rows, lambda rows: (rows > 0).astype(np.float32)

    def bytes_per_passage(self, corpus: Vectors) -> int:
        return -(-int(corpus.shape[1]) // 8)


QUANTIZED: dict[str, type[Reduced]] = {"int8": Int8, "binary": Binary}


def reductions(dimensions: Sequence[int], quantization: Sequence[str]) -> dict[str, Reduced]:
    """By the name of its folder, what ``evaluation.dimensions`` and ``evaluation.quantization`` ask for."""
    truncated: dict[str, Reduced] = {f"dimensions_{count}": Truncated(count) for count in dimensions}
    return truncated | {name: QUANTIZED[name]() for name in quantization}


def _parts(vectors: Vectors) -> Iterator[Singles]:
    whole = ChangedRows(vectors, lambda rows: rows)
    return (whole[at : at + ROWS_AT_ONCE] for at in range(0, len(vectors), ROWS_AT_ONCE))


class ChangedRows(LazyRows):
    """Embeddings under a change, which is made to the rows that are asked for."""

    def __init__(self, vectors: Vectors, change: Change) -> None:
        super().__init__(len(vectors), change(np.asarray(vectors[:1], np.float32)).shape[1])
        self.vectors, self.change = vectors, change

    def __getitem__(self, rows: slice | Ints) -> Singles:
        changed = self.change(np.asarray(self.vectors[rows], np.float32)).astype(np.float32)
        if isinstance(rows, slice):
            start, stop, _ = rows.indices(len(self))
            release(self.vectors, slice(start, stop))
        return changed
