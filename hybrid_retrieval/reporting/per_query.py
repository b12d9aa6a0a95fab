"""``per_query.parquet`` of several runs, or what a perturbation changes in it, brought onto the same questions."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from hybrid_retrieval.errors import InputError, reading
from hybrid_retrieval.evaluation.degradation import CHANGES, CONDITION
from hybrid_retrieval.evaluation.degradation import FILE as LOST
from hybrid_retrieval.evaluation.degradation import read as read_lost
from hybrid_retrieval.evaluation.figures import CLUSTER, PER_QUERY, PER_QUERY_KEYS
from hybrid_retrieval.evaluation.measures import PHENOMENON, Floats, Ints, measure
from hybrid_retrieval.files import check_recorded

RUN = "run"
PAIR = ["query_language", "corpus_language"]


@dataclass(frozen=True)
class CommonQuestions:
    """One measure in one setting, where every run has it.

    Attributes:
        values: float64 [runs, questions, pairs]; the same cells are NaN in every run, no question and no pair is empty.
        clusters: int64 [questions], the same number for questions that are not independent.
        pairs: query language and corpus language, None for the pool.
        left_out: cells that some of the runs have and others lack.
    """

    values: Floats
    clusters: Ints
    pairs: list[tuple[str, str | None]]
    left_out: int

    def without(self, languages: Container[str]) -> CommonQuestions | None:
        """Those asked and answered in other languages; a pool keeps what it has. None where there are none."""
        kept = [at for at, pair in enumerate(self.pairs) if not any(language in languages for language in pair if language)]
        values = self.values[:, :, kept]
        asked = np.isfinite(values[0]).any(axis=1)
        pairs = [self.pairs[at] for at in kept]
        return CommonQuestions(values[:, asked], self.clusters[asked], pairs, self.left_out) if kept else None


@dataclass(frozen=True)
class PerQuery:
    """The rows of several runs; `table` has the file's columns and the number of the run."""

    table: pd.DataFrame
    runs: int
    file: str = PER_QUERY

    @classmethod
    def read(cls, directories: Sequence[Path], benchmark: str | None = None, perturbed: str | None = None) -> PerQuery:
        """Read the file of each run directory; of one benchmark alone, or of all.

        Args:
            perturbed: a name of `Degradation.condition`, for perturbed minus clean in place of the values themselves, in
                percent of the run's own clean mean over the same languages.

        Raises:
            InputError: one has none, or it is not of that form.
        """
        parts = [_read(directory, benchmark, perturbed).assign(**{RUN: number}) for number, directory in enumerate(directories)]
        return cls(pd.concat(parts, ignore_index=True), len(directories), CHANGES if perturbed else PER_QUERY)

    def benchmarks(self) -> dict[str, int]:
        """The number of runs that have scored each benchmark."""
        return {str(name): count for name, count in self.table.groupby("benchmark")[RUN].nunique().items()}

    def measures(self, benchmark: str) -> list[str]:
        """The measures that a benchmark has values of, its headline first."""
        rows = self.table[self.table.benchmark == benchmark].dropna(axis="columns", how="all")
        return sorted(set(rows.columns) - {*PER_QUERY_KEYS, CLUSTER, RUN}, key=lambda name: measure(name).order)

    def common(self, benchmark: str, setting: str, name: str) -> CommonQuestions | None:
        """The questions that every run has values of the measure `name` for, or None where there are none.

        Raises:
            InputError: a query is twice in a run.
        """
        rows = self._rows(benchmark, setting, name)
        if rows.empty:
            return None
        if name.startswith(PHENOMENON):  # a mean over all of them, whatever their languages
            everywhere = rows.query_id + "\t" + rows.query_language + "\t" + rows.corpus_language
            rows = rows.assign(query_id=everywhere, **dict.fromkeys(PAIR, ""))
        try:
            wide = rows.pivot(index="query_id", columns=[RUN, *PAIR], values=name)
        except ValueError as error:
            raise InputError(f"{self.file}: a query of {benchmark}/{setting} is there twice for the same languages") from error
        pairs = sorted({key[1:] for key in wide.columns})
        every = pd.MultiIndex.from_tuples([(run, *pair) for run in range(self.runs) for pair in pairs])
        values = wide.reindex(columns=every).to_numpy().reshape(len(wide), self.runs, len(pairs)).transpose(1, 0, 2)
        present = np.isfinite(values)
        in_all = present.all(axis=0)
        if not in_all.any():
            return None
        kept = np.flatnonzero(in_all.any(axis=0))
        asked = in_all.any(axis=1)
        common = np.where(in_all, values, np.nan)[:, asked][:, :, kept]
        cluster_of = rows.drop_duplicates("query_id").set_index("query_id")[CLUSTER]
        clusters = np.asarray(pd.factorize(cluster_of.reindex(wide.index[asked]))[0], np.int64)
        languages = [(pairs[pair][0], pairs[pair][1] or None) for pair in kept.tolist()]
        return CommonQuestions(common, clusters, languages, int(present.any(axis=0).sum() - in_all.sum()))

    def lacking(self, benchmark: str, setting: str, name: str) -> list[str]:
        """The language pairs that some runs have values of a measure for and others do not."""
        runs = self._rows(benchmark, setting, name).groupby(PAIR)[RUN].nunique()
        return ["-".join(filter(None, pair)) for pair in runs.index[runs < self.runs]]

    def _rows(self, benchmark: str, setting: str, name: str) -> pd.DataFrame:
        """Those with a value of a measure."""
        of = (self.table.benchmark == benchmark) & (self.table.setting == setting)
        return self.table[of & np.isfinite(self.table[name])]


