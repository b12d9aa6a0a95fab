"""Result tables: made once, shown in the terminal, in Markdown and in HTML."""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hybrid_retrieval.evaluation.measures import SETTINGS, Measure, measure
from hybrid_retrieval.reporting.labels import LabelledRun, conditions
from hybrid_retrieval.reporting.run_directory import RunDirectory

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as RichTable

PLAIN_WIDTH = 200
"""Columns where the output is a file or a pipe."""


@dataclass(frozen=True)
class Column:
    """A figure of each row; `better` is the good end of it, `digits` None says that it is text."""

    name: str
    digits: int | None = 4
    better: str | None = None


@dataclass(frozen=True)
class Row:
    """A label and its figures.

    The best of the rows of kind ``run``, and the best of kind ``mean``, stand out; rows of other kinds (``seed``, ``sd``,
    ``baseline``, ``margin``) do not compete: where every condition was repeated, the lucky seed is not the winner. A line is
    drawn between sections. `digits` go before those of the columns.
    """

    label: str
    values: Sequence[float | str | None]
    kind: str = "run"
    section: str = ""
    digits: int | None = None


@dataclass(frozen=True)
class Cell:
    """A figure as it is shown."""

    text: str
    best: bool = False


@dataclass(frozen=True)
class Table:
    """A titled grid of figures; in a `contest` the best of each column stands out."""

    title: str
    corner: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    contest: bool = False

    def cells(self) -> Iterator[tuple[Row, list[Cell]]]:
        """The rows as shown; figures that read the same are equally best."""
        best = {kind: [self._best(kind, index) for index in range(len(self.columns))] for kind in ("run", "mean")}
        for row in self.rows:
            marks = best.get(row.kind, [None] * len(self.columns))
            texts = [_shown(row, value, column) for value, column in zip(row.values, self.columns, strict=True)]
            yield row, [Cell(text, text == mark) for text, mark in zip(texts, marks, strict=True)]

    def _best(self, kind: str, index: int) -> str | None:
        values = [row.values[index] for row in self.rows if row.kind == kind]
        known = [value for value in values if isinstance(value, int | float) and math.isfinite(value)]
        column = self.columns[index]
        if not self.contest or len(known) < 2:
            return None
        return number(min(known) if column.better == "lower" else max(known), column.digits or 0)


MARGIN = "  ± (95%)"
COMPARED = (
    ("monolingual", "map"),
    ("crosslingual", "map"),
    ("multilingual", "map"),
    ("monolingual", "recall@1"),
    ("crosslingual", "recall@1"),
    ("multilingual", "recall@10"),
    ("multilingual", "rank_distance"),
)
"""The columns of a comparison on a benchmark that has mAP; on others it is every measure."""
SPEED = Column("Pairs/s", 0, "higher")


def column_of(one: Measure, setting: str | None = None) -> Column:
    """A measure's column; named with a setting where the measure has several."""
    prefix = f"{SETTINGS[setting]} " if setting and len(one.settings) > 1 else ""
    return Column(f"{prefix}{one.label}", one.digits, one.better)


def retrieval_measures(runs: Sequence[RunDirectory], benchmark: str) -> list[Measure]:
    """The measures that any of the runs has, without counts and those of language bias that have a table of their own."""
    every = {one for run in runs for one in run.figures.measures(benchmark) if one.better and not one.of_bias}
    return sorted(every, key=lambda one: one.order)


def run_table(run: RunDirectory, benchmark: str) -> Table:
    """Settings x measures of one run on one benchmark, and of its baselines under each setting; half an interval below each."""
    systems = {"": run} | {f" · {name}": one for name, one in run.baselines.items()}
    measures = retrieval_measures(list(systems.values()), benchmark)
    rows: list[Row] = []
    for setting, short in SETTINGS.items():
        for suffix, one in systems.items():
            found = [one.figures.get(benchmark, setting, column.name) for column in measures]
            if any(found):
                rows.append(Row(f"{short}{suffix}", [figure.value if figure else None for figure in found]))
                margins = [figure.margin if figure else None for figure in found]
                rows += [Row(MARGIN, margins, "margin")] if any(margins) else []
    return Table(f"{benchmark} · {run.title}", "Setting", [column_of(one) for one in measures], rows)


def bias_tables(run: RunDirectory, benchmark: str, by_language: bool) -> list[Table]:
    """The measures of language bias in the pooled setting, of a run and of its baselines that have more than the rank distance.

    Args:
        by_language: a column for every language; else the least and the largest of them.
    """
    every = {"": run, **{f" of {name}": one for name, one in run.baselines.items()}}
    found = [_bias_table(one, benchmark, name, by_language) for name, one in every.items()]
    return [table for table in found if table]


