"""The text that a model's tokenizer is trained on: the training split, the same amount of every language."""

from __future__ import annotations

from typing import Any

import numpy as np

from hybrid_retrieval.data.source import Source


class SourceText:
    """Samples the training split of all sets of a source."""

    def __init__(self, source: Source) -> None:
        self._sets = [one.pairs for one in source.sets()]

    @property
    def key(self) -> Any:
        return [pairs.directory.name for pairs in self._sets]

    def sample(self, characters: int) -> list[str]:
        """Passages and questions in turn, in a fixed random order, until each language of each set has its share."""
        texts: list[str] = []
        share = characters // len(self._sets)
        for pairs in self._sets:
            sides = [(pairs.passages, pairs.split_rows("train")[1]), (pairs.queries, pairs.split_rows("train")[0])]
            for index in range(len(pairs.languages)):
                for (table, rows), amount in zip(sides, (share * 3 // 4, share // 4), strict=True):
                    mine = rows[table.languages[rows] == index]
                    mine = np.random.default_rng(index).permutation(mine)[: amount // 4 + 1]
                    taken = 0
                    for text in table.texts(mine):
                        if taken >= amount:
                            break
                        texts.append(text)
                        taken += len(text)
        return texts
