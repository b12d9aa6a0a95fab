"""Attacks by scores: the laws of their budgets, greedy search against brute force, and what they take from whom."""

from __future__ import annotations

import hashlib
import lzma
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import regex

from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.evaluation.attack import (
    CANDIDATES,
    FIRST,
    SUCCESS,
    Attack,
    Attacked,
    Change,
    answered,
    applied,
    at_random,
    attack,
    by_scores,
    known,
    lost,
    margins,
    sampled,
    settings,
)
from hybrid_retrieval.evaluation.collection import RetrievalCollection
from hybrid_retrieval.evaluation.language_pairs import LanguagePair
from hybrid_retrieval.evaluation.protocol import Wanted, evaluate
from hybrid_retrieval.evaluation.retrievers.bm25 import BM25
from hybrid_retrieval.evaluation.retrievers.dense import Dense
from hybrid_retrieval.evaluation.retrievers.retriever import Retriever
from hybrid_retrieval.evaluation.synonyms import Synonyms

WORDS = [
    "casa",
    "Haus",
    "Wasser",
    "Straße",
    "mountain",
    "river",
    "naïve",
    "garden",
    "window",
    "winter",
    "2015",
    "letter",
    "the",
]
LANGUAGES = ["de", "en", "es"]
LETTERS = ["swap", "drop", "keyboard"]
SETTINGS = ["monolingual", "crosslingual", "multilingual"]


class Hashed:
    """Bags of hashed words and of their letters."""

    def __init__(self, salt: str = "") -> None:
        self.salt, self.calls = salt, []

    def encode(self, texts: Sequence[str], role: str, label: str = "") -> np.ndarray:
        if role == "query":
            self.calls.append(len(texts))
        return np.array([self.of(text) for text in texts], np.float32).reshape(len(texts), 16)

    def of(self, text: str) -> np.ndarray:
        rows = [np.zeros(16)]
        for word in text.split():
            for part, weight in ((word, 1.0), *((letter, 0.2) for letter in word)):
                rows.append(weight * drawn(self.salt + part))
        return np.sum(rows, axis=0)


@cache
def drawn(part: str) -> np.ndarray:
    return np.random.default_rng(int(hashlib.md5(part.encode()).hexdigest()[:8], 16)).normal(size=16)


@pytest.fixture(scope="module")
def collection() -> RetrievalCollection:
    rng = np.random.default_rng(3)
    shared = [[*rng.choice(WORDS, 5)] for _ in range(30)]
    passages = {
        language: [(f"{at}", " ".join([*words, *rng.choice(WORDS, 1)])) for at, words in enumerate(shared)]
        for language in LANGUAGES
    }
    queries = {language: [(f"{at}", " ".join(shared[at][:4])) for at in range(12)] for language in LANGUAGES}
    answers = {language: [(str(at), str(at), 1) for at in range(12)] for language in LANGUAGES}
    whole = RetrievalCollection.parallel("made", queries, passages, answers)
    return sampled(whole.clustered([[f"{at}", f"{at + 1}"] for at in range(0, 12, 2)]), LANGUAGES, None, 0)


def letters(**changes: object) -> Attack:
    return replace(Attack([CANDIDATES[name](PathsConfig()) for name in LETTERS], words=3, variants=40), **changes)


def attacks(retriever: Retriever, collection: RetrievalCollection, how: Attack) -> dict[str, list[Attacked]]:
    index = retriever.index(collection)
    return {
        setting: attack(by_scores(retriever, index, part), part, setting, how)
        for setting, part in settings(collection, SETTINGS, "en")
    }


RETRIEVERS: list[Callable[[], Retriever]] = [lambda: Dense(Hashed()), BM25]


@pytest.mark.parametrize("make", RETRIEVERS, ids=["dense", "bm25"])
def test_no_word_is_no_attack_and_more_words_never_help_a_query(make: Callable[[], Retriever], collection) -> None:
    retriever = make()
    index = retriever.index(collection)
    whole = evaluate(retriever, collection)
    for setting, part in settings(collection, SETTINGS, "en"):
        found = attack(by_scores(retriever, index, part), part, setting, letters())
        rows = {"monolingual": 36, "crosslingual": 24, "multilingual": 36}[setting]
        assert len(found) == rows
        assert any(len(query.made[3]) == 3 for query in found)
        was = answered(retriever, index, part, setting, {})
        for pair in was:
            languages = pair.name if setting != "multilingual" else pair.query_language
            assert pair.mean("map") == pytest.approx(whole.figures.value("made", setting, "map", languages), abs=1e-12)
        firsts = [first(was)]
        assert [query.texts[0] for query in found] == [part.queries.texts[query.row] for query in found]
        for words in (1, 2, 3):
            after = answered(retriever, index, part, setting, {query.row: query.texts[words] for query in found})
            firsts.append(first(after))
            assert all(firsts[-1][key] <= firsts[-2][key] for key in firsts[0])
        assert sum(firsts[-1].values()) < sum(firsts[0].values())
        for query in found:
            assert query.margins == sorted(query.margins, reverse=True)
            for words, text in enumerate(query.texts):
                assert (query.margins[words] > 0) <= (firsts[words][query.view.query_language, query.row] == 1)
                assert len(query.made[words]) <= words
                differ(query.texts[0], text, words)


