"""Figures by step, from the run's own ``telemetry.jsonl`` and Lightning's ``metrics.csv``, and how they are drawn."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.evaluation.measures import SETTINGS
from hybrid_retrieval.reporting.batch_composition import BatchComposition
from hybrid_retrieval.reporting.heatmap import COLOURS, new_figure, plain_axes

Curve = tuple[list[int], list[float]]
"""Steps, ascending, and the figure at each."""
STREAMS = ("monolingual", "crosslingual")
COSINE = "train/gradient_cosine"
WINDOW = 0.05
"""Part of a run over which the monolingual share is averaged."""


def read_curves(run: Path) -> dict[str, Curve]:
    """Every logged figure of a run directory that has finite values.

    The last value counts where a step was logged twice. What ``metrics.csv`` has is taken from there; it is missing where
    another logger was chosen.

    Raises:
        InputError: a line of ``telemetry.jsonl`` cannot be read.
    """
    return _curves(_telemetry(run / "telemetry.jsonl")) | _curves(_logged(run / "metrics.csv"))


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


def _number(text: object) -> float | None:
    try:
        value = float(str(text))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def smoothed(values: Sequence[float], window: float = 0.05) -> list[float]:
    """Centred moving mean over a part of the values, so that it does not lag; narrower towards the ends."""
    at = np.arange(len(values))
    sides = np.minimum(int(len(values) * window / 2), np.minimum(at, at[::-1]))
    before = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    means: list[float] = ((before[at + sides + 1] - before[at - sides]) / (2 * sides + 1)).tolist()
    return means


def in_words(curves: Mapping[str, Curve]) -> dict[str, str]:
    """The telemetry of a run for a page."""
    found: dict[str, str] = {}
    if "train/tokens_per_second" in curves:
        found["Tokens a second (median)"] = f"{median(curves['train/tokens_per_second'][1]):,.0f}"
    if "train/padding_share" in curves:
        found["Padding among the tokens encoded (median)"] = f"{median(curves['train/padding_share'][1]):.1%}"
    if "train/memory_gib" in curves:
        found["Memory (most)"] = f"{max(curves['train/memory_gib'][1]):.2f} GiB"
    if COSINE in curves:
        values = curves[COSINE][1]
        below = sum(value < 0 for value in values)
        middle = f"{median(values):+.3f}; below zero in {below:,} of {len(values):,} comparisons"
        found["Cosine between the streams' gradients (median)"] = middle
    if "decision/alpha" in curves:
        decided = curves["decision/alpha"][1]
        found["Alpha that the schedule decided on"] = f"{min(decided):g} to {max(decided):g}, at the end {decided[-1]:g}"
    return found


def training_figure(curves: Mapping[str, Curve]) -> Any:
    """Loss, and validation mAP by setting; None where neither was logged."""
    measured = {short: curves[f"val/{name}/map"] for name, short in SETTINGS.items() if f"val/{name}/map" in curves}
    if "train/loss" not in curves and "val/loss" not in curves:
        return None
    figure = new_figure(11 if measured else 6, 4)
    panels = np.atleast_1d(figure.subplots(1, 2 if measured else 1))
    plain_axes(panels[0], "step", "loss", "Loss")
    if "train/loss" in curves:
        _with_trend(panels[0], curves["train/loss"], COLOURS[0], "train (smoothed)")
    if "val/loss" in curves:
        panels[0].plot(*curves["val/loss"], color=COLOURS[1], linewidth=1.4, marker="o", markersize=4, label="validation")
    panels[0].legend(frameon=False)
    if measured:
        plain_axes(panels[1], "step", "mAP", "Validation mAP by setting")
        for colour, marker, (short, curve) in zip(COLOURS, "osD", measured.items(), strict=False):
            panels[1].plot(*curve, color=colour, linewidth=1.4, marker=marker, markersize=4, label=short)
        panels[1].legend(frameon=False)
    return figure


def telemetry_figure(curves: Mapping[str, Curve], composition: BatchComposition | None, accumulate: int = 1) -> Any:
    """Loss and accuracy@1 by stream, the cosine of their gradients, the share of monolingual pairs; None without telemetry.

    Panels for which the run has nothing are left out.

    Args:
        accumulate: batches of a step.
    """
    panels: list[Callable[[Any], None]] = []
    for name, title in (("loss", "Loss by stream (training)"), ("accuracy@1", "Accuracy@1 by stream (training)")):
        lines = {stream: curves[key] for stream in STREAMS if (key := f"train/{name}/{stream}") in curves}
        if lines:
            panels.append(partial(_by_stream, lines=lines, name=name, title=title))
    if not panels:
        return None
    if COSINE in curves:
        panels.append(partial(_cosine, curve=curves[COSINE]))
    if "train/alpha" in curves:
        panels.append(partial(_ratio, curves=curves, composition=composition, accumulate=accumulate))
    figure = new_figure(11, 3.8 * -(-len(panels) // 2))
    places = list(np.atleast_1d(figure.subplots(-(-len(panels) // 2), 2)).flat)
    for axes, panel in zip(places, panels, strict=False):
        panel(axes)
        axes.legend(frameon=False)
    for axes in places[len(panels) :]:
        axes.set_axis_off()
    return figure


def _with_trend(axes: Any, curve: Curve, colour: str, label: str) -> None:
    steps, values = curve
    axes.plot(steps, values, color=colour, linewidth=0.8, alpha=0.3)
    axes.plot(steps, smoothed(values), color=colour, linewidth=1.6, label=label)


def _by_stream(axes: Any, lines: Mapping[str, Curve], name: str, title: str) -> None:
    plain_axes(axes, "step", name, title)
    for stream, curve in lines.items():
        _with_trend(axes, curve, COLOURS[STREAMS.index(stream)], SETTINGS[stream])


def _cosine(axes: Any, curve: Curve) -> None:
    plain_axes(axes, "step", "cosine", "Gradients of the two streams, neighbouring steps")
    steps, values = curve
    axes.axhline(0, color="#333333", linewidth=1.0)
    axes.plot(steps, values, color=COLOURS[3], linestyle="none", marker="o", markersize=3, alpha=0.5)
    axes.plot(steps, smoothed(values, 0.15), color=COLOURS[3], linewidth=1.6, label="smoothed")


def _ratio(axes: Any, curves: Mapping[str, Curve], composition: BatchComposition | None, accumulate: int) -> None:
    plain_axes(axes, "step", "share", "Monolingual share of the pairs, and its schedule")
    if composition is not None:
        steps, monolingual = composition.monolingual_around(WINDOW, accumulate)
        axes.plot(steps, monolingual, color=COLOURS[0], linewidth=1.6, label=f"drawn (in {WINDOW:.0%} of the run)")
    axes.plot(*curves["train/alpha"], color=COLOURS[1], linewidth=1.6, linestyle="--", label="alpha")
    if "decision/alpha" in curves:
        axes.plot(*curves["decision/alpha"], color=COLOURS[4], linestyle="none", marker="D", markersize=4, label="decided")
    axes.set_ylim(-0.03, 1.03)
