"""What finds candidates: an encoder, or BM25; and how much a candidate may score beside the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from hybrid_retrieval.data.parallel import Ints, ParallelPairs, TextTable
from hybrid_retrieval.evaluation.collection import RetrievalCollection, Side
from hybrid_retrieval.evaluation.retrievers.bm25 import BM25, LexicalScorer
from hybrid_retrieval.evaluation.retrievers.dense import Dense
from hybrid_retrieval.evaluation.retrievers.retriever import Index
from hybrid_retrieval.evaluation.scoring.scorer import DenseScorer, PairScorer
from hybrid_retrieval.evaluation.scoring.vectors import Vectors, join
from hybrid_retrieval.models.encoder import Role
from hybrid_retrieval.values import NotNegative, check

Floats = npt.NDArray[np.float32]


NOTHING_TO_COMPARE = "no answer in its language to compare with"


class Miner(Protocol):
    """A way to score the queries of a set against its passages in one language."""

    def scorer(self, queries: Ints, language: int, own: bool) -> PairScorer:
        """Of these rows of queries (`own`: that are in the same language) against all passages of a language."""


@dataclass(frozen=True)
class Margin:
    """How much a candidate may score beside the worst answer to its query; null: however much.

    As in sentence-transformers' ``mine_hard_negatives`` and NV-Retriever (arXiv 2407.15831): a relative margin of 0.05 keeps
    what scores at most 95% of the answer.
    """

    absolute: NotNegative | None = None
    relative: NotNegative | None = None
    max_score: float | None = None

    def __post_init__(self) -> None:
        check(type(self), vars(self), "margin")

    @property
    def compares(self) -> bool:
        """Whether an answer's score is needed."""
        return self.absolute is not None or self.relative is not None

    def faults(self, scores: Floats, answers: Floats) -> dict[str, npt.NDArray[np.bool_]]:
        """By reason, which scores are too high beside those of answers (not a number: there is none to compare with)."""
        found = {}
        if self.max_score is not None:
            found["above max_score"] = scores > self.max_score
        if self.compares:
            found[NOTHING_TO_COMPARE] = np.isnan(answers)
        if self.absolute is not None:
            found["within the absolute margin"] = scores + self.absolute > answers
        if self.relative is not None:
            found["within the relative margin"] = scores > answers - np.abs(answers) * self.relative
        return found


@dataclass(frozen=True)
class EncoderMiner:
    """Dot products of embeddings.

    Attributes:
        queries: one row a query of the set.
        passages: by language.
    """

    queries: Vectors
    passages: Sequence[Vectors]
    device: str

    @classmethod
    def of(cls, dense: Dense, pairs: ParallelPairs, label: str) -> EncoderMiner:
        """Encode each text of the set once."""
        sides = [_embedded(dense, table, pairs.languages, role, label) for table, role in _sides(pairs)]
        return cls(join([part for part in sides[0] if len(part)]), sides[1], dense.device)

    def scorer(self, queries: Ints, language: int, own: bool) -> DenseScorer:
        del own
        return DenseScorer(np.asarray(self.queries[queries]), self.passages[language], self.device)


@dataclass(frozen=True)
class LexicalMiner:
    """BM25, within a language by that language's own index."""

    index: Index
    rows: Sequence[slice]
    """Of each language's passages."""

    @classmethod
    def of(cls, retriever: BM25, pairs: ParallelPairs, label: str) -> LexicalMiner:
        """Analyse each text of the set once."""
        sides = [Side(table.column("text"), table.column("id"), table.languages) for table, _ in _sides(pairs)]
        none = np.empty(0, np.int64)
        collection = RetrievalCollection(pairs.name, pairs.languages, sides[0], sides[1], none, none, none)
        return cls(retriever.index(collection, label), [sides[1].rows(index) for index in range(len(pairs.languages))])

    def scorer(self, queries: Ints, language: int, own: bool) -> LexicalScorer:
        whole = self.index.language if own and self.index.language is not None else self.index.pool
        assert isinstance(whole, LexicalScorer)
        return LexicalScorer(whole.queries[queries], whole.weights[self.rows[language]], whole.vocabulary)


def _sides(pairs: ParallelPairs) -> list[tuple[TextTable, Role]]:
    return [(pairs.queries, "query"), (pairs.passages, "passage")]


def _embedded(dense: Dense, table: TextTable, languages: Sequence[str], role: Role, label: str) -> list[Vectors]:
    """The embeddings of each language's texts."""
    texts, ends = table.column("text"), np.searchsorted(table.languages, np.arange(len(languages) + 1)).tolist()
    return [
        dense.embed(texts[ends[index] : ends[index + 1]], role, f"{label} {language} {role}")
        for index, language in enumerate(languages)
    ]
