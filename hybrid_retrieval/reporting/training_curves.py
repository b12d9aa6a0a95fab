"""Figures by step, from the run's own ``telemetry.jsonl`` and Lightning's ``metrics.csv``."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hybrid_retrieval.errors import InputError

TELEMETRY = "telemetry.jsonl"
Curve = tuple[list[int], list[float]]
"""Steps, ascending, and the figure at each."""


def read_curves(run: Path) -> dict[str, Curve]:
    """Every logged figure of a run directory that has finite values.

    The last value counts where a step was logged twice. What ``metrics.csv`` has is taken from there; it is missing where
    another logger was chosen.

    Raises:
        InputError: a line of ``telemetry.jsonl`` cannot be read.
    """
    return _curves(_telemetry(run / TELEMETRY)) | _curves(_logged(run / "metrics.csv"))


def _curves(lines: Iterator[Mapping[Any, Any]]) -> dict[str, Curve]:
    points: dict[str, dict[int, float]] = {}
    for line in lines:
        step = _number(line.get("step"))
        for name, content in line.items():
            value = _number(content)
            if step is not None and value is not None and name not in ("step", "epoch", None):
                points.setdefault(name, {})[int(step)] = value
    return {name: (sorted(curve), [curve[step] for step in sorted(curve)]) for name, curve in points.items()}


def _logged(path: Path) -> Iterator[Mapping[Any, Any]]:
    if path.is_file():
        with path.open(encoding="utf-8", newline="") as lines:
            yield from csv.DictReader(lines)


def _telemetry(path: Path) -> Iterator[Mapping[Any, Any]]:
    """The lines of the file, but for a last one that is still being written."""
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if line.endswith("\n"):
            try:
                yield dict(json.loads(line))
            except (ValueError, TypeError) as error:
                raise InputError(
                    f"{path} is not telemetry: expected a JSON object a line, not {line.strip()[:40]!r}"
                ) from error


def smoothed(values: Sequence[float], share: float = 0.05) -> list[float]:
    """Centred moving mean over `share` of the values, so that it does not lag; narrower towards the ends."""
    at = np.arange(len(values))
    sides = np.minimum(int(len(values) * share / 2), np.minimum(at, at[::-1]))
    before = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    means: list[float] = ((before[at + sides + 1] - before[at - sides]) / (2 * sides + 1)).tolist()
    return means


def _number(text: object) -> float | None:
    try:
        value = float(str(text))
    except ValueError:
        return None
    return value if math.isfinite(value) else None
