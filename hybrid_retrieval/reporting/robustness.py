"""What is lost when queries are perturbed: a table, curves over severity, and a matrix of perturbations and languages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from hybrid_retrieval.evaluation.degradation import Degradation, read
from hybrid_retrieval.evaluation.measures import SETTINGS, Measure
from hybrid_retrieval.reporting import charts, heatmap
from hybrid_retrieval.reporting.run_directory import RunDirectory
from hybrid_retrieval.reporting.table import Column, Row, Table
from hybrid_retrieval.reporting.tables import retrieval_measures

if TYPE_CHECKING:
    import altair as alt

RANK_DISTANCE = ("multilingual", "rank_distance")
CURVES = 5
"""Perturbations to a panel of curves."""
CURVES_WIDTH = 230


def degradations(run: RunDirectory, benchmark: str) -> list[Degradation]:
    """What a run holds of a benchmark: its first measure in every setting, and rank distance."""
    first = retrieval_measures([run], benchmark)[:1]
    wanted = {(setting, one.name) for setting in SETTINGS for one in first} | {RANK_DISTANCE}
    return [one for one in read(run.path) if one.benchmark == benchmark and (one.setting, one.measure.name) in wanted]


def robustness_tables(run: RunDirectory, benchmark: str, whole: bool) -> list[Table]:
    """Perturbed minus clean, of a run and of its baselines.

    Args:
        whole: every severity; else that in the middle.
    """
    every = {"": run, **{f" · {name}": one for name, one in run.baselines.items()}}
    found = [_table(degradations(one, benchmark), benchmark, name, whole) for name, one in every.items()]
    return [table for table in found if table]


def _table(found: Sequence[Degradation], benchmark: str, name: str, whole: bool) -> Table | None:
    if not found:
        return None
    severities = sorted({one.severity for one in found})
    middle = severities[len(severities) // 2]
    shown = severities if whole else [middle]
    keys = list(dict.fromkeys((one.setting, one.measure) for one in found))
    keys.sort(key=lambda key: (key[1].headline, list(SETTINGS).index(key[0])))
    columns = [Column("Changed %", 0)]
    for setting, one in keys:
        heading = one.label if one.headline else f"{SETTINGS[setting]} {one.label}"
        columns += [Column(heading, None), Column("±", one.digits)]
    columns += [Column("Relative %", 1), Column("Most lost in", None)]
    rows = []
    for perturbation in dict.fromkeys(one.perturbation for one in found):
        for severity in shown:
            mine = [one for one in found if (one.perturbation, one.severity) == (perturbation, severity)]
            macro = {(one.setting, one.measure): one for one in mine if one.query_language is None}
            if not macro:
                continue
            first = macro[keys[0]] if keys[0] in macro else next(iter(macro.values()))
            values: list[float | str | None] = [100 * first.changed]
            for key in keys:
                of = macro.get(key)
                half = None if of is None or of.low is None or of.high is None else (of.high - of.low) / 2
                values += [None if of is None else f"{of.difference:+,.{key[1].digits}f}", half]
            by_language = {
                one.languages: one.relative
                for one in mine
                if one.languages and (one.setting, one.measure) == keys[0] and one.relative is not None
            }
            lost = {language: part for language, part in by_language.items() if part < 0}
            worst = min(lost, key=lambda language: lost[language], default=None)
            said = None if worst is None else f"{worst} {100 * by_language[worst]:+.0f}%"
            values += [None if first.relative is None else 100 * first.relative, said]
            label = f"{perturbation} {severity:g}" if whole else perturbation
            rows.append(Row(label, values, section=perturbation if whole else ""))
    notes = [
        "perturbed minus clean, over the languages that a perturbation changes; relative and most lost of the first measure"
    ]
    title = f"{benchmark} · perturbed queries{name}" + ("" if whole else f", severity {middle:g}")
    return Table(title, "Perturbation", columns, rows, notes)


def robustness_matrix(run: RunDirectory, benchmark: str) -> alt.LayerChart | None:
    """Perturbation x language: the relative difference within a language, or from one to all others, in the middle severity."""
    found = degradations(run, benchmark)
    if not found:
        return None
    setting = "monolingual" if any(one.setting == "monolingual" for one in found) else found[0].setting
    severities = sorted({one.severity for one in found if one.setting == setting})
    severity = severities[len(severities) // 2]
    mine = [
        one
        for one in found
        if one.severity == severity and one.setting == setting and one.query_language and not one.measure.headline
    ]
    names = list(dict.fromkeys(one.perturbation for one in mine))
    languages = sorted({one.query_language or "" for one in mine})
    values = np.full((len(names), len(languages)), np.nan)
    for row, name in enumerate(names):
        for column, language in enumerate(languages):
            parts = [one.relative for one in mine if (one.perturbation, one.query_language) == (name, language)]
            known = [part for part in parts if part is not None]
            if known:
                values[row, column] = float(np.mean(known))
    extent = max(0.05, float(np.nanmax(np.abs(values))))
    scale = heatmap.Scale("relative difference", -extent, extent, _percent, heatmap.SIGNED, heatmap.BOTH_ENDS)
    lost = f"{SETTINGS[setting]} {mine[0].measure.label} lost to perturbed queries, percent, severity {severity:g}"
    return heatmap.cells(
        values, names, languages, scale, (f"{benchmark} · {run.title}", lost), ("perturbation", "query language")
    )


def _percent(value: float) -> str:
    return "0" if abs(value) < 0.005 else f"{100 * value:+.0f}"


def severity_figure(run: RunDirectory, benchmark: str) -> alt.VConcatChart | None:
    """A row of panels for every few perturbations, a panel a figure: the difference over severity, with its interval."""
    import altair as alt

    found = degradations(run, benchmark)
    if len({one.severity for one in found}) < 2:
        return None
    keys = list(dict.fromkeys((one.setting, one.measure) for one in found))
    keys.sort(key=lambda key: (key[1].headline, list(SETTINGS).index(key[0])))
    names = list(dict.fromkeys(one.perturbation for one in found))
    parts = [names[at : at + CURVES] for at in range(0, len(names), CURVES)]
    panels = [
        charts.beside([_over_severity(found, *key, part, len(keys)) for key in keys], len(keys), shared=charts.CHANNELS)
        for part in parts
    ]
    said = charts.headline(f"{benchmark} · {run.title}", "perturbed minus clean, by severity", len(keys) * charts.WIDTH)
    return alt.vconcat(*panels, title=said).resolve_scale(**dict.fromkeys(charts.CHANNELS, "independent"))


def _over_severity(
    found: Sequence[Degradation], setting: str, one: Measure, part: Sequence[str], panels: int
) -> alt.LayerChart:
    import altair as alt

    rows = [{"perturbation": name, "severity": 0.0, "difference": 0.0, "low": 0.0, "high": 0.0} for name in part] + [
        {
            "perturbation": of.perturbation,
            "severity": of.severity,
            "difference": of.difference,
            "low": of.difference if of.low is None else of.low,
            "high": of.difference if of.high is None else of.high,
        }
        for of in found
        if (of.setting, of.measure, of.query_language) == (setting, one, None) and of.perturbation in part
    ]
    tooltip = [
        "perturbation:N",
        "severity:Q",
        *(alt.Tooltip(f"{name}:Q", format="+.4f") for name in ("difference", "low", "high")),
    ]
    every = alt.Chart(charts.data(rows)).encode(
        x=alt.X("severity:Q"), color=charts.by_colour("perturbation", part, panels * CURVES_WIDTH), tooltip=tooltip
    )
    y = alt.Y("difference:Q", title="")
    heading = one.label if one.headline else f"{SETTINGS[setting]} {one.label}"
    return alt.layer(
        every.mark_area(opacity=0.15, line=False).encode(y=alt.Y("low:Q", title=""), y2="high:Q"),
        every.mark_line(strokeWidth=1.6).encode(y=y),
        every.mark_point(filled=True, size=36, opacity=1).encode(
            y=y, shape=charts.by_shape("perturbation", part, panels * CURVES_WIDTH)
        ),
    ).properties(width=CURVES_WIDTH, height=170, title=charts.heading(heading))
