"""Parallel items in invented languages: seeded, of any size, each language in an alphabet of its own.

Every item is a handful of concepts out of a shared vocabulary with Zipf's frequencies; a language spells a concept with
its own letters. A question names some of its passage's concepts. Nothing is shared between languages but meaning, so
what crosses languages was learnt from translations: what tests and benchmarks need.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import numpy as np

from hybrid_retrieval.data.parallel import PairsWriter
from hybrid_retrieval.data.source import BuiltSource, choose_languages, same_item_edges
from hybrid_retrieval.values import Range, Seed, Share, check

ALPHABETS = [0x0061, 0x03B1, 0x0430, 0x0561, 0x05D0, 0x0627, 0x0905, 0x0985, 0x0E01, 0x10D0, 0x1200, 0x13A0, 0x3041, 0x30A2]
LETTERS = 20


@dataclass(eq=False)
class Synthetic(BuiltSource):
    """Generated parallel items; language ``s0``, ``s1``, ... writes in the n-th alphabet."""

    items: Annotated[int, Range(0, 10_000_000, above=True)] = 4000
    languages: list[str] = field(default_factory=lambda: ["s0", "s1", "s2", "s3"])
    concepts: Annotated[int, Range(0, 1_000_000, above=True)] = 2000
    passage_words: Annotated[int, Range(0, 10_000, above=True)] = 30
    question_words: Annotated[int, Range(0, 10_000, above=True)] = 4
    missing: Annotated[float, Range(0, 1, below=True)] = 0.0
    validation_share: Share = 0.05
    test_share: Share = 0.15
    seed: Seed = 0

    name = kind = "synthetic"
    license = "none needed"
    version = 1

    def __post_init__(self) -> None:
        check(type(self), vars(self), "dataset")
        self.languages = choose_languages(self.languages, self.offered())

    def at_hand(self) -> bool:
        return True

    def chosen(self) -> list[str]:
        return self.languages

    def offered(self) -> list[str]:
        return [f"s{index}" for index in range(len(ALPHABETS))]

    def write(self, writer: PairsWriter) -> None:
        random = np.random.default_rng(self.seed)
        frequency = 1 / np.arange(1, self.concepts + 1)
        frequency /= frequency.sum()
        lengths = np.maximum(self.question_words, random.poisson(self.passage_words, self.items))
        passages = [random.choice(self.concepts, length, p=frequency) for length in lengths]
        questions = [random.permutation(np.unique(passage))[: self.question_words] for passage in passages]
        for language in self.languages:
            spelling = self._spelling(int(language[1:]))
            for side, meanings in (("queries", questions), ("passages", passages)):
                present = random.random(self.items) >= self.missing
                rows = ((i, str(i), " ".join(spelling[c] for c in meanings[i])) for i in np.flatnonzero(present).tolist())
                writer.write(side, language, rows)
        edges = same_item_edges([f"{self.seed}/{item}" for item in range(self.items)], self.validation_share, self.test_share)
        writer.finish(edges, {"provenance": {"generated": True, **self._place()[1]}})

    def _spelling(self, alphabet: int) -> list[str]:
        """A word of two to six letters for every concept, all different."""
        random = np.random.default_rng([self.seed, alphabet])
        words: dict[str, None] = {}
        while len(words) < self.concepts:
            letters = random.integers(0, LETTERS, random.integers(2, 7))
            words["".join(chr(ALPHABETS[alphabet] + letter) for letter in letters)] = None
        return list(words)
