"""Figures: what an evaluation finds, one object each, until they are written to ``metrics.json`` and ``figures.parquet``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from hybrid_retrieval.errors import reading
from hybrid_retrieval.evaluation.measures import SETTINGS, Measure, measure
from hybrid_retrieval.files import check_recorded, recorded

FILE = "figures.parquet"
BASELINES = "baselines"
"""The folder of what was scored beside an encoder, and what the keys of its figures in ``metrics.json`` begin with."""
PER_QUERY = "per_query.parquet"
PER_QUERY_KEYS = ("benchmark", "setting", "query_language", "corpus_language", "query_id")
"""The columns that name a row of the values per query."""
CLUSTER = "cluster"
"""The column of what a query's values depend on; each other column is a measure."""
RETRIEVED = "retrieved.parquet"
"""What was retrieved for a few questions, in the form of `RETRIEVED_SCHEMA`."""
RETRIEVED_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("benchmark", "query_language", "query_id", "query")),
        ("chosen", pa.list_(pa.string())),
        *((name, pa.string()) for name in ("corpus_language", "measure")),
        ("value", pa.float64()),
        ("rank", pa.int64()),
        *((name, pa.string()) for name in ("passage_language", "passage_id", "passage")),
        ("score", pa.float32()),
        ("relevant", pa.bool_()),
    ]
)
SEEN = "seen"
"""In the place of languages in a key: the mean over those that the encoder was trained on."""
SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("benchmark", "setting", "measure", "query_language", "corpus_language")),
        *((name, pa.float64()) for name in ("value", "low", "high")),
        ("seen", pa.list_(pa.string())),
    ]
)
NEEDED = ("benchmark", "setting", "measure", "value")
"""Columns without nulls."""


@dataclass(frozen=True)
class Figure:
    """A measure of a benchmark in a setting, with the bounds of its interval where it has one.

    Attributes:
        query_language: None for the macro mean over language pairs.
        corpus_language: None for the pool.
        seen: of a macro mean over the languages that the encoder was trained on, these languages of the benchmark; else None.
    """

    benchmark: str
    setting: str
    measure: Measure
    query_language: str | None
    corpus_language: str | None
    value: float
    low: float | None = None
    high: float | None = None
    seen: tuple[str, ...] | None = None

    @property
    def languages(self) -> str | None:
        """The language, or ``query-corpus`` across languages; `SEEN` of the mean over these."""
        if self.seen is not None:
            return SEEN
        pair = f"{self.query_language}-{self.corpus_language}"
        return pair if self.query_language and self.setting == "crosslingual" else self.query_language or self.corpus_language

    @property
    def key(self) -> str:
        """The key in ``metrics.json``."""
        return "/".join(part for part in (self.benchmark, self.setting, self.measure.name, self.languages) if part)

    @property
    def margin(self) -> float | None:
        """Half the width of the interval; all of it where the value is one of its ends, as at a measure's own limit."""
        if self.low is None or self.high is None:
            return None
        return (self.high - self.low) / (1 if self.value in (self.low, self.high) else 2)


@dataclass(frozen=True)
class Figures:
    """Figures of one system on any number of benchmarks."""

    every: tuple[Figure, ...] = ()

    def __iter__(self) -> Iterator[Figure]:
        return iter(self.every)

    def __len__(self) -> int:
        return len(self.every)

    @classmethod
    def joined(cls, parts: Iterable[Iterable[Figure]]) -> Figures:
        """The figures of all parts, one after another."""
        return cls(tuple(figure for part in parts for figure in part))

    @cached_property
    def _found(self) -> dict[tuple[str, str, str, str | None], Figure]:
        return {(one.benchmark, one.setting, one.measure.name, one.languages): one for one in self.every}

    def get(self, benchmark: str, setting: str, name: str, languages: str | None = None) -> Figure | None:
        """A figure by the name of its measure; the macro mean by default."""
        return self._found.get((benchmark, setting, name, languages))

    def value(self, benchmark: str, setting: str, name: str, languages: str | None = None) -> float | None:
        """The value of such a figure."""
        found = self.get(benchmark, setting, name, languages)
        return found.value if found else None

    def by_languages(self, benchmark: str, setting: str, name: str) -> dict[str, Figure]:
        """A measure by language or language pair."""
        wanted = (benchmark, setting, name)
        return {key[3]: one for key, one in self._found.items() if key[:3] == wanted and key[3] not in (None, SEEN)}

    def never_seen(self, benchmark: str) -> tuple[str, ...]:
        """The languages of a benchmark that the encoder was not trained on; none where that is not known."""
        mine = [one for one in self.every if one.benchmark == benchmark]
        seen = next((one.seen for one in mine if one.seen is not None), None)
        every = {language for one in mine for language in (one.query_language, one.corpus_language) if language}
        return () if seen is None else tuple(sorted(every - {*seen}))

    @cached_property
    def benchmarks(self) -> tuple[str, ...]:
        """Names of the benchmarks, in alphabetical order."""
        return tuple(sorted({one.benchmark for one in self.every}))

    def measures(self, benchmark: str) -> list[Measure]:
        """All that a benchmark has in any setting, in their order."""
        return sorted({one.measure for one in self.every if one.benchmark == benchmark}, key=lambda one: one.order)

    def metrics(self) -> dict[str, float]:
        """The flat figures of ``metrics.json``; bounds end in ``.low`` and ``.high``."""
        bounds = {f"{one.key}.{end}": getattr(one, end) for one in self.every for end in ("low", "high")}
        return {one.key: one.value for one in self.every} | {key: bound for key, bound in bounds.items() if bound is not None}

    def write(self, directory: Path) -> None:
        """``figures.parquet``: a row a figure, a column an attribute."""
        columns = {name: [getattr(one, name) for one in self.every] for name in SCHEMA.names if name != "measure"}
        columns["measure"] = [one.measure.name for one in self.every]
        with recorded(directory / FILE) as part:
            pq.write_table(pa.table(columns, SCHEMA), part)

    @classmethod
    def read(cls, directory: Path) -> Figures:
        """The figures of a run directory; none where it has no such file.

        Raises:
            InputError: the file is not of that form.
        """
        path = directory / FILE
        if not path.is_file():
            return cls()
        check_recorded(path)
        with reading(f"{path} holds no figures"):
            table = pq.read_table(path)
            if "seen" not in table.column_names:  # written before it was asked which languages were
                table = table.append_column("seen", pa.nulls(len(table), SCHEMA.field("seen").type))
            rows = table.select(SCHEMA.names).cast(SCHEMA).to_pylist()
            if any(row[name] is None for row in rows for name in NEEDED) or {row["setting"] for row in rows} - set(SETTINGS):
                raise ValueError(f"a row lacks one of {', '.join(NEEDED)}, or its setting is unknown")
            for row in rows:
                row |= {"measure": measure(row["measure"]), "seen": None if row["seen"] is None else tuple(row["seen"])}
                if None in (row["seen"] or ()):
                    raise ValueError("a row was seen in a language without a name")
            return cls(tuple(Figure(**row) for row in rows))
