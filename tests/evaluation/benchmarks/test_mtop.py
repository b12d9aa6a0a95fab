"""MTOP as retrieval: judgements equal a brute force over labels, whether ids are those of translations or of lines."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.evaluation.benchmarks.mtop import Mtop, MtopParallel
from hybrid_retrieval.evaluation.benchmarks.utterances import related
from hybrid_retrieval.evaluation.bias.evidence import Evidence
from hybrid_retrieval.evaluation.bias.suite import bias_suite
from hybrid_retrieval.evaluation.scoring.ranks import count_ranks
from hybrid_retrieval.evaluation.scoring.scorer import DenseScorer, Excluding

LANGUAGES = ("de", "en", "hi")
DATA = Path(os.environ.get("HYBRID_RETRIEVAL_DATA", "nowhere"))


class Small(Mtop):
    utterances = dict.fromkeys(LANGUAGES, 30)


@pytest.fixture
def rows(write):
    """Write ragged test parts, in which translations share an id or lines are numbered; (language, id, label) of each row."""

    def make(shared: bool, name: str = "mtop_intent") -> list[tuple[str, str, str]]:
        rng = np.random.default_rng(0)
        label_of = rng.choice(["IN:CALL", "IN:STOP", "IN:ASK", "IN:RARE"], 40, p=[0.4, 0.3, 0.25, 0.05])
        found = []
        for language in LANGUAGES:
            there = rng.permutation(40)[:30].tolist()
            ids = there if shared else range(30)
            records = [
                {"id": id_, "text": f"{language} {meaning}", "label": 0, "label_text": str(label_of[meaning])}
                for id_, meaning in zip(ids, there, strict=True)
            ]
            write(f"{name}/{language}/test.jsonl", records)
            found += [(language, str(record["id"]), record["label_text"]) for record in records]
        return found

    return make


@pytest.mark.parametrize("shared", [True, False])
def test_the_same_label_is_relevant_but_not_the_utterance_itself(shared: bool, rows, paths, judged, caplog) -> None:
    caplog.set_level("INFO")
    every = rows(shared)
    collection = Small(paths, "intent").load()
    if not shared:
        every = [(language, f"{language}-{id_}", label) for language, id_, label in every]
    same = {(f"{a}:{i}", f"{b}:{j}") for a, i, _ in every for b, j, _ in every if i == j and (shared or a == b)}
    expected = {(f"{a}:{i}", f"{b}:{j}") for a, i, x in every for b, j, y in every if x == y} - same
    assert set(judged(collection)) == expected
    names = collection.full_ids(collection.queries)
    assert {(names[query], names[document]) for query, document in collection.excluded} == same
    assert [tuple(pair) for pair in collection.excluded] == sorted(tuple(pair) for pair in collection.excluded)
    assert ("kept from itself, but not from its translations" in caplog.text) == (not shared)
    assert collection.measures == ("map",)
    assert collection.settings == {"monolingual", "crosslingual", "multilingual"}
    left, right = collection.labels
    for label, side in ((left, collection.queries), (right, collection.corpus)):
        label_of = {f"{language}:{id_}": text for language, id_, text in every}
        by_number: dict[int, set[str]] = {}
        for number, name in zip(label.tolist(), collection.full_ids(side), strict=True):
            by_number.setdefault(number, set()).add(label_of[name])
        assert len(by_number) == len(set(label_of.values()))
        assert all(len(texts) == 1 for texts in by_number.values())


@pytest.mark.parametrize("shared", [True, False])
def test_only_translations_are_one_question_in_several_languages(shared: bool, rows, paths) -> None:
    rows(shared)
    collection = Small(paths, "intent").load()
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((len(collection.queries), 8)).astype(np.float32)
    scorer = Excluding(DenseScorer(vectors, vectors), collection.excluded)
    evidence = Evidence(collection, scorer, count_ranks(scorer, collection), (vectors, vectors))
    several = len(np.unique(evidence.question)) < len(collection.queries)
    assert several == shared
    found = bias_suite(evidence, ["mrc", "friedman"])
    assert ("mrc" in {one.measure.name for one in found.figures}) == shared
    assert ("mrc: no question is asked in two languages" in found.notes) == (not shared)
    assert "friedman" in {one.measure.name for one in found.figures}


def test_domain_and_intent_are_two_benchmarks(rows, paths) -> None:
    rows(True, "mtop_domain")
    assert Small(paths, "domain").load().name == "mtop_domain"
    assert not Small(paths, "intent").at_hand()
    with pytest.raises(InputError, match=r"benchmark\.mtop\.task='slot'"):
        Small(paths, "slot")


def test_damage_and_other_counts_are_errors(rows, paths, write) -> None:
    rows(True)
    write("mtop_intent/en/test.jsonl", [{"id": 1, "text": "a", "label_text": "b"}])
    with pytest.raises(InputError, match=r"mtop_intent: en has 1 utterances; published were 30"):
        Small(paths, "intent").load()
    write("mtop_intent/en/test.jsonl", [{"id": 1, "text": "a"}])
    with pytest.raises(InputError, match=r"en/test\.jsonl, line 1: label_text is missing"):
        Small(paths, "intent").load()
    write("mtop_intent/en/test.jsonl", [{"id": 1, "text": 5, "label_text": "b"}])
    with pytest.raises(InputError, match=r"line 1: .* is .*; expected "):
        Small(paths, "intent").load()


@pytest.mark.parametrize("seed", range(4))
def test_pairs_of_a_label_equal_a_brute_force(seed: int) -> None:
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 5, 40)
    excluded = np.array(sorted({(int(a), int(b)) for a, b in rng.integers(0, 40, (200, 2))}))
    pairs = set(map(tuple, excluded.tolist()))
    expected = [(a, b) for a in range(40) for b in range(40) if label[a] == label[b] and (a, b) not in pairs]
    assert list(zip(*(side.tolist() for side in related(label, label, excluded)), strict=True)) == expected


class SmallParallel(MtopParallel):
    rows = 4


def parallel(intents: list[str], languages: tuple[str, ...] = LANGUAGES) -> list[dict[str, object]]:
    return [
        {
            "id": f"a{number}",
            "question": {language: f"{language} {number}" for language in languages},
            "slot_intent": dict.fromkeys(languages, f"[{intent} [SL:X [IN:OTHER y ] ] ]"),
        }
        for number, intent in enumerate(intents)
    ]


@pytest.mark.parametrize("packed", ["", ".gz"])
def test_rows_in_all_languages_have_the_intent_of_the_first_bracket(packed, paths, write, judged) -> None:
    intents = ["IN:CALL", "IN:STOP", "IN:CALL", "IN:CALL"]
    write(f"mtop-xsemplr/test.jsonl{packed}", parallel(intents))
    found = judged(SmallParallel(paths, languages=["de", "hi"]).load())
    every = [(language, number) for language in ("de", "hi") for number in range(4)]
    expected = {(f"{a}:a{i}", f"{b}:a{j}") for a, i in every for b, j in every if i != j and intents[i] == intents[j]}
    assert set(found) == expected


def test_damaged_rows_are_errors(paths, write) -> None:
    assert not MtopParallel(paths).at_hand()
    write("mtop-xsemplr/test.jsonl", parallel(["IN:A"] * 4))
    with pytest.raises(InputError, match=r"mtop_parallel has 4 rows; published were 1,237"):
        MtopParallel(paths).load()
    with pytest.raises(InputError, match=r"line 1, question: es is missing; expected a text"):
        SmallParallel(paths).load()
    write("mtop-xsemplr/test.jsonl", parallel(["IN:A"] * 3 + ["SL:B"]))
    with pytest.raises(
        InputError, match=r"line 4, slot_intent, de: '\[SL:B .*' does not begin with an intent; expected \[IN:NAME"
    ):
        SmallParallel(paths, languages=["de"]).load()


@pytest.mark.skipif(not (DATA / "mtop-xsemplr").is_dir(), reason="MTOP is not at hand")
def test_the_published_counts() -> None:
    collection = MtopParallel(PathsConfig(data=str(DATA))).load()
    assert len(collection.queries) == 6 * 1237
    assert len(set(collection.labels[0].tolist())) == 80
