"""Matrices of language pairs, or of anything by languages, with a figure in each cell."""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hybrid_retrieval.errors import choice
from hybrid_retrieval.evaluation.measures import SETTINGS, Measure, measure
from hybrid_retrieval.reporting import charts
from hybrid_retrieval.reporting.language_order import ORDERS, family, places
from hybrid_retrieval.reporting.run_directory import RunDirectory
from hybrid_retrieval.reporting.seen import marked
from hybrid_retrieval.reporting.table import number
from hybrid_retrieval.reporting.tables import pivot, retrieval_measures

if TYPE_CHECKING:
    import altair as alt

Matrix = npt.NDArray[np.float64]

SIDES = ("query language", "corpus language")
NOTHING = "nothing"
"""What a reader chooses to see figures themselves, not differences."""
CELL = 28
"""Pixels of a cell: room for a signed figure of three digits."""
SIDE = 240
"""Pixels of a matrix, at least: of few languages the cells are larger."""
SIGNED = "blueorange"
"""The colours of differences: blue is more."""
MARGIN = 50
"""And beside it, for names."""
BOTH_ENDS = ((-1.0, 0.14), (0.86, 2.0))
"""Where these are dark."""


def headline(means: dict[tuple[str, str], float], sign: str = "") -> str:
    """Macro means by setting and measure, for a title; ``+`` as `sign` for differences."""
    shown = {key: measure(key[1]) for key in means}
    names = {key: one.label if one.headline else SETTINGS[key[0]] for key, one in shown.items()}
    return " · ".join(f"{names[key]} {number(means[key], one.digits, sign)}" for key, one in shown.items())


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


@dataclass(frozen=True)
class Scale:
    """How the figures of cells are shown.

    Attributes:
        label: of the colours.
        low, high: where the colours end.
        text: a figure in a cell.
        colours: a scheme of Vega's.
        dark: the parts of the range whose colours are dark, from .. to.
    """

    label: str
    low: float
    high: float
    text: Callable[[float], str] = fraction_text
    colours: str = "viridis"
    dark: Sequence[tuple[float, float]] = ((0.0, 0.5),)
    logarithmic: bool = False

    @classmethod
    def of(cls, label: str, matrices: Sequence[Matrix]) -> Scale:
        """One for the figures of several panels."""
        return cls(label, *common_scale(matrices))

    @classmethod
    def signed(cls, label: str, matrices: Sequence[Matrix], text: Callable[[float], str] = difference_text) -> Scale:
        """One for differences, with zero in its middle."""
        extent = common_scale([np.abs(one) for one in matrices], 0.005)[1] if matrices else 1.0
        return cls(label, -extent, extent, text, SIGNED, BOTH_ENDS)

    def is_dark(self, value: float) -> bool:
        """Whether a cell needs a light text."""
        low, high, at = np.log([self.low, self.high, value]) if self.logarithmic else (self.low, self.high, value)
        return any(start <= (at - low) / (high - low) <= stop for start, stop in self.dark)

    @property
    def encoding(self) -> alt.Color:
        """Of Altair."""
        import altair as alt

        kind: Any = "log" if self.logarithmic else "linear"
        scale = alt.Scale(
            type=kind, domain=[self.low, self.high], scheme=self.colours, reverse=self.colours == SIGNED, clamp=True
        )
        return alt.Color("value:Q", scale=scale, legend=alt.Legend(title=self.label, gradientLength=160))


def language_pairs(
    values: Matrix,
    languages: Sequence[str],
    scale: Scale,
    title: tuple[str, str],
    never: Container[str] = (),
    means: Mapping[str, float] | None = None,
    sides: tuple[str, str] = SIDES,
) -> alt.LayerChart:
    """Query languages by corpus languages, the diagonal framed, in the order that the chart's parameter names (`with_order`).

    Args:
        never: languages that get the mark of those that no batch held.
        means: that an order by value goes by; by default those of the rows.
    """
    order = places(languages, means_of(values, languages) if means is None else means)
    found = [{**row, **_cell(float(value), scale)} for row, value in _pairs(languages, order, never, sides, values)]
    return _cells(found, sides, (len(languages), len(languages)), {"true": scale}, title, framed=True)


def chosen_pairs(
    maps: Mapping[str, Matrix], languages: Sequence[str], label: str, title: tuple[str, str], never: Container[str] = ()
) -> alt.LayerChart:
    """Of several matrices the one that a page's reader chooses, or its difference to another; order and marks as above."""
    import altair as alt

    names, every = list(maps), np.stack([*maps.values()], axis=-1)
    order = places(languages, means_of(every.mean(axis=-1), languages))
    found = [{**row, "values": charts.plain(values)} for row, values in _pairs(languages, order, never, SIDES, every)]
    one, other = (f"datum.values[indexof({json.dumps(names)}, {name})]" for name in ("shown", "minus"))
    differs = f"minus !== {json.dumps(NOTHING)}"
    value, difference = Scale.of(label, list(maps.values())), Scale.signed(f"difference in {label}", _ranges(every))
    middle, far = (value.low + value.high) / 2, (1 - 2 * BOTH_ENDS[0][1]) * difference.high
    computed = {
        "value": f"{one} === null ? null : {differs} ? ({other} === null ? null : {one} - {other}) : {one}",
        "text": f"datum.value === null ? '' : replace(format(datum.value, {differs} ? '+.3f' : '.2f'), '0.', '.')",
        "dark": f"{differs} ? abs(datum.value) > {far} : datum.value < {middle}",
    }
    scales = {f"!({differs})": value, differs: difference}
    chart = _cells(found, SIDES, (len(languages), len(languages)), scales, title, framed=True, computed=computed)
    shown = alt.param(name="shown", value=names[0], bind=alt.binding_select(options=names, name="Figures of "))
    minus = alt.param(name="minus", value=NOTHING, bind=alt.binding_select(options=[NOTHING, *names], name=" minus those of "))
    return chart.add_params(shown, minus)


