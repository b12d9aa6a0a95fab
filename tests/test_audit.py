"""The leakage audit: planted leaks in several scripts, a brute force by sets of n-grams, and what stops a run."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import random
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from hybrid_retrieval.audit import audit, units
from hybrid_retrieval.audit.index import HashTable, Index, bare_id, is_published
from hybrid_retrieval.audit.overlap import Hit, _same_answer, find_hits
from hybrid_retrieval.audit.texts import TrainingPart, evaluation_texts, training_texts
from hybrid_retrieval.config import AuditConfig, PathsConfig
from hybrid_retrieval.data.parallel import PairsWriter, ParallelPairs
from hybrid_retrieval.data.sources.beir_parallel import BeirPairs
from hybrid_retrieval.data.stored_texts import Passages, write_passages
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.evaluation.benchmarks.beir_parallel import BeirParallel as OwnSet
from hybrid_retrieval.evaluation.benchmarks.held_out import split_collection
from hybrid_retrieval.evaluation.benchmarks.lareqa import Lareqa
from hybrid_retrieval.evaluation.collection import RetrievalCollection
from tests.command_output import assert_one_line
from tests.conftest import SMALL, Command

DATA = os.environ.get("HYBRID_RETRIEVAL_DATA")

TEXTS = {
    "en": (
        "Who designed the garden of the Royal Palace?",
        "The garden was designed by the king's own architect in 1624, after two years of travel through northern Italy.",
    ),
    "de": (
        "Wer entwarf den Garten des Königlichen Schlosses?",
        "Den Garten entwarf der Baumeister des Königs im Jahre 1624, nach zwei Jahren auf Reisen durch Oberitalien; ähm.",
    ),
    "ar": (
        "من صمم حديقة القصر الملكي؟",
        "صَمَّمَ الحديقة مهندس الملك الخاص في عام ١٦٢٤، بعد عامين من السفر في شمال إيطاليا مع تلاميذه الثلاثة.",
    ),
    "th": (
        "ใครเป็นผู้ออกแบบสวนของพระราชวัง",
        "สวนแห่งนี้ออกแบบโดยสถาปนิกประจำพระองค์ใน พ.ศ. 2167 หลังจากเดินทางในภาคเหนือของอิตาลีเป็นเวลาสองปี",
    ),
    "zh": ("是谁设计了皇家宫殿的花园?", "这座花园由国王的建筑师于1624年设计,此前他在意大利北部旅行了两年,并带回了许多植物。"),
}
"""A question and its answer in each language."""
FILLER = {
    "en": "Nothing else is known of how it came to be, nor of who had paid for all of that stone.",
    "de": "Mehr weiß man über die Entstehung nicht, auch nicht, wer die vielen Steine bezahlt hat.",
    "ar": "لا يعرف أي شيء آخر عن كيفية نشأتها ولا عمن دفع ثمن كل تلك الحجارة.",
    "th": "ไม่มีใครรู้อะไรอีกเลยว่ามันเกิดขึ้นได้อย่างไรหรือใครเป็นคนจ่ายค่าหินทั้งหมด",
    "zh": "除此之外人们对它的由来一无所知,也不知道是谁支付了所有石材的费用。",
}
LANGUAGES = list(TEXTS)


def unit_list(text: str) -> list[str]:
    """Units as the docstring defines them, character by character and without tables."""
    found: list[str] = []
    open_word = False
    spread = unicodedata.normalize("NFKC", text).casefold()
    for character in spread:
        category = unicodedata.category(character)
        unspaced = unicodedata.name(character, "").split(" ")[0].split("-")[0] in {
            "CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "IDEOGRAPHIC",
        }  # fmt: skip
        if category == "Cf":
            continue
        if category[0] not in "LNM":
            found.append("")  # what follows begins anew
            open_word = False
        elif category[0] == "M" and found and found[-1]:
            found[-1] += character
            open_word = not unspaced
        elif category[0] == "L" and unspaced:
            found.append(character)
            open_word = False
        elif open_word:
            found[-1] += character
        else:
            found.append(character)
            open_word = not (category[0] == "M" and unspaced)
    return [unit for unit in found if unit]


def size_of(found: Sequence[str], ngram: int) -> int:
    names = [unicodedata.name(unit[0], "") if unicodedata.category(unit[0])[0] == "L" else "" for unit in found]
    unspaced = sum(name.startswith(("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR")) for name in names)
    return 2 * ngram if 2 * unspaced > len(found) else ngram


def grams(text: str, size: int) -> set[tuple[str, ...]]:
    found = unit_list(text)
    return {tuple(found[place : place + size]) for place in range(len(found) - size + 1)}


Side = dict[str, list[tuple[int, str, str]]]


def training_set(
    directory: Path, queries: Side, passages: Side, edges: Sequence[Sequence[int]], **splits: Sequence[Sequence[int]]
) -> ParallelPairs:
    """A set of (group, id, text) rows by language; `edges` are its training split."""
    directory.mkdir()
    languages = sorted({*queries, *passages})
    writer = PairsWriter(directory, "planted", languages)
    for side, rows in (("queries", queries), ("passages", passages)):
        for language in languages:
            writer.write(side, language, rows.get(language, []))
    writer.finish({"train": np.array(edges), **{split: np.array(rows) for split, rows in splits.items()}}, {"provenance": {}})
    return ParallelPairs.open(directory)


def benchmark(queries: dict[str, list[tuple[str, str]]], corpus: dict[str, list[tuple[str, str]]]) -> RetrievalCollection:
    """Each language's n-th query is answered by its n-th passage; passages beyond answer nothing."""
    judged = {
        (language, language): [
            (query, passage, 1) for (query, _), (passage, _) in zip(queries[language], corpus[language], strict=False)
        ]
        for language in queries
    }
    return RetrievalCollection.build("planted", queries, corpus, judged)


