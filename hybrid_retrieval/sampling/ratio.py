"""The ratio of monolingual batches: how it moves over a run, its exact sums, and whose turn it is in each step.

A `Curve` has the ratio at every step, in linear pieces whose sums are exact integers. A `Schedule` (``sampler.schedule``) is a
curve that is known from the start, or an adaptive one that also goes by what validation found: its decisions are kept in a
journal, so that batches are a function of (seed, step, journal). `Exact` and `Bernoulli` split the steps by a schedule.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Annotated, TypedDict

import numpy as np
import numpy.typing as npt

from hybrid_retrieval.errors import InputError, choice
from hybrid_retrieval.hashing import mix
from hybrid_retrieval.sampling.permutation import uniform
from hybrid_retrieval.values import NotNegative, Part, Range, Share

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
        slopes = [climb / max(1, length) / UNIT for climb, length in zip(self._climbs, self._lengths, strict=True)]
        self._slopes = np.array(slopes)
        self._origins = np.array([first / UNIT for first in self._firsts]) - self._slopes * np.array(self.starts)

    def _within(self, piece: int, steps: int) -> int:
        """The sum over the first `steps` of a piece, in units."""
        return self._firsts[piece] * steps + self._climbs[piece] * steps * (steps - 1) // (2 * max(1, self._lengths[piece]))

    def sum(self, steps: int) -> int:
        """The sum over the first `steps` steps, in units; it grows by 0 to 1 UNIT a step."""
        piece = bisect_right(self.starts, steps) - 1
        return self._before[piece] + self._within(piece, steps - self.starts[piece])

    def values(self, start: int, stop: int) -> npt.NDArray[np.float64]:
        """The ratio at each of the steps start .. stop - 1."""
        of_piece = np.diff(np.clip([*self.starts, stop], start, stop))
        values: npt.NDArray[np.float64] = np.repeat(self._slopes, of_piece) * np.arange(start, stop)
        values += np.repeat(self._origins, of_piece)
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


OWN_KEYS = {"constant": (), "linear": ("end",), "cosine": ("end",), "step": ("at", "shares"), "adaptive": ()}
"""By kind, the keys that must be given for it; other kinds must leave them out."""
LEAST_DELAY = 2
"""A loader without workers is one batch ahead of the training step."""


class Decision(TypedDict):
    """One decision of an adaptive schedule; plain types, as a checkpoint keeps them."""

    step: int
    """The first step with this alpha."""
    alpha: float
    observed: int
    """Steps that were done when validation measured."""
    monolingual: float | None
    """The measure of the stream; None where it was missing."""
    crosslingual: float | None


class Schedule:
    """A curve that is known from the start; its journal is empty."""

    adaptive = False
    """Whether it decides from what validation measures, so that batches may not be drawn far ahead."""

    def __init__(self, curve: Curve) -> None:
        self.curve = curve
        self.lowest, self.highest = curve.lowest, curve.highest
        self._journal: list[Decision] = []

    @property
    def journal(self) -> list[Decision]:
        """All decisions so far, oldest first; for a checkpoint."""
        return [decision.copy() for decision in self._journal]

    def restore(self, journal: Sequence[Decision]) -> None:
        """Take up the decisions of an earlier process in place of one's own: batches are then those of that run.

        Raises:
            ValueError: the schedule decides nothing, but the journal has decisions.
        """
        if journal:
            raise ValueError(f"a schedule that is not adaptive was given a journal of {len(journal)} decisions")

    def observe(self, step: int, measures: Mapping[str, float]) -> Decision | None:
        """Decide from validation measures (higher is better) after `step` steps; None where nothing is decided."""
        return None


@dataclasses.dataclass(frozen=True)
class ScheduleConfig:
    """``sampler.schedule``, explained in ``conf/sampler/base/two_streams.yaml``; from `minimum` on see `Adaptive`."""

    kind: str = "constant"
    end: Share | None = None
    until: Part = 1.0
    at: list[Share] = dataclasses.field(default_factory=list)
    shares: list[Share] = dataclasses.field(default_factory=list)
    minimum: Share = 0.1
    maximum: Share = 0.9
    change: Share = 0.05
    margin: NotNegative = 0.01
    delay: Annotated[int, Range(LEAST_DELAY)] = 32
    """Batches are drawn ahead."""

    def __post_init__(self) -> None:
        choice("sampler.schedule.kind", self.kind, OWN_KEYS)
        for key in ("end", "at", "shares"):
            value, kinds = getattr(self, key), [kind for kind, keys in OWN_KEYS.items() if key in keys]
            if self.kind in kinds and value in (None, []):
                raise InputError(f"sampler.schedule.{key}={value} must be given for sampler.schedule.kind={self.kind}")
            if self.kind not in kinds and value not in (None, []):
                raise InputError(f"sampler.schedule.{key}={value} is for kind={' or '.join(kinds)}, not {self.kind}")
        if len(self.at) != len(self.shares):
            raise InputError(f"sampler.schedule.shares={self.shares} must have one value for each of at={self.at}")
        if any(not low < high for low, high in zip([0, *self.at], [*self.at, 1], strict=True)):
            raise InputError(f"sampler.schedule.at={self.at} must be increasing parts of the run between 0 and 1")

    def planned(self, alpha: float, steps: int | None) -> Schedule:
        """The schedule of a run of `steps` steps that starts at `alpha`; without steps, as in validation, it stays there.

        Raises:
            InputError: an adaptive schedule cannot start at `alpha`.
        """
        if self.kind == "adaptive" and not self.minimum <= alpha <= self.maximum:
            bounds = f"sampler.schedule.minimum={self.minimum} .. maximum={self.maximum}"
            raise InputError(f"sampler.alpha={alpha} is outside {bounds}, where an adaptive schedule starts")
        if steps is None or self.kind == "constant":
            return Schedule(constant(alpha))
        if self.kind == "adaptive":
            return Adaptive(self, alpha)
        if self.kind == "step":
            return Schedule(Curve([0, *(round(part * steps) for part in self.at)], [alpha, *self.shares]))
        assert self.end is not None
        length = max(1, round(self.until * steps))
        return Schedule((straight if self.kind == "linear" else half_cosine)(alpha, self.end, length))


class Adaptive(Schedule):
    """Gives more of the batches to the stream that lags.

    A stream's gain is its measure relative to its own best of the validations before: both a stream that learns more
    slowly and one that forgets gain less. Where one stream's gain is below the other's by more than `margin`, alpha moves
    to it by `change`, within `minimum` and `maximum`, from `delay` steps after the validation on; loaders must not be as far
    ahead. The first validation, and one that lacks a measure, leave alpha as it is. All that a decision rests on is in the
    journal.
    """

    adaptive = True

    def __init__(self, config: ScheduleConfig, alpha: float) -> None:
        super().__init__(constant(alpha))
        self.lowest, self.highest = config.minimum, config.maximum
        self._config, self._alpha = config, alpha

    def restore(self, journal: Sequence[Decision]) -> None:
        self._journal = [decision.copy() for decision in journal]
        decided = [(decision["step"], decision["alpha"]) for decision in self._journal]
        steps, alphas = zip((0, self._alpha), *decided, strict=True)
        self.curve = Curve(steps, alphas)

    def observe(self, step: int, measures: Mapping[str, float]) -> Decision:
        """Decide, for the steps from `step` + delay on; what was decided at `step` or after it is replaced."""
        earlier = [decision for decision in self._journal if decision["observed"] < step]
        alpha = earlier[-1]["alpha"] if earlier else self._alpha
        monolingual, crosslingual = (_usable(measures.get(stream)) for stream in ("monolingual", "crosslingual"))
        ours = _gain(monolingual, [decision["monolingual"] for decision in earlier])
        theirs = _gain(crosslingual, [decision["crosslingual"] for decision in earlier])
        if ours is not None and theirs is not None and abs(theirs - ours) > self._config.margin:
            alpha += math.copysign(self._config.change, theirs - ours)
            alpha = min(self._config.maximum, max(self._config.minimum, round(alpha, 9)))
        start = step + self._config.delay
        decision = Decision(step=start, alpha=alpha, observed=step, monolingual=monolingual, crosslingual=crosslingual)
        self.restore([*earlier, decision])
        return decision


def _usable(measure: float | None) -> float | None:
    """A measure, or None where it is missing, not finite, or not above zero (there is no gain over nothing)."""
    return float(measure) if measure is not None and math.isfinite(measure) and measure > 0 else None


def _gain(measure: float | None, before: Sequence[float | None]) -> float | None:
    """By how much a measure is better than the best before, relative to that."""
    known = [value for value in before if value is not None]
    return measure / max(known) - 1 if measure is not None and known else None


BLOCK = 16_384
"""Steps that are tossed at once."""


class Exact:
    """After n steps the first of two streams had the sum of its ratios to within less than one (law 2).

    Systematic sampling with a phase drawn from the key. A step may be several turns: the pairs of a batch.
    """

    def __init__(self, schedule: Schedule, *key: int, turns: int = 1) -> None:
        self.schedule, self.key, self.turns = schedule, key, turns
        self._phase = int(mix(*key)) >> (64 - UNIT_BITS)

    def before(self, step: int) -> int:
        """How many turns the first stream had in the first `step` steps."""
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
        """How many turns the first stream had in the first `step` steps."""
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


Ratio = Exact | Bernoulli
RATIOS: dict[str, type[Ratio]] = {"exact": Exact, "bernoulli": Bernoulli}
"""By the name in ``sampler.ratio_mode``."""