def first(pairs: Sequence[LanguagePair]) -> dict[tuple[str, int], float]:
    """Whether a relevant passage is first, by query language and row."""
    return {
        (one.query_language, row): value
        for one in pairs
        for row, value in zip(one.queries.tolist(), one.values[FIRST].tolist(), strict=True)
    }


def differ(clean: str, text: str, words: int) -> None:
    """At most so many words, none of them a number, a function word or a short one."""
    both = list(zip(clean.split(), text.split(), strict=True))
    changed = [old for old, new in both if old != new]
    assert len(changed) <= words
    assert not {*changed} & {"2015", "the"}


def test_one_word_is_the_best_of_all_candidates(collection: RetrievalCollection) -> None:
    retriever = Dense(encoder := Hashed())
    how = letters(words=1, variants=1000)
    for setting, part in settings(collection, SETTINGS, "en"):
        for query in attack(by_scores(retriever, retriever.index(part), part), part, setting, how):
            clean, language = query.texts[0], query.view.query_language
            documents = query.view.documents
            rows = np.array([encoder.of(text) for text in part.corpus.texts[documents]])
            right = np.isin(np.arange(documents.start, documents.stop), part.document[part.query == query.row])

            def margin(text: str, rows: np.ndarray = rows, right: np.ndarray = right) -> float:
                scores = rows @ encoder.of(text)
                return float(scores[right].max() - scores[~right].max())

            every = [applied(clean, [one]) for one in how.changes(clean, language, part.queries.ids[query.row])]
            assert query.scored == len(every)
            assert query.margins == pytest.approx([margin(clean), min(map(margin, [clean, *every]))], abs=1e-4)
            assert margin(query.texts[1]) == pytest.approx(query.margins[1], abs=1e-4)


def test_every_word_of_four_letters_has_candidates(collection: RetrievalCollection) -> None:
    how = letters()
    text = "the River AFC naïve 2015 Web2Haus von Straße"
    touched = {text[one.start : one.stop] for one in how.changes(text, "de", "1")}
    assert touched == {"River", "naïve", "Straße"}
    assert {one.kind for one in how.changes(text, "de", "1")} == {*LETTERS}
    assert not how.changes("12 AFC ?", "de", "1")
    thai = Attack([CANDIDATES["swap"](PathsConfig())]).changes("ทีมบรอนคอส", "th", "1")
    assert all(len(regex.findall(r"\X", "ทีมบรอนคอส"[one.start : one.stop])) == 2 for one in thai)


@pytest.mark.parametrize(("words", "variants"), [(1, 1), (3, 1), (3, 7), (2, 40), (4, 1000)])
def test_no_more_variants_are_scored_than_the_budget_allows(words: int, variants: int, collection: RetrievalCollection) -> None:
    retriever = Dense(encoder := Hashed())
    index = retriever.index(collection)
    for setting, part in settings(collection, SETTINGS, "en"):
        encoder.calls.clear()
        found = attack(by_scores(retriever, index, part), part, setting, letters(words=words, variants=variants))
        assert sum(encoder.calls) == len(found) + sum(query.scored for query in found)
        assert 0 < max(query.scored for query in found) <= variants
        views = len({query.view.query_language for query in found})
        assert len(encoder.calls) <= views * (words + 1)  # one call a word for all queries of a block