def hits_of(pairs: ParallelPairs, collection: RetrievalCollection, ngram: int = 8, threshold: float = 0.7) -> list[Hit]:
    return find_hits(index_of({"b": collection}, ngram), training_texts([pairs], 0), threshold)


def index_of(collections: dict[str, RetrievalCollection], ngram: int = 8) -> Index:
    return Index(evaluation_texts(collections, 1_000_000)[0], ngram)


def one_pair(directory: Path, language: str, query: tuple[str, str], passage: tuple[str, str]) -> ParallelPairs:
    return training_set(directory, {language: [(0, *query)]}, {language: [(0, *passage)]}, [(0, 0)])


def own(language: str) -> RetrievalCollection:
    question, answer = TEXTS[language]
    return benchmark({language: [("0", question)]}, {language: [("0", answer), ("1", FILLER[language])]})


def kinds(hits: Sequence[Hit]) -> set[tuple[str, str, bool]]:
    return {(hit.side, hit.kind, hit.stops) for hit in hits}


def test_units_are_words_and_characters_of_unspaced_scripts() -> None:
    assert units.spelled("Don't STOP, ﬁne! 日本語のtest ภาษา so\u00adft 中国123") == [
        *("don", "t", "stop", "fine", "日", "本", "語", "の", "test", "ภ", "า", "ษ", "า", "soft", "中", "国", "123")
    ]
    pool = "aZé\u0301ß'- .,\n日の漢\u3099ท่ กำ\u0e31ตัว१क्षनि\u200dدَر٣\u00adａ½İ中\x00\U0001f600\ud800"
    chance = random.Random(0)
    for _ in range(3000):
        text = "".join(chance.choices(pool, k=chance.randrange(12)))
        assert units.spelled(text) == unit_list(text), ascii(text)
    whole = ["".join(chance.choices(pool, k=chance.randrange(9))) for _ in range(400)]
    batch = units.Units.of(whole)
    alone = [units.Units.of([text]) for text in whole]
    assert batch.text_hashes.tolist() == [one.text_hashes[0] for one in alone]
    equal = {tuple(unit_list(text)) for text in whole}
    assert len(set(batch.text_hashes.tolist())) == len(equal)
    orders = ["".join(order) for order in itertools.permutations("abcd")] + list(map(" ".join, itertools.permutations("abcd")))
    assert len(set(units.Units.of(orders).text_hashes.tolist())) == len(orders)
    for size in (1, 3):
        text, hashes = batch.windows(size)
        assert np.unique(text).tolist() == [number for number, one in enumerate(alone) if len(one.windows(size)[1])]
        assert hashes.tolist() == [value for one in alone for value in one.windows(size)[1].tolist()]


