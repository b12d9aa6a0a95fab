"""What is kept to be looked at: the questions that were asked for, and the lists that a sort of all scores gives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hybrid_retrieval.evaluation import retrieved as module
from hybrid_retrieval.evaluation.figures import RETRIEVED_SCHEMA
from hybrid_retrieval.evaluation.protocol import evaluate, score
from hybrid_retrieval.evaluation.retrieved import choose, retrieved
from hybrid_retrieval.evaluation.retrievers.dense import Dense
from hybrid_retrieval.evaluation.retrievers.retriever import Index
from hybrid_retrieval.evaluation.scoring import ranks


@pytest.mark.parametrize("at_once", [ranks.BLOCK_DOCUMENTS, 7])
def test_lists_are_those_of_a_sort_of_all_scores(make_collection, tied_scorer, monkeypatch, at_once: int) -> None:
    monkeypatch.setattr(module, "document_blocks", lambda documents: ranks.document_blocks(documents, at_once))
    collection = make_collection(1)
    scorer = tied_scorer(collection)
    table, rows = retrieved(score(collection, Index(scorer)), 6)
    assert table.schema == RETRIEVED_SCHEMA
    scores = scorer.against(slice(0, len(collection.corpus)))(0, len(collection.queries)).numpy()
    lists: dict[tuple[int, str | None], list[dict]] = {}
    row_of = {one: at for at, one in enumerate(zip(collection.queries.ids, collection.queries.language.tolist(), strict=True))}
    for hit in table.to_pylist():
        row = row_of[hit["query_id"], collection.languages.index(hit["query_language"])]
        lists.setdefault((row, hit["corpus_language"]), []).append(hit)
    assert {row for row, _ in lists} == set(rows)
    for (row, language), hits in lists.items():
        view = next(
            one for one in collection.views if one.queries.start <= row < one.queries.stop and one.corpus_language == language
        )
        documents = np.arange(view.documents.start, view.documents.stop)
        order = documents[np.lexsort((-collection.tie_order[documents], -scores[row, documents]))]
        place = {int(document): rank for rank, document in enumerate(order, 1)}
        relevant = set(collection.document[collection.query == row].tolist())
        depth = min(len(order), module.IN_POOL if language is None else module.IN_LANGUAGE)
        expected = order[:depth].tolist()
        expected += [one for one in order.tolist() if one in relevant and not relevant & set(expected)][:1]
        assert [hit["passage_id"] for hit in hits] == [collection.corpus.ids[one] for one in expected]
        assert [hit["rank"] for hit in hits] == [place[one] for one in expected]
        assert [hit["relevant"] for hit in hits] == [one in relevant for one in expected]
        assert [hit["score"] for hit in hits] == scores[row, expected].tolist()


def test_the_worst_and_the_best_are_chosen_and_the_sample_is_the_same_for_all_systems(make_collection, tied_scorer) -> None:
    collection = make_collection(2, queries=40)
    one, other = (score(collection, Index(tied_scorer(collection, seed))) for seed in (1, 2))
    mine, theirs = choose(one, 12), choose(other, 12)
    for setting, values in module._means(one).items():
        for part, count in (("worst", 4), ("best", 4), ("sample", 4)):
            assert sum(f"{part} {setting}" in why for why in mine.values()) == count
        assert int(np.nanargmin(values)) in mine or np.nanmin(values) in values[list(mine)]
        worst, best = ([values[row] for row, why in mine.items() if f"{part} {setting}" in why] for part in ("worst", "best"))
        languages = {int(collection.queries.language[row]) for row, why in mine.items() if f"worst {setting}" in why}
        assert len(languages) == min(4, len(collection.languages))
        assert max(worst) <= min(best)
        shared = [{row for row, why in chosen.items() if f"sample {setting}" in why} for chosen in (mine, theirs)]
        assert shared[0] == shared[1]


def test_what_another_system_chose_is_kept_and_long_texts_are_cut(make_collection, tied_scorer) -> None:
    collection = make_collection(3)
    long = replace(collection.corpus, texts=[f"{text} {'x' * 600}" for text in collection.corpus.texts])
    collection = replace(collection, corpus=long)
    result = score(collection, Index(tied_scorer(collection)))
    alone = retrieved(result, 3)[1]
    other = next(row for row in range(len(collection.queries)) if row not in alone)
    table, rows = retrieved(result, 3, [other])
    assert rows == [other]
    assert set(table["query_id"].to_pylist()) == {collection.queries.ids[other]}
    assert {len(text) for text in table["passage"].to_pylist()} == {module.LONGEST + 2}
    assert retrieved(result, 0) == (RETRIEVED_SCHEMA.empty_table(), [])


def test_no_text_is_encoded_again(make_collection) -> None:
    class Counting:
        texts = 0

        def encode(self, texts, role, label=""):
            self.texts += len(texts)
            return np.random.default_rng(len(texts)).normal(size=(len(texts), 4)).astype(np.float32)

    encoder, collection = Counting(), make_collection(1)
    assert retrieved(evaluate(Dense(encoder), collection), 6)[1]
    assert encoder.texts == len(collection.queries) + len(collection.corpus)


def test_what_a_query_does_not_find_has_no_rank(make_collection) -> None:
    from tests.evaluation.given import Given

    collection = make_collection(4)
    nothing = np.full((len(collection.queries), len(collection.corpus)), -np.inf, np.float32)
    table, rows = retrieved(score(collection, Index(Given(nothing))), 6)
    assert rows
    assert set(table["rank"].to_pylist()) == set(table["score"].to_pylist()) == {None}
    assert set(table["relevant"].to_pylist()) == {True}
