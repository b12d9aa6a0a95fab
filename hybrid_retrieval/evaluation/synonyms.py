"""Words of the same meaning in the same language: what an attack may put in place of others."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from random import Random

from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.data.languages import primary
from hybrid_retrieval.evaluation.perturbations.casing import lowered, raised
from hybrid_retrieval.evaluation.perturbations.code_switching import OfALexicon, entries, lexica, meanings
from hybrid_retrieval.evaluation.perturbations.perturbation import Edit

WORDNETS = ("omw_lexicon",)
"""Lexica whose lists are of one meaning; CLDR's keywords are not."""
VOCALISED = re.compile("[\u064b-\u0652\u0670]")
"""What Arabic wordnets write and people do not."""


class Synonyms(OfALexicon):
    """A word becomes another one of a meaning that it has, by a wordnet, in its case.

    All of them are edits, and nothing is drawn. Words are found as the wordnet has them: inflected ones are not.
    """

    name = "synonyms"
    needs = "omw-lexicon with it, under paths.data"

    def edits(self, units: Sequence[str], language: str, draw: Random) -> list[Edit]:
        known = self.lexicon(language)
        return [
            Edit(start, stop, (_in_case("".join(units[start:stop]), other, language),), stop - start)
            for start, stop, word in entries(units, language, known)
            for other in known[word]
        ]

    def lexicon(self, language: str) -> Mapping[str, Sequence[str]]:
        return _lexicon(self.paths, primary(language))


@cache
def _lexicon(paths: PathsConfig, language: str) -> dict[str, list[str]]:
    found: dict[str, set[str]] = {}
    for pairs in (source.pairs() for source in lexica(paths, WORDNETS)):
        if language in pairs.languages:
            for group in meanings(pairs, language).values():
                words = {VOCALISED.sub("", word) for word in group}
                for word in words:
                    others = {other for other in words if other.lower() != word.lower()}
                    found.setdefault(word.lower(), set()).update(others)
    return {word: sorted(others) for word, others in sorted(found.items()) if others}


def _in_case(word: str, other: str, language: str) -> str:
    """A word with the capitals of the one that it stands for: all, the first, or its own."""
    if word == lowered(word, language):
        return other
    whole = len(word) > 1 and word == raised(word, language)
    return raised(other, language) if whole else raised(other[0], language) + other[1:]
