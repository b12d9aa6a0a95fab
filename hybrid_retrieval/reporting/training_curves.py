"""Logged figures by step, from Lightning's ``metrics.csv``."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

Curve = tuple[list[int], list[float]]
"""Steps, ascending, and the figure at each."""


def read_curves(run: Path) -> dict[str, Curve]:
    """Every logged figure of a run directory that has finite values; the last value counts where a step was logged twice."""
    path = run / "metrics.csv"
    if not path.is_file():
        return {}
    points: dict[str, dict[int, float]] = {}
    with path.open(encoding="utf-8", newline="") as lines:
        for line in csv.DictReader(lines):
            step = _number(line.get("step"))
            for name, text in line.items():
                value = _number(text)
                if step is not None and value is not None and name not in ("step", "epoch", None):
                    points.setdefault(name, {})[int(step)] = value
    return {name: (sorted(curve), [curve[step] for step in sorted(curve)]) for name, curve in points.items()}


def smoothed(values: Sequence[float], share: float = 0.05) -> list[float]:
    """Centred moving mean over `share` of the values, so that it does not lag; narrower towards the ends."""
    reach = int(len(values) * share / 2)
    sides = [min(reach, at, len(values) - 1 - at) for at in range(len(values))]
    return [fmean(values[at - side : at + side + 1]) for at, side in enumerate(sides)]


def _number(text: object) -> float | None:
    try:
        value = float(str(text))
    except ValueError:
        return None
    return value if math.isfinite(value) else None
