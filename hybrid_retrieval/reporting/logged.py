"""What loggers are told of a finished run, by the name that they show it under: figures, tables, pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hybrid_retrieval.evaluation.measures import SETTINGS
from hybrid_retrieval.reporting.run_directory import RunDirectory
from hybrid_retrieval.reporting.tables import column_of, retrieval_measures, run_table

MANIFEST = "batch_manifest.parquet"
BATCHES = "batches"
FILE_ONLY = "decision/"
"""Of telemetry, what no logger is told."""


class Grid(NamedTuple):
    """A table as loggers take it."""

    columns: list[str]
    rows: list[list[Any]]

    def markdown(self) -> str:
        """The same in Markdown."""
        lines: list[Sequence[Any]] = [self.columns, ["---"] * len(self.columns), *self.rows]
        return "\n".join("| " + " | ".join("" if cell is None else str(cell) for cell in line) + " |" for line in lines)


def tables(run: RunDirectory) -> dict[str, Grid]:
    """Of each benchmark the result table, and its figures by language and by pair of languages, as far as it has some."""
    found: dict[str, Grid] = {}
    for name in run.benchmarks:
        shown = run_table(run, name)
        columns = [shown.corner, *(column.name for column in shown.columns)]
        found[f"results/{name}"] = Grid(columns, [[row.label, *row.values] for row in shown.rows])
        found[f"languages/{name}"] = by_language(run, name)
        found[f"pairs/{name}"] = by_pair(run, name)
    return {name: grid for name, grid in found.items() if grid.rows}


def by_language(run: RunDirectory, benchmark: str) -> Grid:
    """A row for each language of queries: every measure, over its own corpus and over the pool."""
    columns = {
        column_of(one, setting).name: run.figures.by_languages(benchmark, setting, one.name)
        for setting in SETTINGS
        if setting != "crosslingual"
        for one in retrieval_measures([run], benchmark)
    }
    columns = {name: found for name, found in columns.items() if found}
    languages = sorted({language for found in columns.values() for language in found})
    cells = [[found[one].value if one in found else None for found in columns.values()] for one in languages]
    return Grid(["Language", *columns], [[one, *row] for one, row in zip(languages, cells, strict=True)])


def by_pair(run: RunDirectory, benchmark: str) -> Grid:
    """A row for each cell of the heatmap: the first measure of a query language over a corpus in one language."""
    measures = retrieval_measures([run], benchmark)
    if not measures:
        return Grid([], [])
    name = measures[0].name
    found = [one for one in run.figures if one.benchmark == benchmark and one.measure.name == name and one.corpus_language]
    rows = [[one.query_language, one.corpus_language, one.value, one.low, one.high] for one in found if one.query_language]
    return Grid(["Query language", "Passage language", measures[0].label, "low", "high"], sorted(rows, key=lambda row: row[:2]))


def pictures(run: RunDirectory) -> dict[str, Path]:
    """The run's ``figures/``."""
    return {f"figures/{path.stem}": path for path in sorted((run.path / "figures").glob("*.png"))}


def pairs_drawn(manifest: Path) -> Grid:
    """How many pairs of each set, query language and passage language were trained on."""
    import pyarrow.parquet as pq

    keys = ["set", "query_language", "passage_language"]
    drawn = pq.read_table(manifest, columns=[*keys, "pairs"]).group_by(keys).aggregate([("pairs", "sum")])
    rows = drawn.sort_by([(key, "ascending") for key in keys]).to_pylist()
    return Grid([*keys, "pairs"], [[row[key] for key in [*keys, "pairs_sum"]] for row in rows])


def logged_keys(run: RunDirectory) -> set[str]:
    """All names under which a logger has something of the run."""
    from hybrid_retrieval.reporting.training_curves import read_curves

    curves = {name for name in read_curves(run.path) if not name.startswith(FILE_ONLY)}
    batches = {BATCHES} if (run.path / MANIFEST).exists() else set()
    return {*run.metrics, *curves, *batches, *tables(run), *pictures(run)}
