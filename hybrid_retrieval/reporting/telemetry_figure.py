"""How the two streams of a run fared: their losses, their gradients, and whose turn it was."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from hybrid_retrieval.reporting.batch_composition import BatchComposition
from hybrid_retrieval.reporting.canvas import COLOURS, new_figure, plain_axes
from hybrid_retrieval.reporting.run_directory import RunDirectory
from hybrid_retrieval.reporting.training_curves import Curve, smoothed

STREAMS = {"monolingual": "Mo.", "crosslingual": "Cr."}
COSINE = "train/gradient_cosine"
WINDOW = 0.05
"""Part of a run over which shares are averaged."""

Panel = Callable[[Any], None]


def telemetry_figure(run: RunDirectory, curves: Mapping[str, Curve], composition: BatchComposition | None) -> Any:
    """Loss and accuracy@1 by stream, the cosine of their gradients, the share of monolingual pairs; None without telemetry.

    Panels for which the run has nothing are left out.
    """
    panels: list[Panel] = []
    for name, shown in (("loss", "Loss by stream (training)"), ("accuracy@1", "Accuracy@1 by stream (training)")):
        lines = {short: curves[key] for stream, short in STREAMS.items() if (key := f"train/{name}/{stream}") in curves}
        if lines:
            panels.append(partial(_by_stream, lines=lines, name=name, title=shown))
    if not panels:
        return None
    if COSINE in curves:
        panels.append(partial(_cosine, curve=curves[COSINE]))
    if "train/alpha" in curves:
        panels.append(partial(_share, curves=curves, composition=composition, accumulate=_accumulate(run)))
    figure = new_figure(11, 3.8 * -(-len(panels) // 2))
    places = list(np.atleast_1d(figure.subplots(-(-len(panels) // 2), 2)).flat)
    for axes, panel in zip(places, panels, strict=False):
        panel(axes)
    for axes in places[len(panels) :]:
        axes.set_axis_off()
    return figure


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
        values = np.array(curves[COSINE][1])
        found["Cosine between the streams' gradients (median)"] = (
            f"{median(values.tolist()):+.3f}; below zero in {int((values < 0).sum()):,} of {len(values):,} comparisons"
        )
    if "decision/alpha" in curves:
        decided = curves["decision/alpha"][1]
        found["Alpha that the schedule decided on"] = f"{min(decided):g} to {max(decided):g}, at the end {decided[-1]:g}"
    return found


def windowed_share(composition: BatchComposition, accumulate: int = 1) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Steps, half a window apart, and the share of monolingual pairs among those drawn in the window around each.

    Args:
        accumulate: batches of a step.
    """
    steps, at = np.unique(composition.steps // accumulate, return_inverse=True)
    counts = np.zeros((2, len(steps) + 1))
    np.add.at(counts[0, 1:], at, composition.monolingual)
    np.add.at(counts[1, 1:], at, composition.drawn)
    before = counts.cumsum(axis=1)
    reach = max(1, round(len(steps) * WINDOW / 2))
    middles = np.arange(0, len(steps), reach)
    within = before[:, np.minimum(middles + reach + 1, len(steps))] - before[:, np.maximum(middles - reach, 0)]
    return steps[middles], within[0] / within[1]


def _accumulate(run: RunDirectory) -> int:
    trainer = run.config.get("trainer")
    value = trainer.get("accumulate") if isinstance(trainer, Mapping) else None
    return value if isinstance(value, int) and value > 0 else 1


def _by_stream(axes: Any, lines: Mapping[str, Curve], name: str, title: str) -> None:
    plain_axes(axes, "step", name, title)
    for short, (steps, values) in lines.items():
        colour = COLOURS[list(STREAMS.values()).index(short)]
        axes.plot(steps, values, color=colour, linewidth=0.8, alpha=0.3)
        axes.plot(steps, smoothed(values), color=colour, linewidth=1.6, label=short)
    axes.legend(frameon=False)


def _cosine(axes: Any, curve: Curve) -> None:
    plain_axes(axes, "step", "cosine", "Gradients of the two streams, neighbouring steps")
    steps, values = curve
    axes.axhline(0, color="#333333", linewidth=1.0)
    axes.plot(steps, values, color=COLOURS[3], linestyle="none", marker="o", markersize=3, alpha=0.5)
    axes.plot(steps, smoothed(values, 0.15), color=COLOURS[3], linewidth=1.6, label="smoothed")
    axes.legend(frameon=False)


def _share(axes: Any, curves: Mapping[str, Curve], composition: BatchComposition | None, accumulate: int) -> None:
    plain_axes(axes, "step", "share", "Monolingual share of the pairs, and its schedule")
    if composition is not None:
        steps, share = windowed_share(composition, accumulate)
        axes.plot(steps, share, color=COLOURS[0], linewidth=1.6, label=f"drawn (in {WINDOW:.0%} of the run)")
    axes.plot(*curves["train/alpha"], color=COLOURS[1], linewidth=1.6, linestyle="--", label="alpha")
    if "decision/alpha" in curves:
        axes.plot(*curves["decision/alpha"], color=COLOURS[4], linestyle="none", marker="D", markersize=4, label="decided")
    axes.set_ylim(-0.03, 1.03)
    axes.legend(frameon=False)
