"""k-nearest-neighbour accuracy of labelled texts (intents, domains): how often most neighbours have the query's label."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hybrid_retrieval.evaluation.collection import Ints, RetrievalCollection
from hybrid_retrieval.evaluation.language_pairs import LanguagePair
from hybrid_retrieval.evaluation.measures import Floats
from hybrid_retrieval.evaluation.retrievers.retriever import Index
from hybrid_retrieval.evaluation.scoring.scorer import Block, Scorer
from hybrid_retrieval.evaluation.scoring.search import search

NEIGHBOURS = 10
NAME = f"knn_accuracy@{NEIGHBOURS}"


@dataclass(frozen=True)
class Part:
    """A range of documents as a corpus of its own."""

    scorer: Scorer
    documents: slice

    def against(self, documents: slice) -> Block:
        start = self.documents.start
        return self.scorer.against(slice(start + documents.start, start + documents.stop))


def with_knn(collection: RetrievalCollection, index: Index, pairs: list[LanguagePair]) -> list[LanguagePair]:
    """The pairs with one more measure, of each query: 1 where the majority of its nearest documents has its label, else 0."""
    if collection.labels is None:
        return pairs
    hits: dict[str | None, Floats] = {}
    for language in {pair.corpus_language for pair in pairs}:
        scorer = index.pool if language is None or index.language is None else index.language
        every = slice(0, len(collection.corpus))
        rows = every if language is None else collection.corpus.rows(collection.languages.index(language))
        hits[language] = hit(collection, scorer, rows, collection.labels)
    return [pair.adding({NAME: hits[pair.corpus_language]}) for pair in pairs]


def hit(collection: RetrievalCollection, scorer: Scorer, rows: slice, labels: tuple[Ints, Ints]) -> Floats:
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
