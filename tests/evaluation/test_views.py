"""Queries that are asked of some documents only: ranks, figures and settings equal a brute force over these documents."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from hybrid_retrieval.evaluation.collection import RetrievalCollection, Side
from hybrid_retrieval.evaluation.metric import MultilingualRetrieval, part
from hybrid_retrieval.evaluation.protocol import Wanted, score
from hybrid_retrieval.evaluation.retrievers.retriever import Index
from hybrid_retrieval.evaluation.scoring.ranks import count_ranks
from hybrid_retrieval.evaluation.scoring.scorer import DenseScorer

SIZES = {"de": 7, "en": 12, "th": 5}
ASKED = [("de", "en", 0, 7), ("en", "de", 0, 7), ("th", "en", 7, 5), ("en", "th", 7, 5)]
"""Query and corpus language, and the first row and the number of the English sentences."""


@pytest.fixture
def collection() -> RetrievalCollection:
    rows = {language: [(f"{language}-{at}", f"{language} {at}") for at in range(size)] for language, size in SIZES.items()}
    side = Side.of("pairs", list(SIZES), rows)
    asked = []
    for one, other, first, count in ASKED:
        start = {"de": 0, "en": 7 + first, "th": 19}
        asked.append(tuple(slice(start[language], start[language] + count) for language in (one, other)))
    return RetrievalCollection.translations("pairs", list(SIZES), side, asked)


def brute_force(collection: RetrievalCollection, scorer: DenseScorer) -> dict[str, float]:
    """Accuracy by pair; of equal scores the document with the larger id comes first, as in trec_eval."""
    scores, found = scorer.queries @ scorer.corpus.T, {}
    for (one, other, _, _), (queries, documents) in zip(ASKED, collection.asked, strict=True):
        block = scores[queries, documents]
        names = collection.corpus.ids[documents]
        best = [max(range(len(names)), key=lambda at, row=row: (row[at], names[at])) for row in block]
        found[f"{one}-{other}"] = float(np.mean(np.array(best) == np.arange(len(best))))
    return found


@pytest.mark.parametrize("seed", range(6))
def test_accuracy_is_that_of_the_documents_that_are_asked(seed: int, collection, tied_scorer) -> None:
    scorer = tied_scorer(collection, seed)
    evaluation = score(collection, Index(scorer), wanted=Wanted(replicates=20))
    expected = brute_force(collection, scorer)
    metrics = evaluation.metrics
    assert {name: metrics[f"pairs/crosslingual/recall@1/{name}"] for name in expected} == pytest.approx(expected)
    assert metrics["pairs/crosslingual/recall@1"] == pytest.approx(np.mean(list(expected.values())))
    assert {key.split("/")[1] for key in metrics} == {"crosslingual"}
    assert metrics["pairs/crosslingual/queries"] == 24
    assert metrics["pairs/crosslingual/left_out"] == 0
    assert len(evaluation.per_query()) == 24
    narrow = count_ranks(scorer, collection, block_scores=1)
    assert narrow.language.tolist() == count_ranks(scorer, collection).language.tolist()


def test_there_is_no_pool_and_no_measure_of_it(collection, tied_scorer, caplog) -> None:
    caplog.set_level("INFO")
    assert collection.settings == {"crosslingual"}
    evaluation = score(collection, Index(tied_scorer(collection)), "pairs", Wanted(bias=["all"]))
    assert {one.setting for one in evaluation.figures} == {"crosslingual"}
    assert "queries are asked of one language at a time" in caplog.text


def test_scores_by_language_are_taken_where_a_retriever_has_them(collection, tied_scorer) -> None:
    right, wrong = tied_scorer(collection, 1), tied_scorer(collection, 2)
    expected = score(collection, Index(right)).metrics
    assert score(collection, Index(wrong, language=right)).metrics == expected
    assert score(collection, Index(wrong)).metrics != expected


def test_what_is_asked_is_a_part_of_the_data(collection) -> None:
    fewer = replace(collection, asked=collection.asked[:2])
    assert fewer.fingerprint != collection.fingerprint
    assert len(fewer.views) == 2


def test_the_metric_has_the_same_figures_and_those_of_a_part(collection, tied_scorer) -> None:
    scorer = tied_scorer(collection, 3)
    metric = MultilingualRetrieval(collection)
    rows = torch.arange(len(collection.queries))
    for side, vectors in (("query", scorer.queries), ("passage", scorer.corpus)):
        metric.update(torch.from_numpy(vectors), rows, side)
    expected = score(collection, Index(scorer)).metrics
    assert float(metric.compute()["crosslingual/recall@1"]) == pytest.approx(expected["pairs/crosslingual/recall@1"])
    some = np.array([0, 2, 3, 9, 10, 20])
    few = part(collection, some, some)
    assert [(view.name, view.queries, view.documents) for view in few.views] == [
        ("de-en", slice(0, 3), slice(3, 5)),
        ("en-de", slice(3, 5), slice(0, 3)),
    ]
    assert [(few.queries.ids[q], few.corpus.ids[d]) for q, d in zip(few.query, few.document, strict=True)] == [
        ("de-2", "en-2"),
        ("de-3", "en-3"),
        ("en-2", "de-2"),
        ("en-3", "de-3"),
    ]
