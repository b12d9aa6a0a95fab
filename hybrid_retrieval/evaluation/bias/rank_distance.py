"""Rank distance: how far apart the translations of an answer lie in the pool (arXiv 2408.10536, section 4).

Largest minus smallest rank of a query's relevant documents in the pooled list, each language at its best-ranked one; documents
of equal scores share their ranks, so that no order of ties is taken for a preference, and so do those that are not found. For
queries with relevant documents in two languages or more: of answers in one language it would say nothing about languages. Raw
in 1 .. documents - 1; it grows with the pool, so that collections are compared by the normalised one, in (0, 1): divided by
the number of documents. Lower is less bias; of answers in n languages no ranking has less than n - 1.
"""

from __future__ import annotations

import numpy as np

from hybrid_retrieval.evaluation.bias.evidence import Evidence, Finding
from hybrid_retrieval.evaluation.measures import Floats

UNDEFINED = "not printed: no query has relevant documents in two languages"


def rank_distance(evidence: Evidence) -> Finding:
    """Distance in ranks."""
    return evidence.of_queries({"rank_distance": spread(evidence)}, UNDEFINED)


def rank_distance_normalised(evidence: Evidence) -> Finding:
    """Distance as a part of the pool."""
    columns = {"rank_distance_normalised": spread(evidence) / len(evidence.collection.corpus)}
    return evidence.of_queries(columns, UNDEFINED)


def spread(evidence: Evidence) -> Floats:
    """float64 [queries], nan where nothing is relevant in a second language."""
    collection, values = evidence.collection, evidence.blank()
    cell = collection.query * len(collection.languages) + collection.corpus.language[collection.document]
    cells, number = np.unique(cell, return_inverse=True)
    best = np.full(len(cells), np.inf)
    np.minimum.at(best, number, evidence.ranks.pool_ties.shared)
    rows, starts, languages = np.unique(cells // len(collection.languages), return_index=True, return_counts=True)
    if len(rows):
        several = languages > 1
        distance = np.maximum.reduceat(best, starts) - np.minimum.reduceat(best, starts)
        values[rows[several]] = distance[several]
    return values
