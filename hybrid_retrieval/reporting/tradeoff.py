"""What a number of the config trades: measures over it, and Mo. against Cr. and against rank distance (a Pareto picture).

A table of figures has a row a run and measure: ``system``, ``series`` (what one curve is), ``seed``, ``x``, ``setting``,
``measure``, ``value``, and ``low`` and ``high`` of its interval; x is empty for what stands beside the curves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from hybrid_retrieval.evaluation.measures import SETTINGS, measure
from hybrid_retrieval.reporting import charts
from hybrid_retrieval.reporting.comparison_figures import INTERVALS
from hybrid_retrieval.reporting.heatmap import headline_keys, measured
from hybrid_retrieval.reporting.labels import LabelledRun

if TYPE_CHECKING:
    import altair as alt

Key = tuple[str, str]
"""A setting and a measure."""
PANELS = {
    "Mo. mAP": ("monolingual", "map"),
    "Cr. mAP": ("crosslingual", "map"),
    "Mul. mAP": ("multilingual", "map"),
    "Rank distance": ("multilingual", "rank_distance"),
}
ALPHA = "sampler.alpha"
WIDTH, HEIGHT = 250, 210
COLUMNS = ("setting", "measure", "system", "series", "seed", "x", "value", "low", "high")


def over_alpha(labelled: Sequence[LabelledRun], benchmark: str) -> pd.DataFrame | None:
    """The figures of runs that differ in alpha; None where there are fewer than three of them, or there is no matrix to draw.

    A series is what else tells the runs apart; samplers without an alpha stand beside them.
    """
    scored = [one for one in labelled if benchmark in one.run.benchmarks]
    drawn = measured([one.run for one in scored], benchmark)
    if drawn is None or len({one.parts[ALPHA] for one in scored if ALPHA in one.parts}) < 3:
        return None
    rows: list[dict[str, Any]] = []
    for one in scored:
        alpha = one.run.setting("sampler", "alpha", float) if ALPHA in one.parts else None
        series = " ".join(text for key, text in one.parts.items() if key not in (ALPHA, "seed", "folder"))
        about = {"system": one.condition, "series": series or "by alpha", "seed": one.run.config.get("seed"), "x": alpha}
        for setting, name in headline_keys(drawn):
            found = one.run.figures.get(benchmark, setting, name)
            if found is not None:
                bounds = {"value": found.value, "low": found.low, "high": found.high}
                rows.append({"setting": setting, "measure": name, **about, **bounds})
    return pd.DataFrame(rows, columns=COLUMNS).astype(dict.fromkeys(("x", "value", "low", "high"), float))


def panels_of(figures: pd.DataFrame) -> dict[str, Key]:
    """The panels for all measures of a table, by name."""
    keys = list(dict.fromkeys(zip(figures.setting, figures.measure, strict=True)))
    shown = {key: measure(key[1]) for key in keys}
    return {one.label if one.headline else f"{SETTINGS[key[0]]} {one.label}": key for key, one in shown.items()}


def curve(
    figures: pd.DataFrame, x: str, title: str, panels: Mapping[str, Key] = PANELS, log: bool = False, floors: Sequence[str] = ()
) -> alt.ConcatChart:
    """A panel a measure over x: a point a run, a line through the means of each series, their intervals as bars.

    Args:
        floors: systems without an x that are drawn as lines across the panel.
    """
    names = list(dict.fromkeys(figures.series[figures.x.notna()]))
    shown = []
    for name, key in panels.items():
        rows = _of(figures, key)
        runs, across = rows[rows.x.notna()], rows[rows.x.isna() & rows.system.isin(list(floors))]
        layers = [_floors(across.groupby("system", sort=False).value.mean(), name)] if len(across) else []
        layers.append(_over(_means(runs, ["series", "x"]), runs, names, x, name, log))
        shown.append(charts.alone(layers, WIDTH, HEIGHT, name))
    return charts.beside(shown, len(shown), title, INTERVALS, shared=charts.CHANNELS)


def gain(figures: pd.DataFrame, x: str, title: str, panels: Mapping[str, Key] = PANELS, log: bool = False) -> alt.ConcatChart:
    """A panel a measure over x: differences of two systems, a series each, with their 95% intervals."""
    names = list(dict.fromkeys(figures.series))
    shown = []
    for name, key in panels.items():
        rows = _of(figures, key)
        layers = [charts.at_zero(), _over(rows.sort_values("x"), None, names, x, name, log)]
        shown.append(charts.alone(layers, WIDTH, HEIGHT, name))
    return charts.beside(shown, len(shown), title, "bars: 95% intervals", shared=charts.CHANNELS)


def pareto(figures: pd.DataFrame, x: str, title: str, panels: Mapping[str, Key] = PANELS) -> alt.ConcatChart:
    """The first panel's measure against the second's and the last's: a curve over x for each series, a point a seed, bars for
    intervals; what has no x as crosses with names.
    """
    first, second, *_, last = panels
    names = list(dict.fromkeys(figures.series[figures.x.notna()]))
    shown = [_against(figures, (first, panels[first]), (other, panels[other]), names, x) for other in (second, last)]
    return charts.beside(shown, len(shown), title, INTERVALS, shared=charts.CHANNELS)


def _of(figures: pd.DataFrame, key: Key) -> pd.DataFrame:
    return figures[(figures.setting == key[0]) & (figures.measure == key[1])]


def _means(rows: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """The means over seeds, of values and of the ends of their intervals."""
    return rows.groupby(by, sort=False)[["value", "low", "high"]].mean().reset_index()


def _floors(values: pd.Series[float], y: str) -> alt.LayerChart:
    import altair as alt

    rows = charts.data({"system": name, "value": value} for name, value in values.items())
    every = alt.Chart(rows).encode(y=alt.Y("value:Q", title=""), tooltip=["system:N", alt.Tooltip("value:Q", title=y)])
    named = every.mark_text(style="named", align="left", baseline="bottom", dx=2).encode(x=alt.value(0), text="system:N")
    return alt.layer(every.mark_rule(style="guide"), named)


def _over(means: pd.DataFrame, runs: pd.DataFrame | None, names: Sequence[str], x: str, y: str, log: bool) -> alt.LayerChart:
    import altair as alt

    kind: Any = "log" if log else "linear"
    tooltip = ["series:N", alt.Tooltip("x:Q", title=x), alt.Tooltip("value:Q", title=y), "low:Q", "high:Q"]
    every = alt.Chart(charts.data(means.to_dict("records"))).encode(
        x=alt.X("x:Q", title=x, scale=alt.Scale(type=kind, nice=False, padding=8), axis=alt.Axis(tickCount=5)),
        color=charts.by_colour("series", names, 4 * WIDTH),
        tooltip=tooltip,
    )
    value = alt.Y("value:Q", title="", scale=alt.Scale(zero=False))
    shape = charts.by_shape("series", names, 4 * WIDTH)
    bars = every.mark_rule(opacity=0.6, strokeWidth=1.4).encode(y=alt.Y("low:Q", title=""), y2="high:Q")
    layers = [
        *([bars] if means.low.notna().any() else []),
        every.mark_line(strokeWidth=1.6).encode(y=value),
        every.mark_point(filled=True, size=36, opacity=1).encode(y=value, shape=shape),
    ]
    if runs is not None:
        seeds = alt.Chart(charts.data(runs[["series", "x", "seed", "value"]].to_dict("records"))).encode(
            x="x:Q", y=value, color=charts.by_colour("series", names, 4 * WIDTH), shape=shape, tooltip=["seed:N", *tooltip[:3]]
        )
        layers.append(seeds.mark_point(filled=True, size=14, opacity=0.5))
    return alt.layer(*layers)


def _against(
    figures: pd.DataFrame, one: tuple[str, Key], other: tuple[str, Key], names: Sequence[str], x: str
) -> alt.LayerChart:
    import altair as alt

    ends = {"value": "", "low": "_low", "high": "_high"}
    index = ["system", "series", "seed", "x"]
    sides = [
        _of(figures, key)[[*index, *ends]].rename(columns={end: f"{side}{tail}" for end, tail in ends.items()})
        for side, (_, key) in (("one", one), ("other", other))
    ]
    both = sides[0].merge(sides[1], on=index)
    means = both.groupby(["system", "series", "x"], sort=False, dropna=False).mean(numeric_only=True).reset_index()
    curves = means[means.x.notna()].sort_values("x")
    curves = curves.assign(text=[f"{value:g}" for value in curves.x], place=range(len(curves)))
    lower = measure(other[1][1]).better == "lower"
    across = alt.X("one:Q", title=one[0], scale=alt.Scale(zero=False, padding=12))
    title = f"{other[0]} (less is better)" if lower else other[0]
    up = alt.Y("other:Q", title=title, scale=alt.Scale(zero=False, reverse=lower, padding=12))
    width = 2 * charts.WIDTH
    colour, shape = charts.by_colour("series", names, width), charts.by_shape("series", names, width)
    tooltip = [alt.Tooltip("one:Q", title=one[0]), alt.Tooltip("other:Q", title=other[0])]
    every = alt.Chart(charts.data(curves.to_dict("records"))).encode(
        x=across, y=up, tooltip=["series:N", alt.Tooltip("x:Q", title=x), *tooltip]
    )
    seeds = alt.Chart(charts.data(both[both.x.notna()].to_dict("records")))
    alone = alt.Chart(charts.data(means[means.x.isna()].to_dict("records"))).encode(
        x=across, y=up, tooltip=["system:N", *tooltip]
    )
    named = every.encode(text="text:N")
    bars = every.mark_rule(opacity=0.25).encode(color=colour)
    upright = bars.encode(y=alt.Y("other_low:Q", title=title), y2="other_high:Q")
    level = bars.encode(x=alt.X("one_low:Q", title=one[0]), x2="one_high:Q")
    layers = [
        *([upright] if curves.other_low.notna().any() else []),
        *([level] if curves.one_low.notna().any() else []),
        seeds.mark_point(filled=True, size=14, opacity=0.5).encode(
            x=across, y=up, color=colour, shape=shape, tooltip=["series:N", "seed:N", alt.Tooltip("x:Q", title=x), *tooltip]
        ),
        every.mark_line(strokeWidth=1.6).encode(color=colour, order="x:Q"),
        every.mark_point(filled=True, size=50, opacity=1).encode(color=colour, shape=shape),
        named.transform_filter("datum.place % 2 === 0").mark_text(style="named", align="left", dx=7, dy=8),
        named.transform_filter("datum.place % 2 === 1").mark_text(style="named", align="right", dx=-7, dy=-8),
    ]
    if means.x.isna().any():
        layers.append(alone.mark_point(style="other", shape="cross", size=45, angle=45))
        layers.append(alone.mark_text(style="named", align="left", dx=7, dy=7).encode(text="system:N"))
    return charts.alone(layers, charts.WIDTH, charts.WIDTH * 0.8, f"{other[0]} against {one[0]}")
