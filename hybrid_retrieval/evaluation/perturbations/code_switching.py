"""Queries in two languages at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from random import Random

import numpy as np

from hybrid_retrieval.config import PathsConfig, build, choice_values
from hybrid_retrieval.data.languages import primary
from hybrid_retrieval.data.parallel import ParallelPairs
from hybrid_retrieval.data.source import Source
from hybrid_retrieval.evaluation.perturbations.perturbation import WORD, Edit, Perturbation, unspaced

LEXICA = ("omw_lexicon", "cldr_names")
"""Configs of the group ``dataset`` whose texts are lists of words of one meaning."""
BETWEEN = ", "
"""Words of such a list."""
INTO, OF_ENGLISH = "en", "es"
"""The language of the words that come in, and that of English queries."""
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
        found = entries(units, language, known)
        return [Edit(start, stop, (draw.choice(known[word]),), stop - start) for start, stop, word in found]

    def lexicon(self, language: str) -> Mapping[str, Sequence[str]]:
        """The words of a language, and for each those that it can become; empty where no lexicon has both languages."""
        return _lexicon(self.paths, primary(language))


def entries(units: Sequence[str], language: str, known: Mapping[str, Sequence[str]]) -> Iterator[tuple[int, int, str]]:
    """Units start .. stop - 1 that are a word of a lexicon, in small letters; the longest one from each start."""
    longest = LONGEST if unspaced(language) else 1
    for start in range(len(units)):
        for stop in range(min(start + longest, len(units)), start, -1):
            word = "".join(units[start:stop])
            if known.get(word.lower()) and WORD.fullmatch(word):
                yield start, stop, word.lower()
                break


@cache
def _lexicon(paths: PathsConfig, language: str) -> dict[str, list[str]]:
    into = OF_ENGLISH if language == INTO else INTO
    found: dict[str, list[str]] = {}
    for pairs in lexica(paths):
        if {language, into} <= {*pairs.languages}:
            own, other = (meanings(pairs, name) for name in (language, into))
            for group in own.keys() & other.keys():
                for word in own[group]:
                    found.setdefault(word.lower(), []).extend(one for one in other[group] if one.lower() != word.lower())
    return {word: sorted(set(others)) for word, others in sorted(found.items()) if others}


@cache
def lexica(paths: PathsConfig, names: tuple[str, ...] = LEXICA) -> list[ParallelPairs]:
    """Those that are at hand."""
    whole = {"validation_share": 0.0}
    nodes = ({str(key): value for key, value in choice_values("dataset", name).items()} | whole for name in names)
    sources = [build(node, Source, "dataset", paths=paths) for node in nodes]
    return [source.pairs() for source in sources if source.at_hand()]


def meanings(pairs: ParallelPairs, language: str) -> dict[int, list[str]]:
    """The words of each meaning."""
    rows = np.flatnonzero(pairs.queries.languages == pairs.languages.index(language))
    texts = pairs.queries.texts(rows)
    return {int(group): text.split(BETWEEN) for group, text in zip(pairs.queries.groups[rows], texts, strict=True)}
