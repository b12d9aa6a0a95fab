"""The Friedman test against scipy, Skillings and Mack's against a published example, and W against its limits."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from hybrid_retrieval.evaluation.bias.friedman import friedman_test
from hybrid_retrieval.evaluation.bias.suite import bias_suite
from hybrid_retrieval.evaluation.collection import RetrievalCollection
from tests.evaluation.bias.brute_force import flat, shared_ranks

LANGUAGES = ("de", "en", "ru")


@pytest.mark.parametrize("ties", [False, True])
def test_complete_blocks_give_scipys_test(ties: bool) -> None:
    rng = np.random.default_rng(int(ties))
    values = rng.integers(0, 4, (40, 5)).astype(float) if ties else rng.random((40, 5)) + np.arange(5) / 9
    test = friedman_test(values)
    assert test is not None
    theirs = stats.friedmanchisquare(*values.T)
    assert test.statistic == pytest.approx(theirs.statistic, rel=1e-9)
    assert test.p == pytest.approx(theirs.pvalue, rel=1e-9)
    assert test.w == pytest.approx(theirs.statistic / (40 * 4), rel=1e-9)
    np.testing.assert_allclose(test.mean_rank, stats.rankdata(values, axis=1).mean(0))


def test_incomplete_blocks_give_skillings_and_macks_published_example() -> None:
    """The example of the R package Skillings.Mack: 15.493049 with 3 degrees of freedom, p = 0.001440296302."""
    gone = np.nan
    treatments = [
        [3.2, 3.1, 4.3, 3.5, 3.6, 4.5, gone, 4.3, 3.5],
        [4.1, 3.9, 3.5, 3.6, 4.2, 4.7, 4.2, 4.6, gone],
        [3.8, 3.4, 4.6, 3.9, 3.7, 3.7, 3.4, 4.4, 3.7],
        [4.2, 4.0, 4.8, 4.0, 3.9, gone, gone, 4.9, 3.9],
    ]
    test = friedman_test(np.array(treatments).T)
    assert test is not None
    assert test.statistic == pytest.approx(15.493049, abs=1e-6)
    assert test.p == pytest.approx(0.001440296302, abs=1e-10)


def test_w_is_one_where_every_block_agrees_and_blocks_of_one_say_nothing() -> None:
    values = np.tile([1.0, 2.0, 3.0, 4.0], (12, 1)) + np.arange(12)[:, None]
    test = friedman_test(values)
    assert test is not None
    assert test.w == pytest.approx(1)
    alone = np.full((3, 4), np.nan)
    alone[:, 0] = 1
    more = friedman_test(np.concatenate([values, alone]))
    assert more is not None
    assert (more.statistic, more.w) == (pytest.approx(test.statistic), pytest.approx(1))
    assert friedman_test(alone) is None


def test_p_values_of_incomplete_blocks_without_an_effect_are_uniform() -> None:
    rng = np.random.default_rng(3)
    found = []
    for _ in range(400):
        values = rng.random((60, 4))
        values[rng.random(values.shape) < 0.3] = np.nan
        test = friedman_test(values)
        assert test is not None
        found.append(test.p)
    assert stats.kstest(found, "uniform").pvalue > 0.01


def parallel(questions: int) -> RetrievalCollection:
    """Each question in three languages, and its answer in each."""
    rows = {language: [(str(number), "") for number in range(questions)] for language in LANGUAGES}
    judged = {(one, other): [(id_, id_, 1) for id_, _ in rows[one]] for one in LANGUAGES for other in LANGUAGES}
    return RetrievalCollection.build("parallel", rows, rows, judged)


def test_over_questions_and_over_those_of_a_language(ranked) -> None:
    collection = parallel(15)
    scores = np.random.default_rng(5).random((45, 45)) + np.repeat([0.3, 0.1, 0], 15)
    evidence = ranked(collection, scores)
    figures = flat(bias_suite(evidence, ["friedman"]))
    places = {row: shared_ranks(evidence, row) for row in range(45)}
    rank = np.array([[[places[15 * a + q][15 * b + q] for b in range(3)] for q in range(15)] for a in range(3)])
    for index, language in enumerate(LANGUAGES):
        theirs = stats.friedmanchisquare(*rank[index].T)
        assert figures[f"friedman/{language}"] == pytest.approx(theirs.statistic)
        assert figures[f"friedman_p/{language}"] == pytest.approx(theirs.pvalue)
    whole = rank.mean(0)
    theirs = stats.friedmanchisquare(*whole.T)
    assert figures["friedman"] == pytest.approx(theirs.statistic)
    assert figures["friedman_p"] == pytest.approx(theirs.pvalue)
    assert figures["friedman_w"] == pytest.approx(theirs.statistic / 30)
    means = stats.rankdata(whole, axis=1).mean(0)
    for index, language in enumerate(LANGUAGES):
        assert figures[f"friedman_mean_rank/{language}"] == pytest.approx(means[index])


def test_own_language_preference_cancels_over_questions_but_not_within_a_language(ranked) -> None:
    collection = parallel(40)
    scores = np.random.default_rng(6).random((120, 120)) + 2 * np.kron(np.eye(3), np.ones((40, 40)))
    figures = flat(bias_suite(ranked(collection, scores), ["friedman"]))
    assert min(figures[f"friedman_w/{language}"] for language in LANGUAGES) > 0.7
    assert figures["friedman_w"] < 0.2


def test_without_relevant_documents_in_two_languages_it_says_so(ranked) -> None:
    rows = {language: [("1", "")] for language in LANGUAGES}
    judged = {(language, language): [("1", "1", 1)] for language in LANGUAGES}
    found = bias_suite(ranked(RetrievalCollection.build("alone", rows, rows, judged), np.eye(3)), ["friedman"])
    assert not flat(found)
    assert found.notes == ["friedman: no question has relevant documents in two languages"]
