"""What training asks of a composer: batches by step, and what decides their mixture."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from hybrid_retrieval.sampling.batch import PairIndices
from hybrid_retrieval.sampling.schedule import Decision, Schedule


class Composer(ABC):
    """The batches of a run, and the ratio of same-language ones (or pairs) among them."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule

    @abstractmethod
    def batch(self, step: int) -> PairIndices:
        """The global batch of `step`, a function of nothing but the sets, the seed, the step and the journal."""

    def alpha(self, step: int) -> float:
        """The scheduled ratio of same-language batches (or pairs) at `step`."""
        return float(self.schedule.curve.values(step, step + 1)[0])

    @property
    def adaptive(self) -> bool:
        """Whether it decides from what validation measures, so that it must be told, and batches not be drawn far ahead."""
        return self.schedule.adaptive

    @property
    def journal(self) -> list[Decision]:
        """What an adaptive schedule decided, oldest first; for a checkpoint. Empty for every other one."""
        return self.schedule.journal

    def restore(self, journal: Sequence[Decision]) -> None:
        """Take up a journal in place of one's own: the batches are then those of the run that it comes from."""
        self.schedule.restore(journal)

    def observe(self, step: int, measures: Mapping[str, float]) -> Decision | None:
        """Let an adaptive schedule decide from what validation measured after `step` steps.

        Args:
            step: steps done.
            measures: 'monolingual' and 'crosslingual', higher is better (mAP); one that is missing or not finite decides
                nothing.

        Returns:
            The decision, which is now in the journal and holds from its step on; None where the schedule is not adaptive.
        """
        return self.schedule.observe(step, measures)


class SubBatches(Composer):
    """Global batches of several consecutive batches each, as devices gather that drew a homogeneous batch each.

    Their number is a config value and has nothing to do with the number of devices. An item may be in two of them; masks
    keep it from being its own negative.
    """

    def __init__(self, parts: Composer, count: int) -> None:
        super().__init__(parts.schedule)
        self.parts, self.count = parts, count

    def batch(self, step: int) -> PairIndices:
        return PairIndices.join([self.parts.batch(step * self.count + number) for number in range(self.count)])

    def alpha(self, step: int) -> float:
        return self.parts.alpha(step * self.count)

    def observe(self, step: int, measures: Mapping[str, float]) -> Decision | None:
        return self.parts.observe(step * self.count, measures)
