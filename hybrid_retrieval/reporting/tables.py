"""Result tables: made once, shown in the terminal, in Markdown and in HTML."""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import TYPE_CHECKING, Literal

from hybrid_retrieval.evaluation.figures import SEEN
from hybrid_retrieval.evaluation.measures import BYTES, MICRO, PHENOMENON, POOLED, SETTINGS, TIES, Measure, measure
from hybrid_retrieval.reporting.contest import FLOOR, LEVELS, Contest
from hybrid_retrieval.reporting.labels import LabelledRun, conditions
from hybrid_retrieval.reporting.run_directory import RunDirectory
from hybrid_retrieval.reporting.seen import SHORT, footnote, marked

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


MARGIN = "  ± (95%)"
ENDS = ("Lowest by language", "Highest by language")
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
SPEED = Column("Pairs/s", 0)
MOST_DIGITS = 6
"""More than a figure has otherwise, to show on which side of a bound it lies."""


def column_of(one: Measure, setting: str | None = None) -> Column:
    """A measure's column; named with a setting where the measure has several."""
    prefix = f"{SETTINGS[setting]} " if setting and len(one.settings) > 1 else ""
    return Column(f"{prefix}{one.label}", one.digits, one.better)


def retrieval_measures(runs: Sequence[RunDirectory], benchmark: str) -> list[Measure]:
    """The measures that any of the runs has, without counts, means over all queries, and what has a table of its own."""
    every = {one for run in runs for one in run.figures.measures(benchmark) if one.better and not one.of_bias}
    return sorted((one for one in every if not one.stem.startswith((MICRO, PHENOMENON))), key=lambda one: one.order)


def run_table(run: RunDirectory, benchmark: str) -> Table:
    """Settings x measures of one run on one benchmark, and of its baselines under each setting; half an interval below each.

    Where there are languages that the encoder was never trained on, a mean without them stands below the first.
    """
    systems = {"": run} | {f" · {name}": one for name, one in run.baselines.items()}
    measures = retrieval_measures(list(systems.values()), benchmark)
    rows: list[Row] = []
    for setting, short in SETTINGS.items():
        for (suffix, one), (languages, over) in product(systems.items(), ((None, ""), (SEEN, f" · {SHORT}"))):
            found = [one.figures.get(benchmark, setting, column.name, languages) for column in measures]
            if any(found):
                rows.append(Row(f"{short}{suffix}{over}", [figure.value if figure else None for figure in found]))
                margins = [figure.margin if figure else None for figure in found]
                rows += [Row(MARGIN, margins, "margin")] if any(margins) else []
    never = {suffix.removeprefix(" · ") or run.title: one.figures.never_seen(benchmark) for suffix, one in systems.items()}
    notes = [
        *footnote({name: languages for name, languages in never.items() if languages}),
        *_by_chance({suffix.removeprefix(" · ") or run.title: one for suffix, one in systems.items()}, benchmark),
        *_ties(systems, benchmark),
        *_sizes(systems, benchmark),
    ]
    return Table(f"{benchmark} · {run.title}", "Setting", [column_of(one) for one in measures], rows, notes)


def _by_chance(systems: Mapping[str, RunDirectory], benchmark: str) -> list[str]:
    """The systems whose rank distance is worse than that of a random ranking; by its interval, where it has one."""
    worse, expected = [], 0.0
    for name, one in systems.items():
        found, chance = (one.figures.get(benchmark, *POOLED, f"rank_distance{end}") for end in ("", "_chance"))
        if name != FLOOR and found and chance and (found.value if found.low is None else found.low) > chance.value:
            worse.append(name)
            expected = chance.value
    return (
        [f"Rank distance of {', '.join(worse)}: above the {number(expected, 1)} expected of a random ranking."] if worse else []
    )


