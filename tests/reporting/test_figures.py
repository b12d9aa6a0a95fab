from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.evaluation.figures import Figure
from hybrid_retrieval.evaluation.measures import SETTINGS, measure
from hybrid_retrieval.report import main
from hybrid_retrieval.reporting import heatmap
from hybrid_retrieval.reporting.batch_composition import BatchComposition
from hybrid_retrieval.reporting.comparison_figures import draw_comparison
from hybrid_retrieval.reporting.labels import contrasts, label_runs
from hybrid_retrieval.reporting.run_directory import RunDirectory, find_runs
from hybrid_retrieval.reporting.run_report import constant_alpha, draw_run
from hybrid_retrieval.reporting.tables import pivot_tables
from hybrid_retrieval.reporting.training_curves import read_curves, smoothed
from tests.reporting.fake_runs import rows_of, write_figures

Make = Callable[..., Path]


def png_size(path: Path) -> tuple[int, int]:
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", data[16:24])
    assert len(data) > 10_000
    return width, height


def drawn(run: RunDirectory) -> dict[str, Any]:
    return draw_run(run, read_curves(run.path), BatchComposition.read(run.path))


def test_the_matrix_is_the_metrics(make_run: Make) -> None:
    run = RunDirectory.open(make_run("run"))
    languages = heatmap.languages_of([run], "help_r")
    assert languages == ("de", "en", "pt_br", "zh")
    matrix = heatmap.pair_matrix(run, "help_r", languages)
    for row, query in enumerate(languages):
        for column, corpus in enumerate(languages):
            key = f"monolingual/map/{query}" if query == corpus else f"crosslingual/map/{query}-{corpus}"
            assert matrix[row, column] == run.metrics[f"help_r/{key}"]


def test_what_was_not_measured_is_nan(tmp_path: Path) -> None:
    figures = [
        Figure("b", "monolingual", measure("map"), "de", "de", 0.5),
        Figure("b", "crosslingual", measure("map"), "de", "en", 0.25),
        Figure("b", "multilingual", measure("map"), "de", None, 0.125),
    ]
    run = RunDirectory.open(write_figures(tmp_path / "run", figures))
    assert heatmap.languages_of([run], "b") == ("de", "en")
    np.testing.assert_array_equal(heatmap.pair_matrix(run, "b", ("de", "en")), [[0.5, 0.25], [np.nan, np.nan]])


def test_scales_cover_all_panels() -> None:
    panels = [np.array([[0.31, np.nan]]), np.array([[0.52, 0.4]])]
    assert heatmap.common_scale(panels) == pytest.approx((0.3, 0.55))
    assert heatmap.common_scale([np.abs([[-0.021, 0.004]])], 0.005) == pytest.approx((0, 0.025))
    assert heatmap.common_scale([np.array([[np.nan]])]) == (0.0, 1.0)


def test_figures_in_cells_are_short() -> None:
    assert [heatmap.fraction_text(value) for value in (0.786, 1.0, 0.0)] == [".79", "1.00", ".00"]
    assert [heatmap.difference_text(value) for value in (0.0141, -0.0141, -0.0001)] == ["+.014", "-.014", "0"]
    assert [heatmap.count_text(value) for value in (950, 999, 1234, 9960, 38_200, 999_900)] == [
        "950",
        "999",
        "1.2k",
        "10k",
        "38k",
        "1.0M",
    ]


def test_a_run_is_drawn(make_run: Make) -> None:
    run = RunDirectory.open(make_run("run", benchmarks=("help_r", "xquad_r"), alpha=0.5))
    assert main([str(run.path)]) == 0
    names = {"help_r_map.png", "xquad_r_map.png", "batch_composition.png", "training.png", "telemetry.png"}
    assert names == {path.name for path in (run.path / "figures").iterdir()}
    for name in names:
        assert min(png_size(run.path / "figures" / name)) > 500


def test_a_map_shows_the_metrics(make_run: Make) -> None:
    run = RunDirectory.open(make_run("run"))
    cells = [row for row in rows_of(drawn(run)["help_r_map"]) if row.get("value") is not None]
    shown = {(row["query language"], row["corpus language"]): row for row in cells}
    assert len(shown) == len(cells) == 16
    for (query, corpus), row in shown.items():
        key = f"monolingual/map/{query}" if query == corpus else f"crosslingual/map/{query}-{corpus}"
        assert row["value"] == run.metrics[f"help_r/{key}"]
        assert row["text"] == heatmap.fraction_text(row["value"])


@pytest.mark.parametrize("name", ["map", "recall@1"])
def test_the_first_measure_of_a_benchmark_is_drawn(tmp_path: Path, name: str) -> None:
    figures = [
        Figure("b", "crosslingual", measure(one), query, corpus, value)
        for one in {name, "recall@1"}
        for query, corpus, value in (("de", "en", 0.25), ("en", "fr", 0.5), ("fr", "de", 0.75), (None, None, 0.5))
    ]
    for number in "12":
        write_figures(tmp_path / "sweep" / number, figures)
    run = RunDirectory.open(tmp_path / "sweep" / "1")
    assert heatmap.measured([run], "b") == measure(name)
    assert list(draw_run(run, read_curves(run.path), None)) == ["b_map"]
    assert draw_comparison(label_runs(find_runs(tmp_path / "sweep")), "b")


