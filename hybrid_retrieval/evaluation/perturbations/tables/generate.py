"""Make the three tables beside this file from public data.

``python -m hybrid_retrieval.evaluation.perturbations.tables.generate NOISE STOPWORDS DATA``

``keyboards.json``: for each language the neighbours of each letter on its usual layout.
    ``NOISE/xkb-symbols.tar.xz``, the folders ``symbols`` and ``keycodes`` of xkeyboard-config 2.35.1 as in Debian's xkb-data
    (MIT and alike), compiled by libxkbcommon; Korean by KS X 5002.
``homoglyphs.json``: for each letter those of other scripts that look the same.
    ``NOISE/confusables.json.gz``, Unicode's confusables of 2016 (Unicode licence) as JSON by confusable_homoglyphs, commit
    c18e47d (MIT).
``function_words.json``: for each language its most frequent function words.
    ``STOPWORDS``, the file ``stopwords-iso.json`` of the package stopwordsiso 0.7.1 (MIT), of which those words are kept that
    stand in a hundredth of the sentences of NTREX-128 (commit 8561f6a, CC BY-SA 4.0; only counted), in ``DATA/ntrex-128`` or
    from its publisher.

LICENSES.md holds the notices.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import re
import sys
import tarfile
import tempfile
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import regex

from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.data.records import read_lines
from hybrid_retrieval.errors import InputError, reading
from hybrid_retrieval.evaluation.benchmarks.ntrex import Ntrex
from hybrid_retrieval.files import read_mapping, write_text

PREFERRED = ("Latin", "Greek", "Cyrillic", "Armenian", "Han", "Katakana")
"""Scripts that a look-alike is taken from if they have one, the first first."""
SCRIPTS = (*PREFERRED, "Hiragana", "Hangul", "Arabic", "Hebrew", "Thai", "Devanagari", "Bengali", "Georgian")
SCRIPT = regex.compile("|".join(rf"(?P<{script}>\p{{Script={script}}})" for script in SCRIPTS))

LAYOUTS = {
    "ar": "ara",
    "bg": "bg",
    "bn": "bd",
    "cs": "cz",
    "da": "dk",
    "de": "de",
    "el": "gr",
    "en": "us",
    "es": "es",
    "fa": "ir",
    "fi": "fi",
    "fr": "fr",
    "he": "il",
    "hi": "in",
    "id": "us",
    "it": "it",
    "nl": "nl",
    "no": "no",
    "pl": "pl",
    "pt": "pt",
    "ru": "ru",
    "sv": "se",
    "sw": "us",
    "th": "th",
    "tr": "tr",
    "uk": "ua",
    "vi": "us",
}
"""A language's file of xkb's symbols, of which the default variant is taken."""
DUBEOLSIK = {"AD": "ㅂㅈㄷㄱㅅㅛㅕㅑㅐㅔ", "AC": "ㅁㄴㅇㄹㅎㅗㅓㅏㅣ", "AB": "ㅋㅌㅊㅍㅠㅜㅡ"}
"""The rows of KS X 5002."""
OFFSETS = {"AE": 0, "AD": 2, "AC": 3, "AB": 5}
"""By how much a row of keys is set to the right of the uppermost, in quarters of a key."""
REACH = 5
"""How far apart the middles of neighbours are at most, in quarters of a key."""
KEYMAP = """xkb_keymap {
    xkb_keycodes { include "evdev" };
    xkb_types { type "ONE_LEVEL" { modifiers = none; }; };
    xkb_compatibility { };
    xkb_symbols { include "%s" };
};"""
"""Of the levels of a key only the first is read, so that no types are needed."""

SPACED = (
    *("ar", "bn", "cs", "de", "el", "en", "es", "fa", "fi", "fr", "he", "hi"),
    *("id", "it", "ko", "nl", "pl", "pt", "ru", "sw", "te", "tr", "uk", "vi"),
)
"""Languages written with spaces whose function words are wanted."""
SHARE, MOST = 100, 60
"""A function word stands in one of so many sentences, and there are so many at most."""
EDGES = regex.compile(r"^[^\p{L}\p{M}\p{N}]+|[^\p{L}\p{M}\p{N}]+$")

Key = tuple[str, int, int]
"""A character and where its key is, in quarters of a key."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the tables; the exit code is 2 where a source is not what it should be."""
    parser = argparse.ArgumentParser(description="Make the tables that perturbations of queries read.")
    parser.add_argument("noise", metavar="NOISE", type=Path, help="folder of xkb-symbols.tar.xz and confusables.json.gz")
    parser.add_argument("stopwords", metavar="STOPWORDS", type=Path, help="stopwords-iso.json of the package stopwordsiso")
    parser.add_argument("data", metavar="DATA", type=Path, help="folder that holds ntrex-128")
    chosen = parser.parse_args(arguments)
    try:
        tables: dict[str, dict[str, Any]] = {
            "keyboards": keyboards(chosen.noise / "xkb-symbols.tar.xz"),
            "homoglyphs": homoglyphs(chosen.noise / "confusables.json.gz"),
            "function_words": function_words(chosen.stopwords, chosen.data),
        }
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for name, table in tables.items():
        write_text(Path(__file__).with_name(f"{name}.json"), written(table))
    return 0


