"""From an encoder to figures: each text once, language by language; nothing that is not finite gets a rank."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow.compute as pc
import pytest
import torch

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.evaluation.collection import RetrievalCollection
from hybrid_retrieval.evaluation.protocol import Wanted, evaluate, score
from hybrid_retrieval.evaluation.retrievers.dense import Dense
from hybrid_retrieval.evaluation.retrievers.retriever import Index
from hybrid_retrieval.evaluation.scoring.scorer import DenseScorer


class Hashing:
    """Embeds a text by its hash, and notes what it was asked."""

    def __init__(self) -> None:
        self.seen: Counter[tuple[str, str]] = Counter()
        self.labels: list[str] = []

    def encode(self, texts, role, label=""):
        self.seen.update((text, role) for text in texts)
        self.labels.append(label)
        rows = [np.random.default_rng(sum(text.encode())).integers(-3, 4, 6) for text in texts]
        return np.array(rows, np.float32)


def test_each_text_is_encoded_once_and_the_result_is_that_of_all_texts_at_once(make_collection) -> None:
    collection = make_collection(1)
    encoder = Hashing()
    result = evaluate(Dense(encoder), collection)
    assert set(encoder.seen.values()) == {1}
    assert sum(encoder.seen.values()) == len(collection.queries) + len(collection.corpus)
    whole = Hashing()
    scorer = DenseScorer(whole.encode(collection.queries.texts, "query"), whole.encode(collection.corpus.texts, "passage"))
    assert result.metrics == score(collection, Index(scorer)).metrics


def test_the_log_has_a_line_for_each_language(make_collection) -> None:
    encoder = Hashing()
    evaluate(Dense(encoder), make_collection(1), "random")
    assert encoder.labels[0].startswith("random ar")
    assert len(encoder.labels) == len(set(encoder.labels)) == 8
    silent = Hashing()
    evaluate(Dense(silent), make_collection(1))
    assert set(silent.labels) == {""}


def test_what_is_left_out_is_in_the_log(make_collection, tied_scorer, caplog: pytest.LogCaptureFixture) -> None:
    collection = make_collection(1)
    with caplog.at_level(logging.INFO):
        metrics = score(collection, Index(tied_scorer(collection)), "random").metrics
    left_out = metrics["random/monolingual/left_out"] + metrics["random/crosslingual/left_out"]
    assert f"{left_out:.0f} queries have no relevant document" in caplog.text


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("side", ["queries", "corpus"])
def test_embeddings_that_are_not_finite_are_refused(value: float, side: str) -> None:
    matrices = {"queries": np.ones((3, 2), np.float32), "corpus": np.ones((4, 2), np.float32)}
    matrices[side][1, 1] = value
    with pytest.raises(InputError, match=r"1 of [34] (query|corpus) embeddings are not finite"):
        DenseScorer(**matrices)


def test_scores_are_the_dot_products_packed_or_not() -> None:
    rng = np.random.default_rng(0)
    queries, corpus = (rng.standard_normal((rows, 37), np.float32) for rows in (50, 203))
    exact = queries.astype(np.float64) @ corpus.T.astype(np.float64)
    for limit in (1 << 30, 0):
        scorer = DenseScorer(queries, corpus, packed_bytes=limit)
        for start, stop in ((0, 50), (7, 8), (3, 20)):
            np.testing.assert_allclose(
                scorer.against(slice(0, len(scorer.corpus)))(start, stop).numpy(), exact[start:stop], rtol=0, atol=2e-5
            )


def test_documents_with_the_same_embedding_tie_exactly() -> None:
    """Otherwise rounding, and with it the size of a block, would decide between them."""
    rng = np.random.default_rng(0)
    corpus = rng.standard_normal((1501, 384), np.float32)
    corpus[801:] = corpus[:700]
    scorer = DenseScorer(rng.standard_normal((90, 384), np.float32), corpus)
    for start, stop in ((0, 90), (0, 1), (5, 8)):
        scores = scorer.against(slice(0, len(scorer.corpus)))(start, stop)
        assert (scores[:, 801:] == scores[:, :700]).all()


@pytest.mark.parametrize(
    ("asked", "answers", "judged", "message"),
    [
        ([("q", ""), ("q", "")], [("d", "")], [("q", "d", 1)], "id de:q occurs twice"),
        ([("q", "")], [("d", ""), ("d", "")], [("q", "d", 1)], "id de:d occurs twice"),
        ([("q", "")], [("d", "")], [("q", "e", 1)], "a judgement names de:e, which is not there"),
        ([("q", "")], [("d", "")], [("q", "d", 1), ("q", "d", 2)], "document d is judged twice"),
    ],
)
def test_a_collection_that_contradicts_itself_is_refused(asked, answers, judged, message: str) -> None:
    with pytest.raises(InputError, match=message):
        RetrievalCollection.build("set", {"de": asked}, {"de": answers}, {("de", "de"): judged})


class Noisy:
    """Another scorer's scores and less than float32 can tell, in float64, as numpy has them; or a score that is no number."""

    def __init__(self, scorer, wrong: bool) -> None:
        self.scorer, self.wrong = scorer, wrong

    def against(self, documents):
        inner = self.scorer.against(documents)

        def block(start, stop):
            scores = inner(start, stop).double() + 1 + 1e-9
            if self.wrong:
                scores[0, -1] = torch.nan
            return scores

        return block


