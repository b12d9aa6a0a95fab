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
