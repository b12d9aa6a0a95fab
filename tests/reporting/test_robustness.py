"""Tables and pictures of perturbed queries show what robustness.parquet holds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hybrid_retrieval.evaluation import degradation
from hybrid_retrieval.evaluation.degradation import Degradation
from hybrid_retrieval.evaluation.measures import measure
from hybrid_retrieval.reporting.robustness import robustness_matrix, robustness_tables, severity_figure
from hybrid_retrieval.reporting.run_directory import RunDirectory
from tests.reporting.fake_runs import LANGUAGES

LOST = {("drop", 0.1): 0.1, ("drop", 0.3): 0.4, ("casing", 0.1): 0.02, ("casing", 0.3): 0.05}
UNTOUCHED = ("casing", "zh")


@pytest.fixture
def run(make_run: Callable[..., Path]) -> RunDirectory:
    """A half of what a perturbation takes is taken from the first language, and twice that from the last."""
    path = make_run("noisy", sampler="hybrid")
    [benchmark] = RunDirectory.open(path).benchmarks
    found = []
    for (name, severity), part in LOST.items():
        for place, language in enumerate((None, *LANGUAGES)):
            if (name, language) != UNTOUCHED:
                lost = part if language is None else part * (0.5, 1, 1, 2)[place - 1]
                values: dict[str, Any] = {"query_language": language, "corpus_language": language, "changed": 0.75}
                bounds = {"low": -0.5 * lost - 0.03, "high": -0.5 * lost + 0.03}
                one = Degradation(
                    benchmark,
                    name,
                    severity,
                    "monolingual",
                    measure("map"),
                    **values,
                    queries=9,
                    clean=0.5,
                    perturbed=0.5 - 0.5 * lost,
                    **bounds,
                )
                found.append(one)
    degradation.write(found, path)
    return RunDirectory.open(path)


def rows_of(chart: Any) -> list[dict[str, Any]]:
    return [row for values in chart.to_dict()["datasets"].values() for row in values]


def test_a_table_has_the_means_and_the_language_that_loses_most(run: RunDirectory) -> None:
    [benchmark] = run.benchmarks
    [middle] = robustness_tables(run, benchmark, whole=False)
    [whole] = robustness_tables(run, benchmark, whole=True)
    assert middle.title.endswith("severity 0.3")
    assert [row.label for row in middle.rows] == ["drop", "casing"]
    assert [row.label for row in whole.rows] == ["drop 0.1", "drop 0.3", "casing 0.1", "casing 0.3"]
    for row, part in zip(whole.rows, LOST.values(), strict=True):
        changed, difference, half, relative, worst = row.values
        language, factor = ("zh", 2) if row.label.startswith("drop") else ("en", 1)
        assert changed == 75
        assert difference == f"{-0.5 * part:+.4f}"
        assert half == pytest.approx(0.03)
        assert relative == pytest.approx(-100 * part)
        assert worst == f"{language} {-100 * factor * part:+.0f}%"


def test_curves_begin_at_nothing_and_a_language_that_is_not_touched_has_no_cell(run: RunDirectory) -> None:
    [benchmark] = run.benchmarks
    curves = rows_of(severity_figure(run, benchmark))
    expected = {(name, severity): -0.5 * part for (name, severity), part in LOST.items()} | {("drop", 0): 0, ("casing", 0): 0}
    assert {(row["perturbation"], row["severity"]): row["difference"] for row in curves} == pytest.approx(expected)
    cells = [row for row in rows_of(robustness_matrix(run, benchmark)) if isinstance(row.get("value"), float)]
    assert len(cells) == 2 * len(LANGUAGES) - 1
    assert min(row["value"] for row in cells) == pytest.approx(-2 * LOST["drop", 0.3])
