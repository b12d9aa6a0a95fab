"""Every figure equals ir-measures (trec_eval) and the brute-force definitions, ties included (law 5)."""

from __future__ import annotations

from dataclasses import replace

import ir_measures
import numpy as np
import pytest
import torch
from ir_measures.providers import registry

from hybrid_retrieval.evaluation.collection import RetrievalCollection
from hybrid_retrieval.evaluation.language_pairs import LanguagePair
from hybrid_retrieval.evaluation.measures import MEASURES, measure
from hybrid_retrieval.evaluation.protocol import score
from hybrid_retrieval.evaluation.retrievers.retriever import Index
from hybrid_retrieval.evaluation.scoring import ranks
from hybrid_retrieval.evaluation.scoring.scorer import Block, DenseScorer

THEIRS = {
    "map": ir_measures.AP,
    "mrr": ir_measures.RR,
    "recall@1": ir_measures.R @ 1,
    "recall@10": ir_measures.R @ 10,
    "recall@100": ir_measures.R @ 100,
    "ndcg@10": ir_measures.nDCG @ 10,
    "map@5": ir_measures.AP @ 5,
    "precision@5": ir_measures.P @ 5,
    "ndcg@3": ir_measures.nDCG @ 3,
    "ndcg": ir_measures.nDCG,
}
"""Ours that a collection reports by itself, then others that are parsed by name."""


def oracle(collection: RetrievalCollection, scorer: DenseScorer, pair: LanguagePair) -> dict[str, dict[str, float]]:
    """Per query and measure, by trec_eval, over the corpus of a language pair."""
    queries, documents = collection.full_ids(collection.queries), collection.full_ids(collection.corpus)
    matrix = scorer.queries.astype(np.float64) @ scorer.corpus.T.astype(np.float64)
    everything = slice(0, len(documents))
    languages = collection.languages
    asked = languages.index(pair.query_language)
    corpus = everything if pair.corpus_language is None else collection.corpus.rows(languages.index(pair.corpus_language))
    qrels = [
        ir_measures.Qrel(queries[query], documents[document], int(grade))
        for query, document, grade in zip(collection.query, collection.document, collection.grade, strict=True)
        if collection.queries.language[query] == asked and corpus.start <= document < corpus.stop
    ]
    run = [
        ir_measures.ScoredDoc(queries[row], documents[column], float(matrix[row, column]))
        for row in range(len(queries))
        if collection.queries.language[row] == asked
        for column in range(corpus.start, corpus.stop)
    ]
    found: dict[str, dict[str, float]] = {}
    names = {str(theirs): name for name, theirs in THEIRS.items()}
    for metric in registry["pytrec_eval"].iter_calc(list(THEIRS.values()), qrels, run):
        found.setdefault(metric.query_id, {})[names[str(metric.measure)]] = metric.value
    return found


@pytest.mark.parametrize("seed", range(4))
def test_every_query_of_every_language_pair_equals_ir_measures(seed: int, make_collection, tied_scorer) -> None:
    collection = replace(make_collection(seed), measures=tuple(THEIRS))
    scorer = tied_scorer(collection, seed)
    result = score(collection, Index(scorer))
    names = collection.full_ids(collection.queries)
    assert {pair.setting for pair in result.pairs} == {"monolingual", "crosslingual", "multilingual"}
    for pair in result.pairs:
        theirs = oracle(collection, scorer, pair)
        assert [names[row] for row in pair.queries] == sorted(theirs, key=names.index)
        for name in THEIRS:
            expected = [theirs[names[row]][name] for row in pair.queries]
            np.testing.assert_allclose(pair.values[name], expected, rtol=0, atol=1e-6, err_msg=name)


