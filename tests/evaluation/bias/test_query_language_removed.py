from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hybrid_retrieval.evaluation.bias.evidence import Evidence
from hybrid_retrieval.evaluation.bias.suite import bias_suite
from hybrid_retrieval.evaluation.collection import RetrievalCollection
from hybrid_retrieval.evaluation.scoring.scorer import DenseScorer
from tests.evaluation.bias.brute_force import expect, flat, order_of


def average_precision(order: list[int], relevant: set[int]) -> float:
    found = [place for place, document in enumerate(order, 1) if document in relevant]
    return float(np.mean([number / place for number, place in enumerate(found, 1)]))


def brute_force(evidence: Evidence) -> dict[int, float]:
    collection, values = evidence.collection, {}
    for row in sorted(set(collection.query.tolist())):
        own = collection.corpus.language == collection.queries.language[row]
        relevant = set(collection.document[collection.query == row].tolist())
        order, rest = order_of(evidence, row), {document for document in relevant if not own[document]}
        if rest:
            without = [document for document in order if not own[document]]
            values[row] = average_precision(order, relevant) - average_precision(without, rest)
    return values


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("documents", [7, 1 << 14])
def test_every_query_equals_a_ranking_without_its_language(seed, documents, make_collection, tied_scorer, gather) -> None:
    collection = make_collection(seed)
    evidence = replace(gather(collection, tied_scorer(collection, seed)), block_documents=documents)
    found = bias_suite(evidence, ["drop_without_own_language"])
    values = brute_force(evidence)
    assert min(values.values()) < 0 < max(values.values())
    assert len(values) < len(evidence.judged)
    expect(evidence, found, "drop_without_own_language_map", values)


@pytest.mark.parametrize("languages", [2, 11, 14])
def test_translations_with_one_embedding_have_no_drop_in_any_figure(languages: int, gather) -> None:
    """Each answer is in every language, in more of them than there are places in a short list, and comes first."""
    names = [f"l{number:02}" for number in range(languages)]
    rows = {name: [(str(number), "") for number in range(6)] for name in names}
    judged = {name: [(str(number), str(number), 1) for number in range(6)] for name in names}
    collection = RetrievalCollection.parallel("blind", rows, rows, judged)
    meaning = np.tile(np.eye(6, dtype=np.float32), (languages, 1))
    figures = flat(bias_suite(gather(collection, DenseScorer(meaning, meaning)), ["drop_without_own_language"]))
    assert len(figures) > languages
    assert set(figures.values()) == {0.0}


def test_one_that_ignores_language_but_errs_is_a_little_below_by_hand(gather) -> None:
    """The answers in n languages at n + 1 .. 2n, without one of them at n .. 2n - 2."""
    for languages, expected in ((2, -1 / 12), (11, -0.0021645)):
        names = [f"l{number:02}" for number in range(languages)]
        rows = {name: [("0", ""), ("1", "")] for name in names}
        judged = {name: [("0", "0", 1)] for name in names}
        collection = RetrievalCollection.parallel("blind", rows, rows, judged)
        scores = np.tile(np.array([[1], [2]], np.float32), (languages, 1))
        evidence = gather(collection, DenseScorer(np.ones((2 * languages, 1), np.float32), scores))
        figures = flat(bias_suite(evidence, ["drop_without_own_language"]))
        assert figures["drop_without_own_language_map"] == pytest.approx(expected, abs=1e-6)


def test_a_system_that_finds_its_own_language_only_loses_by_hand(ranked) -> None:
    """The own answer at 1, the other at 4, of 4; without the own language the other is at 2."""
    rows = {"de": [("0", ""), ("1", "")], "en": [("0", ""), ("1", "")]}
    judged = {("de", "de"): [("q", "0", 1)], ("de", "en"): [("q", "0", 1)]}
    collection = RetrievalCollection.build("hand", {"de": [("q", "?")]}, rows, judged)
    figures = flat(bias_suite(ranked(collection, [[4, 3, 1, 2]]), ["drop_without_own_language"]))
    assert figures["drop_without_own_language_map"] == pytest.approx((1 + 2 / 4) / 2 - 1 / 2)


def test_without_answers_in_other_languages_it_says_so(ranked) -> None:
    rows = {"de": [("0", "")], "en": [("0", "")]}
    judged = {("de", "de"): [("0", "0", 1)], ("en", "en"): [("0", "0", 1)]}
    found = bias_suite(ranked(RetrievalCollection.build("alone", rows, rows, judged), np.eye(2)), ["drop_without_own_language"])
    assert not flat(found)
    assert found.notes == ["drop_without_own_language: no query has a relevant document in another language"]
