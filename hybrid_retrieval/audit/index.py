"""Hashes of what benchmarks are scored on, for training text to be looked up in.

What is held in memory grows with the evaluation side alone: a hash and a number for each text and for each distinct n-gram
of a text. Of more n-grams than fit only those are kept whose hash lies below a bound, wherever they occur, which makes
overlaps estimates; `Index.sampled` says how many there were for each one kept.
"""

from __future__ import annotations

import re
from functools import cached_property

import numpy as np
import numpy.typing as npt

from hybrid_retrieval.audit.texts import BATCH, EvaluationPart, Texts
from hybrid_retrieval.audit.units import Hashes, Ints, Units
from hybrid_retrieval.data.parallel import SIDES
from hybrid_retrieval.ragged import Ragged

UNSPACED_FACTOR = 2
"""Characters of an unspaced script that stand for a word in the length of an n-gram."""
MOST_NGRAMS = 1 << 24
PUBLISHED_ID = re.compile(r"(?i)[0-9a-f]{16,}")
LANGUAGE_BESIDE = re.compile(r"(?i)(?:[a-z]{2,3}[-_.:/])?(?P<id>.*?)(?:[-_.:/][a-z]{2,3}(?:[-_][a-z]{2,4})?)?")
DISTINCT = 6
"""Different digits in a published id: fewer are a counter that was filled up with zeros."""


class HashTable:
    """Distinct hashes, sorted, behind a filter of one byte a slot that most look-ups end at."""

    def __init__(self, hashes: Hashes) -> None:
        self.hashes = hashes
        self._filter = np.zeros(1 << min(26, max(10, (16 * len(hashes)).bit_length())), np.bool_)
        self._filter[hashes & np.uint64(len(self._filter) - 1)] = True

    def find(self, wanted: Hashes) -> tuple[Ints, Ints]:
        """Places in `wanted` and in the table at which they agree, by the place in `wanted`."""
        near = np.flatnonzero(self._filter.take((wanted & np.uint64(len(self._filter) - 1)).view(np.int64)))
        if not len(near) or not len(self.hashes):
            return np.empty(0, np.int64), np.empty(0, np.int64)
        place = np.minimum(np.searchsorted(self.hashes, wanted[near]), len(self.hashes) - 1)
        same = self.hashes[place] == wanted[near]
        return near[same], place[same]


class Index:
    """The hashes of evaluation texts and of their n-grams, and the texts that have each.

    Attributes:
        evaluation: the texts, by number.
        ngram: units of an n-gram; `UNSPACED_FACTOR` as many in a text that is mostly of unspaced scripts.
        sizes: the lengths of n-grams that some text is tested by.
        long: bool [texts], whether a text has an n-gram.
        texts: hashes of whole texts; `numbers` lists the texts that have each.
        ngrams: hashes of n-grams; `places` lists, for each text, the places of its distinct ones among them.
        sampled: n-grams there were for each one kept.
        ids: for each side the texts of every id, bare, that a publisher made to be unique.
    """

    def __init__(
        self, evaluation: Texts[EvaluationPart], ngram: int, most_ngrams: int = MOST_NGRAMS, batch: int = BATCH
    ) -> None:
        """Hash the texts, `batch` at a time, and keep `most_ngrams` n-grams."""
        self.evaluation, self.ngram = evaluation, ngram
        self.sizes: set[int] = set()
        self.ids: dict[str, dict[str, list[int]]] = {side: {} for side in SIDES}
        found = _Ngrams(most_ngrams)
        text_hashes, long = [np.empty(0, np.uint64)], [np.empty(0, np.bool_)]
        for part in evaluation.parts:
            for start, texts, names in part.batches(batch):
                units = Units.of(texts)
                size_of = ngram_sizes(units, ngram)
                for size in np.unique(size_of).tolist():
                    text, hashes = units.windows(size)
                    mine = size_of[text] == size
                    found.add(text[mine] + start, hashes[mine])
                    self.sizes.add(size)
                text_hashes.append(units.text_hashes)
                long.append(units.counts >= size_of)
                for number, id_ in enumerate(names, start):
                    if is_published(id_):
                        self.ids[part.side].setdefault(bare_id(id_), []).append(number)
        hashes, hash_of = np.unique(np.concatenate(text_hashes), return_inverse=True)
        self.texts = HashTable(hashes)
        self.numbers = Ragged.of(np.argsort(hash_of, kind="stable"), np.bincount(hash_of, minlength=len(hashes)))
        self.long: npt.NDArray[np.bool_] = np.concatenate(long)
        self.ngrams, self.places = found.close(len(evaluation))
        self.sampled = found.sampled

    @cached_property
    def is_query(self) -> npt.NDArray[np.bool_]:
        """Bool [texts]: whether a text is a query."""
        return np.repeat([part.side == "queries" for part in self.evaluation.parts], [len(p) for p in self.evaluation.parts])


class _Ngrams:
    """(text, n-gram) pairs, each once; thinned out by hash where they become too many."""

    def __init__(self, most: int) -> None:
        self.sampled = 1
        self._most = most
        self._parts: list[tuple[Ints, Hashes]] = [(np.empty(0, np.int64), np.empty(0, np.uint64))]

    def add(self, texts: Ints, hashes: Hashes) -> None:
        """The n-grams of some texts; all of a text come together."""
        texts, hashes = self._kept(texts, hashes)
        order = np.lexsort((hashes, texts))
        texts, hashes = texts[order], hashes[order]
        new = np.ones(len(texts), np.bool_)
        new[1:] = (texts[1:] != texts[:-1]) | (hashes[1:] != hashes[:-1])
        self._parts.append((texts[new], hashes[new]))
        while sum(len(part) for part, _ in self._parts) > self._most:
            self.sampled *= 2
            self._parts = [self._kept(*part) for part in self._parts]

    def _kept(self, texts: Ints, hashes: Hashes) -> tuple[Ints, Hashes]:
        kept = hashes <= np.uint64((1 << 64) // self.sampled - 1)
        return texts[kept], hashes[kept]

    def close(self, count: int) -> tuple[HashTable, Ragged]:
        """Distinct hashes, and for each of `count` texts the places of its own among them."""
        texts, hashes = (np.concatenate(column) for column in zip(*self._parts, strict=True))
        order = np.argsort(texts, kind="stable")
        found, place = np.unique(hashes[order], return_inverse=True)
        return HashTable(found), Ragged.of(place, np.bincount(texts, minlength=count))


def ngram_sizes(units: Units, ngram: int) -> Ints:
    """int64 [texts]: the length of the n-grams that each text is tested by, in units."""
    return np.where(units.mostly_unspaced, UNSPACED_FACTOR * ngram, ngram)


def is_published(id_: str) -> bool:
    """True for an id that is unique by itself: 16 hexadecimal digits or more, hyphens aside, that are no mere counter."""
    match = PUBLISHED_ID.search(id_.replace("-", ""))
    return match is not None and len(set(match[0].lower())) >= DISTINCT


def bare_id(id_: str) -> str:
    """A published id without the code of a language before or after it; other ids as they are."""
    match = LANGUAGE_BESIDE.fullmatch(id_)
    return match["id"] if match and is_published(match["id"]) else id_
