"""What is lost when queries are perturbed: a table, curves over severity, and a matrix of perturbations and languages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hybrid_retrieval.evaluation.degradation import Degradation, read
from hybrid_retrieval.evaluation.measures import SETTINGS
from hybrid_retrieval.reporting import heatmap
from hybrid_retrieval.reporting.run_directory import RunDirectory
from hybrid_retrieval.reporting.tables import Column, Row, Table, retrieval_measures

RANK_DISTANCE = ("multilingual", "rank_distance")
CURVES = 5
"""Perturbations to a panel of curves."""


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
            worst = min(by_language, key=lambda language: by_language[language], default=None)
            said = None if worst is None else f"{worst} {100 * by_language[worst]:+.0f}%"
            values += [None if first.relative is None else 100 * first.relative, said]
            label = f"{perturbation} {severity:g}" if whole else perturbation
            rows.append(Row(label, values, section=perturbation if whole else ""))
    notes = [
        "perturbed minus clean, over the languages that a perturbation changes; relative and most lost of the first measure"
    ]
    title = f"{benchmark} · perturbed queries{name}" + ("" if whole else f", severity {middle:g}")
    return Table(title, "Perturbation", columns, rows, notes)


def robustness_figures(run: RunDirectory, benchmark: str) -> dict[str, Any]:
    """By name: curves over severity, and the matrix; nothing where nothing was perturbed."""
    found = degradations(run, benchmark)
    if not found:
        return {}
    drawn = {f"{benchmark}_robustness": _matrix(found, f"{benchmark} · {run.title}")}
    if len({one.severity for one in found}) > 1:
        drawn[f"{benchmark}_severity"] = _curves(found, f"{benchmark} · {run.title}")
    return drawn


def _matrix(found: Sequence[Degradation], title: str) -> Any:
    """Perturbation x language: the relative difference within a language, or from one to all others, in the middle severity."""
    severities = sorted({one.severity for one in found})
    severity = severities[len(severities) // 2]
    setting = "monolingual" if any(one.setting == "monolingual" for one in found) else found[0].setting
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
    figure = heatmap.new_figure(heatmap.side(len(languages)) + 1.6, heatmap.CELL * len(names) + heatmap.MARGIN + 0.6)
    axes = figure.subplots()
    extent = max(0.05, float(np.nanmax(np.abs(values))))
    image = heatmap.cells(axes, values, names, languages, _percent, cmap="RdBu", vmin=-extent, vmax=extent)
    label = f"{SETTINGS[setting]} {mine[0].measure.label}"
    axes.set_title(f"{title}\n{label} lost to perturbed queries, percent, severity {severity:g}", fontsize=10, loc="left")
    figure.colorbar(image, ax=axes, label="relative difference", shrink=0.8)
    return figure


def _percent(value: float) -> str:
    return "0" if abs(value) < 0.005 else f"{100 * value:+.0f}"


def _curves(found: Sequence[Degradation], title: str) -> Any:
    """A row of panels for every few perturbations, a panel a figure: the difference over severity, with its interval."""
    keys = list(dict.fromkeys((one.setting, one.measure) for one in found))
    keys.sort(key=lambda key: (key[1].headline, list(SETTINGS).index(key[0])))
    names = list(dict.fromkeys(one.perturbation for one in found))
    parts = [names[at : at + CURVES] for at in range(0, len(names), CURVES)]
    figure = heatmap.new_figure(3.3 * len(keys), 2.5 * len(parts) + 0.4)
    figure.suptitle(f"{title}: perturbed minus clean, by severity", fontsize=11, x=0.01, ha="left")
    panels = figure.subplots(len(parts), len(keys), squeeze=False, sharex=True, sharey="col")
    for row, part in zip(panels, parts, strict=True):
        for axes, (setting, one) in zip(row, keys, strict=True):
            for colour, name in zip(heatmap.COLOURS, part, strict=False):
                mine = sorted(
                    (
                        of
                        for of in found
                        if (of.setting, of.measure, of.perturbation, of.query_language) == (setting, one, name, None)
                    ),
                    key=lambda of: of.severity,
                )
                x, y = [0.0, *(of.severity for of in mine)], [0.0, *(of.difference for of in mine)]
                low, high = (
                    [0.0, *(of.difference if end is None else end for of, end in ends)]
                    for ends in ([(of, of.low) for of in mine], [(of, of.high) for of in mine])
                )
                axes.plot(x, y, "o-", markersize=3, linewidth=1.4, color=colour, label=name)
                axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
            heading = one.label if one.headline else f"{SETTINGS[setting]} {one.label}"
            heatmap.plain_axes(axes, "", "", heading)
        row[0].legend(fontsize=7, frameon=False)
    for axes in panels[-1]:
        axes.set_xlabel("severity")
    return figure
