"""Files that other tools read: they hold what was measured, and other tools measure the same in them."""

from __future__ import annotations

from pathlib import Path

import ir_measures
import numpy as np
import pytest

from hybrid_retrieval.evaluation.collection import RetrievalCollection
from hybrid_retrieval.evaluation.protocol import score
from hybrid_retrieval.evaluation.retrievers.retriever import Index
from hybrid_retrieval.evaluation.scoring.scorer import DenseScorer, Scorer
from hybrid_retrieval.evaluation.scoring.search import Top, search
from hybrid_retrieval.evaluation.trec import write_embeddings, write_qrels, write_run


def found(collection: RetrievalCollection, scorer: Scorer, depth: int) -> Top:
    return search(scorer, len(collection.queries), len(collection.corpus), depth, collection.tie_order)


def test_a_written_run_has_the_same_figures_in_ir_measures(tmp_path: Path, make_collection, tied_scorer) -> None:
    collection = make_collection(8, queries=80)  # more than one block of queries
    scorer = tied_scorer(collection, 8)
    write_run(tmp_path / "run.trec", collection, found(collection, scorer, len(collection.corpus)), "tag")
    write_qrels(tmp_path / "qrels.tsv", collection)
    run = list(ir_measures.read_trec_run(str(tmp_path / "run.trec")))
    assert len(run) == len(collection.queries) * len(collection.corpus)
    # Other tools sort again, by score and then by id; the file is in that order already.
    of_query: dict[str, list[tuple[float, str]]] = {}
    for line in run:
        of_query.setdefault(line.query_id, []).append((line.score, line.doc_id))
    assert all(lines == sorted(lines, reverse=True) for lines in of_query.values())
    theirs = {
        (metric.query_id, str(metric.measure)): metric.value
        for metric in ir_measures.iter_calc(
            [ir_measures.AP, ir_measures.RR, ir_measures.nDCG @ 10, ir_measures.R @ 10],
            list(ir_measures.read_trec_qrels(str(tmp_path / "qrels.tsv"))),
            run,
        )
    }
    names = collection.full_ids(collection.queries)
    compared = 0
    for pair in score(collection, Index(scorer)).pairs:
        if pair.setting == "multilingual":
            for ours, measure in (("map", "AP"), ("mrr", "RR"), ("ndcg@10", "nDCG@10"), ("recall@10", "R@10")):
                for row, value in zip(pair.queries, pair.values[ours], strict=True):
                    assert value == pytest.approx(theirs[names[row], measure], abs=1e-6)
                    compared += 1
    assert compared > 100


def test_a_run_is_cut_to_its_depth_and_keeps_float32_scores(tmp_path: Path, make_collection) -> None:
    collection = make_collection(9)
    rng = np.random.default_rng(0)
    scorer = DenseScorer(*(rng.standard_normal((len(side), 8), np.float32) for side in (collection.queries, collection.corpus)))
    write_run(tmp_path / "run.trec", collection, found(collection, scorer, 5), "tag")
    scores = scorer.against(slice(0, len(collection.corpus)))(0, len(collection.queries)).numpy()
    queries, documents = collection.full_ids(collection.queries), collection.full_ids(collection.corpus)
    lines = [line.split(" ") for line in (tmp_path / "run.trec").read_text().splitlines()]
    assert [line[3] for line in lines] == ["1", "2", "3", "4", "5"] * len(queries)
    for row, query in enumerate(queries):
        mine = [line for line in lines if line[0] == query]
        best = np.argsort(-scores[row])[:5]
        assert [line[2] for line in mine] == [documents[column] for column in best]
        assert np.array([line[4] for line in mine], np.float32).tolist() == pytest.approx(scores[row, best].tolist(), abs=0)


def test_embeddings_give_the_scores_back_and_ids_name_their_rows(tmp_path: Path, make_collection, tied_scorer) -> None:
    collection = make_collection(10)
    scorer = tied_scorer(collection, 10)
    write_embeddings(tmp_path, collection, scorer.queries, scorer.corpus)
    ids: dict[str, list[str]] = {"queries": [], "corpus": []}
    rows: dict[str, list[np.ndarray]] = {"queries": [], "corpus": []}
    for side in ids:
        for language in collection.languages:
            matrix = np.load(tmp_path / f"{side}.{language}.npy")
            names = (tmp_path / f"{side}.{language}.ids.txt").read_text().splitlines()
            assert matrix.dtype == np.float32
            assert len(matrix) == len(names)
            assert all(name.startswith(f"{language}:") for name in names)
            ids[side] += names
            rows[side].append(matrix)
    assert ids["queries"] == collection.full_ids(collection.queries)
    assert ids["corpus"] == collection.full_ids(collection.corpus)
    product = np.concatenate(rows["queries"]) @ np.concatenate(rows["corpus"]).T
    np.testing.assert_array_equal(product, scorer.against(slice(0, len(collection.corpus)))(0, len(collection.queries)).numpy())
    judged = {tuple(line.split("\t")) for line in (tmp_path / "qrels.tsv").read_text().splitlines()}
    assert judged == {
        (ids["queries"][query], "0", ids["corpus"][document], str(grade))
        for query, document, grade in zip(collection.query, collection.document, collection.grade, strict=True)
    }


def test_space_in_an_id_does_not_break_a_line(tmp_path: Path) -> None:
    collection = RetrievalCollection.build(
        "spaces",
        {"de": [("a query", "")]},
        {"de": [("one\u00a0page#a b", ""), ("two", "")]},
        {("de", "de"): [("a query", "one\u00a0page#a b", 1)]},
    )
    scorer = DenseScorer(np.ones((1, 1), np.float32), np.ones((2, 1), np.float32))
    write_run(tmp_path / "run", collection, found(collection, scorer, 9), "tag")
    write_qrels(tmp_path / "qrels", collection)
    assert all(len(line.split()) == 6 for line in (tmp_path / "run").read_text().splitlines())
    assert (tmp_path / "qrels").read_text().split() == ["de:a%20query", "0", "de:one%C2%A0page#a%20b", "1"]


def test_documents_that_were_not_found_have_no_line(tmp_path: Path, make_collection) -> None:
    collection = make_collection(9)
    scores = np.full((len(collection.queries), 3), -np.inf, np.float32)
    scores[:, 0] = 1
    scores[0, 1] = 0.5
    write_run(tmp_path / "run", collection, Top(np.tile([2, 1, -1], (len(scores), 1)), scores), "tag")
    lines = (tmp_path / "run").read_text().splitlines()
    assert len(lines) == len(scores) + 1
    assert [line.split()[3] for line in lines[:3]] == ["1", "2", "1"]
