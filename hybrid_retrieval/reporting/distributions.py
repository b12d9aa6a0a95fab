"""How values per query are spread, and whose documents fill the top of the pooled list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hybrid_retrieval.evaluation.figures import PER_QUERY
from hybrid_retrieval.evaluation.measures import POOLED, measure
from hybrid_retrieval.reporting import charts
from hybrid_retrieval.reporting.language_order import family
from hybrid_retrieval.reporting.per_query import values_of
from hybrid_retrieval.reporting.run_directory import RunDirectory
from hybrid_retrieval.reporting.seen import marked

if TYPE_CHECKING:
    import altair as alt

RANK_DISTANCE = "rank_distance"
PARTS = np.linspace(0, 1, 101)
BOX = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Quantiles of a bar and of the line through it."""
SHARE = "share"


def rank_distance_figure(systems: Mapping[str, RunDirectory], benchmark: str) -> alt.ConcatChart | None:
    """Of each query: the part of them that is at most so far for each system, and quantiles by language of the first one.

    Nothing is drawn where a first system has no values per query.
    """
    found = {name: values for name, run in systems.items() if (values := _per_query(run, benchmark)) is not None}
    first = next(iter(systems))
    if first not in found:
        return None
    title = f"{benchmark}: rank distance of each query"
    panels = [_at_most({name: rows.value.to_numpy() for name, rows in found.items()}), _by_language(found[first], first)]
    return charts.beside(panels, 2, title)


def _per_query(run: RunDirectory, benchmark: str) -> pd.DataFrame | None:
    """Languages and values of the queries of a run; None where it has none."""
    if not (run.path / PER_QUERY).is_file() or run.figures.get(benchmark, *POOLED, RANK_DISTANCE) is None:
        return None
    rows = values_of(run.path, benchmark, POOLED[0], RANK_DISTANCE)
    return None if rows.empty else rows


def _at_most(values: Mapping[str, Any]) -> alt.LayerChart:
    """Cumulative distributions, at every hundredth of the queries."""
    import altair as alt

    names = list(values)
    rows = [
        {"system": name, "part": part, "rank distance": distance}
        for name, of in values.items()
        for part, distance in zip(PARTS, np.quantile(of, PARTS), strict=True)
    ]
    lines = alt.Chart(charts.data(rows)).mark_line(strokeWidth=1.8)
    shown = lines.encode(
        x=alt.X("rank distance:Q", scale=alt.Scale(type="symlog"), axis=alt.Axis(values=_decades(values), format=",d")),
        y=alt.Y("part:Q", title="queries at most so far", axis=alt.Axis(format="%")),
        color=charts.by_colour("system", names),
        strokeDash=charts.by_dash("system", names),
        tooltip=["system:N", alt.Tooltip("part:Q", format=".0%"), alt.Tooltip("rank distance:Q", format=",.1f")],
    )
    return charts.alone([shown], charts.WIDTH, charts.HEIGHT, "All queries")


def _decades(values: Mapping[str, Any]) -> list[float]:
    top = max(float(np.max(of)) for of in values.values())
    return [0.0, *(10.0**power for power in range(int(np.log10(max(top, 1))) + 1))]


def _by_language(rows: pd.DataFrame, name: str) -> alt.LayerChart:
    import altair as alt

    quantiles = rows.groupby("query_language").value.quantile(list(BOX)).unstack()
    ends = [f"{part:.0%}" for part in BOX]
    quantiles.columns = ends
    order = list(quantiles.sort_values(ends[2]).index)
    table = [{"language": language, **of} for language, of in quantiles.to_dict("index").items()]
    tooltip = ["language:N", *(alt.Tooltip(f"{end}:Q", format=",.0f") for end in ends)]
    every = alt.Chart(charts.data(table)).encode(y=alt.Y("language:N", sort=order, title="query language"), tooltip=tooltip)
    x = {"title": "rank distance", "axis": alt.Axis(format=",d", tickCount=5)}
    colour = charts.COLOURS[0]
    layers = [
        every.mark_rule(color=colour).encode(x=alt.X(f"{ends[0]}:Q", **x), x2=f"{ends[-1]}:Q"),
        every.mark_bar(color=colour, height=9, opacity=0.45).encode(x=alt.X(f"{ends[1]}:Q", **x), x2=f"{ends[3]}:Q"),
        every.mark_tick(style="frame", thickness=2, height=11).encode(x=alt.X(f"{ends[2]}:Q", **x)),
    ]
    height = max(charts.HEIGHT, 15 * len(table))
    return charts.alone(layers, charts.WIDTH, height, f"{name}, by query language: 5%, 25%, half, 75% and 95%")


def share_figure(systems: Mapping[str, RunDirectory], benchmark: str) -> alt.LayerChart | None:
    """Each language's share of the first places of the pooled list, by system; at the largest depth that the first has."""
    first = next(iter(systems.values()))
    depths = [one.depth for one in first.figures.measures(benchmark) if one.stem == SHARE and one.depth]
    if not depths:
        return None
    one = measure(f"{SHARE}@{max(depths)}")
    found = {name: run.figures.by_languages(benchmark, POOLED[0], one.name) for name, run in systems.items()}
    never = first.figures.never_seen(benchmark)
    rows = [
        {"system": name, "language": marked(language, never), "family": family(language), "share": figure.value}
        for name, figures in found.items()
        for language, figure in figures.items()
    ]
    return _shares(
        rows, [name for name, figures in found.items() if figures], f"{benchmark}: languages of the first {one.depth} documents"
    )


def _shares(rows: Sequence[Mapping[str, Any]], names: Sequence[str], title: str) -> alt.LayerChart:
    import altair as alt

    languages = sorted({row["language"] for row in rows})
    width = max(charts.WIDTH, len(languages) * (10 * len(names) + 8))
    every = alt.Chart(charts.data(rows)).mark_point(filled=True, size=50, opacity=1)
    points = every.encode(
        x=alt.X("language:N", sort=languages, title="language of the documents", axis=alt.Axis(labelAngle=0, grid=True)),
        xOffset=alt.XOffset("system:N", sort=list(names), scale=alt.Scale(domain=list(names))),
        y=alt.Y("share:Q", axis=alt.Axis(format="%"), scale=alt.Scale(zero=True)),
        color=charts.by_colour("system", names, width),
        shape=charts.by_shape("system", names, width),
        tooltip=["system:N", "language:N", "family:N", alt.Tooltip("share:Q", format=".2%")],
    )
    equal = alt.Chart(charts.data([{"share": 1 / max(len(languages), 1)}])).mark_rule(style="guide").encode(y="share:Q")
    return charts.alone([equal, points], width, charts.HEIGHT, f"{title} (dashed: equal shares)")
