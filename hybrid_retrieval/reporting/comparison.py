"""Several runs beside one another: ``comparison.md``, ``.json``, ``.html`` and a picture for each benchmark."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.files import write_text
from hybrid_retrieval.reporting.browser import browser_section
from hybrid_retrieval.reporting.comparison_figures import draw_comparison
from hybrid_retrieval.reporting.labels import LabelledRun, conditions, label_runs
from hybrid_retrieval.reporting.page import Picture, Section, write_page
from hybrid_retrieval.reporting.pairs_table import pairs_tables
from hybrid_retrieval.reporting.run_directory import RunDirectory
from hybrid_retrieval.reporting.tables import Table, comparison_table, console, markdown, show


def compare(runs: Sequence[RunDirectory], out: Path) -> None:
    """Write the comparison of `runs` into `out`; print its tables and the paths.

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
    drawn = {name: draw_comparison(labelled, name, out) for name in benchmarks if len(by_benchmark[name]) > 1}
    pictures = {name: path for name, path in drawn.items() if path}
    unscored = [run.path.name for run in runs if not run.reported]
    notes = [f"Not compared, for want of benchmark figures: {', '.join(unscored)}."] if unscored else []
    notes += [line for name in benchmarks for line in _caveats(labelled, name)]
    title = "Comparison: " + ", ".join(one.label for one in labelled)
    under = f"{len(labelled)} runs"
    written = [
        write_text(out / "comparison.md", _markdown(tables, pictures, notes)),
        write_text(out / "comparison.json", _json(labelled, out)),
        write_page(out / "comparison.html", title, under, _sections(labelled, tables, pictures, notes)),
        *pictures.values(),
    ]
    screen = console()
    show(screen, *tables.values())
    for line in [*notes, *(f"wrote {path}" for path in written)]:
        screen.print(line, markup=False, soft_wrap=True)


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
        if name in pictures:
            parts.append(f"![{name} by language pair]({pictures[name].name})\n")
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
    labelled: Sequence[LabelledRun], tables: dict[str, Table], pictures: dict[str, Path], notes: Sequence[str]
) -> list[Section]:

    groups = {name: [one.run for one in runs] for name, runs in conditions(labelled).items()}
    baselines = {name: [run] for one in reversed(labelled) for name, run in one.run.baselines.items()}
    firsts = {runs[0].label: runs[0].run for runs in conditions(labelled).values()}  # of their seeds
    sections = []
    for name, table in tables.items():
        caption = f"Figures by language pair, and differences ({name}_comparison.png)"
        shown = [Picture(pictures[name], caption, "wide")] if name in pictures else []
        sections.append(Section(name, [table], pictures=shown, folded=list(pairs_tables(groups | baselines, name))))
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