def test_an_attack_takes_from_its_own_encoder_what_it_says_and_less_from_others(collection: RetrievalCollection) -> None:
    one, two = Dense(Hashed()), Dense(Hashed("another"))
    [(setting, part)] = settings(collection, ["multilingual"], "en")
    index = {of: of.index(part) for of in (one, two)}
    found = attack(by_scores(one, index[one], part), part, setting, letters())
    blind = attack(at_random(), part, setting, letters())
    taken = {}
    for name, led in (("one", found), ("blind", blind)):
        texts = {query.row: query.texts[3] for query in led}
        for of in (one, two):
            clean, after = (answered(of, index[of], part, setting, given) for given in ({}, texts))
            rows = lost(part, name, 3, clean, after, {*texts}, Wanted((), 200))
            taken[name, of] = {row.measure.name: row for row in rows if row.query_language is None}
    own = taken["one", one]["map"]
    mine = [query for query in found if query.view == found[0].view]
    again = margins(one, index[one], part, mine[0].view, [query.row for query in mine], [query.texts[3] for query in mine])
    assert again == pytest.approx([query.margins[3] for query in mine], abs=1e-5)
    assert own.low <= own.difference <= own.high < 0
    assert own.difference < taken["one", two]["map"].difference
    assert own.difference < taken["blind", one]["map"].difference
    was = {query.row: query.margins[0] > 0 for query in found}
    per_language = [
        np.mean([query.margins[3] < 0 for query in found if query.view.query_language == language and was[query.row]])
        for language in LANGUAGES
        if any(was[query.row] for query in found if query.view.query_language == language)
    ]
    assert taken["one", one][SUCCESS].perturbed == pytest.approx(np.mean(per_language), abs=1e-12)
    assert taken["one", one][SUCCESS].clean == 0


def test_the_same_seed_gives_the_same_attack(collection: RetrievalCollection) -> None:
    texts = [
        [query.texts for of in attacks(Dense(Hashed()), collection, letters(variants=9, seed=seed)).values() for query in of]
        for seed in (1, 1, 2)
    ]
    assert texts[0] == texts[1] != texts[2]


def test_a_judge_is_obeyed(collection: RetrievalCollection) -> None:
    judge = Hashed("judge")

    def cosine(a: str, b: str) -> float:
        left, right = judge.of(a), judge.of(b)
        return float(left @ right / np.linalg.norm(left) / np.linalg.norm(right))

    free = attacks(Dense(Hashed()), collection, letters())["monolingual"]
    held = attacks(Dense(Hashed()), collection, letters(judge=judge, similarity=0.9))["monolingual"]
    assert min(cosine(query.texts[0], text) for query in held for text in query.texts) >= 0.9 - 1e-6
    assert min(cosine(query.texts[0], text) for query in free for text in query.texts) < 0.9
    assert any(query.made[3] for query in held)
    assert all(
        not query.made[3] for query in attacks(Dense(Hashed()), collection, letters(judge=judge, similarity=1.0))["monolingual"]
    )


def test_synonyms_are_words_of_one_meaning_in_their_case(tmp_path: Path) -> None:
    (tmp_path / "omw-lexicon").mkdir()
    rows = {"eng": "01-n\tgarden|yard\n02-n\twindow|pane of glass\n03-n\tgarden|plot\n", "spa": "01-n\tjardín\n02-n\tventana\n"}
    rows["cmn"] = "01-n\t花园|园+子\n02-n\t窗户\n"
    for language, text in rows.items():
        (tmp_path / "omw-lexicon" / f"{language}.tsv.xz").write_bytes(lzma.compress(text.encode()))
    synonyms = Synonyms(PathsConfig(data=str(tmp_path), cache=str(tmp_path / "cache")))
    how = Attack([synonyms])

    def made(text: str, language: str) -> set[str]:
        return {applied(text, [one]) for one in how.changes(text, language, "1")}

    assert made("A garden WINDOW", "en") == {"A yard WINDOW", "A plot WINDOW", "A garden PANE OF GLASS"}
    assert made("Garden", "en") == {"Yard", "Plot"}
    assert made("在花园里", "zh") == {"在园子里"}
    assert not made("jardín", "es")
    assert [synonyms.knows(language) for language in ("en", "zh", "es", "de")] == [True, True, False, False]


def test_a_sample_asks_the_same_questions_in_every_language(collection: RetrievalCollection) -> None:
    part = sampled(collection, ["de", "es"], 5, 1)
    ids = [[part.queries.ids[row] for row in range(len(part.queries)) if part.queries.language[row] == at] for at in (0, 1, 2)]
    assert ids[0] == ids[2]
    assert [*map(len, ids)] == [5, 0, 5]
    assert ids[0] != [*sampled(collection, ["de"], 5, 2).queries.ids]
    assert known([CANDIDATES["keyboard"](PathsConfig())], collection) == {language: ["keyboard"] for language in LANGUAGES}


def test_changes_come_back_in_any_order() -> None:
    changes = [Change(0, 3, "ONE", "a"), Change(8, 13, "3", "b")]
    assert applied("one two three", changes) == applied("one two three", changes[::-1]) == "ONE two 3"
