"""How often each language, language pair or set is drawn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.hashing import mix
from hybrid_retrieval.ragged import spans
from hybrid_retrieval.sampling.permutation import Grid, Ints, permute

Probabilities = npt.NDArray[np.float64]

GRAIN = 65_536
"""Draws in a cycle when no shorter one has the exact probabilities: they are then right to one in this many."""


def probabilities(sizes: Sequence[int], how: str | float) -> Probabilities:
    """Probabilities of options: ``uniform``, by ``size``, or sizes to the power 1/temperature (a number from 1 up).

    An option of size 0 has probability 0.

    Raises:
        InputError: `how` (the config's ``sampler.language_choice``) is none of these.
    """
    counts = np.asarray(sizes, dtype=np.float64)
    raw: Probabilities
    if how == "uniform":
        raw = (counts > 0).astype(np.float64)
    elif how == "size":
        raw = counts
    elif isinstance(how, (int, float)) and not isinstance(how, bool) and how >= 1:
        raw = np.where(counts > 0, np.maximum(counts, 1) ** (1 / how), 0)
    else:
        raise InputError(f"sampler.language_choice={how!r} is unknown; expected uniform, size, or a temperature of 1 or more")
    return np.asarray(raw / raw.sum())


class Choice:
    """An endless sequence of options with exact probabilities.

    The sequence is made of cycles; each holds every option a fixed number of times, in an order that is shuffled anew.
    With equal weights a cycle has one of each, so that no language falls behind another by more than one draw.
    """

    def __init__(self, probabilities: Probabilities, *key: int) -> None:
        """
        Args:
            probabilities: float [options], summing to 1.
            key: integers that this sequence is a function of.
        """
        self._key = key
        self.counts = cycle_counts(probabilities)
        self.cycle = int(self.counts.sum())
        self._once = int(self.counts.max()) == 1
        """Each option at most once a cycle: its turn is then the number of the cycle."""
        self._tickets = np.repeat(np.arange(len(self.counts)), self.counts).astype(np.min_scalar_type(len(self.counts)))
        self._grid = Grid.of(self.cycle)
        self._memo: tuple[tuple[int, int], Ints] = ((-1, -1), np.empty(0, np.int64))

    def draw(self, start: int, count: int) -> tuple[Ints, Ints]:
        """The options at positions start .. start + count - 1, and how often each occurred before its position."""
        if self.cycle == 1:
            return np.full(count, np.argmax(self.counts)), np.arange(start, start + count, dtype=np.int64)
        if count == 0:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        first, last = start // self.cycle, (start + count - 1) // self.cycle
        options = self._cycles(first, last)
        offset = start - first * self.cycle
        drawn = options[offset : offset + count]
        if self._once:
            turns = np.repeat(np.arange(first, last + 1), self.cycle)[offset : offset + count]
            return drawn.astype(np.int64), turns
        before = first * self.counts + np.bincount(options[:offset], minlength=len(self.counts))
        return drawn.astype(np.int64), _turns(drawn, before)

    def _cycles(self, first: int, last: int) -> Ints:
        """The options of whole cycles, end to end; the latest answer is kept, as a long cycle serves many batches."""
        kept, options = self._memo
        if kept != (first, last):
            keys = mix(*self._key, np.arange(first, last + 1, dtype=np.int64))
            options = self._tickets[permute(np.arange(self.cycle), self._grid, keys[:, np.newaxis]).ravel()]
            self._memo = (first, last), options
        return options


def _turns(options: Ints, before: Ints) -> Ints:
    """How often each option occurred before its place, if `before` is how often each did before the first place."""
    order = np.argsort(options, kind="stable")
    counts = np.bincount(options, minlength=len(before))
    turns = np.empty(len(options), np.int64)
    turns[order] = spans(before, counts)
    return turns


def cycle_counts(probabilities: Probabilities) -> Ints:
    """How often each option occurs in a cycle: the smallest whole numbers in that proportion, or near `GRAIN` in all."""
    multiples = probabilities / probabilities[probabilities > 0].min()
    whole = np.rint(multiples)
    if whole.sum() <= GRAIN and np.allclose(multiples, whole, rtol=1e-9, atol=0):
        return np.asarray(whole, dtype=np.int64)
    return largest_remainder(probabilities, GRAIN)


def largest_remainder(probabilities: Probabilities, total: int) -> Ints:
    """Integers near ``probabilities * total`` that sum to `total`, or to a little more: no possible option is left out."""
    exact = probabilities * total
    counts = np.floor(exact).astype(np.int64)
    order = np.argsort(counts - exact, kind="stable")
    counts[order[: total - int(counts.sum())]] += 1
    counts[(probabilities > 0) & (counts == 0)] = 1
    return counts
