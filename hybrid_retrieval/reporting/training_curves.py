"""Figures by step, from the run's ``telemetry.jsonl``, and how they are drawn."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hybrid_retrieval.errors import InputError, reading
from hybrid_retrieval.evaluation.measures import SETTINGS
from hybrid_retrieval.files import read_text
from hybrid_retrieval.reporting.batch_composition import LAST_STEP, BatchComposition
from hybrid_retrieval.reporting.heatmap import COLOURS, new_figure, plain_axes

Curves = Mapping[str, "pd.Series[float]"]
"""The finite values of each figure by step, ascending."""
STREAMS = ("monolingual", "crosslingual")
COSINE = "train/gradient_cosine"
WINDOW = 0.05
"""Part of a run over which the monolingual share is averaged."""


def read_curves(run: Path) -> dict[str, pd.Series[float]]:
    """Every figure in a run's telemetry that has finite values; the last value counts where a step was written twice.

    A last line that is still being written is left out.

    Raises:
        InputError: the file is no telemetry.
    """
    path = run / "telemetry.jsonl"
    text = read_text(path) if path.exists() else ""
    whole = text[: text.rfind("\n") + 1]
    if not whole:
        return {}
    with reading(f"{path} is not telemetry, a JSON object a line", whole=True):
        frame = pd.read_json(io.StringIO(whole), lines=True, precise_float=True)
        if "step" not in frame:
            raise InputError("there is no step")
        steps = pd.to_numeric(frame["step"])
        if not steps.between(0, LAST_STEP).all():
            raise InputError(f"there are steps from {steps.min()} to {steps.max()}")
        by_step = frame.apply(pd.to_numeric, errors="coerce").replace([np.inf, -np.inf], np.nan).groupby("step").last()
    return {name: curve.dropna() for name, curve in by_step.items() if curve.notna().any()}


def smoothed(curve: pd.Series[float], window: float = 0.05) -> pd.Series[float]:
    """Centred moving mean over a part of the values, so that it does not lag; narrower towards the ends."""
    at = np.arange(len(curve))
    sides = np.minimum(int(len(curve) * window / 2), np.minimum(at, at[::-1]))
    before = np.concatenate([[0.0], np.cumsum(curve.to_numpy(np.float64))])
    return pd.Series((before[at + sides + 1] - before[at - sides]) / (2 * sides + 1), curve.index)


def in_words(curves: Curves) -> dict[str, str]:
    """The telemetry of a run for a page."""
    found: dict[str, str] = {}
    if "train/tokens_per_second" in curves:
        found["Tokens a second (median)"] = f"{curves['train/tokens_per_second'].median():,.0f}"
    if "train/padding_share" in curves:
        found["Padding among the tokens encoded (median)"] = f"{curves['train/padding_share'].median():.1%}"
    if "train/memory_gib" in curves:
        found["Memory (most)"] = f"{curves['train/memory_gib'].max():.2f} GiB"
    if COSINE in curves:
        cosine = curves[COSINE]
        below = f"below zero in {int((cosine < 0).sum()):,} of {len(cosine):,} comparisons"
        found["Cosine between the streams' gradients (median)"] = f"{cosine.median():+.3f}; {below}"
    if "decision/alpha" in curves:
        alpha = curves["decision/alpha"]
        found["Alpha that the schedule decided on"] = f"{alpha.min():g} to {alpha.max():g}, at the end {alpha.iloc[-1]:g}"
    return found


def training_figure(curves: Curves) -> Any:
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
        panels[0].plot(curves["val/loss"], color=COLOURS[1], linewidth=1.4, marker="o", markersize=4, label="validation")
    panels[0].legend(frameon=False)
    if measured:
        plain_axes(panels[1], "step", "mAP", "Validation mAP by setting")
        for colour, marker, (short, curve) in zip(COLOURS, "osD", measured.items(), strict=False):
            panels[1].plot(curve, color=colour, linewidth=1.4, marker=marker, markersize=4, label=short)
        panels[1].legend(frameon=False)
    return figure


def telemetry_figure(curves: Curves, composition: BatchComposition | None, accumulate: int = 1) -> Any:
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


def _with_trend(axes: Any, curve: pd.Series[float], colour: str, label: str) -> None:
    axes.plot(curve, color=colour, linewidth=0.8, alpha=0.3)
    axes.plot(smoothed(curve), color=colour, linewidth=1.6, label=label)


def _by_stream(axes: Any, lines: Curves, name: str, title: str) -> None:
    plain_axes(axes, "step", name, title)
    for stream, curve in lines.items():
        _with_trend(axes, curve, COLOURS[STREAMS.index(stream)], SETTINGS[stream])


def _cosine(axes: Any, curve: pd.Series[float]) -> None:
    plain_axes(axes, "step", "cosine", "Gradients of the two streams, neighbouring steps")
    axes.axhline(0, color="#333333", linewidth=1.0)
    axes.plot(curve, color=COLOURS[3], linestyle="none", marker="o", markersize=3, alpha=0.5)
    axes.plot(smoothed(curve, 0.15), color=COLOURS[3], linewidth=1.6, label="smoothed")


def _ratio(axes: Any, curves: Curves, composition: BatchComposition | None, accumulate: int) -> None:
    plain_axes(axes, "step", "share", "Monolingual share of the pairs, and its schedule")
    if composition is not None:
        drawn = composition.monolingual_around(WINDOW, accumulate)
        axes.plot(drawn, color=COLOURS[0], linewidth=1.6, label=f"drawn (in {WINDOW:.0%} of the run)")
    axes.plot(curves["train/alpha"], color=COLOURS[1], linewidth=1.6, linestyle="--", label="alpha")
    if "decision/alpha" in curves:
        axes.plot(curves["decision/alpha"], color=COLOURS[4], linestyle="none", marker="D", markersize=4, label="decided")
    axes.set_ylim(-0.03, 1.03)
