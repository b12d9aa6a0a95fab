"""Rank distance: how far apart the translations of an answer lie in the pool (arXiv 2408.10536, section 4).

Largest minus smallest rank of a query's relevant documents in the pooled list, each language at its best-ranked one; documents
of equal scores share their ranks, so that no order of ties is taken for a preference, and so do those that are not found. For
queries with relevant documents in two languages or more: of answers in one language it would say nothing about languages. Raw
in 1 .. documents - 1; it grows with the pool, so that collections are compared by the normalised one, in (0, 1): divided by
the number of documents. Lower is less bias; of answers in n languages no ranking has less than n - 1. ``rank_distance_chance``
is what is expected of a random ranking.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hybrid_retrieval.evaluation.bias.evidence import Evidence, Finding
from hybrid_retrieval.evaluation.measures import Floats

UNDEFINED = "not printed: no query has relevant documents in two languages"


def rank_distance(evidence: Evidence) -> Finding:
    """Distance in ranks, and that of a random ranking."""
    found = evidence.of_queries({"rank_distance": spread(evidence)}, UNDEFINED)
    means = list(evidence.query_means(expected_spread(evidence)).values())
    return replace(
        found, figures=[*found.figures, *(evidence.figure("rank_distance_chance", float(np.mean(means))) for _ in means[:1])]
    )


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


def expected_spread(evidence: Evidence) -> Floats:
    """float64 [queries]: `spread` as expected of a random ranking, nan where nothing is relevant in a second language.

    Relevant documents of a random ranking lie like uniform numbers u times (documents + 1), and the best of m in a language
    lies above u with probability (1 - u)^m: the largest of these is the integral of 1 - prod(1 - (1 - u)^m), the smallest
    1 / (1 + sum(m)). The integrand is a polynomial, so that Gauss-Legendre points are exact up to a degree of 127.
    """
    collection, values = evidence.collection, evidence.blank()
    languages = len(collection.languages)
    cell = collection.query * languages + collection.corpus.language[collection.document]
    counts = np.bincount(cell, minlength=len(values) * languages).reshape(-1, languages)
    kinds, kind = np.unique(np.sort(counts, axis=1), axis=0, return_inverse=True)
    points, weights = np.polynomial.legendre.leggauss(64)
    above = (1 - points) / 2
    largest = np.array([1 - np.prod(1 - above[:, None] ** m[m > 0], axis=1) for m in kinds]) @ weights / 2
    expected = (largest - 1 / (1 + kinds.sum(axis=1))) * (len(collection.corpus) + 1)
    several = (counts > 0).sum(axis=1) > 1
    values[several] = expected[kind.ravel()][several]
    return values
