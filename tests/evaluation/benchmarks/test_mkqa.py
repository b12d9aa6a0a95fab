"""MKQA as retrieval: a question finds the texts of its answer in every language; what has no text is left out and counted."""

from __future__ import annotations

import pytest

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.evaluation.benchmarks.mkqa import Mkqa

LANGUAGES = ["en", "ja"]


def example(id_: int, **answers: list[dict[str, object]]) -> dict[str, object]:
    return {"example_id": id_, "query": f"en {id_}", "queries": {one: f"{one} {id_}" for one in answers}, "answers": answers}


def text(value: str | None, kind: str = "entity") -> dict[str, object]:
    return {"type": kind, "text": value, "aliases": ["never used"]}


EXAMPLES = [
    example(-1, en=[text("Dave"), text("Dave "), text("Edmunds")], ja=[text("デイヴ")]),
    example(2, en=[text(None, "unanswerable")], ja=[text(None, "unanswerable")]),
    example(3, en=[text(None, "long_answer")], ja=[text(None, "long_answer")]),
    example(4, en=[text("Dave")], ja=[{"type": "entity", "text": None}]),
    example(5, en=[text("yes", "binary")], ja=[text("はい", "binary")]),
    example(6, en=[text("not used", "long_answer")], ja=[text(None, "unanswerable")]),
]


class Small(Mkqa):
    examples = len(EXAMPLES)


@pytest.fixture
def small(write) -> None:
    write("mkqa/mkqa.jsonl.gz", EXAMPLES)


def test_a_question_finds_the_texts_of_its_answer(small, paths, judged, caplog) -> None:
    caplog.set_level("INFO")
    benchmark = Small(paths, LANGUAGES)
    assert benchmark.at_hand()
    collection = benchmark.load()
    texts = dict(zip(collection.full_ids(collection.corpus), collection.corpus.texts, strict=True))
    assert sorted(texts.values()) == sorted(["Dave", "Edmunds", "yes", "デイヴ", "はい"])
    answers = {-1: ["Dave", "Edmunds", "デイヴ"], 4: ["Dave"], 5: ["yes", "はい"]}
    assert {(query, texts[document]) for query, document in judged(collection)} == {
        (f"{asked}:{id_}", answer) for id_, found in answers.items() for answer in found for asked in LANGUAGES
    }
    assert list(collection.queries.texts) == ["en -1", "en 4", "en 5", "ja -1", "ja 4", "ja 5"]
    assert "left out of mkqa: long_answer 2, no text in ja 1, unanswerable 1" in caplog.text


def test_all_languages_are_26(paths) -> None:
    assert len(Mkqa(paths).languages) == 26
    with pytest.raises(InputError, match=r"benchmark\.mkqa\.languages asks for 'zh'"):
        Mkqa(paths, ["zh"])


def test_damage_and_other_counts_are_errors(small, paths, write) -> None:
    write("mkqa/mkqa.jsonl.gz", EXAMPLES[:3])
    with pytest.raises(InputError, match=r"mkqa\.jsonl\.gz has 3 examples; published were 6"):
        Small(paths, LANGUAGES).load()
    for damage in ({"example_id": 1}, example(1, en=[text("a")]), example(1, en=[text("a")], ja=[]), example(1, en=7, ja=7)):
        write("mkqa/mkqa.jsonl.gz", [EXAMPLES[0], damage])
        with pytest.raises(InputError, match=r"mkqa\.jsonl\.gz, line 2(, (answers|queries))?: \w+ is .*; expected "):
            Small(paths, LANGUAGES).load()
