"""The pictures of a study, from its figures alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hybrid_retrieval.reporting.heatmap import COLOURS, new_figure, plain_axes, save

PANELS = {
    "Mo. mAP": ("monolingual", "map"),
    "Cr. mAP": ("crosslingual", "map"),
    "Mul. mAP": ("multilingual", "map"),
    "Rank distance": ("multilingual", "rank_distance"),
}


def draw(figures: pd.DataFrame, path: Path, kind: str, **options: Any) -> None:
    """Write a picture: ``curve``, ``gain`` or ``pareto``."""
    figures = figures[figures.languages.isna()]
    plain = figures[figures.baseline.isna()]
    if kind == "gain":
        figure = _gain(figures, **options)
    else:
        figure = _curve(plain, **options) if kind == "curve" else _pareto(plain, **options)
    print(f"wrote {save(figure, path)}")


def _curve(
    figures: pd.DataFrame,
    sweeps: Sequence[str],
    benchmark: str,
    label: str,
    title: str,
    log: bool = False,
    baseline: str | None = "bm25",
    panels: dict[str, Sequence[str]] | None = None,
) -> Any:
    """A panel a measure over x: a point a run, a line through the means of each series; a baseline as a dotted line."""
    chosen = {name: tuple(key) for name, key in (panels or PANELS).items()}
    figure = new_figure(3.4 * len(chosen), 3.2)
    figure.suptitle(title, fontsize=13, fontweight="bold")
    mine = figures[figures.sweep.isin(list(sweeps)) & (figures.benchmark == benchmark)]
    for number, (name, (setting, wanted)) in enumerate(chosen.items(), 1):
        axes = figure.add_subplot(1, len(chosen), number)
        rows = mine[(mine.setting == setting) & (mine.measure == wanted)]
        runs = rows[rows.x.notna()]
        for colour, (series, of) in zip(COLOURS, runs.groupby(runs.series.fillna(""), sort=False), strict=False):
            means = of.groupby("x").value.mean()
            axes.plot(of.x, of.value, "o", markersize=3, alpha=0.5, color=colour)
            axes.plot(means.index, means, "-", linewidth=1.6, color=colour, label=series or None)
        floor = rows[rows.system == baseline]
        if len(floor):
            axes.axhline(floor.value.mean(), linestyle=":", color="0.4", label=baseline)
        if log:
            axes.set_xscale("log")
        plain_axes(axes, label, "", name)
        if number == 1 and (len(floor) or runs.series.notna().any()):
            axes.legend(fontsize=8, frameon=False)
    return figure


def _gain(
    figures: pd.DataFrame, sweep: str, benchmark: str, against: dict[str, str], label: str, title: str, log: bool = False
) -> Any:
    """A panel a measure over x: the reference of a sweep minus another system, with its 95% interval.

    Args:
        against: what a line is called, to how the names of the systems that are subtracted begin.
    """
    figure = new_figure(3.4 * len(PANELS), 3.2)
    figure.suptitle(title, fontsize=13, fontweight="bold")
    mine = figures[(figures.sweep == sweep) & (figures.benchmark == benchmark) & figures.baseline.notna()]
    for number, (name, (setting, wanted)) in enumerate(PANELS.items(), 1):
        axes = figure.add_subplot(1, len(PANELS), number)
        rows = mine[(mine.setting == setting) & (mine.measure == wanted)]
        axes.axhline(0, linewidth=0.8, color="0.6")
        for colour, (series, beginning) in zip(COLOURS, against.items(), strict=False):
            of = rows[rows.baseline.str.startswith(beginning)].sort_values("x")
            reach = [of.value - of.low, of.high - of.value]
            axes.errorbar(of.x, of.value, yerr=reach, fmt="o-", markersize=3, capsize=2, color=colour, label=series)
        if log:
            axes.set_xscale("log")
        plain_axes(axes, label, "", name)
        if number == 1:
            axes.legend(fontsize=8, frameon=False)
    return figure


def _pareto(
    figures: pd.DataFrame,
    sweeps: dict[str, str],
    benchmark: str,
    title: str,
    points: Sequence[str] = (),
    without: Sequence[str] = (),
) -> Any:
    """Mo. against Cr., and rank distance beside it: a curve over x for each sweep, a point a seed; other systems as crosses.

    Args:
        sweeps: name of a sweep to what its curve is called.
        points: sweeps whose systems are shown by name beside the curves.
        without: systems that are not.
    """
    figures = figures[~figures.system.isin(list(without))]
    figure = new_figure(11, 4.6)
    figure.suptitle(title, fontsize=13, fontweight="bold")
    pairs = {"Cr. mAP": PANELS["Cr. mAP"], "Rank distance": PANELS["Rank distance"]}
    for number, (name, key) in enumerate(pairs.items(), 1):
        axes = figure.add_subplot(1, 2, number)
        for colour, (sweep, series) in zip(COLOURS, sweeps.items(), strict=False):
            both = _beside(figures[(figures.sweep == sweep) & (figures.benchmark == benchmark)], key)
            curve = both[both.x.notna()]
            means = curve.groupby("x")[["mono", "other"]].mean()
            axes.plot(curve.mono, curve.other, "o", markersize=3, alpha=0.4, color=colour)
            axes.plot(means.mono, means.other, "-", linewidth=1.6, color=colour, label=series)
            for x, row in means.iterrows():
                axes.annotate(f"{x:g}", (row.mono, row.other), fontsize=7, xytext=(3, 3), textcoords="offset points")
        for sweep in points:
            both = _beside(figures[(figures.sweep == sweep) & (figures.benchmark == benchmark)], key)
            for system, row in both.groupby("system")[["mono", "other"]].mean().iterrows():
                axes.plot([row.mono], [row.other], "x", color="0.25")
                axes.annotate(str(system), (row.mono, row.other), fontsize=7, xytext=(4, -8), textcoords="offset points")
        if name == "Rank distance":
            axes.invert_yaxis()
        plain_axes(axes, "Mo. mAP", name, "")
        axes.legend(fontsize=8, frameon=False)
    return figure


def _beside(rows: pd.DataFrame, key: Sequence[str]) -> pd.DataFrame:
    """Mo. mAP and another figure of each run."""
    index = ["system", "seed", "x"]
    found = [
        rows[(rows.setting == setting) & (rows.measure == wanted)].set_index(index).value
        for setting, wanted in (PANELS["Mo. mAP"], key)
    ]
    return pd.DataFrame(dict(zip(("mono", "other"), found, strict=True))).reset_index().replace({np.inf: np.nan})
