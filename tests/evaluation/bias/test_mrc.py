"""Mean rank correlation against scipy, ties, chunks and samples included."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from hybrid_retrieval.evaluation.bias import mrc as module
from hybrid_retrieval.evaluation.bias.evidence import Evidence
from hybrid_retrieval.evaluation.bias.suite import bias_suite
from hybrid_retrieval.evaluation.collection import RetrievalCollection
from hybrid_retrieval.evaluation.scoring.scorer import DenseScorer
from tests.evaluation.bias.brute_force import expect, flat


def brute_force(evidence: Evidence, columns: slice | np.ndarray = slice(None)) -> dict[int, float]:
    collection = evidence.collection
    assert evidence.embeddings is not None
    scores = (evidence.embeddings[0] @ evidence.embeddings[1].T)[:, columns]
    judged, values = sorted(set(collection.query.tolist())), {}
    for row in judged:
        others = [other for other in judged if other != row and collection.queries.ids[other] == collection.queries.ids[row]]
        found = [stats.spearmanr(scores[row], scores[other]).statistic for other in others]
        known = [value for value in found if not np.isnan(value)]
        if known:
            values[row] = float(np.mean(known))
    return values


@pytest.mark.filterwarnings("ignore::scipy.stats.ConstantInputWarning")
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("chunk", [1, 1000, 1 << 20])
def test_every_query_equals_scipys_correlation(seed, chunk, make_collection, tied_scorer, gather) -> None:
    collection = make_collection(seed)
    evidence = gather(collection, tied_scorer(collection, seed))
    values = brute_force(evidence)
    assert 5 < len(values) < len(collection.queries)
    expect(evidence, module.mrc(evidence, chunk=chunk), "mrc", values, atol=1e-9)


def test_average_ranks_are_scipys_ranks() -> None:
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 9, (20, 50)).astype(np.float32)
    scores[3] = rng.random(50)
    scores[4], scores[5, :7] = 1, -np.inf
    np.testing.assert_array_equal(module.average_ranks(scores), stats.rankdata(scores, axis=1))


@pytest.mark.filterwarnings("ignore::scipy.stats.ConstantInputWarning")
def test_a_list_of_equal_scores_has_no_correlation(make_collection, tied_scorer, gather) -> None:
    collection = make_collection(0)
    scorer = tied_scorer(collection, 0)
    scorer.queries[::3] = 0
    evidence = gather(collection, scorer)
    found = bias_suite(evidence, ["mrc"])
    expect(evidence, found, "mrc", brute_force(evidence))
    assert np.isnan(found.per_query["mrc"][::3]).all()


def test_equal_and_reversed_lists_by_hand(ranked) -> None:
    queries = {language: [("q", "?")] for language in ("de", "en", "ru")}
    corpus = {"de": [(str(number), "") for number in range(5)]}
    collection = RetrievalCollection.build("hand", queries, corpus, {(one, "de"): [("q", "0", 1)] for one in queries})
    found = bias_suite(ranked(collection, [[5, 4, 3, 2, 1], [50, 40, 30, 20, 10], [1, 2, 3, 4, 5]]), ["mrc"])
    assert flat(found) == pytest.approx({"mrc": -1 / 3, "mrc/de": 0, "mrc/en": 0, "mrc/ru": -1})


def test_a_large_pool_is_sampled_in_runs(make_collection, gather) -> None:
    collection = make_collection(0)
    rng = np.random.default_rng(0)
    sides = [rng.standard_normal((len(side), 4)).astype(np.float32) for side in (collection.queries, collection.corpus)]
    evidence = gather(collection, DenseScorer(*sides))
    parts = module.sample(len(collection.corpus), 40, 10)
    assert [part.stop - part.start for part in parts] == [10] * 4
    assert parts[0].start == 0
    assert parts[-1].stop == len(collection.corpus)
    columns = np.concatenate([np.arange(part.start, part.stop) for part in parts])
    expect(evidence, module.mrc(evidence, sampled=40, run=10), "mrc", brute_force(evidence, columns))


def test_equal_ids_of_a_collection_without_cross_language_judgements_are_not_translations(ranked) -> None:
    rows = {language: [("1", "")] for language in ("de", "en")}
    judged = {(language, language): [("1", "1", 1)] for language in rows}
    found = bias_suite(ranked(RetrievalCollection.build("topics", rows, rows, judged), np.eye(2)), ["mrc"])
    assert not flat(found)
    assert found.notes == ["mrc: no question is asked in two languages"]