def written(table: dict[str, Any]) -> str:
    """A table as JSON, one entry a line."""

    def compact(value: Any) -> str:
        return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))

    return "{\n" + ",\n".join(f"{compact(key)}:{compact(value)}" for key, value in sorted(table.items())) + "\n}\n"


def script(character: str) -> str | None:
    """The script of a character, if it is one of `SCRIPTS`."""
    found = SCRIPT.match(character)
    return str(found.lastgroup) if found else None


def plain(text: str) -> bool:
    """Whether a text is one character in NFC and no form of another: a superscript, a ligature, a sign set on a space."""
    return (
        len(text) == 1
        and unicodedata.is_normalized("NFC", text)
        and not re.match("<(?!compat> (?!0020))", unicodedata.decomposition(text))
    )


def keyboards(archive: Path) -> dict[str, dict[str, str]]:
    """The neighbours of each letter, by language."""
    with tempfile.TemporaryDirectory() as folder, reading(f"{archive} cannot be read"):
        with tarfile.open(archive) as packed:
            packed.extractall(folder, filter="data")
        keys_of = layouts(Path(folder))
        tables = {language: neighbours(keys_of(layout)) for language, layout in LAYOUTS.items()}
    korean = [(letter, *place(row, at)) for row, letters in DUBEOLSIK.items() for at, letter in enumerate(letters, 1)]
    return tables | {"ko": neighbours(korean)}


def place(row: str, column: int) -> tuple[int, int]:
    """Where a key is."""
    return OFFSETS[row] + 4 * column, 4 * list(OFFSETS).index(row)


def neighbours(keys: Sequence[Key]) -> dict[str, str]:
    """For each letter those of its kind that a finger which slips may hit."""
    near = defaultdict(set)
    for one, x, y in keys:
        for other, u, v in keys:
            if one != other and kind(one) == kind(other) is not None and (x - u) ** 2 + (y - v) ** 2 <= REACH**2:
                near[one].add(other)
    return {letter: "".join(sorted(others)) for letter, others in near.items()}


def kind(text: str) -> tuple[Any, ...] | None:
    """What a letter or sign has in common with those that can stand in its place; None for all else.

    Letters and combining signs by script, signs by where they stand as well, Korean letters as consonants and vowels.
    """
    if not plain(text) or not script(text) or (category := unicodedata.category(text)[0]) not in "LM":
        return None
    return category, script(text), unicodedata.combining(text), "ㅏ" <= text <= "ㅣ"


