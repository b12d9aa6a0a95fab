"""Post-hoc removal of language from embeddings, to compare with training.

A method is fitted on embeddings of training text in every language of the benchmark, and then changes queries and passages
alike, each by its own language. With and without it, embeddings are not to be ranked in one pool: no language may be missing.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from hybrid_retrieval import values
from hybrid_retrieval.evaluation.collection import Ints, RetrievalCollection
from hybrid_retrieval.evaluation.measures import Floats
from hybrid_retrieval.evaluation.retrievers.dense import OverDense
from hybrid_retrieval.evaluation.retrievers.retriever import Index, LearnsFromText
from hybrid_retrieval.evaluation.scoring.scorer import DenseScorer
from hybrid_retrieval.evaluation.scoring.vectors import LazyRows, Vectors, release
from hybrid_retrieval.values import Count

ROWS_AT_ONCE = 1 << 14
"""Rows that are changed together, in float64."""

Change = Callable[[Floats, int], Floats]
"""From float64 [rows, dimensions] in one language, and the language's number, to the same without the language."""


class PostHoc(OverDense, LearnsFromText):
    """A method on top of an encoder. Training text is encoded as passages."""

    name: ClassVar[str]
    """In the group ``retriever``."""

    def __init__(self, texts: Count = 10_000) -> None:
        """
        Args:
            texts: training passages of each language that the method is fitted on.
        """
        values.check(PostHoc, {"texts": texts}, f"retriever.{self.name}")
        self.texts = texts

    def check(self, texts: Sequence[int], dimensions: int) -> None:
        """Refuse so many texts of each language, of so many dimensions, where they are too few; `fit` does, too."""

    @abstractmethod
    def fit(self, parts: Mapping[int, Floats]) -> Change:
        """The change that the method makes, from float64 [texts, dimensions] by language."""

    def index(self, collection: RetrievalCollection, label: str = "") -> Index:
        plain = self.dense.index(collection, label)
        assert plain.embeddings is not None
        parts = {}
        for index, language in enumerate(collection.languages):
            said = f"{label} {language} estimation" if label else ""
            parts[index] = self.dense.embed(self.text[language], "passage", said).astype(np.float64)
        change, unit = self.fit(parts), bool(np.allclose(np.linalg.norm(parts[0][:10], axis=1), 1, atol=1e-2))
        queries, corpus = (
            Changed(vectors, side.language, change, unit).in_memory()
            for vectors, side in zip(plain.embeddings, (collection.queries, collection.corpus), strict=True)
        )
        return Index(DenseScorer(queries, corpus, self.dense.device), embeddings=(queries, corpus))


class Changed(LazyRows):
    """Embeddings under a method, which is applied to the rows that are asked for."""

    def __init__(self, vectors: Vectors, language: Ints, change: Change, unit: bool, at_once: int = ROWS_AT_ONCE) -> None:
        """
        Args:
            vectors: [rows, dimensions].
            language: int64 [rows].
            unit: make rows one long again; a row that vanishes stays zero.
        """
        super().__init__(len(vectors), vectors.shape[1])
        self.vectors, self.language, self.change, self.unit, self.at_once = vectors, language, change, unit, at_once

    def __getitem__(self, rows: slice | Ints) -> npt.NDArray[np.float32]:
        vectors, language = self.vectors[rows], self.language[rows]
        changed = np.empty(vectors.shape, np.float32)
        for at in range(0, len(vectors), self.at_once):
            spoken = language[at : at + self.at_once]
            for index in np.unique(spoken).tolist():
                mine = at + np.flatnonzero(spoken == index)
                part = self.change(vectors[mine].astype(np.float64), index)
                if self.unit:
                    length = np.linalg.norm(part, axis=1, keepdims=True)
                    part = part / np.where(length > 0, length, 1)
                changed[mine] = part
        if isinstance(rows, slice):
            start, stop, _ = rows.indices(len(self))
            release(self.vectors, slice(start, stop))
        return changed
