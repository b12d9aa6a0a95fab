"""Texts with one thing wrong in them, the same thing in every translation: a number, a year, a name, a negation.

What replaces a number, a year or a name is drawn by (seed, what is replaced), in whichever language and script it stands, so
that translations stay translations. Names are matched as CLDR spells them: inflected forms are not found, and articles and
endings around a name are left as they were. Negation goes by one rule a language; no language without one is negated.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from hybrid_retrieval.data.records import read_lines
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.hashing import text_hash

Change = tuple[str, str]
"""(what is replaced, by a name that its translations share; the changed text)."""

NUMBER = re.compile(r"(?<![A-Za-z\d.,])\d+(?:[.,\u00a0\u202f\u066b\u066c]\d+)*(?![A-Za-z\d])")
"""Digits of any script, with what stands between them; not part of a word, such as H2O or 19th."""
YEAR = re.compile(r"1\d{3}|20\d\d")
KINDS = ("number", "date", "entity", "negation")
LANGUAGE = "language"
NAMED = ("territory", "city")
"""Kinds of CLDR's names, the first where a name is of both."""
CODE = {
    "territory": re.compile(r"(?!EU|EZ|QO|UN|X[AB]|ZZ)[A-Z]{2}$"),
    "city": re.compile(r"(?!Antarctica/|Etc/)"),
    LANGUAGE: re.compile(""),
}
"""Codes of those that are read: no continents, no stations in the ice, which are called like people."""
LANGUAGE_BEFORE = {"th": "ภาษา"}
"""What stands before the name of a language, where that is mostly a territory's name, too; elsewhere a name of both stays."""
MARK = re.compile(r"[.,\u00a0\u202f\u066b\u066c]")
THOUSANDS = re.compile(rf"{MARK.pattern}(?=(?:\d\d{MARK.pattern})*\d{{3}}(?!\d))")
"""Before three digits, or pairs and then three digits as in India; three decimals pass for thousands."""
SHORTEST = 3
"""Letters of a name in an alphabet."""
UNSPACED = {"ja", "km", "lo", "my", "th", "zh", "zh_hk", "zh_tw"}
"""Languages that do not put spaces between words."""


@dataclass(frozen=True)
class Rule:
    """A way to turn a statement into its opposite: of its patterns the first that is there, once.

    Attributes:
        said: in words.
    """

    said: str
    patterns: Sequence[tuple[str, str]]

    def change(self, text: str) -> str:
        """The text, negated or no longer so; as it is where the rule says nothing of it."""
        for pattern, other in self.patterns:
            changed, count = re.subn(pattern, other, text, count=1)
            if count:
                return changed
        return text


BE_EN = "(is|are|was|were|can|could|will|would|should|must)"
BE_ES = "(es|son|era|eran|fue|fueron|será|serán|está|están|estaba|estaban|ha|han|había|habían)"
BE_FR, BE_FR_VOWEL = "(sont|fut|furent|sera|seront)", "(est|était|étaient)"
QUOTE = "['\u2019]"
NEGATION = {
    "de": Rule(
        "kein for the indefinite article",
        [
            (r"\bkein(e[mnrs]?)?\b", r"ein\1"),
            (r"\bKein(e[mnrs]?)?\b", r"Ein\1"),
            (r"\bein(e[mnrs]?)?\b", r"kein\1"),
            (r"\bEin(e[mnrs]?)?\b", r"Kein\1"),
        ],
    ),
    "en": Rule(
        "not after the first auxiliary",
        [
            (rf"\b{BE_EN}(?: not|n{QUOTE}t)\b", r"\1"),
            (rf"\bcan(?:not|{QUOTE}t)\b", "can"),
            (rf"\b{BE_EN}\b(?!{QUOTE})", r"\1 not"),
        ],
    ),
    "es": Rule(
        "no before ser, estar or haber",
        [(rf"\b[Nn]o {BE_ES}\b", r"\1"), (rf"(?<=\s)(?<!\b(?:se|lo|la|le|ni) )(?<!nunca ){BE_ES}\b", r"no \1")],
    ),
    "fr": Rule(
        "ne ... pas around être",
        [
            (rf"\bn{QUOTE}{BE_FR_VOWEL} pas\b", r"\1"),
            (rf"\bne {BE_FR} pas\b", r"\1"),
            (rf"(?<=\s){BE_FR_VOWEL}\b", r"n'\1 pas"),
            (rf"(?<=\s)(?<!\b(?:ne|se) ){BE_FR}\b", r"ne \1 pas"),
        ],
    ),
}


def numbers(text: str, seed: int) -> Iterator[Change]:
    """Each number but a year with one digit changed, wherever it stands in the text."""
    return _digits(text, seed, "number", lambda digits, whole: not (YEAR.fullmatch(digits) and len(whole) == 4))


def years(text: str, seed: int) -> Iterator[Change]:
    """Each year, 1000 to 2099 in four digits, with its last or last but one digit changed."""
    return _digits(text, seed, "date", lambda digits, whole: bool(YEAR.fullmatch(digits)) and len(whole) == 4)


def negated(text: str, language: str) -> Iterator[Change]:
    """The text negated, or no longer so, where the language's rule finds something."""
    rule = NEGATION.get(language)
    if rule is not None and (changed := rule.change(text)) != text:
        yield "negation", changed


