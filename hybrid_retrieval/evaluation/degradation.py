"""What is lost when queries are perturbed, one object a figure, until it is written to ``robustness.parquet``, and by query."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from hybrid_retrieval.errors import InputError, reading
from hybrid_retrieval.evaluation.measures import SETTINGS, Measure, measure
from hybrid_retrieval.files import check_recorded, recorded

FILE = "robustness.parquet"
CHANGES = "robustness_per_query.parquet"
"""The columns of ``per_query.parquet``, `CONDITION`, and perturbed minus clean of the first measure and of rank distance."""
CONDITION = "perturbation"
"""The column of a perturbation and its severity, as in `condition`."""
PERTURBATIONS = "perturbations"
"""In the provenance of a benchmark, the sets that perturbations of its queries read."""
PERTURBED = "perturbed"
"""What the keys of perturbed measures in ``metrics.json`` begin with."""


@dataclass(frozen=True)
class Degradation:
    """A measure under a perturbation, and its difference to the clean one.

    Attributes:
        query_language, corpus_language: as of a `Figure`; both None for the macro mean.
        queries: that the measure is a mean over.
        changed: the share of them that the perturbation changed.
        clean, perturbed: the measure; both over the same queries.
        low, high: bounds of the 95% interval of perturbed - clean, from the bootstrap over clusters; None without one.
    """

    benchmark: str
    perturbation: str
    severity: float
    setting: str
    measure: Measure
    query_language: str | None
    corpus_language: str | None
    queries: int
    changed: float
    clean: float
    perturbed: float
    low: float | None = None
    high: float | None = None

    @property
    def difference(self) -> float:
        """Perturbed minus clean."""
        return self.perturbed - self.clean

    @property
    def relative(self) -> float | None:
        """The difference as a part of the clean measure."""
        return self.difference / self.clean if self.clean else None

    @property
    def languages(self) -> str | None:
        """As of a `Figure`."""
        if self.query_language and self.corpus_language and self.setting == "crosslingual":
            return f"{self.query_language}-{self.corpus_language}"
        return self.query_language or self.corpus_language

    @property
    def condition(self) -> str:
        """The perturbation and its severity."""
        return condition(self.perturbation, self.severity)

    @property
    def key(self) -> str:
        """Of a macro mean, the key in ``metrics.json``."""
        return "/".join([PERTURBED, self.condition, self.benchmark, self.setting, self.measure.name])


NUMBERS = ("severity", "changed", "clean", "perturbed", "low", "high")
SCHEMA = pa.schema(
    (one.name, pa.float64() if one.name in NUMBERS else pa.int64() if one.name == "queries" else pa.string())
    for one in fields(Degradation)
)


def condition(perturbation: str, severity: float) -> str:
    """Its name."""
    return f"{perturbation}@{severity:g}"


def metrics(found: Iterable[Degradation]) -> dict[str, float]:
    """The perturbed macro means, by their keys."""
    return {one.key: one.perturbed for one in found if one.query_language is None}


def write(found: Iterable[Degradation], directory: Path) -> None:
    """A row a figure, a column an attribute."""
    rows = [{**vars(one), "measure": one.measure.name} for one in found]
    with recorded(directory / FILE) as part:
        pq.write_table(pa.Table.from_pylist(rows, SCHEMA), part)


def write_changes(tables: Sequence[pa.Table], directory: Path) -> None:
    """A row group a condition, or several, so that one of them can be read alone."""
    schema = pa.unify_schemas([table.schema for table in tables])
    with (
        recorded(directory / CHANGES) as part,
        pq.ParquetWriter(part, schema, compression="zstd", store_schema=False) as writer,
    ):
        for table in tables:
            writer.write_table(pa.concat_tables([schema.empty_table(), table], promote_options="default"))


def conditions(directory: Path) -> list[str]:
    """Those that a run directory has the changes of each query of, in its order.

    Raises:
        InputError: it has none.
    """
    path = directory / CHANGES
    if not path.is_file():
        raise InputError(f"{path} is not there; expected a run that was evaluated with evaluation.perturb")
    check_recorded(path)
    with reading(f"{path} cannot be read"):
        parts = pq.ParquetFile(path).metadata
        column = parts.schema.names.index(CONDITION)
        groups = [parts.row_group(at) for at in range(parts.num_row_groups)]
        return list(dict.fromkeys(group.column(column).statistics.min for group in groups if group.num_rows))


def read(directory: Path) -> list[Degradation]:
    """What a run directory holds; nothing where it has no such file.

    Raises:
        InputError: the file is not of that form.
    """
    path = directory / FILE
    if not path.is_file():
        return []
    check_recorded(path)
    with reading(f"{path} holds no figures of robustness"):
        rows = pq.read_table(path).select(SCHEMA.names).cast(SCHEMA).to_pylist()
        if {row["setting"] for row in rows} - set(SETTINGS):
            raise ValueError("a setting is unknown")
        return [Degradation(**{**row, "measure": measure(row["measure"])}) for row in rows]