def layouts(folder: Path) -> Callable[[str], list[Key]]:
    """From the name of a layout of xkb to what its keys give without shift."""
    with reading("libxkbcommon.so.0 cannot be loaded"):
        library = ctypes.CDLL("libxkbcommon.so.0")
    library.xkb_context_new.restype = library.xkb_keymap_new_from_string.restype = ctypes.c_void_p
    no_default_includes, text_v1, errors_only_if_critical = 1, 1, 10
    context = ctypes.c_void_p(library.xkb_context_new(no_default_includes))
    library.xkb_context_set_log_level(context, errors_only_if_critical)
    library.xkb_context_include_path_append(context, str(folder).encode())

    def keys(layout: str) -> list[Key]:
        keymap = ctypes.c_void_p(library.xkb_keymap_new_from_string(context, (KEYMAP % layout).encode(), text_v1, 0))
        if not keymap:
            raise InputError(f"layout {layout!r} cannot be compiled; expected one of xkb's symbols")
        found, symbols = [], ctypes.POINTER(ctypes.c_uint32)()
        for row in OFFSETS:
            for column in range(1, 14):
                code = library.xkb_keymap_key_by_name(keymap, f"{row}{column:02}".encode())
                if library.xkb_keymap_key_get_syms_by_level(keymap, code, 0, 0, ctypes.byref(symbols)) == 1:
                    found.append((chr(library.xkb_keysym_to_utf32(symbols[0])), *place(row, column)))
        library.xkb_keymap_unref(keymap)
        return found

    return keys


def homoglyphs(file: Path) -> dict[str, str]:
    """For each letter those of other scripts that look the same: a chain of confusables joins them."""
    with reading(f"{file} cannot be read as JSON"):
        confusables = json.loads("".join(line for _, line in read_lines(file)))
    look: dict[str, set[str]] = {}
    for one, others in confusables.items():
        for other in others:
            merged = {bare(one), bare(other["c"])}
            merged |= set().union(*(look.get(text, ()) for text in merged))
            look.update(dict.fromkeys(merged, merged))
    letters = sorted(text for text in look if is_letter(text))
    alike = {one: [other for other in look[one] if is_letter(other) and differ_in_script_alone(one, other)] for one in letters}
    return {one: chosen(others) for one, others in alike.items() if others}


def bare(text: str) -> str:
    """A text of the confusables without the marks of direction around those that run from right to left."""
    return text.strip("\u200e")


def is_letter(text: str) -> bool:
    """Whether a text is a letter of one of `SCRIPTS` in the Basic Multilingual Plane."""
    return plain(text) and text <= "\uffff" and unicodedata.category(text)[0] == "L" and script(text) is not None


def differ_in_script_alone(one: str, other: str) -> bool:
    """Whether two letters are of two scripts, and of one case if both have case."""
    cases = {unicodedata.category(one), unicodedata.category(other)}
    return script(one) != script(other) and not {"Lu", "Ll"} <= cases


def chosen(letters: Iterable[str]) -> str:
    """The first letter of each script, which is the one in everyday use; of `PREFERRED` scripts alone where there are any."""
    first: dict[str | None, str] = {}
    for letter in sorted(letters):
        first.setdefault(script(letter), letter)
    scripts = [name for name in PREFERRED if name in first] or [name for name in SCRIPTS if name in first]
    return "".join(first[name] for name in scripts)


def function_words(stopwords: Path, data: Path) -> dict[str, list[str]]:
    """By language, the stop words that stand in enough sentences, the most frequent first."""
    lists = read_mapping(stopwords)
    languages = [language for language in SPACED if language in lists]
    files = Ntrex(PathsConfig(data=str(data)), languages).files
    tables = {}
    for language in languages:
        listed = {unicodedata.normalize("NFC", word.lower()) for word in lists[language]}
        sentences = [unicodedata.normalize("NFC", line.lower()) for _, line in read_lines(files.path(language))]
        count = Counter(
            word for sentence in sentences for word in {EDGES.sub("", token) for token in sentence.split()} & listed
        )
        frequent = [word for word, found in count.items() if found * SHARE >= len(sentences)]
        tables[language] = sorted(frequent, key=lambda word: (-count[word], word))[:MOST]
    return tables


if __name__ == "__main__":
    sys.exit(main())
