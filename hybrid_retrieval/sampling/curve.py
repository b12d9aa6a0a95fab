"""A ratio that changes over the steps of a run, in linear pieces whose sums are exact integers."""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

UNIT_BITS = 60
UNIT = 1 << UNIT_BITS
"""Ratios are counted in this part of 1, in Python's integers: no sum over a run is ever rounded."""
CHORDS = 1024
"""Pieces of a cosine, at most; a run of no more steps than that has the cosine itself at every step."""


class Curve:
    """Linear pieces end to end, the last one without end."""

    def __init__(self, starts: Sequence[int], values: Sequence[float], joined: bool = False) -> None:
        """
        Args:
            starts: first step of each piece, in order; the first is 0.
            values: the ratio there, each 0..1.
            joined: whether a piece leads to the next one's value, or keeps its own.
        """
        self.starts = list(starts)
        self.lowest, self.highest = min(values), max(values)
        self._firsts = [round(value * UNIT) for value in values]
        self._lengths = [stop - start for start, stop in itertools.pairwise(starts)] + [1]
        last = self._firsts[-1]
        ends = [*self._firsts[1:], last] if joined else self._firsts
        self._climbs = [end - first for first, end in zip(self._firsts, ends, strict=True)]
        self._before = [0]
        for piece, length in enumerate(self._lengths[:-1]):
            self._before.append(self._before[-1] + self._within(piece, length))

    def _within(self, piece: int, steps: int) -> int:
        """The sum over the first `steps` of a piece, in units."""
        climb = self._climbs[piece] * steps * (steps - 1) // (2 * self._lengths[piece]) if steps > 1 else 0
        return self._firsts[piece] * steps + climb

    def sum(self, steps: int) -> int:
        """The sum over the first `steps` steps, in units; it grows by 0 to 1 UNIT a step."""
        piece = bisect_right(self.starts, steps) - 1
        return self._before[piece] + self._within(piece, steps - self.starts[piece])

    def values(self, start: int, stop: int) -> npt.NDArray[np.float64]:
        """The ratio at each of the steps start .. stop - 1."""
        first, last = bisect_right(self.starts, start) - 1, bisect_right(self.starts, stop - 1)
        bounds = np.array([start, *self.starts[first + 1 : last], stop])
        counts = np.diff(bounds)
        pieces = slice(first, last)
        slopes = np.array(
            [climb / max(1, length) / UNIT for climb, length in zip(self._climbs[pieces], self._lengths[pieces], strict=True)]
        )
        origins = np.array([value / UNIT for value in self._firsts[pieces]]) - slopes * np.array(self.starts[pieces])
        values: npt.NDArray[np.float64] = np.arange(start, stop, dtype=np.float64)
        if len(counts) == 1:
            return values * float(slopes[0]) + float(origins[0])
        values *= np.repeat(slopes, counts)
        values += np.repeat(origins, counts)
        return values


def constant(ratio: float) -> Curve:
    """The same ratio at every step."""
    return Curve([0], [ratio])


def straight(first: float, end: float, steps: int) -> Curve:
    """From `first` at step 0 to `end` at step `steps` - 1, and on."""
    return Curve([0, steps - 1], [first, end], joined=True)


def half_cosine(first: float, end: float, steps: int) -> Curve:
    """The same along half a period of a cosine: slow, fast, slow."""
    chords = min(max(1, steps - 1), CHORDS)
    knots = [round(chord * (steps - 1) / chords) for chord in range(chords + 1)]
    middle, reach = (first + end) / 2, (first - end) / 2
    values = [middle + reach * math.cos(math.pi * knot / max(1, steps - 1)) for knot in knots]
    return Curve(knots, [first, *(min(1.0, max(0.0, value)) for value in values[1:-1]), end], joined=True)
