"""Queries in two languages at once."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from random import Random
from typing import Any

import numpy as np
import regex

from hybrid_retrieval.config import PathsConfig, choice_values
from hybrid_retrieval.data.languages import primary
from hybrid_retrieval.data.parallel import ParallelPairs
from hybrid_retrieval.data.source import Source
from hybrid_retrieval.evaluation.perturbations.perturbation import LETTER, WORD, Edit, Perturbation, unspaced
from hybrid_retrieval.evaluation.perturbations.tables import table
from hybrid_retrieval.values import build

LEXICA = ("omw_lexicon", "cldr_names")
"""Configs of the group ``dataset`` whose texts are lists of words of one meaning."""
BETWEEN = ", "
"""Words of such a list."""
INTO, OF_ENGLISH = "en", "es"
"""The language of the words that come in, and that of English queries."""
PICTURES = "emoji/"
"""How ids of CLDR's names of pictures begin, whose keywords are no translations of one another."""
ALIKE = 0.5
LONGEST = 6
"""Graphemes of a word in languages without spaces."""
SHORTEST, SHORTEST_UNSPACED = 3, 4
"""The least characters of a word: shorter ones mean too much, and where no spaces part words they stand inside of others."""
SHORTEST_SYLLABLES = 2
"""And of one in signs for syllables or words."""
SYLLABLES = regex.compile(r"[\p{Han}\p{Hangul}]+")


class OfALexicon(Perturbation):
    """Words of a lexicon become others; where no spaces part words, so do runs of graphemes."""

    def knows(self, language: str) -> bool:
        return bool(self.lexicon(language))

    def by_words(self, language: str) -> bool:
        return not unspaced(language)

    @abstractmethod
    def lexicon(self, language: str) -> Mapping[str, Sequence[str]]:
        """The words of a language, and for each those that it can become; empty where nothing at hand has it."""


class CodeSwitching(OfALexicon):
    """A word becomes one of the same meaning in English, an English one in Spanish, by wordnets and CLDR's names."""

    name = "code_switching"
    needs = "a lexicon with it and English, such as omw-lexicon or cldr-names under paths.data"
    scripts_stay = False

    def edits(self, units: Sequence[str], language: str, draw: Random) -> list[Edit]:
        known = self.lexicon(language)
        found = entries(units, language, known)
        return [Edit(start, stop, (draw.choice(known[word]),), stop - start) for start, stop, word in found]

    def lexicon(self, language: str) -> Mapping[str, Sequence[str]]:
        return _lexicon(self.paths, primary(language))

    def provenance(self) -> list[dict[str, Any]]:
        return [one for source in lexica(self.paths) for one in source.provenance()]


def entries(units: Sequence[str], language: str, known: Mapping[str, Sequence[str]]) -> Iterator[tuple[int, int, str]]:
    """Units start .. stop - 1 that are a word of a lexicon, in small letters, and long enough to be one.

    Where no spaces part words: from the left, the longest one at each place, and the next one after it.
    """
    parted = not unspaced(language)
    start = 0
    while start < len(units):
        end = start + 1
        for stop in range(min(start + (1 if parted else LONGEST), len(units)), start, -1):
            word = "".join(units[start:stop])
            if known.get(word.lower()) and WORD.fullmatch(word) and len(word) >= _least(word, parted):
                yield start, stop, word.lower()
                end = stop
                break
        start = end


def _least(word: str, parted: bool) -> int:
    return SHORTEST_SYLLABLES if SYLLABLES.fullmatch(word) else SHORTEST if parted else SHORTEST_UNSPACED


@cache
def _lexicon(paths: PathsConfig, language: str) -> dict[str, list[str]]:
    into = OF_ENGLISH if language == INTO else INTO
    common = table("function_words").get(language, [])
    found: dict[str, list[str]] = {}
    for pairs in (source.pairs() for source in lexica(paths)):
        if {language, into} <= {*pairs.languages}:
            for word, others in _translations(*(_single(meanings(pairs, one)) for one in (language, into))).items():
                if word.lower() not in common:
                    found.setdefault(word.lower(), others)
    return found


def _single(words_of: Mapping[int, Sequence[str]]) -> dict[int, list[str]]:
    """Words that are one word and have a letter."""
    return {
        group: [word for word in words if WORD.fullmatch(word) and LETTER.search(word)] for group, words in words_of.items()
    }


def _translations(own: Mapping[int, Sequence[str]], other: Mapping[int, Sequence[str]]) -> dict[str, list[str]]:
    """For each word those that share most of its meanings, where it is in turn among those that share most of theirs.

    A word with many meanings has one translation in each of them, most of which would not be meant, and a rare word of one
    meaning stands beside a common one of many. Of as many shared meanings, Dice's coefficient decides; none counts where it is
    less than `ALIKE`, or where the word itself is among the closest.
    """
    there, back = _closest(own, other), _closest(other, own)
    found = {word: [one for one in others if word in back.get(one, ())] for word, others in there.items()}
    return {word: others for word, others in found.items() if others and word.lower() not in map(str.lower, there[word])}


def _closest(own: Mapping[int, Sequence[str]], other: Mapping[int, Sequence[str]]) -> dict[str, list[str]]:
    counts = Counter(word for words in other.values() for word in words)
    meant: dict[str, list[int]] = {}
    for meaning, words in own.items():
        for word in words:
            meant.setdefault(word, []).append(meaning)
    found = {}
    for word, numbers in sorted(meant.items()):
        shared = Counter(one for meaning in numbers for one in other.get(meaning, ()))
        alike = {one: (count, 2 * count / (len(numbers) + counts[one])) for one, count in shared.items()}
        most = max(alike.values(), default=(0, 0.0))
        if most[1] >= ALIKE:
            found[word] = sorted(one for one, value in alike.items() if value == most)
    return found


@cache
def lexica(paths: PathsConfig, names: tuple[str, ...] = LEXICA) -> list[Source]:
    """Those that are at hand, with all of their words."""
    whole = {"validation_share": 0.0, "alternatives": 1000}
    nodes = ({str(key): value for key, value in choice_values("dataset", name).items()} | whole for name in names)
    sources = [build(node, Source, "dataset", paths=paths) for node in nodes]
    return [source for source in sources if source.at_hand()]


def meanings(pairs: ParallelPairs, language: str) -> dict[int, list[str]]:
    """The words of each meaning, by its number."""
    rows = np.flatnonzero(pairs.queries.languages == pairs.languages.index(language))
    every = zip(pairs.queries.groups[rows].tolist(), pairs.queries.ids(rows), pairs.queries.texts(rows), strict=True)
    found = {}
    for group, id_, text in every:
        if not id_.startswith(PICTURES):
            found[group] = text.split(BETWEEN)
    return found
