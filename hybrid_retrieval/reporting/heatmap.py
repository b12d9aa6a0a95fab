"""Language-pair matrices and how they are drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hybrid_retrieval.reporting.run_directory import RunDirectory

Matrix = npt.NDArray[np.float64]

CELL = 0.4
"""Inches of a cell: room for a signed figure of three digits."""
MARGIN = 1.1
"""Inches around the cells of a panel, for its names and title."""
DARK_TEXT, LIGHT_TEXT = "#1b1b1b", "#ffffff"


def languages_of(runs: Sequence[RunDirectory], benchmark: str) -> tuple[str, ...]:
    """The languages that any of the runs has figures for, in alphabetical order."""
    names: set[str] = set()
    for run in runs:
        names |= run.by_view(benchmark, "monolingual", "map").keys()
        for pair in run.by_view(benchmark, "crosslingual", "map"):
            names |= set(pair.split("-"))
    return tuple(sorted(names))


def pair_matrix(run: RunDirectory, benchmark: str, languages: Sequence[str], measure: str = "map") -> Matrix:
    """Float64 [L, L], query language x corpus language: monolingual on the diagonal, NaN where nothing was measured."""
    monolingual = run.by_view(benchmark, "monolingual", measure)
    crosslingual = run.by_view(benchmark, "crosslingual", measure)
    figures = crosslingual | {f"{name}-{name}": value for name, value in monolingual.items()}
    rows = [[figures.get(f"{query}-{corpus}", np.nan) for corpus in languages] for query in languages]
    return np.array(rows, np.float64).reshape(len(languages), len(languages))


def mean_matrix(matrices: Sequence[Matrix]) -> Matrix:
    """The mean over repetitions; NaN where one of them has no figure."""
    mean: Matrix = np.stack(matrices).mean(axis=0)
    return mean


def share_text(value: float) -> str:
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
    """Draw cells with their figures, the diagonal framed; `scale` is imshow's. Returns the image, for a colour bar."""
    from matplotlib.patches import Rectangle

    image = axes.imshow(np.ma.masked_invalid(values), interpolation="nearest", **scale)
    axes.set_facecolor("#eeeeee")
    count = len(languages)
    size = 9.0 if count <= 8 else 7.5
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            red, green, blue, _ = image.cmap(image.norm(value))
            light = 0.299 * red + 0.587 * green + 0.114 * blue > 0.55
            colour = DARK_TEXT if light else LIGHT_TEXT
            axes.text(column, row, text(value), ha="center", va="center", fontsize=size, color=colour)
    for at in range(count):
        axes.add_patch(Rectangle((at - 0.5, at - 0.5), 1, 1, fill=False, edgecolor=DARK_TEXT, linewidth=1.1))
    axes.set_xticks(range(count), languages, fontsize=9)
    axes.set_yticks(range(count), languages, fontsize=9)
    if max(map(len, languages), default=0) > 3:
        axes.tick_params(axis="x", labelrotation=60)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return image


def shared_range(matrices: Sequence[Matrix], grain: float = 0.05) -> tuple[float, float]:
    """The range of all figures, widened to multiples of `grain`, so that panels share their colours."""
    values = np.concatenate([matrix[np.isfinite(matrix)] for matrix in matrices])
    if not len(values):
        return 0.0, 1.0
    low, high = np.floor(values.min() / grain) * grain, np.ceil(values.max() / grain) * grain
    return float(low), float(high if high > low else low + grain)


def shared_extent(matrices: Sequence[Matrix], grain: float = 0.005) -> float:
    """The largest absolute difference, widened to a multiple of `grain`: both ends of a scale centred on 0."""
    low, high = shared_range([np.abs(matrix) for matrix in matrices], grain)
    return max(high, -low)
