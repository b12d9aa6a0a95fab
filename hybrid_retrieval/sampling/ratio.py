"""Whose turn it is: how the steps (or the pairs) are split between two streams, given the ratio of the first."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from hybrid_retrieval.hashing import mix
from hybrid_retrieval.sampling.curve import UNIT_BITS, Curve, constant
from hybrid_retrieval.sampling.permutation import uniform
from hybrid_retrieval.sampling.schedule import Schedule

BLOCK = 16_384
"""Steps that are tossed at once."""


class Ratio(Protocol):
    """A split of steps between two streams."""

    @property
    def schedule(self) -> Schedule:
        """The ratio of the first."""

    def before(self, step: int) -> int:
        """How many turns the first stream had in the first `step` steps."""


class Exact:
    """After n steps the first stream had the sum of its ratios to within less than one (law 2).

    Systematic sampling with a phase drawn from the key. A step may be several turns: the pairs of a batch.
    """

    def __init__(self, schedule: Schedule, *key: int, turns: int = 1) -> None:
        self.schedule, self.key, self.turns = schedule, key, turns
        self._phase = int(mix(*key)) >> (64 - UNIT_BITS)

    def before(self, step: int) -> int:
        return (self.schedule.curve.sum(step) * self.turns + self._phase) >> UNIT_BITS


class Bernoulli:
    """The paper's coin, one toss a step."""

    def __init__(self, schedule: Schedule, *key: int) -> None:
        self.schedule, self._key = schedule, key
        self._forget(schedule.curve)

    def _forget(self, curve: Curve) -> None:
        self._curve = curve
        self._blocks = [0]
        """Heads before each block."""
        self._memo: tuple[int, npt.NDArray[np.int64]] = (-1, np.empty(0, np.int64))

    def before(self, step: int) -> int:
        if self.schedule.curve is not self._curve:
            self._forget(self.schedule.curve)
        block, offset = divmod(step, BLOCK)
        while len(self._blocks) <= block:
            self._blocks.append(self._blocks[-1] + int(np.count_nonzero(self._tosses(len(self._blocks) - 1))))
        if offset == 0:
            return self._blocks[block]
        if self._memo[0] != block:
            self._memo = block, np.cumsum(self._tosses(block))
        return self._blocks[block] + int(self._memo[1][offset - 1])

    def _tosses(self, block: int) -> npt.NDArray[np.bool_]:
        start, stop = block * BLOCK, (block + 1) * BLOCK
        heads: npt.NDArray[np.bool_] = uniform(*self._key, np.arange(start, stop)) < self._curve.values(start, stop)
        return heads


def always(ratio: float) -> Exact:
    """A ratio of 0 or 1: one stream has every turn."""
    return Exact(Schedule(constant(ratio)))


RATIOS: dict[str, type[Exact] | type[Bernoulli]] = {"exact": Exact, "bernoulli": Bernoulli}
"""By the name in ``sampler.ratio_mode``."""
