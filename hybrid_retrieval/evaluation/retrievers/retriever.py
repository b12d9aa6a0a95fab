"""Ways to score a collection, and what one of them may need beside it.

A retriever is a file here and a config of the group ``retriever``, with its options as the constructor's arguments. One that
works on an encoder's embeddings is an `hybrid_retrieval.evaluation.retrievers.dense.OverDense`, one that is fitted on training
text a `LearnsFromText`; a class may be both.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hybrid_retrieval.evaluation.collection import RetrievalCollection
from hybrid_retrieval.evaluation.scoring.scorer import PairScorer
from hybrid_retrieval.evaluation.scoring.vectors import Vectors


@dataclass(frozen=True)
class Index:
    """A collection, ready to be scored.

    Attributes:
        pool: scores in the pooled corpus of all languages.
        language: scores among the documents of one language, where they are not those in the pool (BM25).
        embeddings: of queries and documents, one row each, where the scores are their dot products.
        bytes_per_passage: of a document's embedding as it would be stored, where that is not as it stands in `embeddings`.
    """

    pool: PairScorer
    language: PairScorer | None = None
    embeddings: tuple[Vectors, Vectors] | None = None
    bytes_per_passage: int | None = None


class Retriever(ABC):
    """A way to score queries against documents."""

    @abstractmethod
    def index(self, collection: RetrievalCollection, label: str = "") -> Index:
        """Read all texts, each once; with a `label`, progress and what was lost of them are shown under that name."""


class AskedAgain(Retriever):
    """A retriever whose index other queries can be asked of."""

    @abstractmethod
    def asking(self, index: Index, collection: RetrievalCollection) -> Index:
        """An index of its own for the queries of a collection with the same corpus, which is not read again."""


class LearnsFromText(Retriever):
    """A retriever that is fitted on training text in every language of the benchmark.

    Attributes:
        texts: passages of each language that it asks for.
        text: these passages by language; set before anything is indexed.
    """

    texts: int
    text: Mapping[str, Sequence[str]]