def values_of(directory: Path, benchmark: str, setting: str, name: str) -> pd.DataFrame:
    """The finite values of a measure in one run, as ``value``, by ``query_language``; nothing else of the file is read.

    Raises:
        InputError: it cannot be read, or has no such column.
    """
    path = directory / PER_QUERY
    check_values(path)
    with reading(f"{path} cannot be read"):
        rows = pd.read_parquet(
            path, columns=["query_language", name], filters=[("benchmark", "==", benchmark), ("setting", "==", setting)]
        )
    rows = rows.rename(columns={name: "value"})
    return rows[np.isfinite(rows.value)]


def check_values(path: Path) -> None:
    """Refuse a file without a row.

    Raises:
        InputError: it has none, or cannot be read.
    """
    check_recorded(path)
    with reading(f"{path} cannot be read"):
        rows = pq.read_metadata(path).num_rows
    if not rows:
        raise InputError(f"{path} is empty; expected the values of each query: evaluate the run again")


def _read(directory: Path, benchmark: str | None, perturbed: str | None) -> pd.DataFrame:
    """One run's table: its keys as text, with "" for the pool, and its measures as float64."""
    path = directory / (CHANGES if perturbed else PER_QUERY)
    if not path.is_file():
        raise InputError(f"{path} is not there; expected a run that was evaluated")
    check_values(path)
    with reading(f"{path} cannot be read"):
        chosen = [("benchmark", "==", benchmark)] if benchmark else []
        if perturbed:
            chosen.append((CONDITION, "==", perturbed))
        table = pd.read_parquet(path, filters=chosen or None).drop(columns=CONDITION, errors="ignore")
        if CLUSTER not in table and "query_id" in table:  # written before there were clusters
            table[CLUSTER] = table["query_id"]
        names = [*PER_QUERY_KEYS, CLUSTER]
        if missing := [name for name in names if name not in table]:
            raise InputError(f"{path} lacks a column: {missing[0]}")
        keys = table[names].fillna("").astype(str)
        values = table.drop(columns=names).astype(np.float64)
        return keys.join(_in_percent(directory, perturbed, keys, values) if perturbed else values)


def _in_percent(directory: Path, perturbed: str, keys: pd.DataFrame, values: pd.DataFrame) -> pd.DataFrame:
    """Changes as percent of the clean macro mean of their benchmark, setting and measure; nan where that is 0.

    That mean is estimated from the same queries. With d_i the change of query i, c_i its clean value, c the mean of these over
    its pair of languages, C and D the macro means of clean values and of changes, query i has (d_i - D / C (c_i - c)) / C:
    means over a pair and over all pairs are those of d_i / C, and the variance is that of the ratio D / C (delta method).
    """
    clean = _clean_values(directory, _written(directory / PER_QUERY)).reindex(_numbers(keys))
    found = values.copy()
    for (condition, benchmark, setting, name), mean in _clean_means(directory, _written(directory / LOST)).items():
        if condition != perturbed or name not in found:
            continue
        rows = (keys.benchmark == benchmark) & (keys.setting == setting)
        pairs = [keys.loc[rows, one] for one in PAIR]
        change, before = values.loc[rows, name], pd.Series(clean[name].to_numpy(), keys.index)[rows]
        if (change.notna() & before.isna()).any():
            raise InputError(f"{directory}: {CHANGES} has queries that {PER_QUERY} lacks; evaluate the run again")
        rate = change.groupby(pairs).mean().mean() / mean if mean else np.nan
        above = before - before.groupby(pairs).transform("mean")
        found.loc[rows, name] = 100 * (change - rate * above) / (mean or np.nan)
    return found


def _written(path: Path) -> int:
    return path.stat().st_mtime_ns if path.is_file() else 0


@lru_cache(64)
def _clean_values(directory: Path, written: int) -> pd.DataFrame:  # noqa: ARG001
    """A run's own values, by the numbers of their keys; read once of a file that was `written` at a time."""
    table = _read(directory, None, None)
    found = table.drop(columns=[*PER_QUERY_KEYS, CLUSTER]).set_axis(_numbers(table))
    if not found.index.is_unique:
        raise InputError(f"{directory / PER_QUERY} has a query twice")
    return found


def _numbers(keys: pd.DataFrame) -> Any:
    """uint64 of the keys of each row, the same in every table."""
    return pd.util.hash_pandas_object(keys[list(PER_QUERY_KEYS)], index=False).to_numpy()


@lru_cache(64)
def _clean_means(directory: Path, written: int) -> dict[tuple[str, str, str, str], float]:  # noqa: ARG001
    """By perturbation, benchmark, setting and measure; read once of a file that was `written` at a time."""
    macro = (one for one in read_lost(directory) if one.query_language is None)
    return {(one.condition, one.benchmark, one.setting, one.measure.name): one.clean for one in macro}
