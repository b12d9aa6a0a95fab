"""Contrasts: the Kendall-like score against brute force, its laws, and what else can be asked of a scorer by pairs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from hybrid_retrieval.evaluation.benchmarks.challenge import Challenge, challenge_collection
from hybrid_retrieval.evaluation.collection import RetrievalCollection
from hybrid_retrieval.evaluation.figures import PER_QUERY
from hybrid_retrieval.evaluation.metric import part
from hybrid_retrieval.evaluation.protocol import Evaluation, Wanted, score
from hybrid_retrieval.evaluation.retrievers.bm25 import BM25
from hybrid_retrieval.evaluation.retrievers.retriever import Index
from hybrid_retrieval.evaluation.scoring.scorer import Checked, ChunkMax, DenseScorer, Excluding
from hybrid_retrieval.evaluation.statistics.resampling import panel_means
from hybrid_retrieval.reporting.per_query import PerQuery

KINDS = ("critical_negation", "minor_case", "punctuation:deletion_all")


@pytest.fixture(params=range(3))
def collection(request: pytest.FixtureRequest) -> RetrievalCollection:
    """Sources in three languages with none to five contrasts of a kind; passages in two, some of them shared."""
    rng = np.random.default_rng(request.param)
    rows = [
        Challenge(f"{source}-{number}", str(source), one, f"{one} {source}", other, f"good {source}", f"bad {source} {number}",
                  str(rng.choice(KINDS)), "here")
        for source in range(40)
        for one in (("de",), ("de", "en"), ("en", "zh"))[source % 3]
        for other in ("en", "fr")[: 1 + source % 2]
        for number in range(int(rng.integers(1, 9)))
    ]  # fmt: skip
    return challenge_collection("contrasts", rows)


def scored(collection: RetrievalCollection, tied_scorer, seed: int = 1, replicates: int = 0) -> tuple[Evaluation, np.ndarray]:
    scorer = tied_scorer(collection, seed)
    return score(collection, Index(scorer), wanted=Wanted(replicates=replicates)), scorer.queries @ scorer.corpus.T


def values(collection: RetrievalCollection, scores: np.ndarray) -> dict[tuple[str, str], list[tuple[str, int]]]:
    """By languages, the phenomenon of each contrast and 1 or -1: a loop."""
    found: dict[tuple[str, str], list[tuple[str, int]]] = {}
    contrasts = collection.contrasts
    rows = zip(contrasts.query.tolist(), contrasts.better.tolist(), contrasts.worse.tolist(), contrasts.phenomenon, strict=True)
    for query, better, worse, phenomenon in rows:
        languages = (
            collection.languages[collection.queries.language[query]],
            collection.languages[collection.corpus.language[better]],
        )
        found.setdefault(languages, []).append((phenomenon, 1 if scores[query, better] > scores[query, worse] else -1))
    return found


def tau(signs: list[int]) -> float:
    concordant, discordant = signs.count(1), signs.count(-1)
    return (concordant - discordant) / (concordant + discordant)


def test_figures_are_those_of_a_brute_force(collection, tied_scorer) -> None:
    result, scores = scored(collection, tied_scorer)
    expected: dict[str, float] = {}
    for setting, same in (("monolingual", True), ("crosslingual", False)):
        of = {pair: found for pair, found in values(collection, scores).items() if (pair[0] == pair[1]) == same}
        means = {pair: tau([sign for _, sign in found]) for pair, found in of.items()}
        expected[f"contrasts/{setting}/kendall"] = float(np.mean(list(means.values())))
        expected |= {f"contrasts/{setting}/kendall/{a if same else f'{a}-{b}'}": mean for (a, b), mean in means.items()}
        pooled = [one for found in of.values() for one in found]
        for kind in {phenomenon for phenomenon, _ in pooled}:
            expected[f"contrasts/{setting}/kendall_{kind}"] = tau([sign for phenomenon, sign in pooled if phenomenon == kind])
        expected |= {f"contrasts/{setting}/queries": len(pooled), f"contrasts/{setting}/left_out": 0}
    assert result.metrics == pytest.approx(expected)
    assert (scores[collection.contrasts.query, collection.contrasts.better]
            == scores[collection.contrasts.query, collection.contrasts.worse]).sum() > 5  # fmt: skip


def test_swapped_passages_turn_concordant_into_discordant_and_ties_stay(collection, tied_scorer) -> None:
    contrasts = collection.contrasts
    swapped = replace(collection, contrasts=replace(contrasts, better=contrasts.worse, worse=contrasts.better))
    (one, scores), (other, _) = (scored(each, tied_scorer) for each in (collection, swapped))
    tied = scores[contrasts.query, contrasts.better] == scores[contrasts.query, contrasts.worse]
    for before, after in zip(one.pairs, other.pairs, strict=True):
        here = tied[before.queries]
        assert (before.values["kendall"][here] == -1).all()
        assert (after.values["kendall"][here] == -1).all()
        assert (before.values["kendall"][~here] == -after.values["kendall"][~here]).all()
    assert collection.fingerprint != swapped.fingerprint


def test_intervals_are_those_of_sources_drawn_together(collection, tied_scorer) -> None:
    result, _ = scored(collection, tied_scorer, replicates=200)
    whole = [one for one in result.figures if one.measure.name.startswith("kendall") and one.languages is None]
    assert len(whole) == 2 * (1 + len(KINDS))
    assert all(one.low is not None and -1 <= one.low <= one.value <= one.high <= 1 and one.low < one.high for one in whole)
    # every contrast ten times over says no more: its source is still drawn as one
    contrasts = collection.contrasts
    many = {name: np.repeat(getattr(contrasts, name), 10) for name in ("query", "better", "worse")}
    ids = [f"{id_}~{again}" for id_ in contrasts.ids for again in range(10)]
    kinds = [kind for kind in contrasts.phenomenon for _ in range(10)]
    repeated = replace(collection, contrasts=replace(contrasts, ids=ids, phenomenon=kinds, **many))
    again, _ = scored(repeated, tied_scorer, replicates=200)
    for one in whole:
        other = again.figures.get(one.benchmark, one.setting, one.measure.name)
        assert (other.value, other.low, other.high) == pytest.approx((one.value, one.low, one.high), abs=1e-6)


def test_all_right_and_all_wrong_have_a_width(collection) -> None:
    contrasts = collection.contrasts
    for best, value in (("better", 1), ("worse", -1)):
        corpus = np.zeros((len(collection.corpus), 2), np.float32)
        corpus[getattr(contrasts, best), 0] = 1
        found = score(collection, Index(DenseScorer(np.ones((len(collection.queries), 2), np.float32), corpus)),
                      wanted=Wanted(replicates=50)).figures  # fmt: skip
        for one in (found.get("contrasts", "crosslingual", name) for name in ("kendall", f"kendall_{KINDS[0]}")):
            assert one.value == value
            assert 0 < one.high - one.low < 1


def test_values_by_contrast_are_kept(collection, tied_scorer) -> None:
    result, scores = scored(collection, tied_scorer)
    rows = result.per_query().to_pylist()
    assert len(rows) == len(collection.contrasts.ids)
    keys = {(row["query_language"], row["corpus_language"], row["query_id"]) for row in rows}
    assert len(keys) == len(rows)
    assert {row["cluster"] for row in rows} == {*collection.queries.ids}
    kinds = {row["query_id"]: [kind for kind in KINDS if row[f"kendall_{kind}"] == row["kendall"]] for row in rows}
    assert all(len(kind) == 1 for kind in kinds.values())
    expected = values(collection, scores)
    for (asked, answered), found in expected.items():
        mine = [row["kendall"] for row in rows if (row["query_language"], row["corpus_language"]) == (asked, answered)]
        assert mine == [sign for _, sign in found]


def test_runs_are_compared_by_the_same_figures(collection, tied_scorer, tmp_path) -> None:
    results = [scored(collection, tied_scorer, seed)[0] for seed in (1, 2)]
    folders = [tmp_path / str(number) for number in range(2)]
    for folder, result in zip(folders, results, strict=True):
        folder.mkdir()
        pq.write_table(result.per_query(), folder / PER_QUERY)
    both = PerQuery.read(folders)
    assert both.measures("contrasts") == ["kendall", *(f"kendall_{kind}" for kind in sorted(KINDS))]
    for setting in ("monolingual", "crosslingual"):
        for name in both.measures("contrasts"):
            common = both.common("contrasts", setting, name)
            assert len(np.unique(common.clusters)) <= len(collection.queries)
            for values, result in zip(common.values, results, strict=True):
                assert panel_means(values)[-1] == pytest.approx(result.figures.value("contrasts", setting, name))


def test_of_a_part_are_the_contrasts_that_are_whole(collection) -> None:
    queries, documents = np.arange(0, len(collection.queries), 2), np.arange(3, len(collection.corpus))
    contrasts, few = collection.contrasts, part(collection, queries, documents)
    whole = [
        id_
        for id_, *rows in zip(contrasts.ids, contrasts.query, contrasts.better, contrasts.worse, strict=True)
        if rows[0] in queries and rows[1] >= 3 and rows[2] >= 3
    ]
    assert 0 < len(whole) < len(contrasts.ids)
    assert few.contrasts.ids == whole
    assert [few.corpus.texts[row] for row in few.contrasts.worse.tolist()] == [
        collection.corpus.texts[contrasts.worse[contrasts.ids.index(id_)]] for id_ in whole
    ]


def test_lexical_scores_have_no_minus_infinity(collection) -> None:
    scorer = BM25().index(collection).language
    sizes = len(collection.corpus), len(collection.queries)
    documents, queries = (grid.ravel() for grid in np.indices(sizes))
    found = scorer.pairs(queries, documents)
    expected = scorer.against(slice(0, sizes[0]))(0, sizes[1])[queries, documents]
    assert torch.equal(found, torch.where(expected.isneginf(), 0, expected))
    assert (found == 0).any()
    assert (found > 0).any()


def test_equal_embeddings_tie_wherever_they_stand() -> None:
    rng = np.random.default_rng(0)
    queries, corpus = (rng.standard_normal((count, 387)).astype(np.float32) for count in (50, 1001))
    corpus[500:1000] = corpus[:500]
    asked, rows = rng.integers(0, 50, 500), np.arange(500)
    scorer = DenseScorer(queries, corpus)
    assert torch.equal(scorer.pairs(asked, rows), scorer.pairs(asked, rows + 500))


def test_what_wraps_a_scorer_answers_pairs_as_it_answers_blocks() -> None:
    rng = np.random.default_rng(0)
    chunks = DenseScorer(*(rng.integers(-3, 4, (count, 4)).astype(np.float32) for count in (6, 20)))
    offsets = np.array([0, 1, 4, 9, 11, 20])
    hidden = np.array([(0, 2), (3, 4), (5, 0)])
    for scorer in (ChunkMax(chunks, offsets), Excluding(ChunkMax(chunks, offsets), hidden), Checked(ChunkMax(chunks, offsets))):
        block = scorer.against(slice(0, 5))(0, 6)
        documents, queries = (grid.ravel() for grid in np.meshgrid(np.arange(5), np.arange(6), indexing="ij"))
        assert torch.equal(scorer.pairs(queries, documents), block[queries, documents])
