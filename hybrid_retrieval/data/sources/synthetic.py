"""Parallel items in invented languages: seeded, of any size, each language in an alphabet of its own.

Every item is a handful of concepts out of a shared vocabulary with Zipf's frequencies; a language spells a concept with
its own letters. A question names some of its passage's concepts. Nothing is shared between languages but meaning, so
what crosses languages was learnt from translations: what tests and benchmarks need.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hybrid_retrieval.config import PathsConfig, positive, share
from hybrid_retrieval.data.parallel import PairsWriter
from hybrid_retrieval.data.source import BuiltSource, choose_languages, same_item_edges

VERSION = 1
ALPHABETS = [0x0061, 0x03B1, 0x0430, 0x0561, 0x05D0, 0x0627, 0x0905, 0x0985, 0x0E01, 0x10D0, 0x1200, 0x13A0, 0x3041, 0x30A2]
LETTERS = 20


class Synthetic(BuiltSource):
    """Generated parallel items; language ``s0``, ``s1``, ... writes in the n-th alphabet."""

    name = kind = "synthetic"

    def __init__(
        self,
        paths: PathsConfig,
        items: int = 4000,
        languages: list[str] | None = None,
        concepts: int = 2000,
        passage_words: int = 30,
        question_words: int = 4,
        missing: float = 0.0,
        validation_share: float = 0.05,
        test_share: float = 0.15,
        seed: int = 0,
    ) -> None:
        """Take the choices; nothing is generated yet.

        Args:
            paths: where the cache is.
            items: parallel items.
            languages: out of s0..s13; the first four by default.
            concepts: size of the shared vocabulary.
            passage_words: mean number of words in a passage.
            question_words: words in a question; fewer where its passage has fewer different ones.
            missing: probability that a side of an item is absent in a language (a ragged set).
            validation_share: of the items.
            test_share: of the items.
            seed: of the generator, apart from the job's.
        """
        sizes = {"items": items, "concepts": concepts, "passage_words": passage_words, "question_words": question_words}
        for key, number in sizes.items():
            positive(f"dataset.{key}", number)
        for key, part in {"missing": missing, "validation_share": validation_share, "test_share": test_share}.items():
            share(f"dataset.{key}", part)
        present = [f"s{index}" for index in range(len(ALPHABETS))]
        self._languages = choose_languages(languages, present) if languages is not None else present[:4]
        self.paths = paths
        self._key = {
            "version": VERSION,
            "items": items,
            "languages": self._languages,
            "concepts": concepts,
            "passage_words": passage_words,
            "question_words": question_words,
            "missing": missing,
            "shares": [validation_share, test_share],
            "seed": seed,
        }
        self._items, self._concepts = items, concepts
        self._words = question_words, passage_words
        self._missing, self._shares, self._seed = missing, (validation_share, test_share), seed

    def at_hand(self) -> bool:
        return True

    def languages(self) -> list[str]:
        return self._languages

    def key(self) -> dict[str, Any]:
        return self._key

    def write(self, writer: PairsWriter) -> None:
        random = np.random.default_rng(self._seed)
        question_words, passage_words = self._words
        frequency = 1 / np.arange(1, self._concepts + 1)
        frequency /= frequency.sum()
        lengths = np.maximum(question_words, random.poisson(passage_words, self._items))
        passages = [random.choice(self._concepts, length, p=frequency) for length in lengths]
        questions = [random.permutation(np.unique(passage))[:question_words] for passage in passages]
        for language in self._languages:
            spelling = self._spelling(int(language[1:]))
            for side, meanings in (("queries", questions), ("passages", passages)):
                present = random.random(self._items) >= self._missing
                rows = ((i, str(i), " ".join(spelling[c] for c in meanings[i])) for i in np.flatnonzero(present).tolist())
                writer.write(side, language, rows)
        edges = same_item_edges([f"{self._seed}/{item}" for item in range(self._items)], *self._shares)
        writer.finish(edges, {"provenance": {"generated": True, **self._key}, "dropped": {}})

    def _spelling(self, alphabet: int) -> list[str]:
        """A word of two to six letters for every concept, all different."""
        random = np.random.default_rng([self._seed, alphabet])
        words: dict[str, None] = {}
        while len(words) < self._concepts:
            letters = random.integers(0, LETTERS, random.integers(2, 7))
            words["".join(chr(ALPHABETS[alphabet] + letter) for letter in letters)] = None
        return list(words)
