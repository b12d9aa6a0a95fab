"""Texts with one thing wrong: the same thing in every script, spelling and language, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from hybrid_retrieval.data.wrong_copies import NEGATION, Names, negated, numbers, years
from hybrid_retrieval.errors import InputError

SCRIPTS = {"arab": 0x660, "deva": 0x966, "beng": 0x9E6, "latn": 0x30}


def in_script(text: str, zero: int) -> str:
    return "".join(chr(zero + int(one)) if one.isdecimal() else one for one in text)


def ascii_digits(text: str) -> str:
    return "".join(str(int(one)) if one.isdecimal() else one for one in text)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_number_changes_in_one_digit_and_alike_in_every_script(seed: int, script: str) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(60):
        found = [str(number) for number in rng.integers(0, 10 ** int(rng.integers(1, 7)), 3)]
        plain = f"a {found[0]} b {found[1]}% c {found[0]} ({found[2]})"
        for changes in (numbers, years):
            expected = dict(changes(plain, seed))
            made = dict(changes(in_script(plain, SCRIPTS[script]), seed))
            assert {what: ascii_digits(text) for what, text in made.items()} == expected
            for what, text in expected.items():
                pairs = zip(re.findall(r"\d+", plain), re.findall(r"\d+", text), strict=True)
                for before, after in pairs:
                    differ = [one != other for one, other in zip(before, after, strict=True)]
                    assert sum(differ) == (before == what)
                    assert after == before or before == "0" or len(after) == 1 or not after.startswith("0")
                assert re.sub(r"\d+", "", text) == re.sub(r"\d+", "", plain)


def test_numbers_are_the_same_however_their_digits_are_grouped() -> None:
    made = [
        dict(numbers(text, 5))
        for text in ("It has 1,234,567 rows.", "Es hat 1.234.567 Zeilen.", "Il a 1\u202f234\u202f567 lignes.")
    ]
    digits = [re.sub(r"\D", "", one["1234567"]) for one in made]
    assert len({*digits}) == 1
    assert digits[0] != "1234567"
    assert made[1]["1234567"].count(".") == 3
    assert not list(numbers("H2O, B2B, the 19th and v1.2b", 0))
    assert [what for what, _ in years("in 1967, 1,967 men and 2500", 0)] == ["1967"]
    assert [what for what, _ in numbers("in 1967, 1,967 men and 2500", 0)] == ["1967", "2500"]
    assert [what for what, _ in years("1967年", 0)] == ["1967"]
    assert dict(numbers("7 of 7", 0)) != dict(numbers("7 of 7", 1)) or dict(numbers("7 of 7", 0)) != dict(numbers("7 of 7", 2))


def test_a_decimal_is_no_thousand_and_the_same_in_every_spelling() -> None:
    for text in ("He paid 3.5 dollars for 35 apples.", "Er zahlte 3,5 Dollar für 35 Äpfel."):
        made = dict(numbers(text, 2))
        assert [*made] == ["3.5", "35"]
        assert made["3.5"].count("35") == 1
        assert re.search(r"3[.,]5", made["35"])
    assert [*dict(numbers("It has 1,00,000 rows, or 100,000", 0))] == ["100000"]
    assert [*dict(numbers("7,234.5 and 7.234,5 and 7234", 0))] == ["7234.5", "7234"]


TABLES = {
    "en": ["language\tzh\tChinese\t", "language\tde\tGerman\t",
           "territory\tDE\tGermany\t", "territory\tFR\tFrance\t", "territory\tNE\tNiger\t", "territory\tNG\tNigeria\t",
           "city\tEurope/Rome\tRome\t", "city\tAsia/Tokyo\tTokyo\t", "city\tAntarctica/Davis\tDavis\t",
           "territory\t001\tworld\t", "territory\tYT\tMayotte\t", "emoji\tx\tFrance flag\t"],
    "de": ["territory\tDE\tDeutschland\t", "territory\tFR\tFrankreich\t", "territory\tNE\tNiger\t", "territory\tNG\tNigeria\t",
           "city\tEurope/Rome\tRom\t", "city\tAsia/Tokyo\tTokio\t"],
    "zh": ["language\tde\t德国语\t",
           "territory\tDE\t德国\t", "territory\tFR\t法国\t", "territory\tNE\t尼日尔\t", "territory\tNG\t尼日利亚\t",
           "city\tEurope/Rome\t罗马\t", "city\tAsia/Tokyo\t东京\t"],
}  # fmt: skip


@pytest.fixture
def names(tmp_path: Path) -> Names:
    import gzip

    for language, lines in TABLES.items():
        (tmp_path / f"{language}.tsv.gz").write_bytes(gzip.compress("".join(f"{line}\n" for line in lines).encode()))
    return Names.read(tmp_path, ["de", "en", "xx", "zh"])


def test_the_name_of_a_language_stays_and_so_does_a_name_without_another_of_its_kind(names: Names) -> None:
    assert not [*names.swapped("德国语很难", "zh", 1)]
    thai = {
        ("territory", "FR"): "ฝรั่งเศส",
        ("territory", "MY"): "มาเลเซีย",
        ("language", "fr"): "ฝรั่งเศส",
        ("language", "bkm"): "กม",
    }
    hindi = {("territory", "TR"): "तुर्की", ("territory", "MY"): "मलेशिया", ("language", "tr"): "तुर्की"}
    assert not [*Names({"th": thai}).swapped("เขาพูดภาษาฝรั่งเศส", "th", 1)]  # of a language: the word before says so
    assert [*Names({"th": thai}).swapped("เขามาจากมาเลเซีย", "th", 1)] == [("MY", "เขามาจากฝรั่งเศส")]
    assert not [*Names({"hi": hindi}).swapped("तुर्की कठिन", "hi", 1)]  # of either
    [(code, text)] = names.swapped("德国说德国语", "zh", 1)
    assert code == "DE"
    assert text.endswith("说德国语")
    assert not text.startswith("德国说")
    assert not [*Names({"en": {("city", "Europe/Rome"): "Rome"}}).swapped("in Rome", "en", 1)]


@pytest.mark.parametrize("seed", range(4))
def test_a_name_gives_way_to_one_of_its_kind_alike_in_all_languages(seed: int, names: Names) -> None:
    texts = {
        "en": "Niger borders Nigeria; Rome does not.",
        "de": "Niger grenzt an Nigeria; Rom nicht.",
        "zh": "尼日尔毗邻尼日利亚；罗马则不然。",
    }
    made = {language: dict(names.swapped(text, language, seed)) for language, text in texts.items()}
    assert {*made["en"]} == {*made["de"]} == {*made["zh"]}
    assert made["en"]["Europe/Rome"] == "Niger borders Nigeria; Tokyo does not."
    assert made["de"]["Europe/Rome"] == "Niger grenzt an Nigeria; Tokio nicht."
    assert made["zh"]["Europe/Rome"] == "尼日尔毗邻尼日利亚；东京则不然。"
    codes = {}
    for language, rows in TABLES.items():
        for code in made[language].keys() & {"NE", "NG"}:
            kept = [row.split("\t") for row in rows]
            codes.setdefault(code, set()).add(
                next(one[1] for one in kept if one[2] in made[language][code] and one[1] in ("DE", "FR"))
            )
    assert all(len(found) == 1 for found in codes.values())
    assert not list(names.swapped("Davis in the world, Île-de-France, nigerian Nigerians", "en", seed))
    assert not list(names.swapped("Mayotte", "xx", seed))
    assert [what for what, _ in names.swapped("Mayotte", "en", seed)] == ["YT"]  # replaced by what all languages name


def test_a_damaged_table_of_names_is_named_by_file_and_line(tmp_path: Path, names: Names) -> None:
    import gzip

    (tmp_path / "en.tsv.gz").write_bytes(gzip.compress(b"territory\tDE\tGermany\t\nterritory\n"))
    with pytest.raises(InputError, match=r"en\.tsv\.gz, line 2: 1 fields; expected kind, code, name"):
        Names.read(tmp_path, ["en"])


@pytest.mark.parametrize(
    ("language", "text", "other"),
    [
        ("en", "It was sold.", "It was not sold."),
        ("en", "It wasn't sold.", "It was sold."),
        ("en", "They cannot see it.", "They can see it."),
        ("en", "They can't see it.", "They can see it."),
        ("de", "Das ist ein Haus.", "Das ist kein Haus."),
        ("de", "Eine Frau kam.", "Keine Frau kam."),
        ("de", "Sie hatte keinen Hund.", "Sie hatte einen Hund."),
        ("fr", "Il est grand.", "Il n'est pas grand."),
        ("fr", "Ils sont grands.", "Ils ne sont pas grands."),
        ("fr", "Elle n'était pas là.", "Elle était là."),
        ("es", "Ella es alta.", "Ella no es alta."),
        ("es", "Ella no ha venido.", "Ella ha venido."),
    ],
)
def test_negation_goes_by_the_rule_of_its_language(language: str, text: str, other: str) -> None:
    assert dict(negated(text, language)) == {"negation": other}


def test_without_a_rule_or_its_words_nothing_is_negated() -> None:
    assert not list(negated("Это дом.", "ru"))
    assert all(not list(negated("Xyz.", language)) for language in NEGATION)
    assert not list(negated("à l'est", "fr"))
