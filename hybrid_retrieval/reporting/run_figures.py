"""The pictures of one run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hybrid_retrieval.reporting.batch_composition import BatchComposition
from hybrid_retrieval.reporting.canvas import COLOURS, MAP_COLOURS, new_figure, plain_axes, save
from hybrid_retrieval.reporting.heatmap import count_text, draw, languages_of, pair_matrix, share_text, shared_range, side
from hybrid_retrieval.reporting.run_directory import SETTINGS, RunDirectory
from hybrid_retrieval.reporting.telemetry_figure import telemetry_figure
from hybrid_retrieval.reporting.training_curves import Curve, read_curves, smoothed


def draw_run(run: RunDirectory) -> dict[str, Path]:
    """Write what can be drawn into the run's ``figures/``; title of each picture to its file."""
    drawn = {f"{name}: mAP by language pair": (f"{name}_map", _map_figure(run, name)) for name in run.benchmarks}
    composition = BatchComposition.read(run.path)
    if composition is not None:
        drawn["Batch composition"] = ("batch_composition", _composition_figure(run, composition))
    curves = read_curves(run.path)
    if any(name in curves for name in ("train/loss", "val/loss")):
        drawn["Training"] = ("training", _training_figure(curves))
    telemetry = telemetry_figure(run, curves, composition)
    if telemetry is not None:
        drawn["Telemetry"] = ("telemetry", telemetry)
    return {title: save(figure, run.path / "figures" / f"{name}.png") for title, (name, figure) in drawn.items()}


def headline(run: RunDirectory, benchmark: str) -> str:
    """Macro means of a run, for a title."""
    shown = [(short, run.figure(benchmark, setting, "map"), "{:.4f}") for setting, short in SETTINGS.items()]
    shown.append(("rank distance", run.figure(benchmark, "multilingual", "rank_distance"), "{:,.1f}"))
    return "   ".join(f"{name} {form.format(value)}" for name, value, form in shown if value is not None)


def _map_figure(run: RunDirectory, benchmark: str) -> Any:
    languages = languages_of([run], benchmark)
    values = pair_matrix(run, benchmark, languages)
    figure = new_figure(side(len(languages)) + 0.9, side(len(languages)))
    axes = figure.subplots()
    low, high = shared_range([values])
    image = draw(axes, values, languages, share_text, cmap=MAP_COLOURS, vmin=low, vmax=high)
    axes.set_xlabel("corpus language")
    axes.set_ylabel("query language")
    axes.set_title(f"{benchmark} · {run.title}\n{headline(run, benchmark)}", fontsize=10, loc="left")
    figure.colorbar(image, ax=axes, label="mAP (framed: monolingual)", shrink=0.8)
    return figure


def _composition_figure(run: RunDirectory, composition: BatchComposition) -> Any:
    from matplotlib.colors import LogNorm

    count = len(composition.languages)
    figure = new_figure(2 * side(count) + 1.2, side(count) + 0.2)
    left, right = figure.subplots(1, 2)
    figure.get_layout_engine().set(wspace=0.06)
    values = np.where(composition.pairs > 0, composition.pairs.astype(np.float64), np.nan)
    top = float(composition.pairs.max())
    norm = LogNorm(vmin=min(float(np.nanmin(values)), top / 100), vmax=top)
    image = draw(left, values, composition.languages, count_text, cmap="YlGnBu", norm=norm)
    left.set_xlabel("passage language")
    left.set_ylabel("query language")
    left.set_title(f"{int(composition.drawn.sum()):,} pairs in {len(composition.steps):,} batches", fontsize=11, loc="left")
    figure.colorbar(image, ax=left, label="pairs drawn (logarithmic)", shrink=0.8)

    plain_axes(right, "step", "monolingual share of the pairs drawn so far", "Monolingual share")
    right.plot(composition.steps, composition.cumulative_share, color=COLOURS[0], linewidth=1.6, label="drawn")
    alpha = _constant_alpha(run)
    if alpha is not None:
        right.axhline(alpha, color=COLOURS[1], linewidth=1.2, linestyle="--", label=f"alpha = {alpha:g}")
    right.set_ylim(-0.03, 1.03)
    right.set_box_aspect(1)
    right.legend(frameon=False)
    return figure


def _constant_alpha(run: RunDirectory) -> float | None:
    """The sampler's share, where it has one that no schedule moves."""
    sampler = run.config.get("sampler")
    if not isinstance(sampler, Mapping):
        return None
    alpha, schedule = sampler.get("alpha"), sampler.get("schedule")
    moves = isinstance(schedule, Mapping) and schedule.get("kind", "constant") != "constant"
    return float(alpha) if isinstance(alpha, (int, float)) and not moves else None


def _training_figure(curves: dict[str, Curve]) -> Any:
    measured = {short: curves[f"val/{name}/map"] for name, short in SETTINGS.items() if f"val/{name}/map" in curves}
    figure = new_figure(11 if measured else 6, 4)
    panels = np.atleast_1d(figure.subplots(1, 2 if measured else 1))
    plain_axes(panels[0], "step", "loss", "Loss")
    if "train/loss" in curves:
        steps, losses = curves["train/loss"]
        panels[0].plot(steps, losses, color=COLOURS[0], linewidth=0.8, alpha=0.3)
        panels[0].plot(steps, smoothed(losses), color=COLOURS[0], linewidth=1.6, label="train (smoothed)")
    if "val/loss" in curves:
        panels[0].plot(*curves["val/loss"], color=COLOURS[1], linewidth=1.4, marker="o", markersize=4, label="validation")
    panels[0].legend(frameon=False)
    if measured:
        plain_axes(panels[1], "step", "mAP", "Validation mAP by setting")
        for colour, marker, (short, curve) in zip(COLOURS, "osD", measured.items(), strict=False):
            panels[1].plot(*curve, color=colour, linewidth=1.4, marker=marker, markersize=4, label=short)
        panels[1].legend(frameon=False)
    return figure
