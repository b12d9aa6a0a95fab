"""An encoder's embeddings, compared by their dot products; long documents whole, or as the best of their chunks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, cast, runtime_checkable

import numpy as np

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.evaluation.collection import RetrievalCollection, Side
from hybrid_retrieval.evaluation.retrievers.retriever import AskedAgain, Index, Retriever
from hybrid_retrieval.evaluation.scoring.embeddings import EmbeddingStore
from hybrid_retrieval.evaluation.scoring.scorer import ChunkMax, DenseScorer
from hybrid_retrieval.evaluation.scoring.vectors import Vectors, join
from hybrid_retrieval.models.encoder import Encoder, Role

ROLE_NAMES: dict[Role, str] = {"query": "queries", "passage": "corpus"}


@runtime_checkable
class Chunking(Protocol):
    """An encoder that can cut texts into pieces that it reads whole."""

    def pieces(self, texts: Sequence[str], overlap: int) -> list[list[str]]:
        """The pieces of every text, at least one each; neighbours share `overlap` tokens."""


@dataclass(frozen=True)
class Dense(AskedAgain):
    """Retrieval by a bi-encoder.

    Attributes:
        store: where embeddings are kept; in memory, in float32, by default.
        documents: ``whole``: what does not fit into the encoder is cut off; ``chunks``: a document scores as its best chunk
            (max pooling, as in MLDR's baselines for short encoders).
        overlap: tokens that neighbouring chunks share.
    """

    encoder: Encoder
    store: EmbeddingStore | None = None
    documents: str = "whole"
    overlap: int = 0

    @property
    def device(self) -> str:
        """The device of the encoder, on which scores are computed."""
        return str(getattr(self.encoder, "device", "cpu"))

    def check(self) -> None:
        """Refuse an encoder that cannot cut texts, and chunks that would not go on; known before anything is encoded."""
        if self.documents == "chunks":
            self._pieces([""])

    def index(self, collection: RetrievalCollection, label: str = "") -> Index:
        queries = self._embed(collection, collection.queries, "query", label)
        if self.documents == "chunks":
            return self._chunked(collection, queries, label)
        corpus = self._embed(collection, collection.corpus, "passage", label)
        return Index(DenseScorer(queries, corpus, self.device), embeddings=(queries, corpus))

    def asking(self, index: Index, collection: RetrievalCollection) -> Index:
        queries = self._embed(collection, collection.queries, "query", "")
        pool, corpus = index.pool, index.embeddings and index.embeddings[1]
        if isinstance(pool, ChunkMax):
            return Index(replace(pool, chunks=cast(DenseScorer, pool.chunks).asking(queries)))
        assert isinstance(pool, DenseScorer)
        assert corpus is not None
        return Index(pool.asking(queries), embeddings=(queries, corpus))

    def embed(self, texts: Sequence[str], role: Role, label: str = "") -> Vectors:
        """[texts, dimensions], from the store if there is one."""
        return self.store.embed(self.encoder, texts, role, label) if self.store else self.encoder.encode(texts, role, label)

    def _pieces(self, texts: Sequence[str]) -> list[list[str]]:
        if not isinstance(self.encoder, Chunking):
            raise InputError(f"evaluation.documents=chunks: {type(self.encoder).__name__} cannot cut texts; expected whole")
        return self.encoder.pieces(texts, self.overlap)

    def _chunked(self, collection: RetrievalCollection, queries: Vectors, label: str) -> Index:
        pieces = self._pieces(collection.corpus.texts)
        sizes = np.array([len(one) for one in pieces], np.int64)
        side = Side(
            [piece for one in pieces for piece in one],
            [""] * int(sizes.sum()),
            np.repeat(collection.corpus.language, sizes),
            collection.corpus.prompt,
        )
        chunks = self._embed(collection, side, "passage", label)
        return Index(ChunkMax(DenseScorer(queries, chunks, self.device), np.concatenate([[0], np.cumsum(sizes)])))

    def _embed(self, collection: RetrievalCollection, side: Side, role: Role, label: str) -> Vectors:
        """[rows, dimensions]. Each language is a call of its own, so that what is lost is said of each."""
        parts: list[Vectors] = []
        for index, language in enumerate(collection.languages):
            texts = side.given(side.rows(index))
            if len(texts):
                name = f"{label} {language} {ROLE_NAMES[role]}" if label else ""
                parts.append(self.embed(texts, role, name))
        return join(parts)


class OverDense(Retriever):
    """A retriever on top of an encoder's embeddings, one a document.

    Attributes:
        dense: the encoder; set before anything is indexed.
    """

    dense: Dense
