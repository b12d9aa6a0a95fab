"""A bi-encoder whose embeddings lose their language after training: see `hybrid_retrieval.evaluation.retrievers.debias`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.evaluation.collection import Ints, RetrievalCollection
from hybrid_retrieval.evaluation.retrievers.debias import Debias, fit
from hybrid_retrieval.evaluation.retrievers.dense import Dense
from hybrid_retrieval.evaluation.retrievers.retriever import Index, Retriever
from hybrid_retrieval.evaluation.scoring.scorer import DenseScorer
from hybrid_retrieval.evaluation.scoring.vectors import JOINED_BYTES, Vectors, release


@dataclass(frozen=True)
class Debiased(Retriever):
    """A method on top of an encoder.

    Attributes:
        method: center, lir or whiten.
        text: what the method is fitted on, by language: not the benchmark's. It is encoded as passages. Every language of
            the benchmark must be in it: embeddings with and without the method are not to be ranked in one pool.
        rank: directions of each language that lir removes.
    """

    dense: Dense
    method: str
    text: Mapping[str, Sequence[str]]
    rank: int = 1

    def index(self, collection: RetrievalCollection, label: str = "") -> Index:
        check_languages(self.method, collection, self.text)
        plain = self.dense.index(collection, label)
        if plain.embeddings is None:
            raise InputError(f"evaluation.debias={self.method} needs an embedding a document: evaluation.documents=whole")
        debias = self._fit(collection, label)
        queries, corpus = (
            changed(debias, vectors, side.language)
            for vectors, side in zip(plain.embeddings, (collection.queries, collection.corpus), strict=True)
        )
        return Index(DenseScorer(queries, corpus, self.dense.device), embeddings=(queries, corpus))

    def _fit(self, collection: RetrievalCollection, label: str) -> Debias:
        """On text in the languages of the collection."""
        labels = [f"{label} {name} estimation" if label else "" for name in collection.languages]
        texts = [self.text[name] for name in collection.languages]
        parts = [self.dense.embed(text, "passage", said) for text, said in zip(texts, labels, strict=True)]
        language = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        normalise = bool(np.allclose(np.linalg.norm(parts[0][:10].astype(np.float32), axis=1), 1, atol=1e-2))
        return fit(self.method, np.concatenate(parts), language, rank=self.rank, normalise=normalise)


def missing_languages(collection: RetrievalCollection, text: Mapping[str, Sequence[str]]) -> list[str]:
    """The languages of the collection that there is no text in."""
    return [name for name in collection.languages if not len(text.get(name, ()))]


def check_languages(method: str, collection: RetrievalCollection, text: Mapping[str, Sequence[str]]) -> None:
    """
    Raises:
        InputError: a language of the collection has no text to fit a method on.
    """
    missing = missing_languages(collection, text)
    if missing:
        kept = ",".join(name for name in collection.languages if name not in missing)
        restrict = f", or benchmark.{collection.name}.languages=[{kept}]" if kept else ""
        raise InputError(
            f"evaluation.debias={method}: dataset= has no training text in {', '.join(missing)}, which {collection.name} has; "
            f"expected text in every language: add them to dataset.languages{restrict}"
        )


def changed(debias: Debias, vectors: Vectors, language: Ints) -> Vectors:
    """float32 [rows, dimensions]; in memory where they are not too many."""
    lazy = Changed(debias, vectors, language)
    return lazy[:] if lazy.nbytes <= JOINED_BYTES else cast(Vectors, lazy)


class Changed:
    """Embeddings under a method, which is applied to the rows that are asked for."""

    def __init__(self, debias: Debias, vectors: Vectors, language: Ints) -> None:
        self.debias, self.vectors, self.language = debias, vectors, language
        self.dtype = np.dtype(np.float32)
        self.shape = (len(vectors), int(vectors.shape[1]))
        self.nbytes = self.shape[0] * self.shape[1] * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | Ints) -> npt.NDArray[np.float32]:
        found = self.debias.apply(self.vectors[rows], self.language[rows])
        if isinstance(rows, slice):
            start, stop, _ = rows.indices(len(self))
            release(self.vectors, slice(start, stop))
        return found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.asarray(self[:], dtype)
