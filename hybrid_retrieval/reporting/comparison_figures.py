"""The picture of several runs: their language pairs side by side, and what one sampler buys over another."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hybrid_retrieval.evaluation.measures import SETTINGS, Measure
from hybrid_retrieval.reporting import charts, heatmap
from hybrid_retrieval.reporting.labels import LabelledRun, conditions, contrasts
from hybrid_retrieval.reporting.seen import MARK

if TYPE_CHECKING:
    import altair as alt

PANELS_A_ROW = 3


def draw_comparison(labelled: Sequence[LabelledRun], benchmark: str) -> alt.VConcatChart | None:
    """A panel a condition (the mean over its seeds), then differences and macro means.

    Nothing is drawn where there is no matrix of language pairs (`heatmap.measured`).
    """
    import altair as alt

    scored = [one for one in labelled if benchmark in one.run.benchmarks]
    drawn = heatmap.measured([one.run for one in scored], benchmark)
    if drawn is None:
        return None
    groups = conditions(scored)
    languages, maps = _matrices(scored, benchmark, drawn)
    never = {name: runs[0].run.figures.never_seen(benchmark) for name, runs in groups.items()}
    pairs = contrasts(scored)
    columns = min(PANELS_A_ROW, max(len(maps), len(pairs) + 1))
    above = _maps(maps, groups, languages, benchmark, drawn, never)
    below = _differences(maps, pairs, groups, languages, benchmark, drawn, never)
    means = means_figure(groups, benchmark, drawn)
    rows = [charts.beside(some, columns, shared=("color",)) for some in (above, below) if some]
    room = 0 < len(below) < columns
    rows = [*rows[:-1], charts.beside([rows[-1], means], 2)] if room else [*rows, means]
    legend = f"framed: monolingual; {MARK}: never in the training text" if any(never.values()) else "framed: monolingual"
    title = charts.headline(f"{benchmark}: {drawn.label} by language pair", legend, columns * charts.WIDTH)
    independent = dict.fromkeys(charts.CHANNELS, "independent")
    return alt.vconcat(*rows, title=title, spacing=40).resolve_scale(**independent)


def draw_choice(labelled: Sequence[LabelledRun], benchmark: str) -> alt.LayerChart | None:
    """The matrix of one condition, or its difference to another, as a page's reader chooses; None as of `draw_comparison`."""
    scored = [one for one in labelled if benchmark in one.run.benchmarks]
    drawn = heatmap.measured([one.run for one in scored], benchmark)
    if drawn is None:
        return None
    languages, maps = _matrices(scored, benchmark, drawn)
    never = {language for one in scored for language in one.run.figures.never_seen(benchmark)}
    title = (f"{benchmark}: {drawn.label} by language pair", "framed: monolingual")
    return heatmap.chosen_pairs(maps, languages, drawn.label, title, never)


def _matrices(
    scored: Sequence[LabelledRun], benchmark: str, drawn: Measure
) -> tuple[tuple[str, ...], dict[str, heatmap.Matrix]]:
    """Languages, and the mean over the seeds of each condition."""
    languages = heatmap.languages_of([one.run for one in scored], benchmark, drawn.name)
    return languages, {
        name: np.stack([heatmap.pair_matrix(one.run, benchmark, languages, drawn.name) for one in runs]).mean(axis=0)
        for name, runs in conditions(scored).items()
    }


def _maps(
    maps: Mapping[str, heatmap.Matrix],
    groups: Mapping[str, Sequence[LabelledRun]],
    languages: Sequence[str],
    benchmark: str,
    drawn: Measure,
    never: Mapping[str, Sequence[str]],
) -> list[alt.LayerChart]:
    scale = heatmap.Scale.of(drawn.label, list(maps.values()))
    order = _means_over(maps, languages)
    panels = []
    for name, values in maps.items():
        seeds = f" (mean of {len(groups[name])} seeds)" if len(groups[name]) > 1 else ""
        title = (f"{name}{seeds}", heatmap.headline(_macro_means(groups[name], benchmark, drawn)))
        panels.append(heatmap.language_pairs(values, languages, scale, title, never[name], order))
    return panels


