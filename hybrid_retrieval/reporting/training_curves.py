"""Figures by step, from the run's ``telemetry.jsonl``, and how they are drawn."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hybrid_retrieval.errors import InputError, reading
from hybrid_retrieval.evaluation.measures import SETTINGS
from hybrid_retrieval.files import read_text
from hybrid_retrieval.reporting import charts
from hybrid_retrieval.reporting.batch_composition import LAST_STEP, BatchComposition

if TYPE_CHECKING:
    import altair as alt

Curves = Mapping[str, "pd.Series[float]"]
"""The finite values of each figure by step, ascending."""
STREAMS = ("monolingual", "crosslingual")
COSINE = "train/gradient_cosine"
WINDOW = 0.05
"""Part of a run over which the monolingual share is averaged."""
TRAIN = "train (smoothed)"
DRAWN = f"drawn (in {WINDOW:.0%} of the run)"


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


def training_figure(curves: Curves) -> alt.ConcatChart | None:
    """Loss, and validation mAP by setting; None where neither was logged."""
    losses = {name: curves[key] for key, name in (("train/loss", TRAIN), ("val/loss", "validation")) if key in curves}
    measured = {short: curves[f"val/{name}/map"] for name, short in SETTINGS.items() if f"val/{name}/map" in curves}
    if not losses:
        return None
    trends = {TRAIN: smoothed(losses[TRAIN])} if TRAIN in losses else {}
    panels = [charts.Panel("Loss", "step", "loss").lines(losses, trends)]
    if measured:
        panels.append(charts.Panel("Validation mAP by setting", "step", "mAP").lines(measured))
    return charts.beside(panels, columns=2)


def telemetry_figure(curves: Curves, composition: BatchComposition | None, accumulate: int = 1) -> alt.ConcatChart | None:
    """Loss and accuracy@1 by stream, the cosine of their gradients, the share of monolingual pairs; None without telemetry.

    Panels for which the run has nothing are left out.

    Args:
        accumulate: batches of a step.
    """
    panels = []
    for name, title in (("loss", "Loss by stream (training)"), ("accuracy@1", "Accuracy@1 by stream (training)")):
        lines = {SETTINGS[one]: curves[key] for one in STREAMS if (key := f"train/{name}/{one}") in curves}
        if lines:
            trends = {stream: smoothed(curve) for stream, curve in lines.items()}
            panels.append(charts.Panel(title, "step", name).lines(lines, trends))
    if not panels:
        return None
    if COSINE in curves:
        cosine = {"cosine": curves[COSINE]}
        title = "Gradients of the two streams, neighbouring steps"
        panel = charts.Panel(title, "step", "cosine")
        panels.append(panel.lines(cosine, {"cosine": smoothed(curves[COSINE], 0.15)}, points=cosine, zero=True))
    if "train/alpha" in curves:
        panels.append(_ratio(curves, composition, accumulate))
    return charts.beside(panels, columns=2)


def _ratio(curves: Curves, composition: BatchComposition | None, accumulate: int) -> alt.LayerChart:
    lines = {} if composition is None else {DRAWN: composition.monolingual_around(WINDOW, accumulate)}
    lines |= {name: curves[key] for key, name in (("train/alpha", "alpha"), ("decision/alpha", "decided")) if key in curves}
    panel = charts.Panel("Monolingual share of the pairs, and its schedule", "step", "share", domain=(0.0, 1.0))
    return panel.lines(lines, points=("decided",))
