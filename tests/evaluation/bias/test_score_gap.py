from __future__ import annotations

import numpy as np
import pytest

from hybrid_retrieval.evaluation.bias.evidence import Evidence
from hybrid_retrieval.evaluation.bias.score_gap import score_gap
from hybrid_retrieval.evaluation.bias.suite import bias_suite
from hybrid_retrieval.evaluation.collection import RetrievalCollection
from hybrid_retrieval.evaluation.scoring.ranks import count_ranks
from hybrid_retrieval.evaluation.scoring.scorer import DenseScorer
from tests.evaluation.bias.brute_force import expect, flat
from tests.evaluation.given import Given


def brute_force(evidence: Evidence) -> dict[str, dict[int, float]]:
    collection = evidence.collection
    assert evidence.embeddings is not None
    scores = evidence.embeddings[0].astype(float) @ evidence.embeddings[1].T.astype(float)
    hidden = {tuple(pair) for pair in collection.excluded.tolist()}
    columns: dict[str, dict[int, float]] = {"score_gap": {}, "score_gap_non_relevant": {}}
    for row in sorted(set(collection.query.tolist())):
        grade = dict(zip(collection.document[collection.query == row], collection.grade[collection.query == row], strict=True))
        seen = [document for document in range(len(collection.corpus)) if (row, document) not in hidden]
        own = collection.corpus.language == collection.queries.language[row]
        gaps = {}
        for level in (0, *set(grade.values())):
            here = [document for document in seen if grade.get(document, 0) == level]
            mine = [scores[row, document] for document in here if own[document]]
            other = [scores[row, document] for document in here if not own[document]]
            if mine and other:
                gaps[level] = float(np.mean(mine) - np.mean(other))
        spread = float(np.std(scores[row, seen]))
        found = {"score_gap_non_relevant": [gaps[0]] if 0 in gaps else [], "score_gap": [gaps[g] for g in gaps if g]}
        for key, values in found.items():
            if values:
                columns[key][row] = float(np.mean(values))
                columns.setdefault(f"{key}_standardised", {})[row] = float(np.mean(values)) / spread
    return columns


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("documents", [7, 1 << 14])
def test_every_query_equals_the_definition(seed, documents, make_collection, gather) -> None:
    collection = make_collection(seed)
    judged = set(zip(collection.query.tolist(), collection.document.tolist(), strict=True))
    every = [(row, column) for row in range(0, len(collection.queries), 3) for column in range(0, len(collection.corpus), 5)]
    object.__setattr__(collection, "excluded", np.array([pair for pair in every if pair not in judged]))
    rng = np.random.default_rng(seed)
    sides = (rng.standard_normal((len(side), 4)).astype(np.float32) for side in (collection.queries, collection.corpus))
    evidence = gather(collection, DenseScorer(*sides))
    found = score_gap(evidence, documents)
    columns = brute_force(evidence)
    assert set(found.per_query) == set(columns)
    for key, values in columns.items():
        assert len(values) > 5
        expect(evidence, found, key, values, atol=1e-5)


def test_the_gap_is_taken_at_equal_grades_by_hand(ranked) -> None:
    """Grade 1: 5 - 2; grade 2: 9 - 8; not relevant: 4 - (1 + 0) / 2. Across grades it would be (5 + 9) / 2 - (2 + 8) / 2."""
    rows = {"de": [("0", ""), ("1", ""), ("2", "")], "en": [("0", ""), ("1", ""), ("2", ""), ("3", "")]}
    judged = {("de", "de"): [("q", "0", 1), ("q", "1", 2)], ("de", "en"): [("q", "0", 1), ("q", "1", 2)]}
    collection = RetrievalCollection.build("hand", {"de": [("q", "?")]}, rows, judged)
    scores = [5, 9, 4, 2, 8, 1, 0]
    figures = flat(bias_suite(ranked(collection, [scores]), ["score_gap"]))
    assert figures["score_gap"] == figures["score_gap/de"] == 2
    assert figures["score_gap_non_relevant"] == 3.5
    assert figures["score_gap_standardised"] == pytest.approx(2 / np.std(scores))
    assert figures["score_gap_non_relevant_standardised"] == pytest.approx(3.5 / np.std(scores))


def test_without_two_languages_to_compare_it_says_so(ranked) -> None:
    collection = RetrievalCollection.build(
        "alone", {"de": [("q", "?")]}, {"de": [("0", ""), ("1", "")]}, {("de", "de"): [("q", "0", 1)]}
    )
    found = bias_suite(ranked(collection, [[2, 1]]), ["score_gap"])
    assert not flat(found)
    assert len(found.notes) == 4


def test_a_document_that_is_not_found_scores_nothing() -> None:
    """German at 6 and English not found: a gap of 6; of the rest, German at 2 and not found, English at 1: 1 and 1."""
    rows = {"de": [("0", ""), ("1", ""), ("2", "")], "en": [("0", ""), ("1", "")]}
    judged = {("de", "de"): [("q", "0", 1)], ("de", "en"): [("q", "0", 1)]}
    collection = RetrievalCollection.build("hand", {"de": [("q", "?")]}, rows, judged)
    scorer = Given(np.array([[6, 2, -np.inf, -np.inf, 1]], np.float32))
    figures = flat(score_gap(Evidence(collection, scorer, count_ranks(scorer, collection), None)))
    assert figures["score_gap"] == 6
    assert figures["score_gap_non_relevant"] == 0