def _differences(
    maps: Mapping[str, heatmap.Matrix],
    pairs: Sequence[tuple[str, str]],
    groups: Mapping[str, Sequence[LabelledRun]],
    languages: Sequence[str],
    benchmark: str,
    drawn: Measure,
    never: Mapping[str, Sequence[str]],
) -> list[alt.LayerChart]:
    found = [maps[one] - maps[other] for one, other in pairs]
    scale = heatmap.Scale.signed(f"difference in {drawn.label}", found)
    order = _means_over(maps, languages)
    panels = []
    for (one, other), values in zip(pairs, found, strict=True):
        means = [_macro_means(groups[name], benchmark, drawn) for name in (one, other)]
        gain = {key: means[0][key] - means[1][key] for key in means[0] if key in means[1]}
        title = (f"{one} minus {other}", heatmap.headline(gain, sign="+"))
        panels.append(heatmap.language_pairs(values, languages, scale, title, {*never[one], *never[other]}, order))
    return panels


def _means_over(maps: Mapping[str, heatmap.Matrix], languages: Sequence[str]) -> dict[str, float]:
    """What an order by value goes by, in all panels."""
    return heatmap.means_of(np.stack([*maps.values()]).mean(axis=0), languages)


def _macro_means(runs: Sequence[LabelledRun], benchmark: str, drawn: Measure) -> dict[tuple[str, str], float]:
    """The headline figures that each of the runs has."""
    found = {key: [one.run.figures.value(benchmark, *key) for one in runs] for key in heatmap.headline_keys(drawn)}
    return {key: statistics.fmean(values) for key, values in found.items() if None not in values}  # type: ignore[arg-type]


def means_figure(groups: Mapping[str, Sequence[LabelledRun]], benchmark: str, drawn: Measure) -> alt.LayerChart:
    """Macro means by setting: a small point a seed, a large one their mean, the mean of their intervals as a bar."""
    import altair as alt

    names = list(groups)
    rows: list[dict[str, Any]] = []
    for name, runs in groups.items():
        for setting, short in SETTINGS.items():
            found = [(one, figure) for one in runs if (figure := one.run.figures.get(benchmark, setting, drawn.name))]
            if not found:
                continue
            row = {"condition": name, "setting": short}
            rows += [{**row, "kind": "seed", "seed": one.run.config.get("seed"), "value": of.value} for one, of in found]
            bounds = [(of.low, of.high) for _, of in found if of.low is not None and of.high is not None]
            ends = [statistics.fmean(end) for end in zip(*bounds, strict=True)] if bounds else [None, None]
            mean = statistics.fmean(of.value for _, of in found)
            rows.append({**row, "kind": "mean", "value": mean, "low": ends[0], "high": ends[1]})
    width = 26 * len(names) * len(SETTINGS) + 120
    value = alt.Tooltip("value:Q", title=drawn.label, format=".4f")
    every = alt.Chart(charts.data(rows)).encode(
        x=alt.X("setting:N", title=None, sort=list(SETTINGS.values()), axis=alt.Axis(labelAngle=0, grid=False)),
        xOffset=alt.XOffset("condition:N", sort=names, scale=alt.Scale(domain=names)),
        color=charts.by_colour("condition", names, width),
    )
    y = alt.Y("value:Q", title=f"{drawn.label} (macro mean)", scale=alt.Scale(zero=False))
    shape = charts.by_shape("condition", names, width)
    means = every.transform_filter("datum.kind === 'mean'")
    bounds_shown = [alt.Tooltip("low:Q", format=".4f"), alt.Tooltip("high:Q", format=".4f")]
    bars = means.mark_rule(strokeWidth=1.6, opacity=0.6).encode(y=alt.Y("low:Q"), y2="high:Q")
    layers = [
        *([bars] if charts.bounded(rows) else []),
        every.transform_filter("datum.kind === 'seed'")
        .mark_point(filled=True, size=18, opacity=0.5)
        .encode(y=y, shape=shape, tooltip=["condition:N", "setting:N", "seed:N", value]),
        means.mark_point(filled=True, size=80, opacity=1).encode(
            y=y, shape=shape, tooltip=["condition:N", "setting:N", value, *bounds_shown]
        ),
    ]
    title = charts.heading("Macro means by setting", INTERVALS, width)
    return alt.layer(*layers).properties(width=width, height=charts.HEIGHT, title=title)


INTERVALS = "small points: seeds; large ones: their mean; bars: 95% over questions, mean over seeds"