@pytest.mark.parametrize("language", LANGUAGES)
def test_planted_leaks_of_each_kind_are_found(language: str, tmp_path: Path) -> None:
    question, answer = TEXTS[language]
    other = FILLER[language]
    pairs = one_pair(tmp_path / "exact", language, ("q", "other"), ("p", answer))
    assert kinds(hits_of(pairs, own(language))) == {("passages", "exact", True)}
    disguised = "  " + unicodedata.normalize("NFD", answer).upper().replace(",", " -- ").replace("،", "!") + " ... "
    pairs = one_pair(tmp_path / "normalised", language, ("q", "other"), ("p", disguised))
    assert kinds(hits_of(pairs, own(language))) == {("passages", "normalised", True)}
    paragraph = f"{other} {answer} {other}"
    pairs = one_pair(tmp_path / "contained", language, ("q", "other"), ("p", paragraph))
    assert kinds(hits_of(pairs, own(language))) == {("passages", "ngram", False)}
    half = (0, "half", answer[: len(answer) // 2])
    pairs = training_set(
        tmp_path / "two",
        {language: [(0, "q", "other")]},
        {language: [half, (1, "whole", paragraph), (2, "later", paragraph)]},
        [(0, 0), (0, 1), (0, 2)],
    )
    assert [hit.training_id for hit in hits_of(pairs, own(language)) if hit.id == "0"] == ["whole"]
    pairs = one_pair(tmp_path / "answered", language, ("q", question), ("p", paragraph))
    assert kinds(hits_of(pairs, own(language))) == {("passages", "ngram", False), ("queries", "exact", True)}
    sentence = answer.replace(",", " ").rsplit(" ", 1)[0]
    pairs = one_pair(tmp_path / "part", language, ("q", question), ("p", sentence))
    assert ("queries", "exact", True) in kinds(hits_of(pairs, own(language)))
    pairs = one_pair(tmp_path / "asked", language, ("q", question), ("p", "other"))
    assert kinds(hits_of(pairs, own(language))) == {("queries", "exact", False)}
    pairs = one_pair(tmp_path / "distractor", language, ("q", "other"), ("p", other))
    assert kinds(hits_of(pairs, own(language))) == {("passages", "exact", False)}


@pytest.mark.parametrize("language", LANGUAGES)
def test_near_misses_are_none(language: str, tmp_path: Path) -> None:
    question, answer = TEXTS[language]
    part = len(answer) // 4
    swapped = f"{answer[part:]} {answer[:part]} {FILLER[language][:part]}"
    words = answer.split() if " " in answer.strip() and language not in ("th", "zh") else list(answer)
    sprinkled = " 7 ".join(" ".join(words[place : place + 6]) for place in range(0, len(words), 6))
    pairs = training_set(
        tmp_path / "set",
        {language: [(0, "0", question[:-6] + "7")]},
        {language: [(0, "0", sprinkled), (1, "1", FILLER[language][::-1])]},
        [(0, 0), (0, 1)],
    )
    assert hits_of(pairs, own(language)) == []
    whole = one_pair(tmp_path / "swapped", language, ("q", "other"), ("p", swapped))
    (hit,) = hits_of(whole, own(language), threshold=0.3)
    size = size_of(unit_list(answer), 8)
    assert hit.overlap == pytest.approx(len(grams(answer, size) & grams(swapped, size)) / len(grams(answer, size)))
    assert 0.3 <= hit.overlap < 1


def test_ids_count_only_where_a_publisher_made_them_unique(tmp_path: Path) -> None:
    squad = "56beb4343aeaaa14008c925b"
    assert is_published(squad)
    assert is_published("004e7f62d134e90b14de5469c9671a428a873963")
    assert is_published("550e8400-e29b-41d4-a716-446655440000")
    assert is_published("arabic-2387335860751143628-1")
    for common in ("0", "1185869", "q-0000000000000000017", "doc0000000000000001", "scalc/01/04060110.html#hd_id3146093", ""):
        assert not is_published(common)
    collection = benchmark(
        {"de": [(squad, "eins"), ("7", "zwei")]}, {"de": [("5", "drei"), (squad[::-1], "vier"), (squad, "x")]}
    )
    pairs = training_set(
        tmp_path / "set",
        {"th": [(0, squad, "a"), (1, "7", "b")]},
        {"th": [(0, "5", "c"), (1, squad[::-1], "d"), (2, squad, "e")]},
        [(0, 0), (1, 1), (1, 2)],
    )
    found = [(hit.side, hit.kind, hit.id, hit.training_language, hit.stops) for hit in hits_of(pairs, collection)]
    assert found == [
        ("queries", "id", squad, "th", True),
        ("passages", "id", squad[::-1], "th", True),
        ("passages", "id", squad, "th", False),  # it answers nothing
    ]


def test_short_texts_recur_and_stop_a_run_only_with_their_answer(tmp_path: Path) -> None:
    collection = benchmark({"en": [("0", "Options")]}, {"en": [("0", "Yes, in one of seven colours"), ("1", "-- !")]})
    pairs = one_pair(tmp_path / "a", "en", ("0", "OPTIONS:"), ("0", "Yes, in one of seven colours"))
    assert kinds(hits_of(pairs, collection)) == {("queries", "normalised", False), ("passages", "exact", False)}
    collection = benchmark({"en": [("0", "Options")]}, {"en": [("0", "Yes, in one of the seven colours")]})
    pairs = one_pair(tmp_path / "b", "en", ("0", "OPTIONS:"), ("0", "Yes, in one of the seven colours. !!"))
    assert kinds(hits_of(pairs, collection)) == {("queries", "normalised", True), ("passages", "normalised", False)}
    part = one_pair(tmp_path / "c", "en", ("0", "Options"), ("0", "seven colours"))
    assert kinds(hits_of(part, collection)) == {("queries", "exact", False)}
    # A later training query with the same words has the answer, in another language's folder.
    later = training_set(
        tmp_path / "d",
        {"de": [(0, "0", "Options"), (1, "1", "options")]},
        {"de": [(0, "0", "no")], "en": [(1, "1", "So: yes, in one of the seven colours of old.")]},
        [(0, 0), (1, 1)],
    )
    (hit,) = hits_of(later, collection)
    assert (hit.kind, hit.stops, hit.training_id) == ("exact", True, "1")


def test_a_title_before_the_answers_paragraph_hides_no_leak(tmp_path: Path) -> None:
    question, answer = TEXTS["en"]
    paragraph = f"{FILLER['en']} {answer}"
    collection = benchmark({"en": [("0", question)]}, {"en": [("0", f"{answer} {paragraph}")]})
    pairs = one_pair(tmp_path / "set", "en", ("q", question), ("p", f"Royal Palace {paragraph}"))
    assert ("queries", "exact", True) in kinds(hits_of(pairs, collection))


def test_markers_of_e5_training_files_hide_no_leak(tmp_path: Path) -> None:
    question, answer = TEXTS["en"]
    pairs = one_pair(tmp_path / "set", "en", ("q", f"query: {question}"), ("p", f"Passage: {answer}"))
    assert kinds(hits_of(pairs, own("en"))) == {("queries", "normalised", True), ("passages", "normalised", True)}
    assert units.spelled("In passage: query: a") == ["in", "passage", "query", "a"]


def test_a_published_id_is_known_with_a_language_beside_it(tmp_path: Path) -> None:
    squad, uuid = "56beb4343aeaaa14008c925b", "550e8400-e29b-41d4-a716-446655440000"
    for other in (f"{squad}-fi", f"{squad}_pt-BR", f"de:{squad}", f"{squad}-fa"):
        assert bare_id(other) == squad
    for whole in (uuid, "arabic-2387335860751143628-1", f"{squad}-0", f"{squad}_12", "q7-fi", "fi", ""):
        assert bare_id(whole) == whole
    collection = benchmark({"fi": [(squad, "eins")]}, {"fi": [(f"{uuid}-0", "zwei"), (f"{uuid}-1", "drei")]})
    pairs = training_set(
        tmp_path / "set", {"fi": [(0, f"{squad}-fi", "a")]}, {"fi": [(0, f"{uuid}-1", "b"), (1, f"{uuid}-2", "c")]}, [(0, 1)]
    )
    assert [(hit.side, hit.id, hit.stops) for hit in hits_of(pairs, collection)] == [("queries", squad, True)]


def test_a_hard_negative_stops_no_run(tmp_path: Path) -> None:
    uuid = "550e8400-e29b-41d4-a716-446655440000"
    question, answer = TEXTS["en"]
    collection = benchmark({"en": [("0", question)]}, {"en": [(uuid, answer), ("1", FILLER["en"])]})
    evaluation = index_of({"b": collection})

    def found(name: str, positive: str, edge: tuple[int, int, int]) -> list[tuple[str, bool, str, str]]:
        passages = [(0, "p", positive), (1, uuid, answer)]
        pairs = training_set(tmp_path / name, {"en": [(0, "q", "other")]}, {"en": passages}, [edge])
        hits = find_hits(evaluation, training_texts([pairs], 1), 0.7)
        return [(hit.kind, hit.stops, hit.training_side, hit.training_id) for hit in hits]

    assert found("negative", "no", (0, 0, 1)) == [("exact", False, "negatives", uuid), ("id", False, "negatives", uuid)]
    assert found("positive", "no", (0, 1, 0)) == [("exact", True, "passages", uuid), ("id", True, "passages", uuid)]
    assert found("both", answer.upper(), (0, 0, 1))[0] == ("normalised", True, "passages", "p")


def shared_corpus(folder: Path, test: list[tuple[str, str]], extra: dict[str, str] | None = None) -> None:
    """A set of one corpus and published ids: questions 0 to 39, two to a passage, the even ones to train on."""
    for language in ("de", "en"):
        corpus = {published(n): " ".join(f"{language}{n}w{word}" for word in range(12)) for n in range(20)}
        queries = {f"q{n}": f"{language} question {n}" for n in range(40)} | (extra or {})
        train = [(f"q{n}", published(n // 2)) for n in range(0, 40, 2)]
        write_beir(folder, language, queries, corpus, train=train, test=test)


def published(number: int) -> str:
    return f"56beb4343aeaaa14008c{number:04d}"


def test_a_split_that_the_set_declares_is_no_leak_of_answers(tmp_path: Path) -> None:
    test = [(f"q{n}", published(n // 2)) for n in range(1, 40, 2)]
    shared_corpus(tmp_path / "set", test)
    paths = PathsConfig(cache=str(tmp_path / "cache"))

    def stopping(trained: str, evaluated: str, **choices: object) -> set[tuple[str, str]]:
        pairs = BeirPairs(paths, path=str(tmp_path / trained), validation_share=0, **choices).pairs()  # type: ignore[arg-type]
        collections = {
            "own": OwnSet(paths, path=str(tmp_path / evaluated)).load(),
            "held_out": split_collection(BeirPairs(paths, path=str(tmp_path / evaluated)).pairs(), "test", "held_out"),
        }
        hits = find_hits(index_of(collections), training_texts([pairs], 0), 0.7)
        assert {(hit.benchmark, hit.side, hit.kind) for hit in hits} >= {
            (name, "passages", kind) for name in collections for kind in ("exact", "id")
        }
        return {(hit.side, hit.id) for hit in hits if hit.stops}

    assert stopping("set", "set") == set()
    assert stopping("set", "set", languages=["en"]) == set()
    # A question that is trained on with its answer, under its own or under another id, still stops the run.
    shared_corpus(tmp_path / "asked", [*test, ("q6", published(3))])
    assert stopping("asked", "asked") == {("queries", "q6")}
    shared_corpus(tmp_path / "twice", [*test, ("again", published(3))], {"again": "en question 6"})
    assert stopping("twice", "twice") == {("queries", "again")}
    # Another set with the same passages is another set.
    write_beir(
        tmp_path / "other", "en", {"x": "what?"},
        {published(0): " ".join(f"en0w{word}" for word in range(12))}, train=[("x", published(0))],
    )  # fmt: skip
    assert stopping("other", "set") == {("passages", published(0))}


def test_questions_that_recur_are_looked_up_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    queries: Side = {language: [(group, str(group), "How do I save?") for group in range(3)] for language in ("de", "en")}
    passages: Side = {"en": [(group, str(group), f"{FILLER['en']} {group}") for group in range(4)]}
    pairs = training_set(tmp_path / "set", queries, passages, [(0, 0), (1, 1), (2, 2), (2, 3)], validation=[(1, 3)])
    asked: list[int] = []
    answers = TrainingPart.answers
    monkeypatch.setattr(TrainingPart, "answers", lambda part, group: (asked.append(group), answers(part, group))[1])
    collection = benchmark(
        {"en": [(str(n), "how do I save") for n in range(20)]}, {"en": [(str(n), TEXTS["en"][1]) for n in range(20)]}
    )
    assert kinds(hits_of(pairs, collection)) == {("queries", "normalised", False)}
    assert sorted(asked) == [0, 1, 2]
    queries_part = training_texts([pairs], 0).parts[0]
    assert [queries_part.answers(group) for group in range(3)] == [
        [f"{FILLER['en']} {number}" for number in numbers] for numbers in ([0], [1, 3], [2, 3])
    ]


@pytest.mark.parametrize("stored", [False, True])
def test_passages_that_answer_nothing_are_sampled_and_no_others(
    stored: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [(f"{n:04d}", " ".join(f"p{n}w{word}" for word in range(9))) for n in range(100)]
    corpus = Passages.of(rows)
    if stored:
        write_passages(tmp_path, rows, "rows", 11)
        corpus = Passages.open(tmp_path)
    judged = [3, 50, 51, 98]
    collection = RetrievalCollection.build(
        "b",
        {"en": [(str(n), f"q{n}") for n in judged]},
        {"en": corpus},
        {("en", "en"): [(str(n), rows[n][0], 1) for n in judged]},
    )
    wanted = sorted({*judged, *[n for n in range(100) if n not in judged][::4]})
    evaluation, step = evaluation_texts({"b": collection}, 30)
    assert step == 4
    places = [evaluation.part_of(number) for number in range(4, len(evaluation))]
    assert [part.texts[row] for part, row in places] == [rows[n][1] for n in wanted]
    passages = [(n, id_, text) for n, (id_, text) in enumerate(rows)]
    pairs = training_set(tmp_path / "set", {"en": [(0, "q", "other")]}, {"en": passages}, [(0, n) for n in range(100)])
    hits = find_hits(Index(evaluation, 8, batch=7), training_texts([pairs], 0), 0.7)
    assert [(hit.id, hit.stops) for hit in hits] == [(f"{n:04d}", n in judged) for n in wanted]
    with caplog.at_level("INFO"):
        audit.audit(AuditConfig(allow=True), [pairs], {"b": collection}, tmp_path, most_unjudged=30)
    assert f"of 100 passages ({len(wanted)} sampled) {len(wanted)} exact" in caplog.text
    record = json.loads((tmp_path / "audit.json").read_text())
    assert record["sampled_unjudged_passages"] == 4
    assert record["benchmarks"]["b"]["passages"]["looked_for"] == len(wanted)


def test_only_what_is_trained_on_is_audited(tmp_path: Path) -> None:
    question, answer = TEXTS["en"]
    queries = {"en": [(group, str(group), question if group == 1 else f"other {group}") for group in range(3)]}
    passages = {"en": [(0, "0", "nothing"), (1, "1", answer), (2, "2", FILLER["en"])]}
    pairs = training_set(tmp_path / "set", queries, passages, [(0, 0, 2)], validation=[(1, 1, 0)])
    collection = own("en")
    assert hits_of(pairs, collection) == []
    evaluation = index_of({"b": collection})
    (hit,) = find_hits(evaluation, training_texts([pairs], 1), 0.7)
    assert (hit.text, hit.training_id) == (FILLER["en"], "2")
    asked = training_set(
        tmp_path / "asked", {"en": [(0, "0", question)]}, {"en": [(0, "0", "no"), (1, "1", answer)]}, [(0, 0)], test=[(0, 1)]
    )
    assert kinds(hits_of(asked, collection)) == {("queries", "exact", False)}
    other = one_pair(tmp_path / "second", "en", ("q", "who"), ("p", answer))
    found = find_hits(evaluation, training_texts([pairs, other], 1), 0.7)
    assert [(hit.training_set, hit.training_id) for hit in found] == [("planted", "p"), ("planted", "2")]


VOCABULARY = {
    "en": ["A", "rose", "is,", "ROSE", "it's", "b"],
    "th": ["กา", "ขี่", "ไก่", "ก่", " "],
    "zh": ["山", "水", "人", "山水", "。", "X"],
    "ar": ["قَلَم", "قلم", "كتاب", "في", "،"],
}


def random_case(chance: random.Random, directory: Path) -> tuple[ParallelPairs, RetrievalCollection]:
    """A training set and a benchmark that share many words, some sentences and some ids."""

    def text(language: str) -> str:
        return " ".join(chance.choices(VOCABULARY[language], k=chance.randrange(1, 12)))

    sides: list[Side] = []
    for _ in range(2):
        sides.append(
            {
                language: [(group, f"{chance.randrange(4):x}fedcba9876543210", text(language)) for group in range(12)]
                for language in VOCABULARY
            }
        )
    pairs = training_set(directory, *sides, [(group, group) for group in range(12)])
    seen = [row for side in sides for rows in side.values() for _, _, row in rows]

    def evaluated(language: str, number: int) -> list[tuple[str, str]]:
        texts = [
            chance.choice([text(language), chance.choice(seen), f"{chance.choice(seen)} {text(language)}"])
            for _ in range(number)
        ]
        return [(f"{place:x}fedcba9876543210", one) for place, one in enumerate(texts)]

    return pairs, benchmark({one: evaluated(one, 6) for one in VOCABULARY}, {one: evaluated(one, 8) for one in VOCABULARY})


def answered(pairs: ParallelPairs, query: list[str], answer: str, size: int, threshold: float) -> bool:
    """Whether a training query with the same units has, in some language, an answer that holds `answer`, lies in it, or shares
    `threshold` of the n-grams of whichever has fewer.
    """
    least = max(1, size - len(query))
    for row, text in enumerate(pairs.queries.texts()):
        if unit_list(text) == query:
            rows = pairs.passages.rows[int(pairs.queries.groups[row])]
            for other in pairs.passages.texts(rows[rows >= 0]):
                short, long = sorted((unit_list(answer), unit_list(other)), key=len)
                runs = [long[start : start + len(short)] for start in range(len(long) - len(short) + 1)]
                left, right = grams(answer, size), grams(other, size)
                shared = bool(left and right) and len(left & right) / min(len(left), len(right)) >= threshold
                if len(short) >= least and (short in runs or shared):
                    return True
    return False


def brute_force(pairs: ParallelPairs, collection: RetrievalCollection, ngram: int, threshold: float) -> set[tuple[object, ...]]:
    """(side, language, id, kind, share, stops) of every hit, by plain comparison of everything with everything."""
    taught = {"queries": pairs.queries, "passages": pairs.passages}
    trained = [text for table in taught.values() for text in table.texts()]
    judged = len(collection.queries) // len(collection.languages)
    answers = {
        language: collection.corpus.texts[collection.corpus.rows(language)] for language in range(len(collection.languages))
    }
    found: set[tuple[object, ...]] = set()
    for side, rows in (("queries", collection.queries), ("passages", collection.corpus)):
        ids = set(taught[side].ids(range(len(taught[side]))))
        for text, id_, language in zip(rows.texts, rows.ids, rows.language.tolist(), strict=True):
            place = rows.ids[rows.rows(language)].index(id_)
            key = side, collection.languages[language], id_
            if id_ in ids:
                found.add((*key, "id", 1.0, place < judged))
            mine = unit_list(text)
            size = size_of(mine, ngram)
            if mine and any(unit_list(other) == mine for other in trained):
                near = side == "queries" and answered(pairs, mine, answers[language][place], size, threshold)
                stops = near if side == "queries" else len(mine) >= size
                found.add((*key, "exact" if text in trained else "normalised", 1.0, stops and place < judged))
            elif wanted := grams(text, size):
                share = len(wanted & set().union(*(grams(other, size) for other in trained))) / len(wanted)
                if share >= threshold:
                    found.add((*key, "ngram", share, False))
    return found


def as_set(hits: Sequence[Hit]) -> set[tuple[object, ...]]:
    return {(hit.side, hit.language, hit.id, hit.kind, hit.overlap, hit.stops) for hit in hits}


@pytest.mark.parametrize(("size", "threshold"), [(1, 1.0), (2, 0.5), (3, 0.7)])
def test_many_answers_are_the_same_where_some_two_are(size: int, threshold: float) -> None:
    def windows(run: tuple[str, ...]) -> set[tuple[str, ...]]:
        return {run[start : start + size] for start in range(len(run) - size + 1)}

    def alike(left: tuple[str, ...], right: tuple[str, ...]) -> bool:
        short, long = sorted((left, right), key=len)
        if any(long[start : start + len(short)] == short for start in range(len(long) - len(short) + 1)):
            return True
        both = windows(left), windows(right)
        return all(both) and len(both[0] & both[1]) >= threshold * min(map(len, both))

    draw, seen = random.Random(0), set()
    for _ in range(300):
        sides = [[tuple(draw.choices("abcdefgh", k=draw.randint(2, 6))) for _ in range(draw.randint(1, 4))] for _ in range(2)]
        expected = any(alike(one, other) for one in sides[0] for other in sides[1])
        wanted, held = ({"".join(f"\n{unit}" for unit in run) + "\n" for run in side} for side in sides)
        assert _same_answer(wanted, held, size, threshold) == expected
        seen.add(expected)
    assert seen == {True, False}


@pytest.mark.parametrize(("ngram", "threshold"), [(1, 1.0), (2, 0.5), (3, 0.7)])
def test_hits_are_those_of_the_brute_force(ngram: int, threshold: float, tmp_path: Path) -> None:
    seen: set[tuple[object, ...]] = set()
    for seed in range(6):
        pairs, collection = random_case(random.Random(seed), tmp_path / str(seed))
        wanted = brute_force(pairs, collection, ngram, threshold)
        found = hits_of(pairs, collection, ngram, threshold)
        assert as_set(found) == wanted
        assert len(found) == len(wanted)
        seen |= {(side, kind, stops) for side, _, _, kind, _, stops in wanted}
    assert {kind for _, kind, _ in seen} == {"exact", "normalised", "id", "ngram"}
    assert seen >= {(side, "exact", stops) for side in ("queries", "passages") for stops in (True, False)}


def test_too_many_ngrams_are_sampled_by_hash_alike_on_both_sides(tmp_path: Path) -> None:
    chance = random.Random(1)
    words = [f"w{number}" for number in range(5000)]
    texts = [" ".join(chance.choices(words, k=60)) for _ in range(60)]
    collection = benchmark(
        {"en": [(str(n), f"q{n}") for n in range(60)]}, {"en": [(str(n), text) for n, text in enumerate(texts)]}
    )
    half = [f"x {text} y" if n % 2 else " ".join(text.split()[::-1]) for n, text in enumerate(texts)]
    pairs = training_set(
        tmp_path / "set",
        {"en": [(0, "0", "z")]},
        {"en": [(n, f"p{n}", text) for n, text in enumerate(half)]},
        [(0, n) for n in range(60)],
    )
    whole = hits_of(pairs, collection)
    index = Index(evaluation_texts({"b": collection}, 1_000_000)[0], 8, most_ngrams=1000, batch=7)
    assert index.sampled == 4
    assert len(index.ngrams.hashes) <= 1000
    sampled = find_hits(index, training_texts([pairs], 0), 0.7)
    assert [hit.id for hit in sampled] == [hit.id for hit in whole] == [str(n) for n in range(1, 60, 2)]


def test_the_hash_table_finds_what_a_set_finds() -> None:
    chance = np.random.default_rng(0)
    values = chance.integers(0, 300, 100, dtype=np.uint64) << np.uint64(40)
    table = HashTable(np.unique(values))
    wanted = chance.integers(0, 300, 1000, dtype=np.uint64) << np.uint64(40)
    places, found = table.find(wanted)
    assert places.tolist() == [place for place, value in enumerate(wanted.tolist()) if value in set(values.tolist())]
    assert (table.hashes[found] == wanted[places]).all()
    assert len(HashTable(np.empty(0, np.uint64)).find(wanted)[0]) == 0


def test_what_is_written_and_what_the_error_says(tmp_path: Path) -> None:
    _, answer = TEXTS["de"]
    passages = [(0, "p6", FILLER["en"]), (1, "p7", answer)]
    pairs = training_set(tmp_path / "set", {"th": [(0, "7", "other")]}, {"th": passages}, [(0, 0), (0, 1)])
    collections = {"clean": own("zh"), "common": own("en"), "leaky": own("de")}
    with pytest.raises(InputError) as error:
        audit.audit(AuditConfig(), [pairs], collections, tmp_path)
    assert "1 of leaky" in str(error.value)
    assert "of clean" not in str(error.value)
    for part in ("passage de:0", "th:p7", "planted", "audit.allow=true", str(tmp_path / "audit.json")):
        assert part in str(error.value)
    assert "\n" not in str(error.value)
    record = json.loads((tmp_path / "audit.json").read_text())
    (tmp_path / "audit.json").unlink()
    figures = audit.audit(AuditConfig(allow=True), [pairs], collections, tmp_path)
    assert figures == {
        f"audit/{name}/{kind}": float((name, kind) in {("common", "exact"), ("leaky", "exact"), ("leaky", "stopping")})
        for name in collections
        for kind in ("exact", "normalised", "id", "ngram", "stopping")
    }
    assert audit.audited(tmp_path) == figures
    of_passages = record["benchmarks"]["leaky"]["passages"]
    assert of_passages["exact"] == 1
    assert of_passages["texts"] == 2
    assert of_passages["language_pairs"] == {"exact": {"de-th": 1}}
    assert record["benchmarks"]["leaky"]["queries"]["short"] == 1
    rows = pq.read_table(tmp_path / "audit.parquet").to_pylist()
    assert rows == record["hits"][::-1] == [dataclasses.asdict(hit) for hit in hits_of_all(pairs, collections)]
    assert audit.audit(AuditConfig(), [pairs], {"clean": own("zh")}, tmp_path)["audit/clean/exact"] == 0
    assert pq.read_table(tmp_path / "audit.parquet").num_rows == 0


def hits_of_all(pairs: ParallelPairs, collections: dict[str, RetrievalCollection]) -> list[Hit]:
    return find_hits(index_of(collections), training_texts([pairs], 0), 0.7)


def write_beir(
    folder: Path, language: str, queries: dict[str, str], corpus: dict[str, str], **qrels: list[tuple[str, str]]
) -> None:
    """One language of a set in BEIR's files."""
    (folder / language / "qrels").mkdir(parents=True)
    for name, rows in (("queries", queries), ("corpus", corpus)):
        lines = [json.dumps({"_id": id_, "text": text}) for id_, text in rows.items()]
        (folder / language / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    for split, pairs in qrels.items():
        lines = ["query-id\tcorpus-id\tscore", *(f"{query}\t{passage}\t1" for query, passage in pairs)]
        (folder / language / "qrels" / f"{split}.tsv").write_text("\n".join(lines) + "\n")


RUN = [
    *(item for item in SMALL if not item.startswith("dataset")),
    "dataset=beir_parallel",
    "sampler=x_x",
    "trainer.max_steps=2",
    "dataset.validation_share=0",
]


def leaky(tmp_path: Path) -> None:
    """A set of which a test passage is a training passage in capitals."""
    chance = random.Random(0)
    words = [f"{chance.choice('bdfgk')}{chance.choice('aeiou')}{number}" for number in range(300)]
    corpus = {f"p{n}": " ".join(chance.choices(words, k=20)) for n in range(60)}
    queries = {f"q{n}": " ".join(text.split()[:3]) for n, text in enumerate(corpus.values())}
    train, test = [(f"q{n}", f"p{n}") for n in range(40)], [(f"q{n}", f"p{n}") for n in range(40, 60)]
    write_beir(tmp_path / "leaky", "en", queries, corpus | {"p3": corpus["p47"].upper()}, train=train, test=test)


def test_a_leaky_set_stops_the_run(in_process: Command, tmp_path: Path) -> None:
    leaky(tmp_path)
    stopped = in_process("run", *RUN, "dataset.path=leaky", "hydra.run.dir=run")
    assert_one_line(stopped, "1 of held_out", "en:p47", "en:p3", "audit.allow=true")
    assert json.loads((tmp_path / "run" / "audit.json").read_text())["benchmarks"]["held_out"]["passages"]["normalised"] == 1
    assert not (tmp_path / "run" / "config.yaml").exists()


@pytest.mark.slow
def test_a_leaky_set_that_is_allowed_is_said_and_counted(command: Command, tmp_path: Path) -> None:
    leaky(tmp_path)
    done = command("run", *RUN, "dataset.path=leaky", "hydra.run.dir=run", "audit.allow=true")
    assert done.returncode == 0, done.stderr
    assert "of 20 passages 1 normalised; 1 of them leaked" in done.stderr
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["audit/held_out/stopping"] == metrics["audit/held_out/normalised"] == 1


def xquad(languages: list[str]) -> RetrievalCollection:
    if not DATA or not (Path(DATA) / "xquad-r").is_dir():
        pytest.skip("xquad-r is not in HYBRID_RETRIEVAL_DATA")
    return Lareqa(PathsConfig(data=DATA), "xquad_r", languages).load()


def squad_dev(folder: Path, language: str, renumber: bool) -> None:
    """XQuAD's paragraphs and questions as a training set, as SQuAD's dev set is."""
    assert DATA
    queries: dict[str, str] = {}
    corpus: dict[str, str] = {}
    judged: list[tuple[str, str]] = []
    for article in json.loads((Path(DATA) / "xquad-r" / f"{language}.json").read_text())["data"]:
        for paragraph in article["paragraphs"]:
            corpus[str(len(corpus))] = paragraph["context"]
            for question in paragraph["qas"]:
                id_ = str(len(queries)) if renumber else question["id"]
                queries[id_] = question["question"]
                judged.append((id_, str(len(corpus) - 1)))
    write_beir(folder, language, queries, corpus, train=judged)


@pytest.mark.parametrize("language", ["en", *(pytest.param(one, marks=pytest.mark.slow) for one in ("th", "zh", "ar"))])
def test_xquad_is_found_in_the_set_that_it_comes_from(language: str, tmp_path: Path) -> None:
    collection = xquad(["de", "en", language])
    squad_dev(tmp_path / "set", language, renumber=True)
    pairs = BeirPairs(PathsConfig(cache=str(tmp_path / "cache")), path=str(tmp_path / "set"), validation_share=0).pairs()
    found = hits_of(pairs, collection)
    queries = [hit for hit in found if hit.side == "queries" and hit.stops]
    assert {hit.language for hit in queries} == {language}
    asked = [hit for hit in found if hit.side == "queries" and hit.language == language]
    assert len(asked) == 1190
    assert len(queries) >= 1189  # every answer is a sentence of the paragraph; one in Chinese is too short, with its question
    index = index_of({"b": collection})
    rows = collection.corpus.rows(collection.languages.index(language))
    long = index.long[index.evaluation.parts[1].start :][rows]
    ids = {hit.id for hit in found if hit.side == "passages" and hit.language == language}
    assert ids >= {id_ for id_, one in zip(collection.corpus.ids[rows], long, strict=True) if one}


def test_xquad_stops_a_run_on_squads_dev_set_by_its_ids(in_process: Command, tmp_path: Path) -> None:
    xquad(["en"])
    squad_dev(tmp_path / "dev", "en", renumber=False)
    run = [item for item in RUN if not item.startswith("benchmark")]
    stopped = in_process(
        "run",
        *run,
        f"paths.data={DATA}",
        "dataset.path=dev",
        "benchmark=xquad_r",
        "benchmark.xquad_r.languages=[de,en]",
        "hydra.run.dir=r",
    )
    assert_one_line(stopped, "of xquad_r", "audit.allow=true")
    record = json.loads((tmp_path / "r" / "audit.json").read_text())["benchmarks"]["xquad_r"]
    assert record["queries"]["id"] == 2 * 1190
    assert record["queries"]["language_pairs"]["id"] == {"de-en": 1190, "en-en": 1190}
    assert record["queries"]["exact"] + record["queries"]["normalised"] == 1190  # the reader strips space
    assert record["queries"]["exact"] > 1100


@pytest.mark.slow
def test_squads_training_set_does_not_stop_a_run_on_xquad(tmp_path: Path) -> None:
    collection = xquad(["de", "en", "zh"])
    assert DATA
    if not (Path(DATA) / "squad2-parallel").is_dir():
        pytest.skip("squad2-parallel is not in HYBRID_RETRIEVAL_DATA")
    source = BeirPairs(PathsConfig(data=DATA, cache=str(tmp_path)), path="squad2-parallel", languages=["en"])
    found = hits_of(source.pairs(), collection)
    assert [(hit.side, hit.kind, hit.text, hit.stops) for hit in found] == [
        ("queries", "exact", "What was the average family size?", False)
    ]
