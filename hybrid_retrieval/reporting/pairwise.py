"""Differences of systems with their intervals and p values, as tables for the terminal.

A difference is new minus reference, the reference being named first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hybrid_retrieval.evaluation.measures import SETTINGS, measure
from hybrid_retrieval.reporting.contest import LEVELS
from hybrid_retrieval.reporting.seen import SHORT, footnote, marked
from hybrid_retrieval.reporting.table import Column, Row, Table, number, p_value

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
        seen: whether it leaves out the languages that one of the systems was never trained on.
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
    seen: bool = False
    perturbed: str | None = None
    """A perturbation and its severity, where the means are of what it changes, in percent of the clean mean."""

    @property
    def systems(self) -> str:
        """The name of the difference."""
        return f"{self.system} minus {self.baseline}"


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
    perturbed: str | None = None


def difference_table(rows: Sequence[Difference], never: Mapping[str, Sequence[str]]) -> Table:
    """The differences of one benchmark; with one pair of systems, the means stand under their names, the reference first."""
    alone = len({row.systems for row in rows}) == 1
    text = [Column(name, None) for name in ("Measure", *(() if alone else ("Systems",)))]
    means = (rows[0].baseline, rows[0].system) if alone else ("Reference", "New")
    columns = [*text, *map(Column, (*means, "Difference", "95% interval", "p", "Holm p")), Column("", None)]
    shown = []
    for row in rows:
        label, digits = measure(row.measure).label, _digits(row)
        values = [
            *(label, *(() if alone else (row.systems,))),
            *(number(mean, digits) for mean in (row.baseline_mean, row.system_mean)),
            number(row.difference, digits, "+"),
            _interval(row.low, row.high, digits, "+"),
            *(p_value(row.p), p_value(row.corrected), stars(row.corrected)),
        ]
        over = " · ".join([SETTINGS[row.setting], *([row.perturbed] if row.perturbed else []), *([SHORT] if row.seen else [])])
        shown.append(Row(over, values, section=f"{row.setting} {row.measure} {row.perturbed}"))
    title = f"{_subject(rows[0])}: {rows[0].systems if alone else 'new minus reference'}"
    return Table(title, "Setting", columns, shown, footnote(never))


def drop_line(one: Difference) -> str:
    """One difference in a line, with the language, or the query language and the corpus language, where it is of one."""
    label, digits = measure(one.measure).label, _digits(one)
    pair = [one.query_language, one.corpus_language] if one.setting == "crosslingual" else [one.query_language]
    where = f" {'-'.join(map(str, pair))}" if one.query_language else ""
    means = f"{number(one.baseline_mean, digits)} -> {number(one.system_mean, digits)}"
    difference = number(one.difference, digits, "+")
    under = f" {one.perturbed}, percent" if one.perturbed else ""
    what = f"{one.benchmark} {SETTINGS[one.setting]} {label}{where}{under}"
    return f"{what}: {means} ({difference}, Holm p {p_value(one.corrected)})"


def ranking_table(rows: Sequence[Ranked]) -> Table:
    """The systems of one benchmark from the best to the worst, in significance clusters."""
    columns = [Column("Measure", None), Column("Cluster"), Column("System", None), Column("Mean"), Column("95% interval")]
    shown = []
    for row in rows:
        label, digits = measure(row.measure).label, _digits(row)
        values = [label, str(row.cluster), row.system, number(row.mean, digits), _interval(row.low, row.high, digits)]
        over = " · ".join([SETTINGS[row.setting], *([row.perturbed] if row.perturbed else [])])
        shown.append(Row(over, values, section=f"{row.setting} {row.measure} {row.perturbed}"))
    return Table(f"{_subject(rows[0])}: significance clusters", "Setting", columns, shown)


def matrix_table(differences: Sequence[Difference], never: Mapping[str, Sequence[str]]) -> Table:
    """One measure and pair of systems: query languages x corpus languages, and the pool where it was measured.

    Args:
        never: the languages that each of the two was never trained on.
    """
    first = differences[0]
    cells = {(one.query_language, one.corpus_language): one for one in differences}
    asked = sorted({str(query) for query, _ in cells})
    answered = sorted({corpus for _, corpus in cells}, key=lambda name: (name is None, name))
    digits = max(1, _digits(first) - 1)
    unseen = {language for languages in never.values() for language in languages}
    rows = [Row(marked(query, unseen), [_cell(cells.get((query, corpus)), digits) for corpus in answered]) for query in asked]
    columns = [Column(marked(corpus, unseen) if corpus else "pool", None) for corpus in answered]
    about = " · ".join([_subject(first), measure(first.measure).label, *([first.perturbed] if first.perturbed else [])])
    title = f"{about}: {first.systems}"
    return Table(title, "query \\ corpus", columns, rows, footnote(never, means=False))


def _subject(one: Difference | Ranked) -> str:
    """The benchmark, and what of it."""
    return f"{one.benchmark}, perturbed minus clean in percent of the clean mean" if one.perturbed else one.benchmark


def _digits(one: Difference | Ranked) -> int:
    """Of a measure, or of percent."""
    return 2 if one.perturbed else measure(one.measure).digits


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
