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
from hybrid_retrieval.evaluation.figures import PER_QUERY, PER_QUERY_KEYS
from hybrid_retrieval.evaluation.measures import Floats, measure

RUN = "run"


@dataclass(frozen=True)
class CommonQuestions:
    """One measure in one setting, where every run has it.

    Attributes:
        values: float64 [runs, questions, pairs]; the same cells are NaN in every run, no question and no pair is empty.
        pairs: query language and corpus language, None for the pool.
        left_out: cells that some of the runs have and others lack.
    """

    values: Floats
    pairs: list[tuple[str, str | None]]
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
        parts = [_read(directory / PER_QUERY) for directory in directories]
        numbered = [part.append_column(RUN, pa.array(np.full(len(part), number))) for number, part in enumerate(parts)]
        return cls(pa.concat_tables(numbered, promote_options="default"), len(directories))

    def benchmarks(self) -> dict[str, set[int]]:
        """The runs that have scored each benchmark."""
        pairs = self.table.group_by(["benchmark", RUN]).aggregate([]).to_pylist()
        names = sorted({pair["benchmark"] for pair in pairs})
        return {name: {pair[RUN] for pair in pairs if pair["benchmark"] == name} for name in names}

    def measures(self, benchmark: str) -> list[str]:
        """The measures that a benchmark has values of, its headline first."""
        rows = self.table.filter(pc.equal(self.table["benchmark"], benchmark))
        there = [name for name in rows.column_names if name not in (*PER_QUERY_KEYS, RUN) and rows[name].null_count < len(rows)]
        return sorted(there, key=lambda name: measure(name).order)

    def common(self, benchmark: str, setting: str, name: str) -> CommonQuestions | None:
        """The questions that every run has values of the measure `name` for, or None where there are none.

        Raises:
            InputError: a query is twice in a run.
        """
        wanted = pc.and_(pc.equal(self.table["benchmark"], benchmark), pc.equal(self.table["setting"], setting))
        rows = self.table.filter(pc.and_(wanted, pc.fill_null(pc.is_finite(self.table[name]), False)))
        if not len(rows):
            return None
        question, _ = _codes(rows["query_id"])
        asked, queried = _codes(rows["query_language"])
        answered, searched = _codes(rows["corpus_language"])
        codes, pair = np.unique(asked * len(searched) + answered, return_inverse=True)
        values = np.full((self.runs, int(question.max()) + 1, len(codes)), np.nan)
        values[rows[RUN].to_numpy(), question, pair] = rows[name].to_numpy()
        present = np.isfinite(values)
        if present.sum() < len(rows):
            raise InputError(f"{PER_QUERY}: a query of {benchmark}/{setting} is there twice for the same languages")
        in_all = present.all(axis=0)
        if not in_all.any():
            return None
        questions, pairs = np.flatnonzero(in_all.any(axis=1)), np.flatnonzero(in_all.any(axis=0))
        kept = np.where(in_all, values, np.nan)[:, questions][:, :, pairs]
        languages = [(str(queried[code // len(searched)]), searched[code % len(searched)]) for code in codes[pairs].tolist()]
        return CommonQuestions(kept, languages, int(present.any(axis=0).sum() - in_all.sum()))


def _codes(column: pa.ChunkedArray) -> tuple[npt.NDArray[np.int64], list[str | None]]:
    """A column as numbers, int64 [rows], and what they stand for, in alphabetical order; null comes last."""
    texts = sorted(column.unique().to_pylist(), key=lambda text: (text is None, text))
    return pc.index_in(column, pa.array(texts, pa.string())).to_numpy().astype(np.int64), texts


def _read(path: Path) -> pa.Table:
    """One run's table: its keys as text, its measures as float64."""
    try:
        table = pq.read_table(path)
        names = table.column_names
        missing = [name for name in PER_QUERY_KEYS if name not in names]
        if missing:
            raise InputError(
                f"{path} lacks the column {missing[0]}; expected {', '.join(PER_QUERY_KEYS)} and a column a measure"
            )
        return table.cast(pa.schema([(name, pa.string() if name in PER_QUERY_KEYS else pa.float64()) for name in names]))
    except FileNotFoundError as error:
        raise InputError(f"{path} is not there; expected a run that was evaluated") from error
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
