"""PEER against scipy's Kruskal-Wallis test where the two must agree, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from hybrid_retrieval.evaluation.bias.evidence import Evidence
from hybrid_retrieval.evaluation.bias.suite import bias_suite
from hybrid_retrieval.evaluation.collection import RetrievalCollection
from hybrid_retrieval.evaluation.scoring.ranks import count_ranks
from tests.evaluation.bias.brute_force import expect, flat, shared_ranks
from tests.evaluation.given import Given


def collection_of(documents: dict[str, int], relevant: dict[str, list[tuple[int, int]]]) -> RetrievalCollection:
    """One English query; relevant documents (number, grade) by language."""
    corpus = {language: [(str(number), "") for number in range(count)] for language, count in documents.items()}
    judged = {("en", language): [("q", str(number), grade) for number, grade in rows] for language, rows in relevant.items()}
    return RetrievalCollection.build("hand", {"en": [("q", "?")]}, corpus, judged)


def kruskal(ranks_by_language: list[list[float]]) -> float:
    """Brute force, from positions in the list."""
    groups = [group for group in ranks_by_language if group]
    everything = np.concatenate(groups)
    if len(groups) < 2 or np.ptp(everything) == 0:
        return 1.0
    between = sum(len(group) * (np.mean(group) - everything.mean()) ** 2 for group in groups)
    statistic = (len(everything) - 1) * between / ((everything - everything.mean()) ** 2).sum()
    return float(stats.chi2.sf(statistic, len(groups) - 1))


def brute_force(evidence: Evidence, depth: int | None = None) -> dict[int, float]:
    collection, values = evidence.collection, {}
    for row in set(collection.query.tolist()):
        ranks, mine = shared_ranks(evidence, row), collection.query == row
        found = []
        for grade in set(collection.grade[mine].tolist()):
            documents = collection.document[mine & (collection.grade == grade)].tolist()
            rank = {document: float(ranks[document]) for document in documents}
            lost = [document for document in documents if depth and rank[document] > depth]
            rank |= dict.fromkeys(lost, (depth or 0) + (len(lost) + 1) / 2)
            language = collection.corpus.language
            found.append(
                kruskal([[rank[d] for d in documents if language[d] == index] for index in range(len(collection.languages))])
            )
        values[row] = float(np.mean(found))
    return values


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("depth", [None, 20])
def test_every_query_equals_the_definition(seed: int, depth: int | None, make_collection, tied_scorer, gather) -> None:
    collection = make_collection(seed)
    evidence = gather(collection, tied_scorer(collection, seed))
    name = "peer" if depth is None else f"peer@{depth}"
    found = bias_suite(evidence, [name])
    values = brute_force(evidence, depth)
    assert len(set(values.values())) > 5
    assert min(values.values()) < 0.8
    expect(evidence, found, name, values)


def test_where_the_relevant_documents_come_first_it_is_scipys_test(ranked) -> None:
    collection = collection_of({"de": 5, "en": 6}, {"de": [(0, 1), (1, 1), (2, 1)], "en": [(0, 1), (1, 1), (2, 1), (3, 1)]})
    # Ranks 1, 4, 6 in German and 2, 3, 5, 7 in English.
    evidence = ranked(collection, [[99, 96, 94, 1, 2, 98, 97, 95, 93, 3, 4]])
    expected = stats.kruskal([1, 4, 6], [2, 3, 5, 7]).pvalue
    assert flat(bias_suite(evidence, ["peer"]))["peer"] == pytest.approx(expected, abs=1e-12)


def test_between_other_documents_it_is_what_the_authors_implementation_gives(ranked) -> None:
    """German at 1, 5 and 9, English at 2 and 8, Russian at 12 of 12: 0.3250249887946756 by hltcoe/peer_measure at depth 12."""
    relevant = {"de": [(0, 1), (1, 1), (2, 1)], "en": [(0, 1), (1, 1)], "ru": [(0, 1)]}
    collection = collection_of({"de": 3, "en": 8, "ru": 1}, relevant)
    places = [1, 5, 9, 2, 8, 3, 4, 6, 7, 10, 11, 12]
    found = bias_suite(ranked(collection, [[-place for place in places]]), ["peer"])
    assert flat(found)["peer"] == pytest.approx(0.3250249887946756, abs=1e-12)


def test_what_is_not_found_is_tied_after_what_is() -> None:
    """German at 1 and 3 and once not found, English at 2 and twice not found: those at 3 + (3 + 1) / 2, as by the authors."""
    relevant = {"de": [(0, 1), (1, 1), (2, 1)], "en": [(0, 1), (1, 1), (2, 1)]}
    collection = collection_of({"de": 4, "en": 4}, relevant)
    lost = -np.inf
    scorer = Given(np.array([[9, 7, lost, lost, 8, lost, lost, lost]], np.float32))
    found = bias_suite(Evidence(collection, scorer, count_ranks(scorer, collection), None), ["peer"])
    assert flat(found)["peer"] == pytest.approx(kruskal([[1, 3, 5], [2, 5, 5]]), abs=1e-12)


def test_a_fair_and_an_unfair_list_by_hand(ranked) -> None:
    collection = collection_of({"de": 2, "en": 2}, {"de": [(0, 1), (1, 1)], "en": [(0, 1), (1, 1)]})
    fair = ranked(collection, [[4, 1, 3, 2]])  # ranks 1, 4 and 2, 3: equal means, H = 0
    assert flat(bias_suite(fair, ["peer"])) == {"peer": 1, "peer/en": 1}
    unfair = ranked(collection, [[4, 3, 2, 1]])  # 1, 2 and 3, 4: H = 3 * 4 / 5
    assert flat(bias_suite(unfair, ["peer"]))["peer"] == pytest.approx(stats.chi2.sf(2.4, 1), abs=1e-12)


def test_levels_of_relevance_are_tested_apart_and_weigh_the_same(ranked) -> None:
    rows = [(0, 1), (1, 1), (2, 3), (3, 3)]
    collection = collection_of({"de": 4, "en": 4}, {"de": rows, "en": rows})
    evidence = ranked(collection, [[8, 5, 4, 3, 7, 6, 2, 1]])  # grade 1: fair; grade 3: 5, 6 and 7, 8
    assert flat(bias_suite(evidence, ["peer"]))["peer"] == pytest.approx((1 + stats.chi2.sf(2.4, 1)) / 2, abs=1e-12)


@pytest.mark.parametrize(
    "relevant", [{"de": [(0, 1)], "en": [(0, 1)]}, {"de": [(0, 1), (1, 1)]}, {"de": [(0, 1)], "en": [(0, 2)]}]
)
def test_what_is_the_same_for_any_ranking_is_not_printed(relevant, ranked) -> None:
    evidence = ranked(collection_of({"de": 3, "en": 3}, relevant), [[6, 5, 4, 3, 2, 1]])
    found = bias_suite(evidence, ["peer"])
    assert not flat(found)
    assert not found.per_query
    assert "peer: not printed" in found.notes[0]


def test_queries_without_information_are_counted(make_collection, tied_scorer, gather) -> None:
    collection = make_collection(1)
    evidence = gather(collection, tied_scorer(collection, 1))
    constant = 0
    for row in set(collection.query.tolist()):
        mine = collection.query == row
        cells = [
            [(collection.corpus.language[d]) for d in collection.document[mine & (collection.grade == g)].tolist()]
            for g in set(collection.grade[mine].tolist())
        ]
        constant += all(len(set(cell)) == 1 or len(set(cell)) == len(cell) for cell in cells)
    assert constant
    assert f" {constant} of {len(evidence.judged)} queries" in bias_suite(evidence, ["peer"]).notes[0]
