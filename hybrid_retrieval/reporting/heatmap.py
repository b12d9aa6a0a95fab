"""Colours, sizes and axes of all pictures, and matrices of language pairs with a figure in each cell.

Figure objects, never pyplot: nothing global is touched or stays open.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hybrid_retrieval.evaluation.measures import SETTINGS, Measure, measure
from hybrid_retrieval.reporting.run_directory import RunDirectory
from hybrid_retrieval.reporting.tables import number, pivot, retrieval_measures

Matrix = npt.NDArray[np.float64]

DPI = 150
MAP_COLOURS = "viridis"
COLOURS = ("#1f5fa8", "#d1661f", "#2b8a57", "#8c4a9e", "#a83232", "#5c5c5c", "#b8961f", "#2a9aa8")
"""Distinct in hue and in lightness."""
CELL = 0.4
"""Inches of a cell: room for a signed figure of three digits."""
MARGIN = 1.1
"""Inches around the cells of a panel, for its names and title."""
DARK_TEXT, LIGHT_TEXT = "#1b1b1b", "#ffffff"


def new_figure(width: float, height: float) -> Any:
    """An empty figure, in inches, that arranges its panels itself."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def save(figure: Any, path: Path) -> Path:
    """Write a PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", dpi=DPI)
    return path


def plain_axes(axes: Any, x: str, y: str, title: str) -> None:
    """Names, a light grid, and no box."""
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_title(title, fontsize=11, loc="left")
    axes.grid(True, color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def headline(means: dict[tuple[str, str], float], sign: str = "") -> str:
    """Macro means by setting and measure, for a title; ``+`` as `sign` for differences."""
    shown = {key: measure(key[1]) for key in means}
    names = {key: one.label if one.headline else SETTINGS[key[0]] for key, one in shown.items()}
    return "   ".join(f"{names[key]} {number(means[key], one.digits, sign)}" for key, one in shown.items())


def measured(runs: Sequence[RunDirectory], benchmark: str) -> Measure | None:
    """What is drawn of a benchmark: the first of its measures; None where there is no matrix to draw (`pivot`)."""
    measures = retrieval_measures(runs, benchmark)
    return measures[0] if measures and pivot(runs, benchmark) is None else None


def headline_keys(one: Measure) -> list[tuple[str, str]]:
    """The macro means, by setting and measure, that stand beside a picture of a measure."""
    return [*((setting, one.name) for setting in SETTINGS), ("multilingual", "rank_distance")]


def languages_of(runs: Sequence[RunDirectory], benchmark: str, name: str = "map") -> tuple[str, ...]:
    """The languages that any of the runs has figures for, in alphabetical order."""
    figures = [one for run in runs for one in run.figures if one.benchmark == benchmark and one.measure.name == name]
    return tuple(sorted({name for one in figures for name in (one.query_language, one.corpus_language) if name}))


def pair_matrix(run: RunDirectory, benchmark: str, languages: Sequence[str], name: str = "map") -> Matrix:
    """Float64 [L, L], query language x corpus language: monolingual on the diagonal, NaN where nothing was measured."""
    matrix = np.full((len(languages), len(languages)), np.nan)
    for one in run.figures:
        if one.benchmark == benchmark and one.measure.name == name and one.query_language and one.corpus_language:
            matrix[languages.index(one.query_language), languages.index(one.corpus_language)] = one.value
    return matrix


def fraction_text(value: float) -> str:
    """A figure between 0 and 1 in the paper's way: ``.79``."""
    return f"{value:.2f}".removeprefix("0")


def difference_text(value: float) -> str:
    """A signed difference of such figures: ``+.014``."""
    text = f"{value:+.3f}"
    return "0" if text[1:] == "0.000" else text[0] + text[1:].removeprefix("0")


def count_text(value: float) -> str:
    """A count in at most four characters: ``950``, ``1.2k``, ``38k``, ``1.2M``."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * unit:
            scaled = value / unit
            return f"{scaled:.1f}{name}" if scaled < 9.95 else f"{scaled:.0f}{name}"
    return f"{value:.0f}"


def side(count: int) -> float:
    """Inches of a panel of `count` languages."""
    return max(3.8, CELL * count) + MARGIN


def draw(axes: Any, values: Matrix, languages: Sequence[str], text: Callable[[float], str], **scale: Any) -> Any:
    """Language pairs: `cells` with the diagonal framed. Returns the image, for a colour bar."""
    from matplotlib.patches import Rectangle

    image = cells(axes, values, languages, languages, text, **scale)
    axes.set(xlabel="corpus language", ylabel="query language")
    for at in range(len(languages)):
        axes.add_patch(Rectangle((at - 0.5, at - 0.5), 1, 1, fill=False, edgecolor=DARK_TEXT, linewidth=1.1))
    return image


def cells(
    axes: Any, values: Matrix, rows: Sequence[str], columns: Sequence[str], text: Callable[[float], str], **scale: Any
) -> Any:
    """Draw cells with their figures; `scale` is imshow's. Returns the image."""
    image = axes.imshow(np.ma.masked_invalid(values), interpolation="nearest", **scale)
    axes.set(facecolor="#eeeeee")
    size = 9.0 if len(columns) <= 8 else 7.5
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            light = np.dot(image.cmap(image.norm(value))[:3], (0.299, 0.587, 0.114)) > 0.55
            colour = DARK_TEXT if light else LIGHT_TEXT
            axes.text(column, row, text(value), ha="center", va="center", fontsize=size, color=colour)
    axes.set_xticks(range(len(columns)), columns, fontsize=9)
    axes.set_yticks(range(len(rows)), rows, fontsize=9)
    if max(map(len, columns), default=0) > 3:
        axes.tick_params(axis="x", labelrotation=60)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return image


def common_scale(matrices: Sequence[Matrix], grain: float = 0.05) -> tuple[float, float]:
    """The range of all figures, widened to multiples of `grain`, so that panels have the same colours."""
    values = np.concatenate([matrix[np.isfinite(matrix)] for matrix in matrices])
    if not len(values):
        return 0.0, 1.0
    low, high = np.floor(values.min() / grain) * grain, np.ceil(values.max() / grain) * grain
    return float(low), float(high if high > low else low + grain)
