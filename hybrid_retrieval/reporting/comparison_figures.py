"""The picture of several runs: their language pairs side by side, and what one sampler buys over another."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hybrid_retrieval.evaluation.measures import SETTINGS, Measure
from hybrid_retrieval.reporting import heatmap
from hybrid_retrieval.reporting.labels import LabelledRun, conditions, contrasts
from hybrid_retrieval.reporting.seen import MARK, marked

PANELS_A_ROW = 3
HEADING: dict[str, Any] = {"fontsize": 12.5, "fontweight": "bold", "va": "bottom"}


def draw_comparison(labelled: Sequence[LabelledRun], benchmark: str, out: Path) -> Path | None:
    """Write ``<benchmark>_comparison.png``: a panel a condition (the mean over its seeds), then differences and means.

    Nothing is drawn where there is no matrix of language pairs (`heatmap.measured`).
    """
    scored = [one for one in labelled if benchmark in one.run.benchmarks]
    drawn = heatmap.measured([one.run for one in scored], benchmark)
    if drawn is None:
        return None
    groups = conditions(scored)
    languages = heatmap.languages_of([one.run for one in scored], benchmark, drawn.name)
    maps = {
        name: np.stack([heatmap.pair_matrix(one.run, benchmark, languages, drawn.name) for one in runs]).mean(axis=0)
        for name, runs in groups.items()
    }
    means = {name: _macro_means(runs, benchmark, drawn) for name, runs in groups.items()}
    pairs = contrasts(scored)
    differences = [maps[one] - maps[other] for one, other in pairs]

    columns = min(PANELS_A_ROW, max(len(maps), len(pairs) + 1))
    rows_of_maps, rows_below = -(-len(maps) // columns), -(-(len(pairs) + 1) // columns)
    panel = heatmap.side(len(languages))
    figure = heatmap.new_figure(columns * panel + 1.2, (rows_of_maps + rows_below) * (panel + 0.35) + 0.5)
    above, below = figure.subfigures(2, 1, height_ratios=[rows_of_maps, rows_below])
    never = {name: runs[0].run.figures.never_seen(benchmark) for name, runs in groups.items()}
    legend = f"framed: monolingual; {MARK}: never in the training text" if any(never.values()) else "framed: monolingual"
    figure.suptitle(f"{benchmark}: {drawn.label} by language pair ({legend})", fontsize=15, fontweight="bold")

    panels = _panels(above, rows_of_maps, columns, len(maps))
    low, high = heatmap.common_scale(list(maps.values()))
    for axes, (name, values) in zip(panels, maps.items(), strict=True):
        shown = [marked(language, never[name]) for language in languages]
        image = heatmap.draw(axes, values, shown, heatmap.fraction_text, cmap=heatmap.MAP_COLOURS, vmin=low, vmax=high)
        seeds = f" (mean of {len(groups[name])} seeds)" if len(groups[name]) > 1 else ""
        _name(axes, f"{name}{seeds}", heatmap.headline(means[name]))
    above.colorbar(image, ax=panels, label=drawn.label, shrink=0.75, aspect=30)

    panels = _panels(below, rows_below, columns, len(pairs) + 1)
    extent = heatmap.common_scale([np.abs(one) for one in differences], 0.005)[1] if differences else 1.0
    for axes, (one, other), values in zip(panels, pairs, differences, strict=False):
        shown = [marked(language, {*never[one], *never[other]}) for language in languages]
        image = heatmap.draw(axes, values, shown, heatmap.difference_text, cmap="RdBu", vmin=-extent, vmax=extent)
        gain = {key: means[one][key] - means[other][key] for key in means[one].keys() & means[other].keys()}
        _name(axes, f"{one} minus {other}", heatmap.headline(gain, sign="+"))
    _draw_means(panels[-1], groups, benchmark, drawn)
    if differences:
        below.colorbar(image, ax=panels, label=f"difference in {drawn.label}", shrink=0.75, aspect=30)
    return heatmap.save(figure, out / f"{benchmark}_comparison.png")


def _panels(figure: Any, rows: int, columns: int, used: int) -> list[Any]:
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in panels[used:]:
        axes.set_axis_off()
    return panels[:used]


def _name(axes: Any, name: str, figures: str) -> None:
    axes.set_title(figures, fontsize=9.5, loc="left")
    axes.annotate(name, (0, 1), xytext=(0, 21), xycoords="axes fraction", textcoords="offset points", **HEADING)


def _macro_means(runs: Sequence[LabelledRun], benchmark: str, drawn: Measure) -> dict[tuple[str, str], float]:
    """The headline figures that each of the runs has."""
    found = {key: [one.run.figures.value(benchmark, *key) for one in runs] for key in heatmap.headline_keys(drawn)}
    return {key: statistics.fmean(values) for key, values in found.items() if None not in values}  # type: ignore[arg-type]


def _draw_means(axes: Any, groups: dict[str, list[LabelledRun]], benchmark: str, drawn: Measure) -> None:
    """Macro means by setting: a small point a seed, a large one their mean."""
    heatmap.plain_axes(axes, "", f"{drawn.label} (macro mean)", "")
    axes.set_box_aspect(1)
    axes.grid(False, axis="x")
    offsets = np.linspace(-0.22, 0.22, len(groups)) if len(groups) > 1 else [0.0]
    for index, (offset, (name, runs)) in enumerate(zip(offsets, groups.items(), strict=True)):
        colour = heatmap.COLOURS[index % len(heatmap.COLOURS)]
        style = {"color": colour, "marker": "osD^vP"[index % 6], "linestyle": "none"}
        label: str | None = name
        for position, setting in enumerate(SETTINGS):
            values = [value for one in runs if (value := one.run.figures.value(benchmark, setting, drawn.name)) is not None]
            if values:
                at = position + offset
                axes.plot([at] * len(values), values, **style, markersize=4, alpha=0.45)
                axes.plot(at, statistics.fmean(values), **style, markersize=9, label=label)
                label = None
    axes.set_xticks(range(len(SETTINGS)), list(SETTINGS.values()))
    axes.set_xlim(-0.5, len(SETTINGS) - 0.5)
    axes.margins(y=0.12)
    _name(axes, "Macro means by setting", "")
    axes.legend(frameon=False, fontsize=9)