def _ranges(every: Matrix) -> list[Matrix]:
    """The largest difference of any two matrices, by cell."""
    return [every.max(axis=-1) - every.min(axis=-1)]


def _pairs(
    languages: Sequence[str], order: Mapping[str, list[int]], never: Container[str], sides: tuple[str, str], values: Matrix
) -> Iterator[tuple[dict[str, Any], Any]]:
    """What is said of each pair of languages, and its value."""
    for query, row in zip(languages, values, strict=True):
        for corpus, value in zip(languages, row, strict=True):
            names = dict(zip(sides, (marked(query, never), marked(corpus, never)), strict=True))
            kin = {"families": f"{family(query)}, {family(corpus)}", "alike": query == corpus}
            yield {**names, **kin, "row": order[query], "column": order[corpus]}, value


def cells(
    values: Matrix, rows: Sequence[str], columns: Sequence[str], scale: Scale, title: tuple[str, str], sides: tuple[str, str]
) -> alt.LayerChart:
    """A matrix of anything by languages, its rows in their order."""
    order = places(columns, means_of(values.T, columns))
    found = [
        {
            sides[0]: row,
            sides[1]: column,
            "families": family(column),
            "row": [at] * len(ORDERS),
            "column": order[column],
            "alike": False,
            **_cell(float(values[at, of]), scale),
        }
        for at, row in enumerate(rows)
        for of, column in enumerate(columns)
    ]
    return _cells(found, sides, (len(rows), len(columns)), {"true": scale}, title, framed=False)


def means_of(values: Matrix, names: Sequence[str]) -> dict[str, float]:
    """The mean of each row that has figures."""
    return {name: float(np.nanmean(row)) for name, row in zip(names, values, strict=True) if np.isfinite(row).any()}


def with_order(chart: Any, order: str = ORDERS[0]) -> Any:
    """A picture of matrices with the order of their languages, which a page lets its reader choose.

    Raises:
        InputError: there is no such order.
    """
    import altair as alt

    choice("order", order, ORDERS)
    menu = alt.binding_select(options=list(ORDERS), name="Languages by ")
    return chart.add_params(alt.param(name="order", value=order, bind=menu))


def _cell(value: float, scale: Scale) -> dict[str, Any]:
    if not np.isfinite(value):
        return {"value": None, "text": "", "dark": False}
    return {"value": value, "text": scale.text(value), "dark": scale.is_dark(value)}


def _cells(
    rows: Sequence[Mapping[str, Any]],
    sides: tuple[str, str],
    shape: tuple[int, int],
    scales: Mapping[str, Scale],
    title: tuple[str, str],
    framed: bool,
    computed: Mapping[str, str] | None = None,
) -> alt.LayerChart:
    """The chart of cells.

    Args:
        scales: by the test, of Vega, of when cells are shown with it.
        computed: what of a row follows from parameters.
    """
    import altair as alt

    step = max(CELL, SIDE / max(shape))
    at = f"indexof({json.dumps(list(ORDERS))}, order)"
    base = alt.Chart(charts.data(rows)).transform_calculate(row_place=f"datum.row[{at}]", column_place=f"datum.column[{at}]")
    for name, expression in (computed or {}).items():
        base = base.transform_calculate(**{name: expression})
    angle = -60 if max((len(row[sides[1]]) for row in rows), default=0) > 3 else 0
    across = alt.EncodingSortField("column_place", "min"), alt.Axis(labelAngle=angle, grid=False)
    base = base.encode(
        x=alt.X(f"{sides[1]}:N", sort=across[0], axis=across[1]),
        y=alt.Y(f"{sides[0]}:N", sort=alt.EncodingSortField("row_place", "min"), axis=alt.Axis(grid=False)),
        tooltip=[
            *(f"{side}:N" for side in sides),
            alt.Tooltip("value:Q", title="value"),
            alt.Tooltip("families:N", title="families"),
        ],
    )
    white, black = alt.value("#ffffff"), alt.value("#1b1b1b")
    layers = [base.transform_filter("datum.value === null").mark_rect(style="missing")]
    for test, scale in scales.items():
        layers.append(base.transform_filter(f"datum.value !== null && {test}").mark_rect().encode(color=scale.encoding))
    text = base.mark_text(fontSize=10 if shape[1] <= 8 else 9)
    layers.append(text.encode(text="text:N", color=alt.condition("datum.dark", white, black)))
    if framed:
        layers.append(base.transform_filter("datum.alike").mark_rect(filled=False, style="frame"))
    width = step * shape[1]
    drawn = alt.layer(*layers).properties(width=width, height=step * shape[0], title=charts.heading(*title, width + MARGIN))
    return drawn if len(scales) == 1 else drawn.resolve_scale(color="independent")


def common_scale(matrices: Sequence[Matrix], grain: float = 0.05) -> tuple[float, float]:
    """The range of all figures, widened to multiples of `grain`, so that panels have the same colours."""
    values = np.concatenate([matrix[np.isfinite(matrix)] for matrix in matrices])
    if not len(values):
        return 0.0, 1.0
    low, high = np.floor(values.min() / grain) * grain, np.ceil(values.max() / grain) * grain
    return float(low), float(high if high > low else low + grain)