def _sizes(systems: Mapping[str, RunDirectory], benchmark: str) -> list[str]:
    """The bytes of an embedding, where it was asked for smaller ones."""
    found = {
        suffix.removeprefix(" · ") or "full": one.figures.value(benchmark, *POOLED, BYTES) for suffix, one in systems.items()
    }
    sizes = [f"{name} {value:,.0f}" for name, value in found.items() if value is not None]
    return [f"Bytes per passage: {', '.join(sizes)}."] if sizes else []


def _ties(systems: Mapping[str, RunDirectory], benchmark: str) -> list[str]:
    """The figures that hang on the order of equal scores; nothing where there are none."""
    found = []
    for suffix, system in systems.items():
        for one in system.figures:
            if one.benchmark == benchmark and one.measure.name.startswith(TIES):
                part = f"{number(100 * one.value, 0, bounds=(1.0,))}%"  # more than 1, or it is not there
                moved = f"{SETTINGS[one.setting]} {measure(one.measure.name.removeprefix(TIES)).label}"
                found.append(f"{part} of {moved}{suffix.replace(' · ', ' of ')}")
    return [f"By the order of equal scores alone, which is trec_eval's, moves: {', '.join(found)}."] if found else []


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
        shown = [whole.value if whole else None, *(map(values.get, languages) if by_language else ends)]
        if one.probability:
            shown = [None if value is None else p_value(value) for value in shown]
        rows.append(Row(one.label, [shown[0], whole.margin if whole else None, *shown[1:]], digits=one.digits))
    never = run.figures.never_seen(benchmark)
    names = [marked(language, never) for language in languages] if by_language else ENDS
    notes = footnote({run.title: never}, means=False) if by_language else []
    columns = [Column("All"), Column("±"), *map(Column, names)]
    return Table(f"{benchmark} · language bias{name}", "Measure", columns, rows, notes)


def pivot(runs: Sequence[RunDirectory], benchmark: str) -> str | None:
    """The language that is on one side of all that a benchmark asks, as English is in translation retrieval, or None."""
    asked = {(one.query_language, one.corpus_language) for run in runs for one in run.figures if one.benchmark == benchmark}
    pairs = [{one, other} for one, other in asked if one is not None]
    shared = set.intersection(*pairs) if pairs else set()
    return (
        max((one for one in shared if one), default=None) if all(len(pair) > 1 and None not in pair for pair in pairs) else None
    )


def pivot_tables(run: RunDirectory, benchmark: str) -> list[Table]:
    """Where all pairs share a language: the headline of each other language from and to it, of a run and of its baselines."""
    every = {"": run, **{f" of {name}": one for name, one in run.baselines.items()}}
    return [_pivot_table(one, benchmark, centre, name) for name, one in every.items() if (centre := pivot([one], benchmark))]


def _pivot_table(run: RunDirectory, benchmark: str, centre: str, name: str) -> Table:
    head = retrieval_measures([run], benchmark)[0]
    found = run.figures.by_languages(benchmark, "crosslingual", head.name)
    never = run.figures.never_seen(benchmark)
    rows = []
    for language in sorted({one for pair in found.values() for one in (pair.query_language, pair.corpus_language) if one}):
        both = [found.get(f"{language}-{centre}"), found.get(f"{centre}-{language}")]
        values = [value for one in both for value in (one.value if one else None, one.margin if one else None)]
        rows += [Row(marked(language, never), values)] if any(both) else []
    columns = [Column(f"to {centre}", head.digits), Column("±"), Column(f"from {centre}", head.digits), Column("± ")]
    notes = footnote({run.title: never}, means=False)
    return Table(f"{benchmark} · {head.label} from and to {centre}{name}", "Language", columns, rows, notes)


def phenomenon_tables(run: RunDirectory, benchmark: str) -> list[Table]:
    """Of contrasts, the figures of each kind of damage, of a run and of its baselines."""
    every = {"": run, **{f" of {name}": one for name, one in run.baselines.items()}}
    found = (_phenomenon_table(one, benchmark, name) for name, one in every.items())
    return [table for table in found if table.rows]


