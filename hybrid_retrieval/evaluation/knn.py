"""k-nearest-neighbour accuracy of labelled texts (intents, domains): how often most neighbours have the query's label."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from hybrid_retrieval.evaluation.collection import Ints, RetrievalCollection
from hybrid_retrieval.evaluation.retrievers.retriever import Index
from hybrid_retrieval.evaluation.scoring.scorer import Block, Scorer
from hybrid_retrieval.evaluation.scoring.search import search
from hybrid_retrieval.evaluation.settings import Slice

NEIGHBOURS = 10
NAME = f"knn_accuracy@{NEIGHBOURS}"


@dataclass(frozen=True)
class Part:
    """The documents of a slice as a corpus of their own."""

    scorer: Scorer
    documents: slice

    def against(self, documents: slice) -> Block:
        start = self.documents.start
        return self.scorer.against(slice(start + documents.start, start + documents.stop))


def with_knn(collection: RetrievalCollection, index: Index, views: list[Slice]) -> list[Slice]:
    """The views with one more measure, of each query: 1 where the majority of its nearest documents has its label, else 0."""
    if collection.labels is None:
        return views
    hits: dict[int | None, npt.NDArray[np.float64]] = {}
    for view in views:
        if view.corpus_language not in hits:
            pool = view.corpus_language is None
            scorer = index.pool if pool or index.language is None else index.language
            rows = slice(0, len(collection.corpus)) if pool else collection.corpus.rows(view.corpus_language or 0)
            hits[view.corpus_language] = hit(collection, scorer, rows, collection.labels)
    return [replace(view, values=view.values | {NAME: hits[view.corpus_language][view.queries]}) for view in views]


def hit(collection: RetrievalCollection, scorer: Scorer, rows: slice, labels: tuple[Ints, Ints]) -> npt.NDArray[np.float64]:
    """float64 [queries]: whether the majority of the `NEIGHBOURS` nearest of these documents has the query's label."""
    order = collection.tie_order[rows].argsort().argsort()
    top = search(Part(scorer, rows), len(collection.queries), rows.stop - rows.start, NEIGHBOURS, order)
    of_query, of_document = labels
    near = of_document[rows][top.documents]
    found = [majority(*one) for one in zip(near.tolist(), top.scores.tolist(), strict=True)]
    return np.array([label == own for label, own in zip(found, of_query.tolist(), strict=True)], np.float64)


def majority(labels: list[int], scores: list[float]) -> int | None:
    """The most frequent label; of equals the one with the larger sum of scores, then the nearer."""
    votes: dict[int, tuple[int, float]] = {}
    for label, score in zip(labels, scores, strict=True):
        if score > -np.inf:
            count, total = votes.get(label, (0, 0.0))
            votes[label] = (count + 1, total + score)
    return max(votes, key=votes.__getitem__, default=None)
