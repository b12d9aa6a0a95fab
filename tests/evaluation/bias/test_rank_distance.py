from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from hybrid_retrieval.evaluation.bias.rank_distance import expected_spread
from hybrid_retrieval.evaluation.bias.suite import bias_suite
from hybrid_retrieval.evaluation.collection import RetrievalCollection
from tests.evaluation.bias.brute_force import expect, flat, shared_ranks

BOTH = ["rank_distance", "rank_distance_normalised"]


@pytest.mark.parametrize("seed", range(3))
def test_largest_minus_smallest_of_the_best_ranks_by_language(seed: int, make_collection, tied_scorer, gather) -> None:
    collection = make_collection(seed, queries=40)
    evidence = gather(collection, tied_scorer(collection, seed))
    values, judged = {}, set(collection.query.tolist())
    for row in judged:
        ranks = shared_ranks(evidence, row)
        best: dict[int, float] = {}
        for document in collection.document[collection.query == row].tolist():
            language = int(collection.corpus.language[document])
            best[language] = min(best.get(language, np.inf), ranks[document])
        if len(best) > 1:
            values[row] = float(max(best.values()) - min(best.values()))
    assert 10 < len(values) < len(judged)
    found = bias_suite(evidence, BOTH)
    expect(evidence, found, "rank_distance", values)
    pool = len(collection.corpus)
    expect(evidence, found, "rank_distance_normalised", {row: value / pool for row, value in values.items()})


def test_several_answers_of_a_language_count_by_the_best_by_hand(ranked) -> None:
    """German at 1 and 5, English at 3 and 4, of 5: 3 - 1, whatever the second answers do."""
    rows = {"de": [("0", ""), ("1", ""), ("2", "")], "en": [("0", ""), ("1", "")]}
    judged = {("de", "de"): [("q", "0", 1), ("q", "1", 1)], ("de", "en"): [("q", "0", 2), ("q", "1", 1)]}
    collection = RetrievalCollection.build("hand", {"de": [("q", "?")]}, rows, judged)
    figures = flat(bias_suite(ranked(collection, [[5, 1, 4, 3, 2]]), BOTH))
    spreads = []
    for ranks in permutations(range(1, 6)):
        best = min(ranks[0], ranks[1]), min(ranks[3], ranks[4])
        spreads.append(max(best) - min(best))
    assert figures.pop("rank_distance_chance") == pytest.approx(np.mean(spreads))
    assert figures == pytest.approx(
        {"rank_distance": 2, "rank_distance/de": 2, "rank_distance_normalised": 0.4, "rank_distance_normalised/de": 0.4}
    )


@pytest.mark.parametrize("seed", range(3))
def test_what_is_expected_of_a_random_ranking(seed: int, make_collection, gather, tied_scorer) -> None:
    """Ragged answers: languages with none, one and several."""
    collection = make_collection(seed)
    expected = expected_spread(gather(collection, tied_scorer(collection)))
    rng, size = np.random.default_rng(seed), len(collection.corpus)
    ranks = rng.permuted(np.tile(np.arange(1, size + 1), (4000, 1)), axis=1)
    for row in np.flatnonzero(~np.isnan(expected)).tolist():
        documents = collection.document[collection.query == row]
        of = collection.corpus.language[documents]
        best = np.stack([ranks[:, documents[of == language]].min(axis=1) for language in np.unique(of)])
        drawn = best.max(axis=0) - best.min(axis=0)
        assert expected[row] == pytest.approx(drawn.mean(), abs=5 * drawn.std() / 4000**0.5)


def test_of_one_answer_a_language_it_is_that_of_evenly_spaced_ranks(ranked) -> None:
    rows = {language: [(str(number), "") for number in range(10)] for language in ("de", "en", "ru")}
    judged = {("de", language): [("q", "0", 1)] for language in rows}
    collection = RetrievalCollection.build("even", {"de": [("q", "?")]}, rows, judged)
    assert expected_spread(ranked(collection, [list(range(30))])).tolist() == pytest.approx([31 * 2 / 4])


def test_equal_scores_are_no_distance_whatever_the_ids(ranked) -> None:
    """Two answers in the middle of seven documents that score the same; a third, below, is as far off as their mean rank."""
    rows = {"de": [(str(number), "") for number in range(4)], "en": [(str(number), "") for number in range(4)]}
    judged = {("de", "de"): [("q", "0", 1), ("r", "0", 1)], ("de", "en"): [("q", "3", 1), ("r", "3", 1)]}
    collection = RetrievalCollection.build("tied", {"de": [("q", "?"), ("r", "?")]}, rows, judged)
    found = bias_suite(ranked(collection, [[1] * 8, [1] * 7 + [0]]), ["rank_distance"])
    assert found.per_query["rank_distance"].tolist() == [0, 8 - 4]


@pytest.mark.parametrize("answers", [1, 3])
def test_without_relevant_documents_in_two_languages_it_says_so(answers: int, ranked) -> None:
    """Neither one answer a query, which would be perfectly fair, nor several in its own language, which would be unfair."""
    rows = {language: [(str(number), "") for number in range(5)] for language in ("de", "en")}
    judged = {(language, language): [("0", str(number), 1) for number in range(answers)] for language in rows}
    collection = RetrievalCollection.build("alone", {name: [("0", "?")] for name in rows}, rows, judged)
    found = bias_suite(ranked(collection, np.random.default_rng(0).random((2, 10))), BOTH)
    assert not flat(found)
    assert not found.per_query
    assert found.notes == [f"{name}: not printed: no query has relevant documents in two languages" for name in BOTH]
