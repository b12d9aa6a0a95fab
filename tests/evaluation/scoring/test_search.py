"""The best documents of every query are those of a full sort, whatever the blocks; and the other scorers' definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hybrid_retrieval.evaluation.scoring.ranks import count_ranks, document_blocks, score_of, sort_key
from hybrid_retrieval.evaluation.scoring.scorer import ChunkMax, DenseScorer, Excluding
from hybrid_retrieval.evaluation.scoring.search import Best, rough_then_exact, search


def random_scorer(seed: int, documents: int, tied: bool, queries: int = 17) -> DenseScorer:
    rng = np.random.default_rng(seed)
    if tied:
        sides = (rng.integers(-2, 3, (rows, 3)).astype(np.float32) for rows in (queries, documents))
    else:
        sides = (rng.standard_normal((rows, 24), np.float32) for rows in (queries, documents))
    return DenseScorer(*sides)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(("documents", "at_once"), [(60, 1 << 20), (700, 1 << 20), (700, 37), (3001, 256), (3001, 1000)])
def test_the_best_are_those_of_a_full_sort(tied: bool, documents: int, at_once: int) -> None:
    scorer = random_scorer(documents, documents, tied)
    order = np.random.default_rng(1).permutation(documents)
    found = search(scorer, 17, documents, 100, order, block_documents=at_once, block_scores=5 * at_once, rough=False)
    scores = scorer.queries.astype(np.float64) @ scorer.corpus.T.astype(np.float64)
    for row in range(17):
        best = np.lexsort((-order, -scores[row]))[:100]
        assert found.documents[row].tolist() == best.tolist()
        np.testing.assert_allclose(found.scores[row], scores[row, best], atol=1e-4)


KINDS = {
    "unit": lambda rng, rows: (lambda x: x / np.linalg.norm(x, axis=1, keepdims=True))(rng.standard_normal((rows, 48))),
    "close": lambda rng, rows: 1 + 1e-3 * rng.standard_normal((rows, 48)),
    "negative": lambda rng, rows: -(1 + rng.random((rows, 48))),
    "unequal lengths": lambda rng, rows: rng.standard_normal((rows, 48)) * 10.0 ** np.sort(rng.integers(-2, 3, (rows, 1)), 0),
    "ties": lambda rng, rows: rng.integers(-1, 2, (rows, 48)),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("at_once", [13, 64, 300])
def test_rough_scores_first_lose_nothing(kind: str, dtype, at_once: int) -> None:
    rng = np.random.default_rng(0)
    queries = np.abs(KINDS[kind](rng, 17)).astype(np.float32)
    corpus = KINDS[kind](rng, 1500).astype(dtype)
    order = rng.permutation(1500)
    scorer = DenseScorer(queries, corpus)
    found = search(scorer, 17, 1500, 40, order, block_documents=at_once, rough=True)
    exact = queries.astype(np.float64) @ corpus.T.astype(np.float64)
    for row in range(17):
        best = np.lexsort((-order, -exact[row]))[:40]
        if kind == "ties":
            assert found.documents[row].tolist() == best.tolist()
        np.testing.assert_allclose(exact[row, found.documents[row]], exact[row, best], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(found.scores[row], exact[row, best], rtol=1e-5, atol=1e-5)
    best = Best(17, 40, torch.from_numpy(order))
    few = rough_then_exact(scorer, 17, document_blocks(1500, at_once), best, at_once=5)
    np.testing.assert_array_equal(few.documents, found.documents)


def test_the_error_of_rough_scores_is_within_its_bound() -> None:
    rng = np.random.default_rng(0)
    for scale in (1.0, 30.0):
        queries, corpus = (rng.standard_normal((rows, 48)).astype(np.float32) * scale for rows in (20, 500))
        block, bound = DenseScorer(queries, corpus).rough(slice(3, 400))
        error = np.abs(block(2, 20).float().numpy() - queries[2:].astype(np.float64) @ corpus[3:400].T.astype(np.float64))
        limit = bound * np.linalg.norm(queries[2:], axis=1, keepdims=True)
        assert (error <= limit).all()
        assert error.max() > limit.max() / 30  # the bound says something


def test_without_an_order_the_first_row_wins_a_tie() -> None:
    scorer = DenseScorer(np.ones((2, 1), np.float32), np.array([[1], [2], [2], [1], [-3]], np.float32))
    assert search(scorer, 2, 5, 4).documents.tolist() == [[1, 2, 0, 3]] * 2


def test_keys_sort_as_scores_do_and_give_them_back() -> None:
    values = torch.tensor([-torch.inf, -3.5, -1e-38, -0.0, 0.0, 1e-40, 2.0, 3e38, torch.inf])
    keys = sort_key(values, torch.arange(9))
    assert keys.sort().indices.tolist() == list(range(9))
    assert score_of(keys).tolist() == values.tolist()
    zeros = sort_key(torch.tensor([-0.0, 0.0]), torch.tensor([7, 7]))
    assert zeros[0] == zeros[1]


@pytest.mark.parametrize("tied", [False, True])
def test_ranks_over_several_blocks_of_documents_are_those_of_one(tied, make_collection, tied_scorer) -> None:
    collection = make_collection(6, documents=90)
    scorer = tied_scorer(collection, 6)
    if not tied:
        rng = np.random.default_rng(0)
        scorer = DenseScorer(*(rng.standard_normal((len(one), 8), np.float32) for one in (scorer.queries, scorer.corpus)))
    whole = count_ranks(scorer, collection)
    for size in (7, 50):
        assert len(document_blocks(len(collection.corpus), size)) > 2
        parts = count_ranks(scorer, collection, block_documents=size)
        for name in ("pool", "language"):
            np.testing.assert_array_equal(getattr(whole, name), getattr(parts, name))
        np.testing.assert_allclose(whole.score, parts.score, atol=1e-5)
    scores = scorer.queries @ scorer.corpus.T
    np.testing.assert_allclose(whole.score, scores[collection.query, collection.document], atol=1e-5)


@pytest.mark.parametrize("part", [slice(0, 4), slice(1, 3), slice(3, 4)])
def test_a_document_scores_as_its_best_chunk(part: slice) -> None:
    scorer = random_scorer(0, 9, False, queries=5)
    found = ChunkMax(scorer, np.array([0, 3, 4, 8, 9])).against(part)(1, 4).numpy()
    scores = scorer.queries[1:4] @ scorer.corpus.T
    exact = np.stack([scores[:, start:stop].max(1) for start, stop in ((0, 3), (3, 4), (4, 8), (8, 9))], 1)
    np.testing.assert_allclose(found, exact[:, part], atol=1e-5)


def test_excluded_documents_come_last_and_others_keep_their_scores() -> None:
    scorer = random_scorer(3, 12, False, queries=6)
    pairs = np.array([[0, 11], [2, 3], [2, 5], [5, 0]])
    exact = scorer.queries @ scorer.corpus.T
    exact[tuple(pairs.T)] = -np.inf
    for part in (slice(0, 12), slice(3, 6)):
        for start, stop in ((0, 6), (2, 3), (1, 6)):
            found = Excluding(scorer, pairs).against(part)(start, stop).numpy()
            np.testing.assert_allclose(found, exact[start:stop, part], atol=1e-5)


def test_many_relevant_documents_are_counted_a_part_at_a_time(make_collection, tied_scorer) -> None:
    collection = make_collection(7, documents=90)
    scorer = tied_scorer(collection, 7)
    whole = count_ranks(scorer, collection)
    parts = count_ranks(scorer, collection, block_scores=2 * len(collection.corpus))
    np.testing.assert_array_equal(whole.pool, parts.pool)
    np.testing.assert_array_equal(whole.language, parts.language)