def test_the_random_data_really_ties_and_order_of_ties_matters(make_collection, tied_scorer) -> None:
    collection = make_collection(1)
    scorer = tied_scorer(collection, 1)
    matrix = scorer.queries @ scorer.corpus.T
    relevant = matrix[collection.query, collection.document]
    assert ((matrix[collection.query] == relevant[:, None]).sum(1) > 1).mean() > 0.9
    turned = ranks.count_ranks(scorer, collection).pool
    order = np.argsort(-matrix, axis=1, kind="stable")
    in_file_order = np.argsort(order, axis=1)[collection.query, collection.document] + 1
    assert (turned != in_file_order).mean() > 0.3


@pytest.mark.parametrize("size", [1, 7, 100, 1000, 1 << 20])
def test_blocks_do_not_change_the_ranks(size: int, make_collection, tied_scorer) -> None:
    collection = make_collection(3, queries=40)
    scorer = tied_scorer(collection, 3)
    whole = ranks.count_ranks(scorer, collection)
    parts = ranks.count_ranks(scorer, collection, block_scores=size)
    np.testing.assert_array_equal(whole.pool, parts.pool)
    np.testing.assert_array_equal(whole.language, parts.language)


def test_few_judged_queries_among_many_get_the_same_ranks(make_collection, tied_scorer) -> None:
    collection = make_collection(4, queries=60)
    scorer = tied_scorer(collection, 4)
    kept = np.isin(collection.query, np.unique(collection.query)[::17])
    few = RetrievalCollection(
        "few",
        collection.languages,
        collection.queries,
        collection.corpus,
        *(column[kept] for column in (collection.query, collection.document, collection.grade)),
    )
    heights: list[int] = []

    class Watched:
        def against(self, documents: slice) -> Block:
            def block(start: int, stop: int) -> torch.Tensor:
                heights.append(stop - start)
                return scorer.against(documents)(start, stop)

            return block

    whole = ranks.count_ranks(scorer, collection)
    found = ranks.count_ranks(Watched(), few, block_scores=2 * len(collection.corpus))
    np.testing.assert_array_equal(whole.pool[kept], found.pool)
    np.testing.assert_array_equal(whole.language[kept], found.language)
    assert max(heights) <= 4  # scores held at once stay within twice the block


def test_every_query_is_scored_or_counted_as_left_out(make_collection, tied_scorer) -> None:
    collection = make_collection(5)
    result = score(collection, Index(tied_scorer(collection)))
    judged = {
        (int(query), int(collection.corpus.language[document]))
        for query, document in zip(collection.query, collection.document, strict=True)
    }
    expected = {"monolingual": [0, 0], "crosslingual": [0, 0], "multilingual": [0, 0]}
    for row, asked in enumerate(collection.queries.language.tolist()):
        expected["multilingual"][not any((row, answered) in judged for answered in range(len(collection.languages)))] += 1
        for answered in range(len(collection.languages)):
            setting = "monolingual" if asked == answered else "crosslingual"
            expected[setting][(row, answered) not in judged] += 1
    for setting, (scored, left_out) in expected.items():
        assert left_out > 0 or setting == "multilingual"
        assert result.metrics[f"random/{setting}/queries"] == scored
        assert result.metrics[f"random/{setting}/left_out"] == left_out


def test_a_pair_without_judgements_has_no_figure_and_no_part_in_the_mean(make_collection, tied_scorer) -> None:
    collection = make_collection(0)
    result = score(collection, Index(tied_scorer(collection)))
    pairs = [key for key in result.metrics if key.startswith("random/crosslingual/map/")]
    assert "random/crosslingual/map/zh-ar" not in pairs
    assert len(pairs) == 11
    (empty,) = [pair for pair in result.pairs if (pair.query_language, pair.corpus_language) == ("zh", "ar")]
    assert not len(empty.queries)
    assert all(np.isfinite(value) for value in result.metrics.values())


