"""What a row of the benchmark is, and how its two sides are timed."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Row:
    """One figure, ours and the peer's; `less_is_better` and `details` are not part of the result file's rows.

    Attributes:
        target: the least ratio that is asked for, if any.
        details: what a reader needs to judge the figures (sizes, each timing, agreement); kept in ``machine.json``.
    """

    name: str
    unit: str
    ours: float
    peer: float
    target: float | None = None
    less_is_better: bool = True
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        """How many times as good as the peer."""
        return self.peer / self.ours if self.less_is_better else self.ours / self.peer

    def result(self) -> dict[str, Any]:
        """As ``results.json`` has it."""
        kept = {key: value for key, value in asdict(self).items() if key in ("name", "unit", "ours", "peer")}
        return {**kept, "ratio": self.ratio, "target": self.target}


@dataclass(frozen=True)
class Timings:
    """Seconds of one side, run by run."""

    seconds: Sequence[float]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def details(self) -> dict[str, Any]:
        return {
            "seconds": [round(value, 4) for value in self.seconds],
            "spread": round((max(self.seconds) - min(self.seconds)) / self.median, 3),
        }


def interleaved(
    ours: Callable[[], object], peer: Callable[[], object], rounds: int = 3, warm: int = 1
) -> tuple[Timings, Timings]:
    """Time both sides in turn, so that a slow minute of the machine meets both; `warm` runs of ours come before."""
    for _ in range(warm):
        ours()
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for side, kept in zip((ours, peer), seconds, strict=True):
            start = time.perf_counter()
            side()
            kept.append(time.perf_counter() - start)
    return Timings(seconds[0]), Timings(seconds[1])


@contextmanager
def busy_neighbour() -> Iterator[None]:
    """Another process that takes one core, as there is on a machine that is shared."""
    neighbour = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        neighbour.kill()
        neighbour.wait()
