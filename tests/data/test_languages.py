"""Languages by what files call them: one name each, and regions only where they tell something."""

from __future__ import annotations

import pytest

from hybrid_retrieval.data.languages import known_language, languages_of, spelt, three_letters
from hybrid_retrieval.errors import InputError


@pytest.mark.parametrize(
    ("language", "names"),
    {
        "de": ["de", "DE", "deu"],
        "en": ["en-US", "en_us", "eng"],
        "en_gb": ["en-GB"],
        "pt_br": ["pt-BR", "pt_BR", "por_br"],
        "zh": ["zh-CN", "zh_CN", "zh-Hans", "cmn", "zho_Hans"],
        "zh_tw": ["zh-TW", "zhtw", "zh_Hant"],
        "sr_latn": ["sr@latin", "sr-Latn"],
        "ar": ["ara", "arb"],
        "fa": ["fas", "pes"],
        "ms": ["msa", "zsm"],
        "el": ["ell"],
        "he": ["heb"],
        "nb": ["nob"],
        "gsw": ["gsw"],
    }.items(),
)
def test_a_language_has_one_name(language: str, names: list[str]) -> None:
    assert {name: spelt(name) for name in names} == dict.fromkeys(names, language)
    assert known_language(language)


def test_a_region_is_left_out_where_it_tells_nothing() -> None:
    alone = {"ar-MA": "ar", "de-DE": "de", "pt-BR": "pt_br", "zh-CN": "zh", "zh-TW": "zh_tw", "sr@latin": "sr_latn", "en": "en"}
    assert languages_of(alone, "x") == alone
    assert languages_of(["en", "en-GB", "fr-FR", "pt", "pt_BR"], "x") == {
        "en": "en",
        "en-GB": "en_gb",
        "fr-FR": "fr",
        "pt": "pt",
        "pt_BR": "pt_br",
    }
    assert languages_of(["ar-MA", "ar-EG"], "x") == {"ar-MA": "ar_ma", "ar-EG": "ar_eg"}
    assert languages_of(["meta", "README", "xx"], "x") == {}


def test_two_names_of_one_language_are_refused() -> None:
    with pytest.raises(InputError, match="a/folder has de and deu, which are both de: keep one"):
        languages_of(["deu", "de"], "a/folder")


def test_three_letters_are_of_the_language_that_is_written() -> None:
    named = {"de": "deu", "ar": "arb", "no": "nob", "pt_br": "por", "zh_tw": "zho", "kac": "kac"}
    assert {language: three_letters(language) for language in named} == named
