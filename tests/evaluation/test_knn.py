"""kNN accuracy against a brute force, and ranks of dense judgements against those of sparse ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hybrid_retrieval.evaluation.knn import NAME, NEIGHBOURS, majority
from hybrid_retrieval.evaluation.protocol import score
from hybrid_retrieval.evaluation.retrievers.retriever import Index
from hybrid_retrieval.evaluation.scoring.ranks import count_ranks
from hybrid_retrieval.evaluation.scoring.scorer import Excluding


@pytest.fixture
def labelled(make_collection):
    """Three labels; every document with the query's label is relevant; a query does not find some documents."""
    base = make_collection(2, queries=30, documents=50)
    rng = np.random.default_rng(0)
    labels = tuple(rng.integers(0, 3, len(side)) for side in (base.queries, base.corpus))
    excluded = np.array([(row, (row * 7) % len(base.corpus)) for row in range(len(base.queries))])
    query, document = np.nonzero(labels[0][:, None] == labels[1][None, :])
    left = ~np.isin(query * len(base.corpus) + document, excluded[:, 0] * len(base.corpus) + excluded[:, 1])
    query, document = query[left], document[left]
    return replace(
        base, query=query, document=document, grade=np.ones_like(query), labels=labels, excluded=excluded, measures=("map",)
    )


def test_accuracy_is_that_of_a_brute_force(labelled, tied_scorer) -> None:
    scorer = tied_scorer(labelled, 2)
    result = score(labelled, Index(scorer))
    scores = scorer.queries @ scorer.corpus.T
    scores[tuple(labelled.excluded.T)] = -np.inf
    order, checked = labelled.tie_order, 0
    for pair in result.pairs:
        language = pair.corpus_language
        rows = slice(0, len(order)) if language is None else labelled.corpus.rows(labelled.languages.index(language))
        for query, found in zip(pair.queries.tolist(), pair.values[NAME].tolist(), strict=True):
            best = np.lexsort((-order[rows], -scores[query, rows]))[:NEIGHBOURS] + rows.start
            labels = labelled.labels[1][best]
            votes = {}
            for place, label in enumerate(labels.tolist()):
                same = labels == label
                votes.setdefault(label, (same.sum(), scores[query, best[same]].sum(), -place))
            assert found == (max(votes, key=votes.get) == labelled.labels[0][query])
            checked += 1
    assert checked > 300
    assert 0 < result.metrics[f"random/multilingual/{NAME}"] < 1


def test_of_equal_counts_the_larger_sum_wins_then_the_nearer() -> None:
    assert majority([1, 2, 2, 1], [4.0, 3.0, 2.0, 1.5]) == 1
    assert majority([1, 2, 2, 1], [4.0, 3.0, 2.0, 1.0]) == 1
    assert majority([1, 2, 2, 1], [4.0, 3.5, 2.0, 0.5]) == 2
    assert majority([3, 1, 1], [9.0, -np.inf, -np.inf]) == 3
    assert majority([3], [-np.inf]) is None


@pytest.mark.parametrize("tied", [True, False])
def test_sorted_rows_give_the_ranks_of_counting(tied, labelled, tied_scorer) -> None:
    scorer = tied_scorer(labelled, 3)
    if not tied:
        rng = np.random.default_rng(0)
        scorer = replace(scorer, queries=rng.standard_normal(scorer.queries.shape, np.float32))
    counted, by_sorting = (count_ranks(Excluding(scorer, labelled.excluded), labelled, many=many) for many in (1 << 20, 1))
    np.testing.assert_array_equal(counted.pool, by_sorting.pool)
    np.testing.assert_array_equal(counted.language, by_sorting.language)
