"""What every way to score a collection offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from hybrid_retrieval.evaluation.collection import RetrievalCollection
from hybrid_retrieval.evaluation.scoring.scorer import Scorer
from hybrid_retrieval.evaluation.scoring.vectors import Vectors


@dataclass(frozen=True)
class Index:
    """A collection, ready to be scored.

    Attributes:
        pool: scores in the pooled corpus of all languages.
        language: scores among the documents of one language, where they are not those in the pool (BM25).
        embeddings: of queries and documents, one row each, where the scores are their dot products.
    """

    pool: Scorer
    language: Scorer | None = None
    embeddings: tuple[Vectors, Vectors] | None = None


class Retriever(ABC):
    """A way to score queries against documents."""

    @abstractmethod
    def index(self, collection: RetrievalCollection, label: str = "") -> Index:
        """Read all texts, each once; with a `label`, progress and what was lost of them are shown under that name."""
