"""Definitions by loops, and the figures of a finding as tests read them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from hybrid_retrieval.evaluation.bias.evidence import Evidence, Finding


def flat(found: Finding) -> dict[str, float]:
    """Figures by ``<measure>`` and ``<measure>/<language>``."""
    return {f"{one.measure.name}/{one.languages}" if one.languages else one.measure.name: one.value for one in found.figures}


def order_of(evidence: Evidence, query: int) -> list[int]:
    """Brute force: all documents of the pool by score, then by id, descending."""
    assert evidence.embeddings is not None
    scores = evidence.embeddings[1] @ evidence.embeddings[0][query]
    names = evidence.collection.full_ids(evidence.collection.corpus)
    by_id = sorted(range(len(names)), key=names.__getitem__, reverse=True)
    return sorted(by_id, key=lambda document: -scores[document])


def shared_ranks(evidence: Evidence, query: int) -> np.ndarray:
    """By scipy: ranks of all documents of the pool, where equal scores have their mean rank."""
    assert evidence.embeddings is not None
    ranks: np.ndarray = stats.rankdata(-(evidence.embeddings[1] @ evidence.embeddings[0][query]))
    return ranks


def macro(evidence: Evidence, values: dict[int, float]) -> dict[str, float]:
    """Means by query language, and the mean of those under the empty name; from values by query."""
    means: dict[str, float] = {}
    for index, language in enumerate(evidence.collection.languages):
        mine = [value for row, value in values.items() if evidence.collection.queries.language[row] == index]
        if mine:
            means[language] = float(np.mean(mine))
    return {"": float(np.mean(list(means.values())))} | means


def expect(evidence: Evidence, finding: Finding, key: str, values: dict[int, float], atol: float = 1e-9) -> None:
    """The column, the figures per language and the macro mean are those of `values` by query."""
    column = np.full(len(evidence.collection.queries), np.nan)
    for row, value in values.items():
        column[row] = value
    np.testing.assert_allclose(finding.per_query[key], column, atol=atol)
    for language, value in macro(evidence, values).items():
        assert flat(finding)[f"{key}/{language}" if language else key] == pytest.approx(value, abs=max(atol, 1e-9))
