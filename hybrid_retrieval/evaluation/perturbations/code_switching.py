"""Queries in two languages at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from random import Random

import numpy as np

from hybrid_retrieval.config import PathsConfig, build, choice_values
from hybrid_retrieval.data.languages import primary
from hybrid_retrieval.data.parallel import ParallelPairs
from hybrid_retrieval.data.source import Source
from hybrid_retrieval.evaluation.perturbations.perturbation import WORD, Edit, Perturbation, unspaced
from hybrid_retrieval.evaluation.perturbations.tables import table

LEXICA = ("omw_lexicon", "cldr_names")
"""Configs of the group ``dataset`` whose texts are lists of words of one meaning."""
BETWEEN = ", "
"""Words of such a list."""
INTO, OF_ENGLISH = "en", "es"
"""The language of the words that come in, and that of English queries."""
PICTURES = "emoji/"
"""How ids of CLDR's names of pictures begin, whose keywords are no translations of one another."""
ALIKE = 0.5
WORDS_OF_A_PHRASE = 2
LONGEST = 6
"""Graphemes of a word in languages without spaces."""


class CodeSwitching(Perturbation):
    """A word becomes one of the same meaning in English, an English one in Spanish, by wordnets and CLDR's names."""

    name = "code_switching"
    needs = "a lexicon with it and English, such as omw-lexicon or cldr-names under paths.data"
    scripts_stay = False

    def knows(self, language: str) -> bool:
        return bool(self.lexicon(language))

    def by_words(self, language: str) -> bool:
        return not unspaced(language)

    def edits(self, units: Sequence[str], language: str, draw: Random) -> list[Edit]:
        known = self.lexicon(language)
        longest = LONGEST if unspaced(language) else 1
        found = []
        for start in range(len(units)):
            for stop in range(min(start + longest, len(units)), start, -1):
                word = "".join(units[start:stop])
                if (others := known.get(word.lower())) and WORD.fullmatch(word):
                    found.append(Edit(start, stop, (draw.choice(others),), stop - start))
                    break
        return found

    def lexicon(self, language: str) -> Mapping[str, Sequence[str]]:
        """The words of a language, and for each those that it can become; empty where no lexicon has both languages."""
        return _lexicon(self.paths, primary(language))


@cache
def _lexicon(paths: PathsConfig, language: str) -> dict[str, list[str]]:
    into = OF_ENGLISH if language == INTO else INTO
    common = table("function_words").get(language, [])
    found: dict[str, list[str]] = {}
    for pairs in _lexica(paths):
        if {language, into} <= {*pairs.languages}:
            for word, others in _translations(_meanings(pairs, language), _meanings(pairs, into)).items():
                if word.lower() not in common:
                    found.setdefault(word.lower(), others)
    return found


def _translations(own: Mapping[str, set[int]], other: Mapping[str, set[int]]) -> dict[str, list[str]]:
    """For each word those that share most of its meanings, by Dice's coefficient; none where that is less than `ALIKE`.

    A word with many meanings has one translation in each of them, most of which would not be meant; and among the keywords
    of an emoji few translate one another.
    """
    words_of: dict[int, list[str]] = {}
    for word, meanings in other.items():
        for meaning in meanings:
            words_of.setdefault(meaning, []).append(word)
    found = {}
    for word, meanings in sorted(own.items()):
        shared = Counter(one for meaning in meanings for one in words_of.get(meaning, ()))
        alike = {one: 2 * count / (len(meanings) + len(other[one])) for one, count in shared.items()}
        most = max(alike.values(), default=0)
        best = sorted(one for one, value in alike.items() if value == most and one.lower() != word.lower())
        if best and most >= ALIKE:
            found[word] = best
    return found


@cache
def _lexica(paths: PathsConfig) -> list[ParallelPairs]:
    """Those that are at hand, with all of their words."""
    whole = {"validation_share": 0.0, "alternatives": 1000}
    nodes = ({str(key): value for key, value in choice_values("dataset", name).items()} | whole for name in LEXICA)
    sources = [build(node, Source, "dataset", paths=paths) for node in nodes]
    return [source.pairs() for source in sources if source.at_hand()]


def _meanings(pairs: ParallelPairs, language: str) -> dict[str, set[int]]:
    """The meanings of each word, by their numbers; without phrases of many words."""
    rows = np.flatnonzero(pairs.queries.languages == pairs.languages.index(language))
    found: dict[str, set[int]] = {}
    every = zip(pairs.queries.groups[rows].tolist(), pairs.queries.ids(rows), pairs.queries.texts(rows), strict=True)
    for group, id_, text in every:
        for word in [] if id_.startswith(PICTURES) else text.split(BETWEEN):
            if len(word.split()) <= WORDS_OF_A_PHRASE:
                found.setdefault(word, set()).add(group)
    return found