def test_macro_means_are_those_of_the_definitions(make_collection, tied_scorer) -> None:
    """Mo. over languages, Cr. over ordered pairs, Mul. over query languages; each mean of means, not of queries."""
    collection = replace(make_collection(6), measures=tuple(THEIRS))
    scorer = tied_scorer(collection, 6)
    result = score(collection, Index(scorer))
    metrics = result.metrics
    assert len(set(np.bincount(collection.queries.language))) > 1
    for name in THEIRS:
        found: dict[str, list[float]] = {"monolingual": [], "crosslingual": [], "multilingual": []}
        for pair in result.pairs:
            theirs = oracle(collection, scorer, pair)
            if theirs:
                mean = float(np.mean([values[name] for values in theirs.values()]))
                found[pair.setting].append(mean)
                assert metrics[f"random/{pair.setting}/{name}/{pair.name}"] == pytest.approx(mean, abs=1e-6)
        assert [len(values) for values in found.values()] == [4, 11, 4]
        for setting, values in found.items():
            assert metrics[f"random/{setting}/{name}"] == pytest.approx(np.mean(values), abs=1e-6)


def test_the_table_of_queries_averages_to_the_figures(make_collection, tied_scorer) -> None:
    collection = make_collection(7)
    result = score(collection, Index(tied_scorer(collection, 7)))
    rows = result.per_query().to_pylist()
    assert {row["benchmark"] for row in rows} == {"random"}
    for setting in ("monolingual", "crosslingual", "multilingual"):
        for one in [*collection.measures, *(["rank_distance"] if setting == "multilingual" else [])]:
            groups: dict[str, list[float]] = {}
            for row in rows:
                if row["setting"] == setting:
                    asked, answered = row["query_language"], row["corpus_language"]
                    groups.setdefault(f"{asked}-{answered}" if setting == "crosslingual" else asked, []).append(row[one])
            means = {name: float(np.nanmean(values)) for name, values in groups.items()}
            for name, mean in means.items():
                assert result.metrics[f"random/{setting}/{one}/{name}"] == pytest.approx(mean, abs=1e-12)
            assert result.metrics[f"random/{setting}/{one}"] == pytest.approx(np.mean(list(means.values())), abs=1e-12)
    assert all((row["rank_distance"] is None) == (row["setting"] != "multilingual") for row in rows)
    known = {
        (collection.languages[language], id_)
        for language, id_ in zip(collection.queries.language, collection.queries.ids, strict=True)
    }
    assert {(row["query_language"], row["query_id"]) for row in rows} <= known


def test_a_measure_is_parsed_by_its_name() -> None:
    assert (measure("precision@5").label, measure("precision@5").better) == ("P@5", "higher")
    assert measure("recall@100") == replace(MEASURES["recall"], depth=100)
    assert (measure("rank_distance").better, measure("rank_distance").digits) == ("lower", 1)
    for name in ("map", "ndcg@10", "share@10", "friedman_p", "x@0", "x@y", "@5"):
        assert measure(name).name == name
    unknown = measure("some_new_bias@10")
    assert (unknown.label, unknown.better, unknown.of_bias) == ("Some new bias@10", None, True)
    names = ["recall@10", "friedman", "rank_distance", "recall@1", "mrr", "map", "precision@5"]
    ordered = ["map", "mrr", "recall@1", "recall@10", "precision@5", "rank_distance", "friedman"]
    assert sorted(names, key=lambda name: measure(name).order) == ordered


def test_a_perfect_and_a_worst_ranking() -> None:
    """Figures worked out by hand: three documents in two languages, the answers first and last."""
    collection = RetrievalCollection.build(
        "hand",
        {"de": [("q", "?")]},
        {"de": [("a", "1"), ("b", "2")], "en": [("a", "3")]},
        {("de", "de"): [("q", "a", 1)], ("de", "en"): [("q", "a", 1)]},
    )
    queries = np.ones((1, 1), np.float32)
    corpus = np.array([[3], [2], [1]], np.float32)
    metrics = score(collection, Index(DenseScorer(queries, corpus))).metrics
    assert metrics["hand/monolingual/map"] == 1
    assert metrics["hand/crosslingual/map/de-en"] == 1
    assert metrics["hand/multilingual/map"] == pytest.approx((1 + 2 / 3) / 2)
    assert metrics["hand/multilingual/recall@1"] == 0.5
    assert metrics["hand/multilingual/rank_distance"] == 2