def test_pairs_that_share_a_language_are_a_table_and_no_matrix(tmp_path: Path) -> None:
    pairs = {("de", "en"): 0.25, ("en", "de"): 0.5, ("fr", "en"): 0.75, (None, None): 0.5}
    figures = [Figure("b", "crosslingual", measure("recall@1"), *pair, value) for pair, value in pairs.items()]
    for number in "12":
        write_figures(tmp_path / "sweep" / number, figures)
    run = RunDirectory.open(tmp_path / "sweep" / "1")
    assert draw_run(run, read_curves(run.path), None) == {}
    assert draw_comparison(label_runs(find_runs(tmp_path / "sweep")), "b") is None
    (table,) = pivot_tables(run, "b")
    assert [column.name.strip() for column in table.columns] == ["to en", "±", "from en", "±"]
    assert {row.label: list(row.values) for row in table.rows} == {
        "de": [0.25, None, 0.5, None],
        "fr": [0.75, None, None, None],
    }
    whole = [*figures, Figure("b", "monolingual", measure("recall@1"), "en", "en", 0.5)]
    assert pivot_tables(RunDirectory.open(write_figures(tmp_path / "whole", whole)), "b") == []


@pytest.mark.parametrize("count", [2, pytest.param(5, marks=pytest.mark.slow)])
def test_a_comparison_is_drawn(make_run: Make, tmp_path: Path, count: int) -> None:
    samplers = ["x_x_mono", "hybrid", "x_y", "x_x", "english"][:count]
    for number, sampler in enumerate(samplers):
        make_run(f"sweep/{number}", sampler=sampler)
    assert main([str(tmp_path / "sweep")]) == 0
    assert min(png_size(tmp_path / "sweep" / "help_r_comparison.png")) > 900
    runs = label_runs(find_runs(tmp_path / "sweep"))
    rows = rows_of(draw_comparison(runs, "help_r"))
    means = {(row["condition"], row["setting"]): row["value"] for row in rows if row.get("kind") == "mean"}
    assert means == {
        (one.condition, short): one.run.metrics[f"help_r/{setting}/map"] for one in runs for setting, short in SETTINGS.items()
    }
    values = {one.condition: heatmap.pair_matrix(one.run, "help_r", ("de", "en", "pt_br", "zh")).ravel() for one in runs}
    panels = [row["value"] for row in rows if "query language" in row]
    expected = [*values.values(), *(values[one] - values[other] for one, other in contrasts(runs))]
    assert sorted(panels) == pytest.approx(sorted(np.concatenate(expected)))


def test_the_composition_counts_the_manifest(make_run: Make) -> None:
    run = make_run("run")
    rows = pq.read_table(run / "batch_manifest.parquet").to_pylist()
    composition = BatchComposition.read(run)
    assert composition is not None
    for query in composition.pairs.index:
        for passage in composition.pairs.columns:
            pairs = [line["pairs"] for line in rows if (line["query_language"], line["passage_language"]) == (query, passage)]
            assert composition.pairs.loc[query, passage] == sum(pairs)
    same = sum(line["pairs"] for line in rows if line["query_language"] == line["passage_language"])
    assert composition.monolingual_so_far.iloc[-1] == pytest.approx(same / 6000)
    assert composition.sets.to_dict() == {"help": 6000}
    assert composition.summary()["Batches"] == "60"


def test_a_file_that_is_no_manifest_is_named(make_run: Make) -> None:
    run = make_run("run")
    (run / "batch_manifest.parquet").write_text("not parquet")
    with pytest.raises(InputError, match=r"batch_manifest\.parquet"):
        BatchComposition.read(run)


def test_smoothing_keeps_a_straight_line() -> None:
    line = pd.Series(np.linspace(3, 1, 100))
    np.testing.assert_allclose(smoothed(line, 0.2), line)
    assert smoothed(pd.Series([2.0])).tolist() == [2.0]


def test_smoothing_is_the_mean_around_each_value() -> None:
    values = np.random.default_rng(1).normal(size=43)
    expected = []
    for at in range(43):
        side = min(4, at, 42 - at)
        expected.append(values[at - side : at + side + 1].mean())
    np.testing.assert_allclose(smoothed(pd.Series(values), 0.2), expected)


def test_the_reference_line_is_there_where_the_ratio_stays(make_run: Make) -> None:
    moving = {"kind": "linear", "end": 0.1}
    cases = {"constant": (0.25, {}), "said": (0.25, {"kind": "constant"}), "moving": (None, moving)}
    for name, (expected, schedule) in cases.items():
        run = RunDirectory.open(make_run(name, alpha=0.25, schedule=schedule))
        composition = BatchComposition.read(run.path)
        assert composition is not None
        shown = {row["series"] for row in rows_of(heatmap.with_order(composition.draw(constant_alpha(run)))) if "series" in row}
        assert shown == ({"drawn", "alpha = 0.25"} if expected else {"drawn"})
