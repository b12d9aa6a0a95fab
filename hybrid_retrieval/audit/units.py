"""Texts as sequences of units, hashed by the batch: what two texts must share to count as the same.

A unit is a word (a run of letters and digits with their marks), or one character, with its marks, of a script that is
written without spaces: Han, kana, Thai, Lao, Khmer, Burmese. Texts are normalised first (NFKC, case folded, without E5's
"query: " or "passage: "); punctuation, symbols and space part words and count for nothing else; invisible format
characters vanish. No language label is needed.

The hash of a unit is a polynomial modulo 2^64 over random numbers that stand for its characters; that of a text or of a
window of n units is one over its units. All are sums over the arrays of a batch, so that a word costs some 100 ns.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import numpy.typing as npt

from hybrid_retrieval.hashing import mix

Hashes = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]

SEPARATOR, WORD, CHARACTER, MARK, CHARACTER_MARK, INVISIBLE = range(6)
"""Kinds of code points. A mark continues the unit before it; one of an unspaced script also ends a word."""
CODE_POINTS = 0x32400
"""Letters, marks and digits lie below; what lies above are format characters, symbols and private use."""
UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "HENTAIGANA", "THAI", "LAO", "KHMER", "MYANMAR", "IDEOGRAPHIC")
"""How the names of characters of unspaced scripts begin."""
POSITIONS = 1 << 14
"""Places that have a power of their own; beyond them places share one, and the order of units does not count."""
MARKER = re.compile(r"\A\s*(?:query|passage):\s")
_ODD = np.uint64(0x9E3779B97F4A7C15)


def normalise(text: str) -> str:
    """NFKC, case folded, without the marker that E5's training files have before a text."""
    return MARKER.sub("", unicodedata.normalize("NFKC", text).casefold())


@dataclass(frozen=True)
class Units:
    """The units of a batch of texts, one text after another.

    Attributes:
        codes: uint32 [characters], the normalised code points that units are made of.
        first: int64 [units], where a unit starts in `codes`.
        hashes: uint64 [units].
        offsets: int64 [texts + 1], where a text starts in `first`.
        unspaced: bool [units], whether a unit is a character of an unspaced script.
    """

    codes: npt.NDArray[np.uint32]
    first: Ints
    hashes: Hashes
    offsets: Ints
    unspaced: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, texts: Sequence[str]) -> Units:
        """Split and hash a batch of texts."""
        normal = [normalise(text) for text in texts]
        codes = np.frombuffer("".join([f"{text}\n" for text in normal]).encode("utf-32-le", "surrogatepass"), np.uint32)
        ends = np.cumsum(np.fromiter(map(len, normal), np.int64, len(normal)) + 1)
        kinds, spelling, starts = _tables()
        kind = kinds.take(codes, mode="clip")
        visible = kind != INVISIBLE
        if not visible.all():
            ends = np.cumsum(visible)[ends - 1]
            codes, kind = codes[visible], kind[visible]
        before = np.empty_like(kind)
        before[:1] = SEPARATOR
        before[1:] = kind[:-1]
        begins = starts.take(before * np.uint8(INVISIBLE) + kind)
        inside = kind != SEPARATOR
        places = np.flatnonzero(begins)
        codes = codes[inside]
        first = np.flatnonzero(begins[inside])
        hashes = _sums(spelling.take(codes), first)
        offsets = np.searchsorted(places, np.concatenate([[0], ends])).astype(np.int64)
        return cls(codes, first, hashes, offsets, kind[places] == CHARACTER)

    @cached_property
    def counts(self) -> Ints:
        """int64 [texts]: units of each text."""
        return np.diff(self.offsets)

    @cached_property
    def text(self) -> Ints:
        """int64 [units]: the text of each unit."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    @cached_property
    def text_hashes(self) -> Hashes:
        """uint64 [texts]; 0 for a text without units."""
        hashes = np.zeros(len(self.counts), np.uint64)
        some = self.counts > 0
        hashes[some] = _sums(self.hashes.copy(), self.offsets[:-1][some])
        return hashes

    @cached_property
    def mostly_unspaced(self) -> npt.NDArray[np.bool_]:
        """Bool [texts]: more than half of a text's units are characters of unspaced scripts."""
        counted = np.concatenate([[0], np.cumsum(self.unspaced)])
        mostly: npt.NDArray[np.bool_] = 2 * (counted[self.offsets[1:]] - counted[self.offsets[:-1]]) > self.counts
        return mostly

    def windows(self, size: int) -> tuple[Ints, Hashes]:
        """The text and the hash of every window of `size` neighbouring units of one text."""
        total = len(self.hashes) - size + 1
        if total <= 0:
            return np.empty(0, np.int64), np.empty(0, np.uint64)
        hashes = self.hashes[:total].copy()
        for place in range(1, size):
            hashes *= _ODD
            hashes += self.hashes[place : place + total]
        within = self.text[:total] == self.text[size - 1 :]
        return self.text[:total][within], mix(hashes[within])


def spelled(text: str) -> list[str]:
    """The units of one text as strings."""
    units = Units.of([text])
    characters = units.codes.tobytes().decode("utf-32-le", "surrogatepass")
    bounds = [*units.first.tolist(), len(characters)]
    return [characters[start:stop] for start, stop in itertools.pairwise(bounds)]


def _sums(values: Hashes, first: Ints) -> Hashes:
    """The polynomial over each run of `values` (which are overwritten); runs start at `first` and fill the array."""
    if not len(first):
        return np.empty(0, np.uint64)
    lengths = np.diff(first, append=len(values))
    values *= _powers().take(np.arange(len(values)) - np.repeat(first, lengths), mode="clip")
    return mix(np.add.reduceat(values, first))


@cache
def _powers() -> Hashes:
    """uint64 [POSITIONS]: powers of an odd number."""
    return np.multiply.accumulate(np.full(POSITIONS, 0xD1342543DE82EF95, np.uint64))


@cache
def _tables() -> tuple[npt.NDArray[np.uint8], Hashes, npt.NDArray[np.bool_]]:
    """For each code point its kind and its random number; for each kind before and kind whether a unit begins."""
    kinds = np.array([_kind(chr(code)) for code in range(CODE_POINTS)], np.uint8)
    starts = np.zeros((INVISIBLE, INVISIBLE), np.bool_)
    starts[:, CHARACTER] = True
    starts[[SEPARATOR, CHARACTER, CHARACTER_MARK], WORD] = True
    starts[SEPARATOR, [MARK, CHARACTER_MARK]] = True
    numbers = np.random.default_rng(0).integers(0, 1 << 64, CODE_POINTS, np.uint64, endpoint=False)
    return kinds, numbers, starts.ravel()


def _kind(character: str) -> int:
    category = unicodedata.category(character)
    if category == "Cf":
        return INVISIBLE
    if category[0] not in "LNM":
        return SEPARATOR
    unspaced = unicodedata.name(character, "").startswith(UNSPACED)
    if category[0] == "M":
        return CHARACTER_MARK if unspaced else MARK
    return CHARACTER if unspaced and category[0] == "L" else WORD
