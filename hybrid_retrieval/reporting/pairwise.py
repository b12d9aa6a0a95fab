"""Differences of systems with their intervals and p values, as tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hybrid_retrieval.evaluation.measures import SETTINGS, measure
from hybrid_retrieval.reporting.tables import Column, Row, Table, number

LEVELS = (0.05, 0.01, 0.001)
LEGEND = "* p<.05, ** p<.01, *** p<.001 after Holm's correction"


@dataclass(frozen=True)
class Difference:
    """`system` minus `baseline` over the questions that all runs have.

    Attributes:
        query_language: of one language pair; None: the macro mean over all.
        corpus_language: of one language pair; None: the pool, or the macro mean.
        corrected: p after Holm: of macro means over all that are shown of the benchmark, of language pairs over those of the
            same measure and systems.
        method: how interval and p came about.
    """

    benchmark: str
    setting: str
    measure: str
    baseline: str
    system: str
    query_language: str | None
    corpus_language: str | None
    baseline_mean: float
    system_mean: float
    difference: float
    low: float
    high: float
    p: float
    questions: int
    method: str
    corrected: float = 1.0

    @property
    def systems(self) -> str:
        """The name of the difference."""
        return f"{self.system} - {self.baseline}"


@dataclass(frozen=True)
class Ranked:
    """A system's place among several: systems of a cluster are not told apart."""

    benchmark: str
    setting: str
    measure: str
    cluster: int
    system: str
    mean: float
    low: float
    high: float


def difference_table(rows: Sequence[Difference]) -> Table:
    """The differences of one benchmark; with one pair of systems, the means stand under their names."""
    alone = len({row.systems for row in rows}) == 1
    text = [Column(name, None) for name in ("Measure", *(() if alone else ("Systems",)))]
    means = (rows[0].baseline, rows[0].system) if alone else ("Left", "Right")
    columns = [*text, *map(Column, (*means, "Difference", "95% interval", "p", "Holm p")), Column("", None)]
    shown = []
    for row in rows:
        label, digits = measure(row.measure).label, measure(row.measure).digits
        pair = (row.baseline_mean, row.system_mean) if alone else (row.system_mean, row.baseline_mean)
        values = [
            *(label, *(() if alone else (row.systems,))),
            *(number(mean, digits) for mean in pair),
            number(row.difference, digits, "+"),
            _interval(row.low, row.high, digits, "+"),
            *(_p(row.p), _p(row.corrected), stars(row.corrected)),
        ]
        shown.append(Row(SETTINGS[row.setting], values, section=f"{row.setting} {row.measure}"))
    title = f"{rows[0].benchmark}: {rows[0].systems}" if alone else rows[0].benchmark
    return Table(title, "Setting", columns, shown)


def ranking_table(rows: Sequence[Ranked]) -> Table:
    """The systems of one benchmark from the best to the worst, in significance clusters."""
    columns = [Column("Measure", None), Column("Cluster"), Column("System", None), Column("Mean"), Column("95% interval")]
    shown = []
    for row in rows:
        label, digits = measure(row.measure).label, measure(row.measure).digits
        values = [label, str(row.cluster), row.system, number(row.mean, digits), _interval(row.low, row.high, digits)]
        shown.append(Row(SETTINGS[row.setting], values, section=f"{row.setting} {row.measure}"))
    return Table(f"{rows[0].benchmark}: significance clusters", "Setting", columns, shown)


def matrix_table(differences: Sequence[Difference]) -> Table:
    """One measure and pair of systems: query languages x corpus languages, and the pool where it was measured."""
    first = differences[0]
    cells = {(one.query_language, one.corpus_language): one for one in differences}
    asked = sorted({str(query) for query, _ in cells})
    answered = sorted({corpus for _, corpus in cells}, key=lambda name: (name is None, name))
    digits = max(1, measure(first.measure).digits - 1)
    rows = [Row(query, [_cell(cells.get((query, corpus)), digits) for corpus in answered]) for query in asked]
    columns = [Column(corpus or "pool", None) for corpus in answered]
    return Table(f"{first.benchmark} · {measure(first.measure).label}: {first.systems}", "query \\ corpus", columns, rows)


def stars(p: float) -> str:
    """A star for each level that `p` lies below."""
    return "*" * sum(p < level for level in LEVELS)


def _cell(one: Difference | None, digits: int) -> str | None:
    if one is None:
        return None
    text = number(one.difference, digits, "+")
    return (text[0] + text[1:].removeprefix("0") if text[1:].startswith("0.") else text) + stars(one.corrected)


def _interval(low: float, high: float, digits: int, sign: str = "") -> str:
    return f"{number(low, digits, sign)} … {number(high, digits, sign)}"


def _p(value: float) -> str:
    return "<.0001" if value < 0.0001 else f"{value:.4f}".removeprefix("0")
