"""The headline measure of every language pair as a table for a page, where it can be sorted and searched."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence

from hybrid_retrieval.evaluation.figures import Figure
from hybrid_retrieval.evaluation.measures import SETTINGS
from hybrid_retrieval.reporting.run_directory import RunDirectory
from hybrid_retrieval.reporting.seen import footnote, marked
from hybrid_retrieval.reporting.table import Column, Row, Table
from hybrid_retrieval.reporting.tables import retrieval_measures


def pairs_tables(systems: Mapping[str, Sequence[RunDirectory]], benchmark: str) -> Iterator[Table]:
    """A row a language pair, and a language against the pool; a column a system, the mean over its runs; none of one pair."""
    found = {name: runs for name, runs in systems.items() if any(benchmark in run.benchmarks for run in runs)}
    measures = retrieval_measures([run for runs in found.values() for run in runs], benchmark)
    if not measures:
        return
    head = measures[0]
    cells: dict[tuple[str, str], dict[str, list[Figure]]] = {}
    for name, runs in found.items():
        for setting in SETTINGS:
            for run in runs:
                for figure in run.figures.by_languages(benchmark, setting, head.name).values():
                    of = cells.setdefault((setting, figure.languages or ""), {})
                    of.setdefault(name, []).append(figure)
    if len(cells) < 2:
        return
    never = {name: runs[0].figures.never_seen(benchmark) for name, runs in found.items()}
    unseen = {language for languages in never.values() for language in languages}
    rows = [_row(_label(next(iter(of.values()))[0], setting, unseen), of, found) for (setting, _), of in cells.items()]
    columns = [Column(name, head.digits) for name in found]
    title = f"{head.label} of each language pair"
    yield Table(title, "Query → passages", columns, rows, footnote(never, means=False))


def _label(figure: Figure, setting: str, unseen: set[str]) -> str:
    sides = (figure.query_language or "", figure.corpus_language or "pool")
    return f"{SETTINGS[setting]} {' → '.join(marked(side, unseen) for side in sides)}"


def _row(label: str, of: Mapping[str, Sequence[Figure]], systems: Mapping[str, Sequence[RunDirectory]]) -> Row:
    """With intervals of systems of one run."""
    values = [statistics.fmean(one.value for one in of[name]) if name in of else None for name in systems]
    intervals = {
        at: (figure.low, figure.high)
        for at, name in enumerate(systems)
        if len(systems[name]) == 1 and name in of and (figure := of[name][0]).low is not None and figure.high is not None
    }
    return Row(label, values, intervals=intervals)
