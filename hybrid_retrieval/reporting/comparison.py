"""Several runs beside one another: ``comparison.md``, ``.json``, ``.html`` and a picture for each benchmark."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.files import write_text
from hybrid_retrieval.reporting import charts, heatmap, tradeoff
from hybrid_retrieval.reporting.browser import browser_section
from hybrid_retrieval.reporting.comparison_figures import draw_choice, draw_comparison
from hybrid_retrieval.reporting.labels import LabelledRun, conditions, label_runs
from hybrid_retrieval.reporting.page import Chart, Section, write_page
from hybrid_retrieval.reporting.pairs_table import pairs_tables
from hybrid_retrieval.reporting.paper import PLAIN, Paper
from hybrid_retrieval.reporting.run_directory import RunDirectory
from hybrid_retrieval.reporting.table import Row, Table, console, markdown, number, show
from hybrid_retrieval.reporting.tables import comparison_table

MOST_LEADERS = 3
KINDS = {
    "comparison": "Figures by language pair, differences, and macro means",
    "alpha": "What alpha trades: monolingual against cross-lingual figures and language bias",
}
"""What is drawn of a benchmark, by the endings of the files' names."""


def compare(runs: Sequence[RunDirectory], out: Path, paper: Paper = PLAIN) -> None:
    """Write the comparison of `runs` into `out`; print its tables and the paths.

    Args:
        paper: in which formats pictures and tables are written, and in which order of languages.

    Raises:
        InputError: fewer than two runs have benchmark figures, or `out` cannot be written.
    """
    scored = [run for run in runs if run.reported]
    if len(scored) < 2:
        raise InputError(f"{len(scored)} of {len(runs)} runs has benchmark figures; a comparison needs two")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out={out} cannot be written: {error.strerror}") from error
    labelled = label_runs(scored)
    by_benchmark = {name: [one for one in labelled if name in one.run.benchmarks] for run in scored for name in run.reported}
    benchmarks = sorted(by_benchmark)
    tables = {name: comparison_table(labelled, name) for name in benchmarks}
    several = [name for name in benchmarks if len(by_benchmark[name]) > 1]
    drawn = {name: charts.specification(one) for name, one in draw_sweep(labelled, several, paper.order).items()}
    pictures = paper.draw(drawn, out)
    unscored = [run.path.name for run in runs if not run.reported]
    notes = [f"Not compared, for want of benchmark figures: {', '.join(unscored)}."] if unscored else []
    notes += [line for name in benchmarks for line in _caveats(labelled, name)]
    title = "Comparison: " + ", ".join(conditions(labelled))
    under = f"{len(labelled)} runs"
    written = [
        write_text(out / "comparison.md", _markdown(tables, pictures, notes)),
        write_text(out / "comparison.json", _json(labelled, out)),
        write_page(out / "comparison.html", title, under, _sections(labelled, tables, drawn, notes, paper.order)),
        *pictures.values(),
        *(path for name, table in tables.items() for path in paper.tabulate([table], f"{name}_comparison", out)),
    ]
    screen = console()
    show(screen, *tables.values())
    found = [line for table in tables.values() for line in leaders(table)]
    for line in [*found, *notes, *(f"wrote {path}" for path in written)]:
        screen.print(line, markup=False, soft_wrap=True)


def leaders(table: Table) -> list[str]:
    """What is best in a setting by its first measure, with 95% intervals: all that no test tells apart from the best."""
    firsts = {column.name.partition(" ")[0]: at for at, column in reversed([*enumerate(table.columns)])}
    lines = []
    for at in sorted(firsts.values()):
        first = [row for row in table.rows if row.clusters.get(at) == 1 and at in row.intervals]
        first.sort(key=lambda row, at=at: row.values[at], reverse=table.columns[at].better == "higher")  # type: ignore[misc]
        said = [_with_interval(row, at, table.columns[at].digits or 0) for row in first[:MOST_LEADERS]]
        more = f" and {len(first) - len(said)} more" if len(first) > len(said) else ""
        apart = ", not told apart" if len(first) > 1 else ""
        lines += [f"{table.title}, best {table.columns[at].name}: {', '.join(said)}{more}{apart}"] if said else []
    return lines


