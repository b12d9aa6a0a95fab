"""Equal scores and documents that are not found: counted as by brute force, and scored as trec_eval scores a shorter run."""

from __future__ import annotations

from collections.abc import Callable

import ir_measures
import numpy as np
import pytest
from ir_measures.providers import registry
from scipy import stats

from hybrid_retrieval.evaluation.collection import RetrievalCollection
from hybrid_retrieval.evaluation.measures import NOT_FOUND
from hybrid_retrieval.evaluation.protocol import score
from hybrid_retrieval.evaluation.retrievers.retriever import Index
from hybrid_retrieval.evaluation.scoring.ranks import count_ranks
from tests.evaluation.given import Given

THEIRS = {"map": ir_measures.AP, "mrr": ir_measures.RR, "recall@10": ir_measures.R @ 10, "ndcg@10": ir_measures.nDCG @ 10}


def scores_of(collection: RetrievalCollection, seed: int, found: float) -> np.ndarray:
    """Few distinct scores; a part of the documents is not found, and some queries find nothing."""
    rng = np.random.default_rng(seed)
    shape = len(collection.queries), len(collection.corpus)
    scores = rng.integers(0, 5, shape).astype(np.float32)
    scores[rng.random(shape) > found] = -np.inf
    scores[::7] = -np.inf
    return scores


@pytest.mark.parametrize("blocks", [{}, {"many": 1}, {"block_documents": 7}, {"block_scores": 100}], ids=str)
@pytest.mark.parametrize("found", [1.0, 0.3])
def test_ties_are_counted_as_by_brute_force(
    found: float, blocks: dict[str, int], make_collection: Callable[..., object]
) -> None:
    collection = make_collection(3, queries=20)
    assert isinstance(collection, RetrievalCollection)
    scores = scores_of(collection, 1, found)
    ranks = count_ranks(Given(scores), collection, **blocks)  # type: ignore[arg-type]
    assert (ranks.pool_ties.tied > 3).mean() > 0.9
    language = collection.corpus.language
    for number, (query, document) in enumerate(zip(collection.query, collection.document, strict=True)):
        for rank, ties, mine in (
            (ranks.pool, ranks.pool_ties, scores[query]),
            (ranks.language, ranks.language_ties, scores[query, language == language[document]]),
        ):
            own = scores[query, document]
            assert ties.better[number] == (mine > own).sum()
            assert ties.tied[number] == (mine == own).sum() - 1
            assert (rank[number] == NOT_FOUND) == np.isneginf(own)
            if np.isfinite(own):
                assert ties.better[number] < rank[number] <= ties.better[number] + 1 + ties.tied[number]
        assert ranks.pool_ties.shared[number] == stats.rankdata(-scores[query])[document]
    opposite = ranks.opposite().pool
    finite = ranks.pool != NOT_FOUND
    assert (opposite + ranks.pool)[finite].tolist() == (2 * ranks.pool_ties.shared[finite]).tolist()
    assert (opposite[~finite] == NOT_FOUND).all()


@pytest.mark.parametrize("seed", range(3))
def test_what_is_not_found_is_scored_as_trec_eval_scores_a_run_without_it(
    seed: int, make_collection: Callable[..., object]
) -> None:
    collection = make_collection(seed)
    assert isinstance(collection, RetrievalCollection)
    scores = scores_of(collection, seed, 0.3)
    result = score(collection, Index(Given(scores)))
    queries, documents = collection.full_ids(collection.queries), collection.full_ids(collection.corpus)
    for pair in result.pairs:
        rows = slice(0, len(documents))
        if pair.corpus_language is not None:
            rows = collection.corpus.rows(collection.languages.index(pair.corpus_language))
        judged = zip(collection.query.tolist(), collection.document.tolist(), collection.grade.tolist(), strict=True)
        qrels = [
            ir_measures.Qrel(queries[q], documents[d], g)
            for q, d, g in judged
            if q in set(pair.queries.tolist()) and rows.start <= d < rows.stop
        ]
        run = [
            ir_measures.ScoredDoc(queries[q], documents[d], float(scores[q, d]))
            for q in pair.queries.tolist()
            for d in range(rows.start, rows.stop)
            if np.isfinite(scores[q, d])
        ]
        theirs = {(one.query_id, str(one.measure)): one.value for one in _values(qrels, run)}
        for name, measure in THEIRS.items():
            expected = [theirs.get((queries[q], str(measure)), 0.0) for q in pair.queries.tolist()]
            np.testing.assert_allclose(pair.values[name], expected, rtol=0, atol=1e-6, err_msg=name)


def _values(qrels: list[ir_measures.Qrel], run: list[ir_measures.ScoredDoc]) -> list[ir_measures.Metric]:
    return list(registry["pytrec_eval"].iter_calc(list(THEIRS.values()), qrels, run))


def test_a_figure_that_hangs_on_the_order_of_ties_is_told_of() -> None:
    """One German answer among two that score the same: 1 in one order and 1/2 in the other. The English one is alone."""
    rows = {"de": [("0", ""), ("1", "")], "en": [("0", ""), ("1", "")]}
    judged = {("de", "de"): [("q", "1", 1)], ("de", "en"): [("q", "0", 1)]}
    collection = RetrievalCollection.build("hand", {"de": [("q", "?")]}, rows, judged)
    metrics = score(collection, Index(Given(np.array([[5, 5, 9, 1]], np.float32)))).metrics
    assert metrics["hand/monolingual/map"] == 1
    assert metrics["hand/monolingual/ties_map"] == 0.5
    assert "hand/crosslingual/ties_map" not in metrics
    assert "hand/monolingual/ties_recall@10" not in metrics
