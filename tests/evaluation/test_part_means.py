"""Means over a part of the languages, and over all queries, against the rows of the values per query."""

from __future__ import annotations

import numpy as np
import pytest

from hybrid_retrieval.evaluation.collection import RetrievalCollection
from hybrid_retrieval.evaluation.figures import Figures
from hybrid_retrieval.evaluation.measures import SETTINGS, measure
from hybrid_retrieval.evaluation.protocol import Evaluation, Wanted, score
from hybrid_retrieval.evaluation.retrievers.retriever import Index
from hybrid_retrieval.evaluation.statistics.resampling import bootstrap_intervals

SEEN = ("de", "zh")


@pytest.fixture
def collection(make_collection) -> RetrievalCollection:
    """In ar, de, pt_br and zh; a few queries share a cluster."""
    ids = make_collection(1).queries.ids
    return make_collection(1).clustered([list(dict.fromkeys(ids))[start : start + 2] for start in range(0, 8, 2)])


def scored(collection: RetrievalCollection, tied_scorer, trained_on, replicates: int = 0) -> Evaluation:
    wanted = Wanted(["rank_distance"], replicates, trained_on=trained_on)
    return score(collection, Index(tied_scorer(collection)), "", wanted)


@pytest.mark.parametrize("name", ["map", "recall@10", "rank_distance"])
def test_the_mean_over_the_languages_seen_is_that_of_their_queries(collection, tied_scorer, name: str) -> None:
    """In the pool, of queries in them; across languages, of pairs of two of them."""
    result = scored(collection, tied_scorer, ("de", "fr", "zh_tw"))
    table = result.per_query().to_pandas()
    for setting in SETTINGS:
        rows = table[(table.setting == setting) & table.query_language.isin(SEEN)]
        rows = rows[rows.corpus_language.isin(SEEN)] if setting != "multilingual" else rows
        means = rows.groupby(["query_language", "corpus_language"], dropna=False)[name].mean().dropna()
        found = result.metrics.get(f"random/{setting}/{name}/seen")
        assert (found is None) == (not len(means))
        if found is not None:
            assert found == pytest.approx(means.mean())
            assert result.metrics[f"random/{setting}/queries/seen"] == len(rows)
    assert result.figures.never_seen("random") == ("ar", "pt_br")


def test_nothing_is_added_where_all_are_seen_or_nobody_knows(collection, tied_scorer) -> None:
    plain = scored(collection, tied_scorer, None)
    every = scored(collection, tied_scorer, ("ar", "de", "pt", "zh"))  # Portuguese of whichever country
    assert every.metrics == plain.metrics
    assert every.figures.never_seen("random") == plain.figures.never_seen("random") == ()


def test_where_none_is_seen_there_is_no_mean_but_all_are_marked(collection, tied_scorer, tmp_path) -> None:
    result = scored(collection, tied_scorer, ("fr",))
    added = {key: value for key, value in result.metrics.items() if key.endswith("/seen")}
    assert added == {f"random/{setting}/queries/seen": 0 for setting in SETTINGS}
    result.figures.write(tmp_path)
    assert Figures.read(tmp_path) == result.figures
    assert Figures.read(tmp_path).never_seen("random") == collection.languages


def test_the_interval_of_the_mean_over_the_languages_seen_is_that_of_a_benchmark_in_them(collection, tied_scorer) -> None:
    """The pool alone has other texts: its interval comes from the rows of the values per query."""
    result = scored(collection, tied_scorer, SEEN, replicates=300)
    table = result.per_query().to_pandas()
    numbers = {id_: number for number, id_ in enumerate(dict.fromkeys(table.query_id))}
    for setting in ("monolingual", "multilingual"):
        every = table[table.setting == setting]
        asked = sorted(every.query_id.unique(), key=lambda id_: numbers[id_])
        panel = np.full((len(asked), 2), np.nan)
        for row in every[every.query_language.isin(SEEN)].itertuples():
            panel[asked.index(row.query_id), SEEN.index(row.query_language)] = row.map
        cluster_of = dict(zip(every.query_id, every.cluster, strict=True))
        names = [cluster_of[id_] for id_ in asked]
        clusters = np.array([names.index(name) for name in names])
        low, high = bootstrap_intervals([panel], 20_000, 1, clusters=clusters)[0][:, -1]
        ours = [result.metrics[f"random/{setting}/map/seen.{end}"] for end in ("low", "high")]
        np.testing.assert_allclose(ours, [low, high], atol=0.2 * (high - low))


def test_the_mean_over_all_queries(collection, tied_scorer) -> None:
    result = scored(collection, tied_scorer, None, replicates=300)
    table = result.per_query().to_pandas()
    pooled = table[table.setting == "multilingual"]
    assert pooled.groupby("query_language").size().nunique() > 1
    found = result.metrics["random/multilingual/micro_map"]
    assert found == pytest.approx(pooled["map"].mean())
    assert found != pytest.approx(result.metrics["random/multilingual/map"], abs=1e-6)
    assert result.metrics["random/multilingual/micro_map.low"] < found < result.metrics["random/multilingual/micro_map.high"]
    assert not [key for key in result.metrics if "micro_" in key and not key.startswith("random/multilingual/micro_")]


def test_it_is_the_mean_over_languages_where_all_have_as_many(tied_scorer) -> None:
    texts = {language: [("1", "a"), ("2", "b")] for language in ("de", "en")}
    collection = RetrievalCollection.parallel(
        "even", texts, texts, {language: [("1", "1", 1), ("2", "2", 1)] for language in texts}
    )
    assert not [key for key in scored(collection, tied_scorer, None).metrics if "micro_" in key]


def test_only_means_of_values_per_query_have_one_over_languages_seen(collection, tied_scorer) -> None:
    """Friedman's statistic is no mean over languages."""
    result = score(collection, Index(tied_scorer(collection)), "", Wanted(["friedman", "share@10"], trained_on=SEEN))
    added = {one.measure for one in result.figures if one.seen is not None}
    assert added == {measure(name) for name in (*collection.measures, "queries")}
