"""Evidence of a collection under a scorer."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from hybrid_retrieval.evaluation.bias.evidence import Evidence
from hybrid_retrieval.evaluation.collection import RetrievalCollection
from hybrid_retrieval.evaluation.scoring.ranks import count_ranks
from hybrid_retrieval.evaluation.scoring.scorer import DenseScorer, Excluding


@pytest.fixture
def gather() -> Callable[[RetrievalCollection, DenseScorer], Evidence]:
    def evidence(collection: RetrievalCollection, scorer: DenseScorer) -> Evidence:
        seen = Excluding(scorer, collection.excluded) if len(collection.excluded) else scorer
        return Evidence(collection, seen, count_ranks(seen, collection), (scorer.queries, scorer.corpus))

    return evidence


@pytest.fixture
def ranked(gather) -> Callable[..., Evidence]:
    """Evidence with wished-for scores: dimension q of the embeddings of documents is their score for query q."""

    def evidence(collection: RetrievalCollection, scores: object) -> Evidence:
        matrix = np.asarray(scores, np.float32)
        return gather(collection, DenseScorer(np.eye(len(matrix), dtype=np.float32), np.ascontiguousarray(matrix.T)))

    return evidence


def order_of(evidence: Evidence, query: int) -> list[int]:
    """Brute force: all documents of the pool by score, then by id, descending."""
    assert evidence.embeddings is not None
    scores = evidence.embeddings[1] @ evidence.embeddings[0][query]
    names = evidence.collection.full_ids(evidence.collection.corpus)
    by_id = sorted(range(len(names)), key=names.__getitem__, reverse=True)
    return sorted(by_id, key=lambda document: -scores[document])


def macro(evidence: Evidence, values: dict[int, float]) -> dict[str, float]:
    """Means by query language, and the mean of those under the empty name; from values by query."""
    means: dict[str, float] = {}
    for index, language in enumerate(evidence.collection.languages):
        mine = [value for row, value in values.items() if evidence.collection.queries.language[row] == index]
        if mine:
            means[language] = float(np.mean(mine))
    return {"": float(np.mean(list(means.values())))} | means


def expect(evidence: Evidence, finding: object, key: str, values: dict[int, float], atol: float = 1e-9) -> None:
    """The column, the figures per language and the macro mean are those of `values` by query."""
    column = np.full(len(evidence.collection.queries), np.nan)
    for row, value in values.items():
        column[row] = value
    np.testing.assert_allclose(finding.per_query[key], column, atol=atol)  # type: ignore[attr-defined]
    figures = finding.figures  # type: ignore[attr-defined]
    for language, value in macro(evidence, values).items():
        assert figures[f"{key}/{language}" if language else key] == pytest.approx(value, abs=max(atol, 1e-9))