def _bias_table(run: RunDirectory, benchmark: str, name: str, by_language: bool) -> Table | None:
    measures = [one for one in run.figures.measures(benchmark) if one.of_bias or one.headline]
    if not any(one.of_bias for one in measures):
        return None
    found = {one: run.figures.by_languages(benchmark, "multilingual", one.name) for one in measures}
    languages = sorted({language for by_language in found.values() for language in by_language})
    rows = []
    for one, figures in found.items():
        whole = run.figures.get(benchmark, "multilingual", one.name)
        values = {language: figure.value for language, figure in figures.items()}
        ends = [min(values.values(), default=None), max(values.values(), default=None)]
        macro = (whole.value, whole.margin) if whole else (None, None)
        rows.append(Row(one.label, [*macro, *(map(values.get, languages) if by_language else ends)], digits=one.digits))
    columns = [
        Column("All"),
        Column("±"),
        *map(Column, languages if by_language else ("Lowest by language", "Highest by language")),
    ]
    return Table(f"{benchmark} · language bias{name}", "Measure", columns, rows)


def comparison_table(labelled: Sequence[LabelledRun], benchmark: str) -> Table:
    """Runs x figures on one benchmark; where runs differ only in their seed, their mean and standard deviation too.

    Baselines, which are the same whatever the run, come last.
    """
    scored = [one for one in labelled if benchmark in one.run.benchmarks]
    measures = retrieval_measures([one.run for one in scored], benchmark)
    every = [(setting, one.name) for one in measures for setting in one.settings]
    wanted = COMPARED if measure("map") in measures else every
    keys = [key for key in wanted if any(one.run.figures.get(benchmark, *key) for one in scored)]

    def compared(run: RunDirectory) -> list[float | None]:
        return [*(run.figures.value(benchmark, *key) for key in keys), run.metrics.get("train/pairs_per_second")]

    groups = conditions(scored)
    repeated = {name: runs for name, runs in groups.items() if len(runs) > 1}
    kind = "seed" if len(repeated) == len(groups) > 1 else "run"
    rows = [Row(one.label, compared(one.run), kind) for one in scored]
    for name, runs in repeated.items():
        columns = [list(values) for values in zip(*(compared(one.run) for one in runs), strict=True)]
        for word, of in (("mean", statistics.fmean), ("sd", statistics.stdev)):
            values = [None if None in column else of(column) for column in columns]
            rows.append(Row(f"{name}: {word} (n={len(runs)})", values, word, "mean"))
    baselines = {name: one for labelled in reversed(scored) for name, one in labelled.run.baselines.items()}
    for name, baseline in baselines.items():
        if benchmark in baseline.benchmarks:
            rows.append(Row(name, compared(baseline), "baseline", "baseline"))
    columns_shown = [*(column_of(measure(name), setting) for setting, name in keys), SPEED]
    return Table(benchmark, "Run", columns_shown, rows, contest=True)


def markdown(table: Table) -> str:
    """A Markdown table, best figures in bold, ending in a newline."""
    lines = [[table.corner, *(column.name for column in table.columns)], ["---", *("---:" for _ in table.columns)]]
    for row, cells in table.cells():
        label = row.label.replace("|", "\\|")
        lines.append([label, *(f"**{cell.text}**" if cell.best else cell.text for cell in cells)])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def rich_table(table: Table) -> RichTable:
    """For the terminal: names of columns on two lines, so that eight figures fit in 100 columns."""
    from rich.markup import escape
    from rich.table import Table as RichTable

    shown = RichTable(title=escape(table.title), title_justify="left", title_style="bold")
    shown.add_column(escape(table.corner), overflow="fold")
    for column in table.columns:
        name = escape(column.name.replace(" ", "\n"))
        shown.add_column(name, justify="left" if column.digits is None else "right", no_wrap=True)
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


def number(value: float, digits: int, sign: str = "") -> str:
    """A figure as it is shown, large ones with one digit at most; ``+`` as `sign` for a difference."""
    return f"{value:{sign},.{digits if abs(value) < 100 else min(digits, 1)}f}"


def _shown(row: Row, value: float | str | None, column: Column) -> str:
    if isinstance(value, str):
        return value
    if value is None or not math.isfinite(value):
        return "-"
    return number(value, (column.digits or 0) if row.digits is None else row.digits)