def test_scores_of_any_type_are_ranked_as_float32_and_must_be_numbers(make_collection, tied_scorer) -> None:
    collection = make_collection(1)
    scorer = tied_scorer(collection)
    assert score(collection, Index(Noisy(scorer, False))).metrics == score(collection, Index(scorer)).metrics
    with pytest.raises(InputError, match="not a number"):
        score(collection, Index(Noisy(scorer, True)))


@pytest.mark.parametrize("name", ["recal@5", "P@5", "precision", "recall@0", "rank_distance", "peer"])
def test_a_measure_that_is_none_of_ranks_is_refused(make_collection, name: str) -> None:
    with pytest.raises(InputError, match=f"measure {name}; expected one of map, ndcg"):
        replace(make_collection(1), measures=("map", name))


def test_bias_and_intervals_join_the_figures_and_the_table(make_collection, tied_scorer) -> None:
    collection = make_collection(1)
    scorer = tied_scorer(collection)
    plain = score(collection, Index(scorer)).metrics
    result = score(collection, Index(scorer), "", Wanted(["rank_distance", "share@10"], replicates=50))
    assert {name: value for name, value in result.metrics.items() if name in plain} == plain
    for name in ("monolingual/map", "crosslingual/map/de-ar", "multilingual/rank_distance", "multilingual/rank_distance/zh"):
        low, high = (result.metrics[f"random/{name}.{end}"] for end in ("low", "high"))
        assert low < result.metrics[f"random/{name}"] < high
    assert sum(result.metrics[f"random/multilingual/share@10/{name}"] for name in collection.languages) == pytest.approx(1)
    table = result.per_query()
    pooled = table.filter(pc.equal(table["setting"], "multilingual"))
    pooled = pooled.filter(pc.is_finite(pooled["rank_distance"]))
    means = pooled.group_by("query_language").aggregate([("rank_distance", "mean")])["rank_distance_mean"]
    assert pc.mean(means).as_py() == pytest.approx(result.metrics["random/multilingual/rank_distance"])
    assert table["rank_distance"].null_count == sum(setting != "multilingual" for setting in table["setting"].to_pylist())
    assert not [name for name in score(collection, Index(scorer), "", Wanted([])).metrics if "rank_distance" in name]


def test_a_figure_at_its_ceiling_is_not_certain() -> None:
    rows = {language: [(str(number), f"{language} {number}") for number in range(30)] for language in ("de", "en")}
    judged = {language: [(str(number), str(number), 1) for number in range(30)] for language in rows}
    collection = RetrievalCollection.parallel("own", rows, rows, judged)
    same = np.tile(np.eye(30, dtype=np.float32), (2, 1))
    found = score(collection, Index(DenseScorer(same, same)), wanted=Wanted(replicates=100)).figures
    for figure in (found.get("own", "monolingual", "mrr"), found.get("own", "monolingual", "recall@1", "de")):
        assert (figure.value, figure.high) == (1, 1)
        assert figure.low == pytest.approx(0.025 ** (1 / 30))
        assert figure.margin == pytest.approx(1 - figure.low)
    distance = found.get("own", "multilingual", "rank_distance")
    assert distance.low == distance.value == distance.high