def _phenomenon_table(run: RunDirectory, benchmark: str, name: str) -> Table:
    kinds = [one for one in run.figures.measures(benchmark) if one.stem.startswith(PHENOMENON)]
    settings = [short for short in SETTINGS if any(run.figures.get(benchmark, short, one.name) for one in kinds)]
    rows = []
    for one in kinds:
        found = [run.figures.get(benchmark, setting, one.name) for setting in settings]
        shown = [value for figure in found for value in ((figure.value, figure.margin) if figure else (None, None))]
        rows.append(Row(one.heading, shown))
    columns = [Column(text, 3) for at, one in enumerate(settings) for text in (f"{SETTINGS[one]} Kendall", f"±{' ' * at}")]
    return Table(f"{benchmark} · by phenomenon{name}", f"Phenomenon{name}", columns, rows)


def comparison_table(labelled: Sequence[LabelledRun], benchmark: str) -> Table:
    """Runs x figures on one benchmark; where runs differ only in their seed, their mean and standard deviation too.

    Baselines, which are the same whatever the run, come last. What a test separates from the rest stands out: of conditions,
    which are tried by all their seeds together, and of baselines.
    """
    scored = [one for one in labelled if benchmark in one.run.benchmarks]
    groups = {name: [one.run for one in runs] for name, runs in conditions(scored).items()}
    every_baseline = {name: one for labelled in reversed(labelled) for name, one in labelled.run.baselines.items()}
    baselines = {name: [one] for name, one in every_baseline.items() if benchmark in one.benchmarks and name not in groups}
    systems = groups | baselines
    everything = [run for runs in systems.values() for run in runs]
    measures = retrieval_measures(everything, benchmark)
    every = [(setting, one.name) for one in measures for setting in one.settings]
    wanted = COMPARED if measure("map") in measures else every
    keys = [key for key in wanted if any(run.figures.get(benchmark, *key) for run in everything)]
    contest = Contest.of(systems, benchmark, keys)

    def compared(run: RunDirectory, languages: str | None = None) -> list[float | None]:
        speed = None if languages else run.metrics.get("train/pairs_per_second")
        return [*(run.figures.value(benchmark, *key, languages) for key in keys), speed]

    def of_seeds(name: str, of: Callable[[list[float]], float], languages: str | None = None) -> list[float | None]:
        columns = zip(*(compared(run, languages) for run in systems[name]), strict=True)
        return [None if None in column else of([one for one in column if one is not None]) for column in columns]

    def of_system(name: str, label: str, kind: str, section: str = "") -> list[Row]:
        best = frozenset(index for index, key in enumerate(keys) if name in contest.best.get(key, ()))
        seen = of_seeds(name, statistics.fmean, SEEN)
        intervals = {index: of[name] for index, key in enumerate(keys) if name in (of := contest.intervals.get(key, {}))}
        clusters = {index: places[name] for index, key in enumerate(keys) if name in (places := contest.clusters.get(key, {}))}
        values = of_seeds(name, statistics.fmean)
        found = [Row(label, values, kind, section, best=best, intervals=intervals, clusters=clusters)]
        return [*found, Row(f"{name} · {SHORT}", seen, "seen", section)] if any(one is not None for one in seen) else found

    rows: list[Row] = []
    alone = {id(runs[0]): name for name, runs in groups.items() if len(runs) == 1}
    for one in scored:
        name = alone.get(id(one.run))
        rows += of_system(name, one.label, "run") if name else [Row(one.label, compared(one.run), "seed")]
    for name, runs in groups.items():
        if (count := len(runs)) > 1:
            rows += of_system(name, f"{name}: mean (n={count})", "mean", "mean")
            rows.append(Row(f"{name}: sd (n={count})", of_seeds(name, statistics.stdev), "sd", "mean"))
    for name in baselines:
        rows += of_system(name, name, "baseline", "baseline")
    columns_shown = [*(column_of(measure(name), setting) for setting, name in keys), SPEED]
    never = {name: runs[0].figures.never_seen(benchmark) for name, runs in systems.items()}
    return Table(benchmark, "Run", columns_shown, rows, [*footnote(never), *contest.notes])


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