def _with_interval(row: Row, at: int, digits: int) -> str:
    value, bounds = row.values[at], row.intervals[at]
    assert isinstance(value, (float, int))
    low, high = (number(bound, digits) for bound in bounds)
    return f"{row.label.partition(': mean')[0]} {number(value, digits)} ({low} to {high})"


def draw_sweep(labelled: Sequence[LabelledRun], benchmarks: Sequence[str], order: str = "name") -> dict[str, Any]:
    """What can be drawn of several runs, by the names of files; matrices in an `order` of languages."""
    drawn: dict[str, Any] = {}
    for name in benchmarks:
        compared = draw_comparison(labelled, name)
        drawn[f"{name}_comparison"] = compared and heatmap.with_order(compared, order)
        figures = tradeoff.over_alpha(labelled, name)
        if figures is not None:
            drawn[f"{name}_alpha"] = tradeoff.pareto(
                figures, "alpha", f"{name}: what alpha trades", tradeoff.panels_of(figures)
            )
    return {name: chart for name, chart in drawn.items() if chart is not None}


def _caveats(labelled: Sequence[LabelledRun], benchmark: str) -> list[str]:
    """Warnings to a reader of the table: runs that lack the benchmark, and runs that were asked other questions."""
    missing = [one.label for one in labelled if benchmark not in one.run.reported]
    lines = [f"{benchmark}: not scored by {', '.join(missing)}."] if missing else []
    scored = [one.run for one in labelled if benchmark in one.run.benchmarks]
    if len({run.figures.value(benchmark, "multilingual", "queries") for run in scored}) > 1:
        lines.append(f"{benchmark}: the runs were asked different numbers of questions, so their figures are not comparable.")
    return lines


def _markdown(tables: dict[str, Table], pictures: dict[str, Path], notes: Sequence[str]) -> str:

    parts = []
    for name, table in tables.items():
        parts.append(f"## {name}\n\n{markdown(table)}")
        shown = {kind: pictures[key] for kind in KINDS if (key := f"{name}_{kind}") in pictures}
        parts += [f"![{name}: {KINDS[kind]}]({path.name})\n" for kind, path in shown.items()]
    return "\n".join([*parts, *(f"{line}\n" for line in notes)])


def _json(labelled: Sequence[LabelledRun], out: Path) -> str:
    runs = [
        {
            "label": one.label,
            "condition": one.condition,
            "directory": Path(os.path.relpath(one.run.path.resolve(), out.resolve())).as_posix(),
            "choices": one.run.choices,
            "seed": one.run.config.get("seed"),
            "metrics": dict(one.run.metrics),
        }
        for one in labelled
    ]
    return json.dumps({"runs": runs}, indent=1, ensure_ascii=False) + "\n"


def _sections(
    labelled: Sequence[LabelledRun], tables: dict[str, Table], drawn: dict[str, Any], notes: Sequence[str], order: str
) -> list[Section]:

    groups = {name: [one.run for one in runs] for name, runs in conditions(labelled).items()}
    baselines = {name: [run] for one in reversed(labelled) for name, run in one.run.baselines.items()}
    firsts = {runs[0].label: runs[0].run for runs in conditions(labelled).values()}  # of their seeds
    sections = []
    for name, table in tables.items():
        keys = {f"{name}_{kind}": said for kind, said in KINDS.items()}
        shown = [Chart(key, drawn[key], said, "wide") for key, said in keys.items() if key in drawn]
        if f"{name}_comparison" in drawn:
            choice = charts.specification(heatmap.with_order(draw_choice(labelled, name), order))
            shown.insert(0, Chart(f"{name}_pairs", choice, "Figures of one system by language pair, or less those of another"))
        sections.append(Section(name, [table], charts=shown, folded=list(pairs_tables(groups | baselines, name))))
    if questions := browser_section(firsts | {name: runs[0] for name, runs in baselines.items()}):
        sections.append(questions)
    origin = {
        one.label: f"{one.run.title} · seed {one.run.config.get('seed', 'unknown')} · folder {one.run.path.resolve().name}"
        for one in labelled
    }
    sections.append(Section("Runs", notes=notes, facts=origin))
    machines = {one.label: one.run.environment["machine"] for one in labelled if one.run.environment.get("machine")}
    if machines:
        alike = len({str(machine) for machine in machines.values()}) == 1
        sections.append(Section("Machine", facts={"all runs": next(iter(machines.values()))} if alike else machines))
    return sections
