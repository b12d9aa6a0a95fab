"""The two kinds of streams that every sampler is made of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hybrid_retrieval.hashing import mix
from hybrid_retrieval.sampling.availability import Availability, Cell, Cells
from hybrid_retrieval.sampling.batch import Draws, PairIndices, distinct
from hybrid_retrieval.sampling.composer import REPEATS
from hybrid_retrieval.sampling.languages import GRAIN, Choice, Probabilities, probabilities
from hybrid_retrieval.sampling.permutation import Orders

CHOICE, ITEMS = 1, 2
"""What a random number is for: the part of a key after that of its stream."""

BLOCK = GRAIN // 4
"""Long draws go block by block: the arrays of one stay in the processor's cache, and blocks end where long cycles do."""


class MixedPairs:
    """Pairs whose languages are drawn one by one, so that languages mix in a batch.

    Each cell goes through its own items in a keyed order, without repetition before all were seen.
    """

    def __init__(self, cells: Sequence[Cell], of_cells: Probabilities, *key: int) -> None:
        """
        Args:
            cells: what can be drawn; none is empty.
            of_cells: float [cells], their probabilities.
            key: integers that the stream is a function of.
        """
        self.cells = Cells(cells)
        self.key = key
        self.same_language = bool((self.cells.names[1] == self.cells.names[2]).all())
        self._choice = Choice(of_cells, *key, CHOICE)
        self._orders = Orders(self.cells.sizes, mix(*key, ITEMS, *self.cells.names))

    def draw(self, start: int, count: int) -> Draws:
        """The pairs at positions start .. start + count - 1 of the stream."""
        cell, edge = np.empty(count, np.int64), np.empty(count, np.int64)
        for first in range(start - start % BLOCK, start + count, BLOCK):
            low, high = max(first, start), min(first + BLOCK, start + count)
            part = slice(low - start, high - start)
            cell[part], turn = self._choice.draw(low, high - low)
            edge[part] = self.cells.edges(cell[part], self._orders.items(cell[part], turn))
        return Draws(self.cells, cell, edge)


class MixedBatches:
    """Consecutive runs of one mixed stream; smaller than `size` where it has fewer items."""

    def __init__(self, pairs: MixedPairs, size: int) -> None:
        self.pairs = pairs
        self.size = min(size, pairs.cells.distinct_items)

    def batch(self, number: int) -> PairIndices:
        """A batch of the stream, counted from 0."""
        return distinct([self.pairs.draw(number * self.size, self.size)], *self.pairs.key, REPEATS, number)


class MonolingualBatches:
    """Whole batches in one language: the language is drawn for the batch, the sets for its pairs."""

    def __init__(self, languages: Sequence[MixedBatches], of_languages: Probabilities, *key: int) -> None:
        """
        Args:
            languages: the batches of one language each.
            of_languages: float [languages], their probabilities.
            key: integers that the choice of languages is a function of.
        """
        self.languages = tuple(languages)
        self._choice = Choice(of_languages, *key, CHOICE)

    def batch(self, number: int) -> PairIndices:
        """A batch of the stream, counted from 0."""
        language, turn = self._choice.draw(number, 1)
        return self.languages[int(language[0])].batch(int(turn[0]))


def mixed_pairs(available: Availability, cells: Sequence[Cell], language_choice: str | float, *key: int) -> MixedPairs:
    """A stream over `cells`: the language pair by `language_choice`, then the set by the sets' weights."""
    of_cells = np.zeros(len(cells))
    groups: dict[tuple[int, int], list[int]] = {}
    for index, cell in enumerate(cells):
        groups.setdefault((cell.query_language, cell.passage_language), []).append(index)
    sizes = [sum(cells[index].size for index in members) for members in groups.values()]
    for members, of_pair in zip(groups.values(), probabilities(sizes, language_choice), strict=True):
        weights = np.array([available.sets[cells[index].set_index].weight for index in members])
        of_cells[members] = of_pair * weights / weights.sum()
    return MixedPairs(cells, of_cells, *key)


def monolingual_batches(
    available: Availability, cells: Sequence[Cell], language_choice: str | float, size: int, *key: int
) -> MonolingualBatches:
    """Batches in one language each, over the same-language `cells`."""
    of_language: dict[int, list[Cell]] = {}
    for cell in cells:
        of_language.setdefault(cell.query_language, []).append(cell)
    languages = [
        MixedBatches(mixed_pairs(available, members, "uniform", *key, ITEMS, language), size)
        for language, members in of_language.items()
    ]
    sizes = [sum(cell.size for cell in members) for members in of_language.values()]
    return MonolingualBatches(languages, probabilities(sizes, language_choice), *key)
