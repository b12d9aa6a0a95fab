"""Global batches by step, from a monolingual and a cross-lingual stream and the ratio between them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Protocol

from hybrid_retrieval.sampling.batch import Draws, PairIndices, distinct
from hybrid_retrieval.sampling.ratio import Decision, Exact, Ratio

REPEATS = 3
"""The part of a key by which repeated items of a batch are replaced."""


class BatchStream(Protocol):
    """Batches of one stream, counted from 0: functions of nothing but the sets, the seed and their number."""

    def batch(self, number: int) -> PairIndices:
        """A batch of the stream."""


class PairStream(Protocol):
    """Pairs of one stream, counted from 0."""

    def draw(self, start: int, count: int) -> Draws:
        """The pairs at positions start .. start + count - 1."""


class Composer(ABC):
    """The global batches of a run, each a function of nothing but the sets, the seed, the step and the journal."""

    def __init__(self, ratio: Ratio) -> None:
        self.ratio = ratio

    @abstractmethod
    def batch(self, step: int) -> PairIndices:
        """The global batch of `step`."""

    def alpha(self, step: int) -> float:
        """The scheduled ratio of same-language batches (or pairs) at `step`."""
        return float(self.ratio.schedule.curve.values(step, step + 1)[0])

    @property
    def adaptive(self) -> bool:
        """Whether it decides from what validation measures, so that it must be told, and batches not be drawn far ahead."""
        return self.ratio.schedule.adaptive

    @property
    def journal(self) -> list[Decision]:
        """The decisions of an adaptive schedule, oldest first; for a checkpoint. Empty for every other one."""
        return self.ratio.schedule.journal

    def restore(self, journal: Sequence[Decision]) -> None:
        """Take up a journal in place of one's own: the batches are then those of the run that it comes from."""
        self.ratio.schedule.restore(journal)

    def observe(self, step: int, measures: Mapping[str, float]) -> Decision | None:
        """Let an adaptive schedule decide from the validation after `step` steps.

        Args:
            step: steps done.
            measures: 'monolingual' and 'crosslingual', higher is better (mAP); one that is missing or not finite decides
                nothing.

        Returns:
            The decision, which is now in the journal and holds from its step on; None where the schedule is not adaptive.
        """
        return self.ratio.schedule.observe(step, measures)


class HybridBatches(Composer):
    """Each batch comes from one of two streams: the ratio says whose turn it is, and the stream goes on where it was left."""

    def __init__(self, monolingual: BatchStream | None, crosslingual: BatchStream | None, ratio: Ratio) -> None:
        """
        Args:
            monolingual, crosslingual: None where the ratio never gives the stream a turn.
        """
        super().__init__(ratio)
        self.monolingual, self.crosslingual = monolingual, crosslingual

    def batch(self, step: int) -> PairIndices:
        number = self.ratio.before(step)  # monolingual batches before this step
        if self.ratio.before(step + 1) > number:
            assert self.monolingual is not None
            return self.monolingual.batch(number)
        assert self.crosslingual is not None
        return self.crosslingual.batch(step - number)


class HybridWithinBatches(Composer):
    """Each batch has pairs of both streams: the ratio counts pairs, `Exact.turns` of them a step.

    Either stream alone has items enough for a batch.
    """

    def __init__(self, monolingual: PairStream, crosslingual: PairStream, ratio: Exact) -> None:
        super().__init__(ratio)
        self.monolingual, self.crosslingual, self.size, self.key = monolingual, crosslingual, ratio.turns, ratio.key

    def batch(self, step: int) -> PairIndices:
        before, after = self.ratio.before(step), self.ratio.before(step + 1)
        monolingual = self.monolingual.draw(before, after - before)
        crosslingual = self.crosslingual.draw(step * self.size - before, self.size - (after - before))
        return distinct([monolingual, crosslingual], *self.key, REPEATS, step)


class SubBatches(Composer):
    """Global batches of several consecutive batches each, as devices gather that drew a homogeneous batch each.

    Their number is a config value and has nothing to do with the number of devices. An item may be in two of them; masks
    keep it from being its own negative.
    """

    def __init__(self, parts: Composer, count: int) -> None:
        super().__init__(parts.ratio)
        self.parts, self.count = parts, count

    def batch(self, step: int) -> PairIndices:
        return PairIndices.join([self.parts.batch(step * self.count + number) for number in range(self.count)])

    def alpha(self, step: int) -> float:
        return self.parts.alpha(step * self.count)

    def observe(self, step: int, measures: Mapping[str, float]) -> Decision | None:
        return self.parts.observe(step * self.count, measures)
