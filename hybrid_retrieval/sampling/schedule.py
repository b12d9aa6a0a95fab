"""How the share of monolingual batches goes over a run: the config key ``sampler.schedule``.

Linear, cosine and step schedules are functions of the step. The adaptive one also depends on what validation found; its
decisions are kept in a journal, so that batches are a function of (seed, step, journal) and a run that takes up the
journal of another one goes on as that would.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from hybrid_retrieval.config import construct, not_negative, positive, share
from hybrid_retrieval.errors import InputError, choice
from hybrid_retrieval.sampling.curve import Curve, constant, half_cosine, straight

KINDS = ("constant", "linear", "cosine", "step", "adaptive")
OWN_KEYS = {"end": ("linear", "cosine"), "at": ("step",), "shares": ("step",)}
"""Keys that one must give for these kinds, and must not for others."""
LEAST_DELAY = 2
"""A loader without workers is one batch ahead of the training step."""


class Decision(TypedDict):
    """What an adaptive schedule found and did; plain types, as a checkpoint keeps them."""

    step: int
    """The first step with this share."""
    alpha: float
    observed: int
    """Steps that were done when validation measured."""
    monolingual: float | None
    """The measure of the stream; None where it was missing."""
    crosslingual: float | None


@dataclasses.dataclass(frozen=True)
class ScheduleConfig:
    """``sampler.schedule``; the share starts as ``sampler.alpha``."""

    kind: str = "constant"
    """constant, linear, cosine, step or adaptive."""
    end: float | None = None
    """linear, cosine: the share at the end."""
    until: float = 1.0
    """linear, cosine: the part of the run after which the share stays at the end's."""
    at: list[float] = dataclasses.field(default_factory=list)
    """step: the parts of the run after which the share changes."""
    shares: list[float] = dataclasses.field(default_factory=list)
    """step: the share after each of them."""
    minimum: float = 0.1
    """adaptive: the least share."""
    maximum: float = 0.9
    """adaptive: the largest share."""
    change: float = 0.05
    """adaptive: by how much one decision moves the share."""
    margin: float = 0.01
    """adaptive: a stream lags where its relative gain is smaller than the other's by more than this."""
    delay: int = 32
    """adaptive: steps between a validation and the first step with its share; loaders must not be as far ahead."""

    def __post_init__(self) -> None:
        choice("sampler.schedule.kind", self.kind, KINDS)
        for key, kinds in OWN_KEYS.items():
            value = getattr(self, key)
            if (self.kind in kinds) == (value in (None, [])):
                what = (
                    f"must be given for sampler.schedule.kind={self.kind}"
                    if self.kind in kinds
                    else (f"is for sampler.schedule.kind={' or '.join(kinds)}, not {self.kind}")
                )
                raise InputError(f"sampler.schedule.{key}={value} {what}")
        for key in ("end", "until", "minimum", "maximum", "change"):
            if getattr(self, key) is not None:
                share(f"sampler.schedule.{key}", getattr(self, key))
        positive("sampler.schedule.until", self.until)
        not_negative("sampler.schedule.margin", self.margin)
        for value in self.shares:
            share("sampler.schedule.shares", value)
        if len(self.at) != len(self.shares):
            raise InputError(f"sampler.schedule.shares={self.shares} must have one share for each of at={self.at}")
        if any(not low < high for low, high in zip([0, *self.at], [*self.at, 1], strict=True)):
            raise InputError(f"sampler.schedule.at={self.at} must be increasing parts of the run between 0 and 1")
        if self.delay < LEAST_DELAY:
            raise InputError(f"sampler.schedule.delay={self.delay} must be {LEAST_DELAY} or more: batches are drawn ahead")


class Schedule:
    """A curve that is known from the start; its journal is empty."""

    adaptive = False

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


class Adaptive(Schedule):
    """Gives more of the batches to the stream that lags.

    A stream's gain is its measure relative to its own best of the validations before: both a stream that learns more
    slowly and one that forgets gain less. Where one stream's gain is below the other's by more than the margin, its share
    grows by `change`, within the bounds. The first validation, and one that lacks a measure, leave the share as it is.
    Whatever a decision rests on is in the journal.
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
        steps, shares = zip((0, self._alpha), *decided, strict=True)
        self.curve = Curve(steps, shares)

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


def schedule_config(node: Mapping[str, Any], alpha: float) -> ScheduleConfig:
    """The checked config of a schedule that starts at `alpha`.

    Raises:
        InputError: a key is unknown, or a value cannot be.
    """
    config = construct(ScheduleConfig, node, "sampler.schedule")
    if config.kind == "adaptive" and not config.minimum <= alpha <= config.maximum:
        bounds = f"sampler.schedule.minimum={config.minimum} .. maximum={config.maximum}"
        raise InputError(f"sampler.alpha={alpha} is outside {bounds}, where an adaptive schedule starts")
    return config


def planned(config: ScheduleConfig, alpha: float, steps: int | None) -> Schedule:
    """The schedule of a run of `steps` steps; without steps, as in validation, the share stays `alpha`."""
    if steps is None or config.kind == "constant":
        return Schedule(constant(alpha))
    if config.kind == "adaptive":
        return Adaptive(config, alpha)
    if config.kind == "step":
        return Schedule(Curve([0, *(round(part * steps) for part in config.at)], [alpha, *config.shares]))
    assert config.end is not None
    length = max(1, round(config.until * steps))
    return Schedule((straight if config.kind == "linear" else half_cosine)(alpha, config.end, length))
