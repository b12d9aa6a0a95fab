"""The pictures of a study, from its figures alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from hybrid_retrieval.reporting import charts, tradeoff

PANELS = tradeoff.PANELS


def draw(figures: pd.DataFrame, path: Path, kind: str, **options: Any) -> None:
    """Write a picture: ``curve``, ``gain`` or ``pareto``."""
    whole = figures[figures.languages.isna()]
    chart = {"curve": _curve, "gain": _gain, "pareto": _pareto}[kind](whole, **options)
    print(f"wrote {charts.save(chart, path)}")


def _curve(
    figures: pd.DataFrame,
    sweeps: Sequence[str],
    benchmark: str,
    label: str,
    title: str,
    log: bool = False,
    baseline: str | None = "bm25",
    panels: Mapping[str, Sequence[str]] | None = None,
) -> Any:
    """Measures over x, and a baseline as a line."""
    chosen = {name: (key[0], key[1]) for name, key in (panels or PANELS).items()}
    mine = figures[figures.baseline.isna() & figures.sweep.isin(list(sweeps)) & (figures.benchmark == benchmark)]
    mine = mine.assign(series=mine.series.astype(object).fillna(""))
    return tradeoff.curve(mine, label, title, chosen, log, [baseline] if baseline else [])


def _gain(
    figures: pd.DataFrame, sweep: str, benchmark: str, against: Mapping[str, str], label: str, title: str, log: bool = False
) -> Any:
    """The reference of a sweep minus other systems.

    Args:
        against: what a line is called, to how the names of the systems that are subtracted begin.
    """
    mine = figures[(figures.sweep == sweep) & (figures.benchmark == benchmark) & figures.baseline.notna()]
    found = [mine[mine.baseline.str.startswith(start)].assign(series=name) for name, start in against.items()]
    return tradeoff.gain(pd.concat(found), label, title, log=log)


def _pareto(
    figures: pd.DataFrame,
    sweeps: Mapping[str, str],
    benchmark: str,
    title: str,
    points: Sequence[str] = (),
    without: Sequence[str] = (),
    label: str = "alpha",
) -> Any:
    """What x trades.

    Args:
        sweeps: name of a sweep to what its curve is called.
        points: sweeps whose systems are shown by name beside the curves.
        without: systems that are not.
    """
    mine = figures[figures.baseline.isna() & (figures.benchmark == benchmark) & ~figures.system.isin(list(without))]
    curves = [mine[(mine.sweep == sweep) & mine.x.notna()].assign(series=name) for sweep, name in sweeps.items()]
    beside = mine[mine.sweep.isin(list(points))].assign(series="", x=float("nan"))
    return tradeoff.pareto(pd.concat([*curves, beside]), label, title)
