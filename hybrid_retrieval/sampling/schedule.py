"""Whose turn it is: how the steps (or the pairs) are split between two streams."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np

from hybrid_retrieval.sampling.permutation import uniform

BLOCK = 65_536


class Ratio(Protocol):
    """A split of steps between two streams, with a constant share for the first."""

    def before(self, step: int) -> int:
        """How many of the first `step` steps went to the first stream."""


class Exact:
    """After n steps the first stream had alpha * n of them to within less than one (law 2).

    Systematic sampling with a phase drawn from the key.
    """

    def __init__(self, alpha: float, *key: int) -> None:
        self._alpha = alpha
        self._phase = float(uniform(*key))

    def before(self, step: int) -> int:
        return math.floor(self._alpha * step + self._phase)


class Bernoulli:
    """The paper's coin, one toss a step."""

    def __init__(self, alpha: float, *key: int) -> None:
        self._alpha, self._key = alpha, key
        self._heads = np.zeros(1, np.int64)

    def before(self, step: int) -> int:
        while step >= len(self._heads):
            start = len(self._heads) - 1
            tosses = uniform(*self._key, np.arange(start, start + BLOCK)) < self._alpha
            self._heads = np.concatenate([self._heads, self._heads[-1] + np.cumsum(tosses)])
        return int(self._heads[step])


RATIOS: dict[str, type[Exact] | type[Bernoulli]] = {"exact": Exact, "bernoulli": Bernoulli}
"""By the name in ``sampler.ratio_mode``."""
