"""How alpha, the ratio of monolingual batches, moves over a run: the config key ``sampler.schedule``.

Linear, cosine and step schedules are functions of the step. The adaptive one also depends on what validation found; its
decisions are kept in a journal, so that batches are a function of (seed, step, journal) and a run that takes up the
journal of another one goes on as that would.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TypedDict

from hybrid_retrieval.config import not_negative, positive, share
from hybrid_retrieval.errors import InputError, choice
from hybrid_retrieval.sampling.curve import Curve, constant, half_cosine, straight

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
    """Whether it decides from what validation measures."""

    def __init__(self, curve: Curve) -> None:
        self.curve = curve
        self.lowest, self.highest = curve.lowest, curve.highest

    @property
    def journal(self) -> list[Decision]:
        """All decisions so far, oldest first."""
        return []

    def restore(self, journal: Sequence[Decision]) -> None:
        """Take up the decisions of an earlier process, in place of one's own.

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
    end: float | None = None
    until: float = 1.0
    at: list[float] = dataclasses.field(default_factory=list)
    shares: list[float] = dataclasses.field(default_factory=list)
    minimum: float = 0.1
    maximum: float = 0.9
    change: float = 0.05
    margin: float = 0.01
    delay: int = 32

    def __post_init__(self) -> None:
        choice("sampler.schedule.kind", self.kind, OWN_KEYS)
        for key in ("end", "at", "shares"):
            value, kinds = getattr(self, key), [kind for kind, keys in OWN_KEYS.items() if key in keys]
            if self.kind in kinds and value in (None, []):
                raise InputError(f"sampler.schedule.{key}={value} must be given for sampler.schedule.kind={self.kind}")
            if self.kind not in kinds and value not in (None, []):
                raise InputError(f"sampler.schedule.{key}={value} is for kind={' or '.join(kinds)}, not {self.kind}")
        for key in ("end", "until", "minimum", "maximum", "change", "shares"):
            for value in self.shares if key == "shares" else [getattr(self, key)]:
                share(f"sampler.schedule.{key}", 0 if value is None else value)
        positive("sampler.schedule.until", self.until)
        not_negative("sampler.schedule.margin", self.margin)
        if len(self.at) != len(self.shares):
            raise InputError(f"sampler.schedule.shares={self.shares} must have one value for each of at={self.at}")
        if any(not low < high for low, high in zip([0, *self.at], [*self.at, 1], strict=True)):
            raise InputError(f"sampler.schedule.at={self.at} must be increasing parts of the run between 0 and 1")
        if self.delay < LEAST_DELAY:
            raise InputError(f"sampler.schedule.delay={self.delay} must be {LEAST_DELAY} or more: batches are drawn ahead")

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
        self._journal: list[Decision] = []

    @property
    def journal(self) -> list[Decision]:
        return [decision.copy() for decision in self._journal]

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
        gains = (
            _gain(monolingual, [decision["monolingual"] for decision in earlier]),
            _gain(crosslingual, [decision["crosslingual"] for decision in earlier]),
        )
        if gains[0] is not None and gains[1] is not None and abs(gains[1] - gains[0]) > self._config.margin:
            alpha += math.copysign(self._config.change, gains[1] - gains[0])
            alpha = min(self._config.maximum, max(self._config.minimum, round(alpha, 9)))
        decision = Decision(
            step=step + self._config.delay,
            alpha=alpha,
            observed=step,
            monolingual=monolingual,
            crosslingual=crosslingual,
        )
        self.restore([*earlier, decision])
        return decision.copy()


def _usable(measure: float | None) -> float | None:
    """A measure, or None where it is missing, not finite, or not above zero (there is no gain over nothing)."""
    return float(measure) if measure is not None and math.isfinite(measure) and measure > 0 else None


def _gain(measure: float | None, before: Sequence[float | None]) -> float | None:
    """By how much a measure is better than the best before, relative to that."""
    known = [value for value in before if value is not None]
    return measure / max(known) - 1 if measure is not None and known else None
