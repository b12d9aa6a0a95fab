"""A grid of figures, and how it is shown: on a terminal, as Markdown, digit by digit."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from hybrid_retrieval.reporting.contest import LEVELS

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as RichTable

PLAIN_WIDTH = 200
"""Columns where the output is a file or a pipe."""


@dataclass(frozen=True)
class Column:
    """A figure of each row; `digits` None says that it is text, `better` which end is the good one."""

    name: str
    digits: int | None = 4
    better: str | None = None


@dataclass(frozen=True)
class Row:
    """A label and its figures.

    Attributes:
        kind: what a page shows it as: run, seed, mean, sd, seen, baseline, margin.
        section: a line is drawn between sections.
        digits: go before those of the columns.
        best: the columns in which it stands out.
        intervals, clusters: by column, its bounds and its significance cluster, which a page shows below the figure.
    """

    label: str
    values: Sequence[float | str | None]
    kind: str = "run"
    section: str = ""
    digits: int | None = None
    best: frozenset[int] = frozenset()
    intervals: Mapping[int, tuple[float, float]] = field(default_factory=dict)
    clusters: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Cell:
    """A figure as it is shown.

    Attributes:
        value: what a page sorts by; None of text.
    """

    text: str
    best: bool = False
    value: float | None = None
    interval: str = ""
    cluster: int | None = None


@dataclass(frozen=True)
class Table:
    """A titled grid of figures, and lines to be read with it."""

    title: str
    corner: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    notes: Sequence[str] = ()

    def cells(self) -> Iterator[tuple[Row, list[Cell]]]:
        """The rows as shown."""
        for row in self.rows:
            each = enumerate(zip(row.values, self.columns, strict=True))
            yield row, [_cell(row, index, value, column) for index, (value, column) in each]


MOST_DIGITS = 6
"""More than a figure has otherwise, to show on which side of a bound it lies."""


def markdown(table: Table) -> str:
    """A Markdown table with its notes, what stands out in bold, ending in a newline."""
    lines = [[table.corner, *(column.name for column in table.columns)], ["---", *("---:" for _ in table.columns)]]
    for row, cells in table.cells():
        label = row.label.replace("|", "\\|")
        lines.append([label, *(f"**{cell.text}**" if cell.best else cell.text for cell in cells)])
    return "".join([*(f"| {' | '.join(line)} |\n" for line in lines), *(f"\n{note}\n" for note in table.notes)])


def show(screen: Console, *tables: Table) -> None:
    """Print tables and their notes; one that is wider than the screen in parts."""
    for table in tables:
        for part in _parts(screen, table):
            screen.print(rich_table(part))
        for note in table.notes:
            screen.print(note, markup=False, soft_wrap=True)


def _parts(screen: Console, table: Table) -> Iterator[Table]:
    """The table with as many of its columns as fit, one at least; then with those that are left, beside its first of text."""
    every = list(range(len(table.columns)))
    texts = next((index for index in every if table.columns[index].digits is not None), 0)
    count = len(every)
    while count > texts + 1 and _narrowest(screen, _chosen(table, every[:count])) > screen.width:
        count -= 1
    yield _chosen(table, every[:count])
    if count < len(every):
        yield from _parts(screen, replace(_chosen(table, [*every[:texts], *every[count:]]), title=""))


def _chosen(table: Table, columns: Sequence[int]) -> Table:
    """The table with some of its columns."""

    def of(row: Row) -> Row:
        best = frozenset(place for place, index in enumerate(columns) if index in row.best)
        return replace(row, values=[row.values[index] for index in columns], best=best)

    return replace(table, columns=[table.columns[index] for index in columns], rows=[*map(of, table.rows)])


def _narrowest(screen: Console, table: Table) -> int:
    """Columns of a terminal in which no figure is cut off."""
    from rich.measure import Measurement

    return Measurement.get(screen, screen.options.update(max_width=sys.maxsize), rich_table(table)).minimum


def rich_table(table: Table) -> RichTable:
    """For the terminal: names of columns on two lines, so that eight figures fit in 100 columns."""
    from rich.cells import cell_len
    from rich.markup import escape
    from rich.table import Table as RichTable

    shown = RichTable(title=escape(table.title) or None, title_justify="left", title_style="bold")
    shown.add_column(escape(table.corner), overflow="fold")
    for index, column in enumerate(table.columns):
        name = column.name.replace(" ", "\n")
        whole = max(map(cell_len, (*name.split("\n"), *(cells[index].text for _, cells in table.cells()))))
        side: Literal["left", "right"] = "left" if column.digits is None else "right"
        shown.add_column(escape(name), justify=side, no_wrap=True, min_width=whole)
    before = ""
    for row, cells in table.cells():
        if row.section != before:
            shown.add_section()
            before = row.section
        texts = (escape(cell.text) for cell in cells)
        marked = (f"[bold]{text}[/bold]" if cell.best else text for text, cell in zip(texts, cells, strict=True))
        shown.add_row(escape(row.label), *marked)
    return shown


def console() -> Console:
    """On the standard output; wide where that is not a terminal, so that tables in logs do not wrap."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH, highlight=False)


def number(value: float, digits: int, sign: str = "", bounds: Sequence[float] = (0.0,)) -> str:
    """A figure as it is shown, large ones with one digit at most; ``+`` as `sign` for a difference.

    Where rounding would put it onto a bound that it is not, or beyond, it has as many digits more as it takes.
    """
    digits = digits if abs(value) < 100 else min(digits, 1)
    sides = [_side(value, bound) for bound in bounds]
    for enough in range(digits, digits + MOST_DIGITS + 1):
        if [_side(round(value, enough), bound) for bound in bounds] == sides:
            return f"{value:{sign},.{enough}f}"
    return f"{value:{sign},.{digits}f}"


def _side(value: float, bound: float) -> int:
    return (value > bound) - (value < bound)


def p_value(value: float) -> str:
    """A p as it is shown, on its side of the levels of significance."""
    return "<.0001" if value < 0.0001 else number(value, 4, bounds=LEVELS).removeprefix("0")


def _cell(row: Row, index: int, value: float | str | None, column: Column) -> Cell:
    known = value is not None and not isinstance(value, str) and math.isfinite(value)
    bounds = " … ".join(_shown(row, bound, column) for bound in row.intervals.get(index, ()))
    key = float(value) if known else None  # type: ignore[arg-type]
    return Cell(_shown(row, value, column), index in row.best, key, bounds, row.clusters.get(index))


def _shown(row: Row, value: float | str | None, column: Column) -> str:
    if isinstance(value, str):
        return value
    if value is None or not math.isfinite(value):
        return "-"
    return number(value, (column.digits or 0) if row.digits is None else row.digits)
