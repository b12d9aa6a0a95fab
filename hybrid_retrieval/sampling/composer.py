"""Streams of pairs and of batches, and the global batches that a monolingual and a cross-lingual one make by their ratio."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np

from hybrid_retrieval.hashing import mix
from hybrid_retrieval.sampling.availability import Availability, Cell, Cells
from hybrid_retrieval.sampling.batch import Draws, PairIndices, distinct
from hybrid_retrieval.sampling.languages import GRAIN, Choice, Probabilities, probabilities
from hybrid_retrieval.sampling.permutation import Orders
from hybrid_retrieval.sampling.ratio import Decision, Exact, Ratio

CHOICE, ITEMS, REPEATS = 1, 2, 3
"""What a random number is for: the part of a key after that of its stream."""
BLOCK = GRAIN // 4
"""Long draws go block by block: the arrays of one stay in the processor's cache, and blocks end where long cycles do."""


class MixedPairs:
    """Pairs whose languages are drawn one by one, so that languages mix in a batch.

    Each cell goes through its own items in a keyed order, without repetition before all were seen.
    """

    def __init__(self, available: Availability, cells: Sequence[Cell], language_choice: str | float, *key: int) -> None:
        """
        Args:
            cells: what can be drawn; none is empty. Their language pair is drawn by `language_choice`, then the set by the
                sets' weights.
            key: integers that the stream is a function of.
        """
        self.cells = Cells(cells)
        self.key = key
        self.same_language = bool((self.cells.names[1] == self.cells.names[2]).all())
        of_cells = np.zeros(len(cells))
        groups: dict[tuple[int, int], list[int]] = {}
        for index, cell in enumerate(cells):
            groups.setdefault((cell.query_language, cell.passage_language), []).append(index)
        sizes = [sum(cells[index].size for index in members) for members in groups.values()]
        for members, of_pair in zip(groups.values(), probabilities(sizes, language_choice), strict=True):
            weights = np.array([available.sets[cells[index].set_index].weight for index in members])
            of_cells[members] = of_pair * weights / weights.sum()
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


BatchStream = MixedBatches | MonolingualBatches


class Composer(ABC):
    """The global batches of a run, each a function of nothing but the sets, the seed, the step and the journal.

    A global batch is one part, or several consecutive ones, as devices gather that drew a homogeneous batch each. Their number
    is a config value and has nothing to do with the number of devices. An item may be in two of them; masks keep it from being
    its own negative.
    """

    def __init__(self, ratio: Ratio, parts: int) -> None:
        self.ratio, self.schedule, self.parts = ratio, ratio.schedule, parts

    @abstractmethod
    def part(self, number: int) -> PairIndices:
        """A part of a global batch, counted over all steps; the ratio and its schedule count parts, or their pairs."""

    def batch(self, step: int) -> PairIndices:
        """The global batch of `step`."""
        return PairIndices.join([self.part(step * self.parts + number) for number in range(self.parts)])

    def alpha(self, step: int) -> float:
        """The scheduled ratio of same-language batches (or pairs) at `step`."""
        return float(self.schedule.curve.values(step * self.parts, step * self.parts + 1)[0])

    def observe(self, step: int, measures: Mapping[str, float]) -> Decision | None:
        """Let an adaptive schedule decide from the validation after `step` steps.

        Args:
            step: steps done.
            measures: 'monolingual' and 'crosslingual', higher is better (mAP); one that is missing or not finite decides
                nothing.

        Returns:
            The decision, which is now in the journal and holds from its step on; None where the schedule is not adaptive.
        """
        return self.schedule.observe(step * self.parts, measures)


class HybridBatches(Composer):
    """Each part comes from one of two streams: the ratio says whose turn it is, and the stream goes on where it was left."""

    def __init__(self, monolingual: BatchStream | None, crosslingual: BatchStream | None, ratio: Ratio, parts: int = 1) -> None:
        """
        Args:
            monolingual: None where the ratio never gives the stream a turn.
            crosslingual: likewise.
        """
        super().__init__(ratio, parts)
        self.monolingual, self.crosslingual = monolingual, crosslingual

    def part(self, number: int) -> PairIndices:
        before = self.ratio.before(number)  # monolingual batches before this one
        if self.ratio.before(number + 1) > before:
            assert self.monolingual is not None
            return self.monolingual.batch(before)
        assert self.crosslingual is not None
        return self.crosslingual.batch(number - before)


class HybridWithinBatches(Composer):
    """Each part has pairs of both streams: the ratio counts pairs, `Exact.turns` of them a part.

    Either stream alone has items enough for a part.
    """

    def __init__(self, monolingual: MixedPairs, crosslingual: MixedPairs, ratio: Exact, parts: int = 1) -> None:
        super().__init__(ratio, parts)
        self.monolingual, self.crosslingual, self.size, self.key = monolingual, crosslingual, ratio.turns, ratio.key

    def part(self, number: int) -> PairIndices:
        before, after = self.ratio.before(number), self.ratio.before(number + 1)
        monolingual = self.monolingual.draw(before, after - before)
        crosslingual = self.crosslingual.draw(number * self.size - before, self.size - (after - before))
        return distinct([monolingual, crosslingual], *self.key, REPEATS, number)