def _digits(text: str, seed: int, kind: str, wanted: Callable[[str, str], bool]) -> Iterator[Change]:
    every = [(found.span(), found[0], _plain(found[0])) for found in NUMBER.finditer(text)]
    for value in dict.fromkeys(number for _, whole, number in every if wanted(number, whole)):
        drawn = text_hash(f"{seed}\t{kind}\t{value}")
        figures = value.replace(".", "")
        first = len(figures) - 2 if kind == "date" else 0
        place = first + drawn % (len(figures) - first)
        least = 1 if place == 0 and len(figures) > 1 else 0  # no number begins with 0 that did not
        others = [digit for digit in range(least, 10) if digit != int(figures[place])]
        digit = others[(drawn >> 32) % len(others)]
        parts, end = [], 0
        for (start, stop), whole, number in every:
            if number == value and wanted(number, whole):
                parts += [text[end:start], _with_digit(whole, place, digit)]
                end = stop
        yield value, "".join([*parts, text[end:]])


def _plain(number: str) -> str:
    """As all languages write it: 3.5 for 3,5, and 1000 for 1.000."""
    marked = MARK.sub(".", THOUSANDS.sub("", number))
    return "".join(str(unicodedata.digit(character)) if character.isdecimal() else character for character in marked)


def _with_digit(number: str, place: int, digit: int) -> str:
    """The number with another digit at a place, in its own script."""
    at = [index for index, character in enumerate(number) if character.isdecimal()][place]
    return f"{number[:at]}{chr(ord(number[at]) - unicodedata.digit(number[at]) + digit)}{number[at + 1 :]}"


@dataclass(frozen=True)
class Names:
    """CLDR's names of territories, cities and languages.

    Attributes:
        names: by language, by (kind, code).
    """

    names: Mapping[str, Mapping[tuple[str, str], str]]

    @classmethod
    def read(cls, folder: Path, languages: Iterable[str]) -> Names:
        """The names in those of some languages that have a ``<language>.tsv.gz`` of kind, code, name.

        Raises:
            InputError: a line is damaged.
        """
        found = {}
        for language in languages:
            file = folder / f"{language}.tsv.gz"
            if file.is_file():
                found[language] = dict(_read_names(file))
        return cls(found)

    def swapped(self, text: str, language: str, seed: int) -> Iterator[Change]:
        """Each name of a territory or city with another of its kind, that all of the languages have, in its place.

        What is the name of a language, or a part of one, stays.
        """
        if language not in self.names:
            return
        pattern, keys = self._patterns[language]
        spoken = [found.span() for found in self._languages[language].finditer(text)]
        places: dict[str, list[tuple[int, int]]] = {}
        for found in pattern.finditer(text):
            if not any(start <= found.start() and found.end() <= stop for start, stop in spoken):
                places.setdefault(found[0], []).append(found.span())
        for name, spans in places.items():
            others = self._others(keys[name])
            other = self.names[language][_drawn(keys[name], seed, others)] if others else text
            if other not in text:
                yield keys[name][1], _with_name(text, spans, other)

    @cached_property
    def _patterns(self) -> dict[str, tuple[re.Pattern[str], dict[str, tuple[str, str]]]]:
        made = {}
        for language, names in self.names.items():
            keys: dict[str, tuple[str, str]] = {}
            either = set() if language in LANGUAGE_BEFORE else self._spoken(language)
            for kind in NAMED:
                for key, name in names.items():
                    if key[0] == kind and (len(name) >= SHORTEST or not name.isascii()) and name not in either:
                        keys.setdefault(name, key)
            spelt = _any_of(keys)
            made[language] = re.compile(spelt if language in UNSPACED else rf"(?<![\w-])(?:{spelt})(?![\w-])"), keys
        return made

    @cached_property
    def _languages(self) -> dict[str, re.Pattern[str]]:
        """Of the names of languages; where many are those of territories, too, after the word for a language alone."""
        return {one: re.compile(LANGUAGE_BEFORE.get(one, "") + f"(?:{_any_of(self._spoken(one))})") for one in self.names}

    def _spoken(self, language: str) -> set[str]:
        return {name for key, name in self.names[language].items() if key[0] == LANGUAGE}

    def _others(self, key: tuple[str, str]) -> tuple[tuple[str, str], ...]:
        return tuple(one for one in self._shared if one[0] == key[0] and one != key)

    @cached_property
    def _shared(self) -> list[tuple[str, str]]:
        """What has a name in every language."""
        return sorted(set.intersection(*({*of} for of in self.names.values())))


def _any_of(names: Iterable[str]) -> str:
    """A pattern of names, the longest first."""
    return "|".join(map(re.escape, sorted(names, key=lambda name: (-len(name), name)))) or "(?!)"


def _with_name(text: str, spans: Sequence[tuple[int, int]], other: str) -> str:
    parts, end = [], 0
    for start, stop in spans:
        parts += [text[end:start], other]
        end = stop
    return "".join([*parts, text[end:]])


@lru_cache(maxsize=1 << 12)
def _drawn(key: tuple[str, str], seed: int, others: tuple[tuple[str, str], ...]) -> tuple[str, str]:
    return min(others, key=lambda other: text_hash(f"{seed}\tentity\t{key[1]}\t{other[1]}"))


def _read_names(file: Path) -> Iterator[tuple[tuple[str, str], str]]:
    for number, line in read_lines(file):
        fields = line.rstrip("\r\n").split("\t")
        if len(fields) < 3:
            raise InputError(f"{file}, line {number}: {len(fields)} fields; expected kind, code, name")
        kind, code, name = fields[:3]
        if kind in CODE and name and CODE[kind].match(code):
            yield (kind, code), name


def changes(kind: str, text: str, language: str, seed: int, names: Names) -> Iterator[Change]:
    """All changes of a kind of `KINDS` that make one thing wrong."""
    if kind == "number":
        yield from numbers(text, seed)
    elif kind == "date":
        yield from years(text, seed)
    elif kind == "entity":
        yield from names.swapped(text, language, seed)
    else:
        yield from negated(text, language)
