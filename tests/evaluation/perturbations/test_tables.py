"""The tables of perturbations: their laws, facts that anyone can check on a keyboard, and that the script makes them."""

from __future__ import annotations

import json
import os
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.evaluation.perturbations.examples import page
from hybrid_retrieval.evaluation.perturbations.tables import generate
from hybrid_retrieval.evaluation.perturbations.tables.generate import kind, script

FOLDER = Path(generate.__file__).parent
DATA = Path(os.environ.get("HYBRID_RETRIEVAL_DATA", "nowhere"))
NAMES = ("keyboards", "homoglyphs", "function_words")


def table(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return content


@pytest.mark.parametrize("name", NAMES)
def test_a_table_stands_as_it_is_written_in_order(name: str) -> None:
    assert (FOLDER / f"{name}.json").read_text(encoding="utf-8") == generate.written(table(name))


def test_the_folder_is_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir() if path.is_file()) < 150_000


@pytest.mark.parametrize("language", sorted(table("keyboards")))
def test_neighbours_are_mutual_and_of_one_kind(language: str) -> None:
    neighbours = table("keyboards")[language]
    assert len(neighbours) >= 20
    for letter, others in neighbours.items():
        assert others
        assert len(set(others)) == len(others)
        for other in others:
            assert letter != other
            assert letter in neighbours[other], (letter, other)
            assert len(letter) == len(other) == 1
            assert unicodedata.normalize("NFC", letter + other) == letter + other
            assert unicodedata.category(letter)[0] == unicodedata.category(other)[0]
            assert unicodedata.category(letter)[0] in "LM"
            assert kind(letter) == kind(other) is not None
    assert len({script(letter) for letter in neighbours}) == 1


@pytest.mark.parametrize(
    ("language", "letter", "others"),
    [
        ("en", "q", "wa"),
        ("en", "g", "fhtyvb"),
        ("de", "a", "qwsy"),
        ("de", "z", "tugh"),
        ("fr", "q", "aswz"),
        ("fr", "é", "az"),
        ("es", "ñ", "lp"),
        ("cs", "ě", "qwš"),
        ("ru", "й", "цф"),
        ("el", "σ", "αδςεζχ"),
        ("he", "ש", "דז"),
        ("tr", "ü", "ği"),
        ("ko", "ㅅ", "ㄱㄹㅎ"),  # and not ㅛ beside it, which is a vowel
        ("ko", "ㅛ", "ㅕㅗ"),
        ("th", "่", "้"),  # tone marks; the letters between which they lie are none
    ],
)
def test_neighbours_are_those_of_the_keyboard(language: str, letter: str, others: str) -> None:
    assert set(table("keyboards")[language][letter]) == set(others)


def test_what_is_beside_on_one_layout_is_far_on_another() -> None:
    keyboards = table("keyboards")
    assert "y" in keyboards["en"]["t"]
    assert "y" not in keyboards["de"]["t"]
    assert not set("़्") & {*keyboards["hi"]}, "a virama or nukta is no vowel sign"


def test_homoglyphs_differ_in_script_and_not_in_case() -> None:
    homoglyphs = table("homoglyphs")
    assert len(homoglyphs) > 200
    for letter, others in homoglyphs.items():
        assert others
        scripts = [script(text) for text in (letter, *others)]
        assert None not in scripts
        assert len(set(scripts)) == len(scripts), letter
        for text in (letter, *others):
            assert len(text) == 1
            assert text <= "\uffff"
            assert unicodedata.normalize("NFC", text) == text
            assert unicodedata.category(text)[0] == "L"
        cases = {unicodedata.category(text) for text in (letter, *others)}
        assert not {"Lu", "Ll"} <= cases or unicodedata.category(letter) not in {"Lu", "Ll"}, letter


@pytest.mark.parametrize(("letter", "others"), [("a", "αа"), ("O", "ΟОՕ"), ("р", "pρ"), ("Ν", "N"), ("о", "oοօ"), ("ヘ", "へ")])
def test_homoglyphs_are_those_of_unicode(letter: str, others: str) -> None:
    assert table("homoglyphs")[letter] == others


@pytest.mark.parametrize("language", sorted(table("function_words")))
def test_function_words_are_single_lowercase_words(language: str) -> None:
    words = table("function_words")[language]
    assert 15 <= len(words) <= 60
    assert len(set(words)) == len(words)
    for word in words:
        assert word
        assert word == unicodedata.normalize("NFC", word.lower())
        assert not any(character.isspace() for character in word)


def test_function_words_come_by_frequency() -> None:
    words = table("function_words")
    assert words["en"][0] == "the"
    assert {"der", "die", "und"} <= set(words["de"][:10])
    assert {"и", "в", "не"} <= set(words["ru"][:10])
    assert not {"ja", "th", "zh"} & {*words}, "they are written without spaces"


@pytest.mark.parametrize(("name", "file"), [("keyboards", "xkb-symbols.tar.xz"), ("homoglyphs", "confusables.json.gz")])
def test_the_script_makes_the_table_from_its_source(name: str, file: str) -> None:
    source = DATA / "noise-tables" / file
    if not source.exists():
        pytest.skip(f"noise-tables/{file} is not in HYBRID_RETRIEVAL_DATA")
    assert getattr(generate, name)(source) == table(name)


def test_function_words_stand_in_enough_sentences_most_frequent_first(tmp_path: Path) -> None:
    (tmp_path / "ntrex-128").mkdir()
    (tmp_path / "ntrex-128" / "newstest2019-ref.deu.txt").write_text("Das Haus\n", encoding="utf-8")
    lines = ["The house, and THE «of» garden."] * 3 + ["the yard"] * 296 + ["Rare of"]
    (tmp_path / "ntrex-128" / "newstest2019-src.eng.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    stopwords = tmp_path / "stopwords-iso.json"
    stopwords.write_text(json.dumps({"en": ["and", "The", "of", "rare", "in"], "de": ["Das"], "ja": ["の"]}), encoding="utf-8")
    assert generate.function_words(stopwords, tmp_path) == {"de": ["das"], "en": ["the", "of", "and"]}


def test_a_source_that_is_not_there_is_said_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert generate.main([str(tmp_path), str(tmp_path / "words.json"), str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {tmp_path / 'xkb-symbols.tar.xz'} cannot be read")


@pytest.mark.slow
def test_the_page_of_examples_is_what_the_perturbations_do() -> None:
    if not (DATA / "omw-lexicon").is_dir():
        pytest.skip("omw-lexicon is not in HYBRID_RETRIEVAL_DATA")
    shown = (Path(__file__).parents[3] / "docs" / "reference" / "perturbations.md").read_text(encoding="utf-8")
    assert shown == "\n".join(page(PathsConfig())) + "\n"
