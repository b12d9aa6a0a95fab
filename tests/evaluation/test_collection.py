"""Collections: judgements by row equal a brute force over ids, for corpora in memory and on disk."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest

from hybrid_retrieval.data.stored_texts import Passages, StoredTexts, write_passages
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.evaluation.collection import RetrievalCollection, join, without_space

LANGUAGES = ("ar", "de", "zh")


def rows(rng: np.random.Generator, prefix: str, largest: int) -> dict[str, list[tuple[str, str]]]:
    """Ids that languages share in part, in an order of each language's own."""
    return {
        language: [
            (f"{prefix}{number}", f"{language} {prefix}{number}") for number in rng.permutation(largest)[: 2 * largest // 3]
        ]
        for language in LANGUAGES
    }


def named(collection: RetrievalCollection) -> dict[tuple[str, str], int]:
    queries, documents = collection.full_ids(collection.queries), collection.full_ids(collection.corpus)
    found = zip(collection.query.tolist(), collection.document.tolist(), collection.grade.tolist(), strict=True)
    assert (np.diff(collection.query * len(documents) + collection.document) > 0).all()
    return {(queries[query], documents[document]): grade for query, document, grade in found}


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_judgements_by_id_equal_a_brute_force(seed: int, stored: bool, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    queries, corpus = rows(rng, "q", 30), rows(rng, "p", 40)
    judgements = {
        (asked, answered): [
            (query, document, int(rng.integers(-1, 4))) for query, _ in queries[asked] for document, _ in corpus[answered][::-7]
        ]
        for asked in LANGUAGES
        for answered in LANGUAGES
        if asked <= answered
    }
    expected = {
        (f"{asked}:{query}", f"{answered}:{document}"): grade
        for (asked, answered), judged in judgements.items()
        for query, document, grade in judged
        if grade > 0
    }
    collection = RetrievalCollection.build("x", queries, on_disk(tmp_path, corpus) if stored else corpus, judgements, ("map",))
    assert named(collection) == expected
    assert collection.measures == ("map",)
    assert isinstance(collection.corpus.texts, StoredTexts) == stored
    assert list(collection.corpus.texts) == [text for language in LANGUAGES for _, text in corpus[language]]


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_answers_hold_for_the_translations_of_a_query(seed: int, stored: bool, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    queries, corpus = rows(rng, "q", 30), rows(rng, "p", 40)
    # Of queries that this language lacks, and that no language has, too.
    answers = {
        language: [
            (f"q{number}", document, int(rng.integers(0, 3))) for number in range(35) for document, _ in corpus[language][::-9]
        ]
        for language in LANGUAGES[1:]
    }
    expected = {
        (f"{asked}:{query}", f"{answered}:{document}"): grade
        for answered, judged in answers.items()
        for query, document, grade in judged
        for asked in LANGUAGES
        if grade > 0 and query in dict(queries[asked])
    }
    collection = RetrievalCollection.parallel("x", queries, on_disk(tmp_path, corpus) if stored else corpus, answers)
    assert named(collection) == expected


def on_disk(folder: Path, corpus: dict[str, list[tuple[str, str]]]) -> dict[str, Passages]:
    for language, passages in corpus.items():
        (folder / language).mkdir()
        write_passages(folder / language, passages, language)
    return {language: Passages.open(folder / language) for language in corpus}


@pytest.mark.parametrize("stored", [False, True])
def test_what_does_not_fit_is_an_error(stored: bool, tmp_path: Path) -> None:
    queries, corpus = {"de": [("q", "Q")]}, {"de": [("p", "P")]}
    chosen = on_disk(tmp_path, corpus) if stored else corpus
    with pytest.raises(InputError, match=r"x: a judgement names de:p2, which is not there"):
        RetrievalCollection.build("x", queries, chosen, {("de", "de"): [("q", "p", 1), ("q", "p2", 1)]})
    with pytest.raises(InputError, match=r"x: a judgement names de:q2, which is not there"):
        RetrievalCollection.build("x", queries, chosen, {("de", "de"): [("q2", "p", 1)]})
    with pytest.raises(InputError, match=r"x: a judgement names fr:p, which is not there"):
        RetrievalCollection.build("x", queries, chosen, {("de", "fr"): [("q", "p", 1)]})
    with pytest.raises(InputError, match=r"x: an answer names de:p2, which is not there"):
        RetrievalCollection.parallel("x", queries, chosen, {"de": [("q", "p2", 1)]})
    with pytest.raises(InputError, match=r"x: document p is judged twice"):
        RetrievalCollection.build("x", queries, chosen, {("de", "de"): [("q", "p", 1), ("q", "p", 2)]})
    more = {"de": chosen["de"], "en": [("a", "A")]}
    apart = {("de", "de"): [("q", "p", 1)], ("de", "en"): [("q", "a", 1), ("q", "a", 1)]}
    with pytest.raises(InputError, match=r"x: document a is judged twice"):
        RetrievalCollection.build("x", queries, more, apart)
    with pytest.raises(InputError, match=r"x: id de:q occurs twice"):
        RetrievalCollection.build("x", {"de": [("q", "Q"), ("r", "R"), ("q", "Q")]}, chosen, {})
    # A document that is judged not relevant need not be there.
    assert not len(RetrievalCollection.build("x", queries, chosen, {("de", "de"): [("q", "p2", 0)]}).query)


def test_join_pairs_all_places_of_the_same_number() -> None:
    rng = np.random.default_rng(0)
    for size in (0, 1, 50):
        left, right = rng.integers(-1, 9, size), rng.integers(-1, 9, size + 7)
        expected = [(i, j) for i, one in enumerate(left) for j, other in enumerate(right) if one == other >= 0]
        assert list(zip(*(side.tolist() for side in join(left, right)), strict=True)) == expected


def test_ids_stay_apart_and_without_space_and_most_stay_as_they_are() -> None:
    """All texts of up to four parts of spellings, and every space that Python splits at."""
    parts = ["%", "25", "20", " ", "%20", "\u2003", "%E2%80%83", "C2%A0", "\u00a0"]
    ids = {"".join(chosen) for count in range(1, 5) for chosen in itertools.product(parts, repeat=count)}
    spaces = {f"a{chr(code)}b" for code in range(sys.maxunicode + 1) if chr(code).isspace()}
    for group in (ids, spaces | {quote(id_) for id_ in spaces}):
        spelt = {without_space(id_) for id_ in group}
        assert len(spelt) == len(group)
        assert all(len(one.split()) == 1 for one in spelt)
    for id_ in ("doc#1", "100%", "5%_off", "S%C3%A3o_Paulo", "%", "%%", "a%2Fb"):
        assert without_space(id_) == id_
    assert [without_space(id_) for id_ in ("p 1", "p%201", "p%25")] == ["p%201", "p%25201", "p%2525"]


@pytest.mark.parametrize("stored", [False, True])
def test_ties_are_in_the_order_of_the_ids_that_are_written(stored: bool, tmp_path: Path) -> None:
    ids = ["p%201", "p%21", "p%2", "p%25", "p%2501"]
    corpus = {"de": [(id_, id_) for id_ in ids]}
    collection = RetrievalCollection.build("x", {"de": []}, on_disk(tmp_path, corpus) if stored else corpus, {})
    written = collection.full_ids(collection.corpus)
    assert [written[row] for row in np.argsort(collection.tie_order)] == sorted(written)
    assert sorted(written) != [f"de:{id_}" for id_ in sorted(ids)]
    assert [ids[row] for row in np.argsort(collection.tie_order)] != sorted(ids)


def test_a_cluster_is_what_groups_connect_and_by_default_a_question() -> None:
    rows = {"de": [("a", ""), ("b", ""), ("c", ""), ("d", "")], "en": [("b", ""), ("e", "")]}
    corpus = {"de": [("0", "")]}
    collection = RetrievalCollection.build("clusters", rows, corpus, {("de", "de"): [("a", "0", 1)]})
    assert list(collection.clusters) == ["a", "b", "c", "d", "b", "e"]
    assert list(collection.clustered([["a", "b"], ["e", "b"], ["nowhere", "d"]]).clusters) == ["a", "a", "c", "d", "a", "a"]
    pages = {"de": [("x#1#y", ""), ("x#1#z", ""), ("x", ""), ("#", "")]}
    named = RetrievalCollection.build("pages", pages, corpus, {("de", "de"): [("x", "0", 1)]})
    assert list(named.clustered_before("#").clusters) == ["x#1#y", "x#1#y", "x", "#"]
