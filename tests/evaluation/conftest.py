"""Random ragged, graded collections, and scorers whose scores tie."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from hybrid_retrieval.evaluation.collection import RetrievalCollection
from hybrid_retrieval.evaluation.scoring.scorer import DenseScorer

LANGUAGES = ("ar", "de", "pt_br", "zh")
Make = Callable[..., RetrievalCollection]


def ids_of(rng: np.random.Generator, count: int) -> list[str]:
    """Ids whose order as text is neither their order in the file nor their order as numbers; some are not ASCII."""
    names = [f"{number}" if number % 3 else f"p{number}-é" for number in range(count)]
    return [str(name) for name in rng.permutation(names)]


@pytest.fixture
def make_collection() -> Make:
    """Ragged: languages of unequal size, queries without judgement, pairs of languages without any."""

    def make(seed: int = 0, queries: int = 14, documents: int = 30, grades: int = 3) -> RetrievalCollection:
        rng = np.random.default_rng(seed)
        asked = {
            language: [(id_, f"{language} {id_}") for id_ in ids_of(rng, int(rng.integers(queries // 2, queries)))]
            for language in LANGUAGES
        }
        answers = {
            language: [(id_, f"{language} {id_}") for id_ in ids_of(rng, int(rng.integers(documents // 2, documents)))]
            for language in LANGUAGES
        }
        judged = {
            (one, other): [
                (query, answers[other][place][0], int(rng.integers(0, grades + 1)))
                for query, _ in asked[one]
                if rng.random() < 0.7
                for place in rng.choice(len(answers[other]), int(rng.integers(1, 5)), replace=False)
            ]
            for one in LANGUAGES
            for other in LANGUAGES
            if (one, other) != ("zh", "ar")
        }
        return RetrievalCollection.build("random", asked, answers, judged)

    return make


@pytest.fixture
def tied_scorer() -> Callable[..., DenseScorer]:
    """Embeddings of few small integers: scores are exact in any order of summation, and many are equal."""

    def make(collection: RetrievalCollection, seed: int = 0, dimensions: int = 3) -> DenseScorer:
        rng = np.random.default_rng(seed)
        sides = (
            rng.integers(-2, 3, (len(side), dimensions)).astype(np.float32) for side in (collection.queries, collection.corpus)
        )
        return DenseScorer(*sides)

    return make
