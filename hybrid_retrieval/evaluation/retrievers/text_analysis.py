"""Text to terms, as a lexical index counts them.

Terms are words (letters, marks and digits between anything else) after NFKC and lower-casing, cut to their stems where
Snowball has a stemmer for the language. Words of scripts that put no spaces between them, or that inflect much and have no
stemmer, are cut into overlapping n-grams, in a text of any language: a Chinese name is found from English text too. There
are no stop lists: idf weighs frequent terms down.

The lengths of the n-grams were chosen by monolingual mAP on XQuAD-R (Chinese, Thai) and TyDi QA GoldP (Korean, Bengali,
Telugu), which speaks for BM25 there; scripts that were not measured have those of their neighbours.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Callable, Iterator
from functools import cache

import Stemmer

from hybrid_retrieval.models.romanization import romanizer

STEMMERS = {"nb": "no", "nn": "no"}
"""By language, where Snowball has it under another code of ISO 639-1."""

IDEOGRAPHS = "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""Han, Hiragana, Katakana."""
UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\uaa60-\uaa7f"
"""Thai, Lao, Burmese, Khmer."""
HANGUL = "\u1100-\u11ff\u3130-\u318f\uac00-\ud7a3"
INFLECTED = "\u0980-\u0b7f\u0c00-\u0dff"
"""Bengali, Gurmukhi, Gujarati, Odia, Telugu, Kannada, Malayalam, Sinhala."""
GRAMS = ((IDEOGRAPHS, (1, 2)), (UNSPACED, (3,)), (HANGUL, (2,)), (INFLECTED, (2,)))
"""Scripts that are cut into n-grams of graphemes, and their lengths."""
SCRIPTS = tuple((re.compile(f"[{script}]+"), lengths) for script, lengths in GRAMS)
BY_SCRIPT = re.compile("|".join([*(f"[{script}]+" for script, _ in GRAMS), f"[^{''.join(script for script, _ in GRAMS)}]+"]))
"""Parts of a word in one of them, and in none."""
TURKIC = ("tr", "az")
END = "_"
"""Of a word, in n-grams of its characters."""
KEPT = 1 << 18
"""Words whose terms are remembered, by language."""
LONGEST = 24
"""Characters of a word that is remembered; longer ones hardly come again."""


class Analyser:
    """The terms of texts in one language (BCP 47 with underscores)."""

    def __init__(self, language: str, characters: int | None = None, romanize: bool = False) -> None:
        """
        Args:
            characters: in place of stems, runs of so many characters of a word and its two ends.
            romanize: spell alphabets in Latin letters first.
        """
        self._base = language.partition("_")[0]
        self._stem = _stemmer(self._base)
        self._characters, self._romanizer = characters, romanizer() if romanize else None
        self._words, self._grapheme = _patterns()
        self._known: dict[str, tuple[str, ...]] = {}

    def terms(self, text: str) -> list[str]:
        """In the order of the text, repeated as often as they are there."""
        found: list[str] = []
        for word in self._words.findall(self._folded(text)):
            terms = self._known.get(word)
            if terms is None:
                terms = tuple(self._of_word(word))
                if len(word) <= LONGEST and len(self._known) < KEPT:
                    self._known[word] = terms
            found.extend(terms)
        return found

    def _folded(self, text: str) -> str:
        if self._base in TURKIC:
            text = text.replace("İ", "i").replace("I", "\u0131")
        text = unicodedata.normalize("NFKC", text)
        if self._romanizer is not None:
            text = self._romanizer.normalize_str(text)
        return text.lower().replace("_", " ")

    def _of_word(self, word: str) -> Iterator[str]:
        """The terms of a run of letters, marks and digits, in which scripts may change."""
        for part in [word] if word.isascii() else BY_SCRIPT.findall(word):
            lengths = next((lengths for script, lengths in SCRIPTS if script.match(part)), None)
            if lengths is None and self._characters:
                yield from ngrams([END, *part, END], (self._characters,))
            elif lengths is None:
                yield self._stem(part)
            else:
                yield from ngrams(self._grapheme.findall(part), lengths)


def ngrams(units: list[str], lengths: tuple[int, ...]) -> Iterator[str]:
    """All runs of these `lengths`; where there are fewer units than the shortest, all of them."""
    if len(units) < lengths[0]:
        yield "".join(units)
    for length in lengths:
        for start in range(len(units) - length + 1):
            yield "".join(units[start : start + length])


@cache
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Of a word, and of a grapheme in it: a letter or digit and the marks after it."""
    is_mark = [unicodedata.category(chr(code))[0] == "M" for code in range(sys.maxunicode + 1)]
    edges = [code for code in range(1, len(is_mark)) if is_mark[code] != is_mark[code - 1]]
    marks = "".join(f"{chr(first)}-{chr(last - 1)}" for first, last in zip(edges[::2], edges[1::2], strict=True))
    return re.compile(rf"\w+(?:[{marks}]+\w*)*"), re.compile(f".[{marks}]*")


def _stemmer(language: str) -> Callable[[str], str]:
    """The words as they are where the installed Snowball has no stemmer for the language."""
    try:
        stem: Callable[[str], str] = Stemmer.Stemmer(STEMMERS.get(language, language)).stemWord
    except KeyError:
        return str
    return stem
