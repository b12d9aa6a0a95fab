"""Belebele as retrieval: a question finds its passage in every language, by the number of the question."""

from __future__ import annotations

import pytest

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.evaluation.benchmarks.belebele import VARIANT, VARIANTS, Belebele


def row(link: str, number: int, language: str, passage: str) -> dict[str, object]:
    text = f"{language} {passage}"
    return {"link": link, "question_number": number, "question": f"{language} {link} {number}?", "flores_passage": text}


class Small(Belebele):
    questions = 4


@pytest.fixture
def small(write) -> None:
    """Two passages, one of them with two questions, and a link with two passages; the order differs by language."""
    rows = [("a", 1, "A"), ("a", 2, "A"), ("b", 1, "B"), ("a", 3, "A2")]
    for variant, order in (("deu_Latn", (0, 1, 2, 3)), ("swh_Latn", (3, 2, 1, 0))):
        write(f"belebele/data/{variant}.jsonl", [row(link, n, variant, text) for link, n, text in (rows[i] for i in order)])


def test_a_question_finds_its_passage_in_every_language(small, paths, judged) -> None:
    benchmark = Small(paths, ["swh_Latn", "de"])
    assert benchmark.at_hand()
    collection = benchmark.load()
    assert collection.languages == ("de", "swh_Latn")
    queries = dict(zip(collection.full_ids(collection.queries), collection.queries.texts, strict=True))
    texts = dict(zip(collection.full_ids(collection.corpus), collection.corpus.texts, strict=True))
    assert len(texts) == 6
    passage_of = {"a 1?": "A", "a 2?": "A", "b 1?": "B", "a 3?": "A2"}
    found = {(queries[query], texts[document]) for query, document in judged(collection)}
    assert found == {
        (f"{asked} {question}", f"{answered} {passage}")
        for question, passage in passage_of.items()
        for asked in ("deu_Latn", "swh_Latn")
        for answered in ("deu_Latn", "swh_Latn")
    }
    assert len(judged(collection)) == 16


def test_variants_are_named_shortly_or_as_published(paths) -> None:
    assert Belebele(paths, ["de", "kac_Latn"]).files.files["kac_Latn"].path == "data/kac_Latn.jsonl"
    assert all(VARIANT.fullmatch(variant) for variant in VARIANTS.values())
    with pytest.raises(InputError, match=r"'deu_Lat'.*; did you mean"):
        Belebele(paths, ["deu_Lat"])
    with pytest.raises(InputError, match="names a variant twice"):
        Belebele(paths, ["de", "deu_Latn"])
    with pytest.raises(InputError, match="is empty"):
        Belebele(paths, [])


def test_damage_and_other_counts_are_errors(small, paths, write) -> None:
    write("belebele/data/deu_Latn.jsonl", [row("a", 1, "de", "A")])
    with pytest.raises(InputError, match=r"deu_Latn\.jsonl has 1 questions; published were 4"):
        Small(paths, ["de"]).load()
    write("belebele/data/deu_Latn.jsonl", [{"link": "a", "question_number": 1, "question": "?"}])
    with pytest.raises(InputError, match=r"deu_Latn\.jsonl, line 1: flores_passage is missing"):
        Small(paths, ["de"]).load()
    write("belebele/data/deu_Latn.jsonl", [{**row("a", 1, "de", "A"), "question": None}])
    with pytest.raises(InputError, match=r"line 1: question is .*; expected a text"):
        Small(paths, ["de"]).load()
