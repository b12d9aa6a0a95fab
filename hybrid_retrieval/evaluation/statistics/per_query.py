"""``per_query.parquet`` of several runs, brought onto the same questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.evaluation.statistics.resampling import Floats

Ints = npt.NDArray[np.int64]

FILE = "per_query.parquet"
KEYS = ("benchmark", "setting", "query_language", "corpus_language", "query_id")
"""What a row is about; each other column is a measure."""
RUN = "run"


@dataclass(frozen=True)
class CommonQuestions:
    """One measure in one setting, where every run has it.

    Attributes:
        values: float64 [runs, questions, views]; the same cells are NaN in every run, no question and no view is empty.
        views: query language and corpus language, None for the pool.
        left_out: cells that some of the runs have and others lack.
    """

    values: Floats
    views: list[tuple[str, str | None]]
    left_out: int


@dataclass(frozen=True)
class PerQuery:
    """The rows of several runs; `table` has the file's columns and the number of the run."""

    table: pa.Table
    runs: int

    @classmethod
    def read(cls, directories: Sequence[Path]) -> PerQuery:
        """Read the file of each run directory.

        Raises:
            InputError: one has none, or it is not of that form.
        """
        parts = []
        for number, directory in enumerate(directories):
            part = _read(directory / FILE)
            parts.append(part.append_column(RUN, pa.array(np.full(len(part), number))))
        table = pa.concat_tables(parts, promote_options="default").combine_chunks()
        for name in KEYS:
            at = table.schema.get_field_index(name)
            table = table.set_column(at, name, pc.dictionary_encode(table[name]))
        return cls(table, len(directories))

    def benchmarks(self) -> dict[str, set[int]]:
        """The runs that have scored each benchmark."""
        pairs = self.table.select(["benchmark", RUN]).group_by(["benchmark", RUN]).aggregate([]).to_pylist()
        names = sorted({pair["benchmark"] for pair in pairs})
        return {name: {pair[RUN] for pair in pairs if pair["benchmark"] == name} for name in names}

    def measures(self, benchmark: str) -> list[str]:
        """The measures that a benchmark has values of, in the order of the columns."""
        rows = self.table.filter(pc.equal(self.table["benchmark"], benchmark))
        return [name for name in rows.column_names if name not in (*KEYS, RUN) and rows[name].null_count < len(rows)]

    def common(self, benchmark: str, setting: str, measure: str) -> CommonQuestions | None:
        """The questions that every run has values of, or None where there are none.

        Raises:
            InputError: a query is twice in a run.
        """
        wanted = pc.and_(pc.equal(self.table["benchmark"], benchmark), pc.equal(self.table["setting"], setting))
        rows = self.table.filter(pc.and_(wanted, pc.fill_null(pc.is_finite(self.table[measure]), False)))
        if not len(rows):
            return None
        asked, queried = _codes(rows, "query_language")
        answered, searched = _codes(rows, "corpus_language")
        codes, view = np.unique(asked * len(searched) + answered, return_inverse=True)
        pairs = [(str(queried[code // len(searched)]), searched[code % len(searched)]) for code in codes.tolist()]
        _, question = np.unique(_codes(rows, "query_id")[0], return_inverse=True)
        values = np.full((self.runs, int(question.max()) + 1, len(pairs)), np.nan)
        values[rows[RUN].to_numpy(), question, view] = rows[measure].to_numpy()
        present = np.isfinite(values)
        if present.sum() < len(rows):
            raise InputError(f"{FILE}: a query of {benchmark}/{setting} is there twice for the same languages")
        return _common(values, pairs)


def _codes(rows: pa.Table, name: str) -> tuple[Ints, list[str | None]]:
    """A column as numbers, int64 [rows], and what they stand for; the last is None, which stands for null."""
    column = rows[name].combine_chunks()
    texts = [*column.dictionary.to_pylist(), None]
    return pc.fill_null(column.indices, len(texts) - 1).to_numpy().astype(np.int64), texts


def _common(values: Floats, pairs: Sequence[tuple[str, str | None]]) -> CommonQuestions | None:
    present = np.isfinite(values)
    shared = np.logical_and.reduce(present, axis=0)
    if not shared.any():
        return None
    questions, views = np.flatnonzero(shared.any(axis=1)), np.flatnonzero(shared.any(axis=0))
    kept = np.where(shared, values, np.nan)[:, questions][:, :, views]
    left_out = int(present.any(axis=0).sum() - shared.sum())
    return CommonQuestions(kept, [pairs[view] for view in views.tolist()], left_out)


def _read(path: Path) -> pa.Table:
    """One run's table: its keys as text, its measures as float64."""
    try:
        table = pq.read_table(path)
    except FileNotFoundError as error:
        raise InputError(f"{path} is not there; expected a run that was evaluated") from error
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
    missing = [name for name in KEYS if name not in table.column_names]
    if missing:
        raise InputError(f"{path} lacks the column {missing[0]}; expected {', '.join(KEYS)} and a column a measure")
    types = [(name, pa.string() if name in KEYS else pa.float64()) for name in table.column_names]
    try:
        return table.cast(pa.schema(types))
    except pa.ArrowException as error:
        raise InputError(f"{path}: a measure is not a number: {str(error).splitlines()[0]}") from error
