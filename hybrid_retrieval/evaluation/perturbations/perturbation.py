"""Perturbations of queries, and the one engine that applies them.

A perturbation names the edits that are possible in a text; the engine draws as many as the severity allows, and keeps laws:

- The budget: ceil(severity * units), units being the graphemes of a text that are no space, or its words. It is never
  exceeded, and it is used up where no further edit fits into it.
- A text is a function of the query, its id and language, the seed, the perturbation and its severity, on every machine;
  severity 0 is the identity.
- Grapheme clusters (UAX #29) stay whole, and what comes out is in NFC: an edit that would join its neighbours is not made.
- What a severity changes, a higher one changes too, as far as edits have the same cost and something is left.

A perturbation is one file here and one entry of `hybrid_retrieval.evaluation.perturbations.suite.PERTURBATIONS`.
"""

from __future__ import annotations

import hashlib
import math
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from random import Random
from typing import Any, ClassVar

import regex

from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.data.languages import UNSPACED, primary

GRAPHEME = regex.compile(r"\X")
WORD = regex.compile(r"[\p{L}\p{M}\p{N}](?:[\p{L}\p{M}\p{N}\u200c\u200d]|['’\-](?=[\p{L}\p{M}\p{N}]))*")
"""Letters with their marks, joiners and numbers, and what joins these."""
WORDS = regex.compile(rf"{WORD.pattern}|\X")
"""Words, and each grapheme between them."""
LETTER = regex.compile(r"\p{L}\p{M}*")


@dataclass(frozen=True)
class Edit:
    """Units start .. stop - 1 become `new`, at a cost in units."""

    start: int
    stop: int
    new: tuple[str, ...]
    cost: int = 1


class Perturbation(ABC):
    """A way in which a query can be wrong.

    Attributes:
        name: in ``evaluation.perturb``.
        needs: what it knows a language by, for errors.
        scripts_stay: whether letters stay within the scripts of the text.
    """

    name: ClassVar[str]
    needs: ClassVar[str] = "a rule for it"
    scripts_stay: ClassVar[bool] = True

    def __init__(self, paths: PathsConfig) -> None:
        self.paths = paths

    def knows(self, language: str) -> bool:
        """Whether it has what it needs for a language."""
        return True

    def provenance(self) -> list[dict[str, Any]]:
        """Of the sets below ``paths.data`` that it reads, as a source says it."""
        return []

    def by_words(self, language: str) -> bool:
        """Whether its units are words; graphemes otherwise."""
        return False

    @abstractmethod
    def edits(self, units: Sequence[str], language: str, draw: Random) -> list[Edit]:
        """Every edit that is possible, in the order of the text; what an edit chooses is drawn."""


@dataclass(frozen=True)
class Perturbed:
    """A text after a perturbation.

    Attributes:
        edits: the cost of what was changed, in units.
        budget: the most that was allowed.
        emptied: whether nothing would have been left, so that the text was kept as it was.
    """

    text: str
    edits: int
    budget: int
    emptied: bool = False


def perturb(
    perturbation: Perturbation, text: str, language: str, severities: Sequence[float], seed: int, query_id: str
) -> list[Perturbed]:
    """A query under a perturbation, as the laws above say, at each severity."""
    if not perturbation.knows(language):
        return [Perturbed(text, 0, 0) for _ in severities]
    words = perturbation.by_words(language)
    units = split(text, words)
    size = sum(WORD.fullmatch(unit) is not None for unit in units) if words else sum(not unit.isspace() for unit in units)
    draw = _draw(perturbation.name, language, seed, query_id)
    order = sorted(perturbation.edits(units, language, draw), key=lambda _: draw.random())
    return [_edited(text, units, order, math.ceil(severity * size - 1e-9)) for severity in severities]


def alone(perturbation: Perturbation, text: str, language: str, seed: int, query_id: str) -> list[tuple[int, int, str]]:
    """Each edit that fits into a text in NFC, by itself: characters start .. stop - 1 become others."""
    if not perturbation.knows(language):
        return []
    units = split(text, perturbation.by_words(language))
    places = [0, *accumulate(map(len, units))]
    now: list[tuple[str, ...]] = [(unit,) for unit in units]
    edits = perturbation.edits(units, language, _draw(perturbation.name, language, seed, query_id))
    return [(places[one.start], places[one.stop], "".join(one.new)) for one in edits if _fits(now, units, one)]


def _draw(name: str, language: str, seed: int, query_id: str) -> Random:
    return Random(hashlib.sha256(f"{seed}\0{name}\0{language}\0{query_id}".encode()).digest())  # noqa: S311


def _edited(text: str, units: Sequence[str], order: Sequence[Edit], budget: int) -> Perturbed:
    """The edits made that fit into a budget, in their order."""
    now: list[tuple[str, ...]] = [(unit,) for unit in units]
    spent = 0
    for edit in order:
        if spent == budget:
            break
        if spent + edit.cost <= budget and _fits(now, units, edit):
            now[edit.start : edit.stop] = [edit.new, *[()] * (edit.stop - edit.start - 1)]
            spent += edit.cost
    made = "".join(unit for part in now for unit in part)
    if not made.strip():
        return Perturbed(text, 0, budget, emptied=bool(spent))
    return Perturbed(made if spent else text, spent, budget)


def split(text: str, words: bool) -> list[str]:
    """A text in NFC as graphemes, or as words and the graphemes between them."""
    found: list[str] = (WORDS if words else GRAPHEME).findall(unicodedata.normalize("NFC", text))
    return found


@lru_cache(1 << 16)
def letter(unit: str) -> bool:
    """Whether a grapheme is a letter, with its marks."""
    return LETTER.fullmatch(unit) is not None


@lru_cache(1 << 16)
def script(unit: str) -> str:
    """The Unicode script of the first letter of a unit; empty without one."""
    found = regex.search(r"\p{L}", unit)
    return next((name for name in SCRIPTS if found and regex.match(rf"\p{{Script={name}}}", found[0])), "")


SCRIPTS = [
    "Latin",
    "Greek",
    "Cyrillic",
    "Arabic",
    "Hebrew",
    "Devanagari",
    "Bengali",
    "Tamil",
    "Telugu",
    "Kannada",
    "Malayalam",
    "Gujarati",
    "Gurmukhi",
    "Thai",
    "Han",
    "Hiragana",
    "Katakana",
    "Hangul",
    "Armenian",
    "Georgian",
]


def unspaced(language: str) -> bool:
    """Whether a language is written without spaces between words."""
    return primary(language) in UNSPACED


def _fits(now: Sequence[tuple[str, ...]], units: Sequence[str], edit: Edit) -> bool:
    """Whether its units are as they were, and it joins nothing."""
    if any(now[at] != (units[at],) for at in range(edit.start, edit.stop)):
        return False
    before = next((now[at][-1] for at in range(edit.start - 1, -1, -1) if now[at]), "")
    after = next((now[at][0] for at in range(edit.stop, len(now)) if now[at]), "")
    return _apart(tuple(part for part in (before, *edit.new, after) if part))


@lru_cache(1 << 16)
def _apart(parts: tuple[str, ...]) -> bool:
    """Whether the graphemes of parts stay what they are when the parts stand side by side, in NFC."""
    whole = "".join(parts)
    if whole.isascii():
        return True
    alone = [unit for part in parts for unit in GRAPHEME.findall(part)]
    return GRAPHEME.findall(whole) == alone and unicodedata.is_normalized("NFC", whole)
