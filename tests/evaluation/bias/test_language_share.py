from __future__ import annotations

import numpy as np
import pytest

from hybrid_retrieval.evaluation.bias.evidence import Evidence
from hybrid_retrieval.evaluation.bias.suite import bias_suite
from hybrid_retrieval.evaluation.collection import RetrievalCollection
from tests.evaluation.bias.brute_force import expect, flat, macro, shared_ranks


def places(evidence: Evidence, row: int, depth: int) -> np.ndarray:
    """Each document's part in the first `depth` places: that of its score's places which lie there."""
    ranks = shared_ranks(evidence, row)
    size = (ranks == ranks[:, None]).sum(0)
    first = ranks - (size - 1) / 2
    part: np.ndarray = np.clip((depth - first + 1) / size, 0, 1)
    return part


@pytest.mark.parametrize("depth", [3, 10, 100])
def test_shares_equal_a_count_of_the_sorted_list(depth: int, make_collection, tied_scorer, gather) -> None:
    collection = make_collection(2)
    evidence = gather(collection, tied_scorer(collection, 2))
    language, count = collection.corpus.language, len(collection.languages)
    part = np.bincount(language, minlength=count) / len(language)
    shares = {
        row: np.bincount(language, places(evidence, row, depth), count) / min(depth, len(language))
        for row in sorted(set(collection.query.tolist()))
    }
    found = bias_suite(evidence, [f"share@{depth}", f"own_language_preference@{depth}"])
    for index, name in enumerate(collection.languages):
        mine = {row: float(share[index]) for row, share in shares.items()}
        assert flat(found)[f"share@{depth}/{name}"] == pytest.approx(macro(evidence, mine)[""], abs=1e-12)
        column = found.per_query[f"share@{depth}/{name}"]
        assert {row: column[row] for row in mine} == pytest.approx(mine)
        assert np.isnan(column).sum() == len(column) - len(mine)
    asked = collection.queries.language
    own = {row: float((share - part)[asked[row]]) for row, share in shares.items()}
    expect(evidence, found, f"own_language_preference@{depth}", own)
    for key, expected in (("share_deviation", part), ("share_deviation_uniform", np.full(count, 1 / count))):
        distances = []
        for index, name in enumerate(collection.languages):
            mean = np.mean([share for row, share in shares.items() if asked[row] == index], axis=0)
            distances.append(np.abs(mean - expected).sum() / 2)
            assert flat(found)[f"{key}@{depth}/{name}"] == pytest.approx(distances[-1], abs=1e-12)
        assert flat(found)[f"{key}@{depth}"] == pytest.approx(np.mean(distances), abs=1e-12)


def test_a_list_of_the_querys_own_language_by_hand(ranked) -> None:
    """Two German and six English documents; the German query finds both German ones first."""
    corpus = {"de": [("0", ""), ("1", "")], "en": [(str(number), "") for number in range(6)]}
    collection = RetrievalCollection.build("hand", {"de": [("q", "?")]}, corpus, {("de", "en"): [("q", "0", 1)]})
    found = bias_suite(ranked(collection, [[9, 8, 7, 6, 5, 4, 3, 2]]), ["share@2", "share@4", "own_language_preference@2"])
    assert flat(found)["share@2/de"] == 1
    assert flat(found)["share@4/de"] == 0.5
    assert flat(found)["share_deviation@2"] == flat(found)["own_language_preference@2/de"] == 0.75
    assert flat(found)["share_deviation_uniform@2"] == 0.5
    assert flat(found)["share_deviation_uniform@4"] == 0


def test_documents_that_a_query_must_not_find_have_no_share(ranked) -> None:
    corpus = {"de": [("0", "")], "en": [("0", ""), ("1", "")]}
    collection = RetrievalCollection.build("hand", {"de": [("q", "?")]}, corpus, {("de", "en"): [("q", "0", 1)]})
    object.__setattr__(collection, "excluded", np.array([[0, 0]]))
    found = bias_suite(ranked(collection, [[9, 8, 7]]), ["share@10"])
    assert flat(found)["share@10/de"] == 0
    assert flat(found)["share@10/en"] == 1
