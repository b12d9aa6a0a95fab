from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from hybrid_retrieval.evaluation.figures import Figure, Figures
from hybrid_retrieval.evaluation.measures import measure
from hybrid_retrieval.reporting.contest import LEVELS
from hybrid_retrieval.reporting.labels import label_runs
from hybrid_retrieval.reporting.run_directory import RunDirectory, find_runs
from hybrid_retrieval.reporting.table import Column, Row, Table, console, markdown, p_value, rich_table, show
from hybrid_retrieval.reporting.table import number as shown_number
from hybrid_retrieval.reporting.tables import MARGIN, bias_tables, comparison_table, run_table
from tests.reporting.fake_runs import write_figures

Make = Callable[..., Path]


def parsed(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|\n").split("|")] for line in text.splitlines()]


def test_a_runs_table_shows_its_figures(make_run: Make) -> None:
    path = make_run("run")
    metrics = json.loads((path / "metrics.json").read_text())
    header, _, *rows = parsed(markdown(run_table(RunDirectory.open(path), "help_r")))
    assert header == ["Setting", "mAP", "nDCG@10", "MRR", "R@1", "R@10", "R@100", "Rank distance"]
    for row, setting in zip(rows, ("monolingual", "crosslingual", "multilingual"), strict=True):
        for shown, name in zip(row[1:7], ("map", "ndcg@10", "mrr", "recall@1", "recall@10", "recall@100"), strict=True):
            assert shown == f"{metrics[f'help_r/{setting}/{name}']:.4f}"
    assert [row[7] for row in rows] == ["-", "-", f"{metrics['help_r/multilingual/rank_distance']:.1f}"]


def test_the_comparison_shows_each_runs_figures(make_run: Make, tmp_path: Path) -> None:
    for number, sampler in enumerate(["x_x_mono", "x_y", "hybrid"]):
        make_run(f"sweep/{number}", sampler=sampler)
    runs = find_runs(tmp_path / "sweep")
    table = comparison_table(label_runs(runs), "help_r")
    header, _, *rows = parsed(markdown(replace(table, notes=())))
    assert header[1:] == ["Mo. mAP", "Cr. mAP", "Mul. mAP", "Mo. R@1", "Cr. R@1", "Mul. R@10", "Rank distance", "Pairs/s"]
    keys = ["monolingual/map", "crosslingual/map", "multilingual/map", "monolingual/recall@1", "crosslingual/recall@1"]
    keys += ["multilingual/recall@10", "multilingual/rank_distance"]
    for column, key in enumerate(keys, start=1):
        digits = 1 if key.endswith("distance") else 4
        for row, run in zip(rows, runs, strict=True):
            assert row[column] == f"{run.metrics[f'help_r/{key}']:.{digits}f}"
    assert [row[-1] for row in rows] == [f"{run.metrics['train/pairs_per_second']:,.0f}" for run in runs]


def test_mean_and_deviation_over_seeds_are_numpys(make_run: Make, tmp_path: Path) -> None:
    cases = [(sampler, seed) for sampler in ("x_y", "hybrid") for seed in (1, 2, 3)]
    for number, (sampler, seed) in enumerate(cases):
        make_run(f"sweep/{number}", sampler=sampler, seed=seed)
    table = comparison_table(label_runs(find_runs(tmp_path / "sweep")), "help_r")
    by_label = {row.label: np.array(row.values, float) for row in table.rows}
    for name in ("x_y", "hybrid"):
        seeds = np.stack([by_label[f"{name} seed={seed}"] for seed in (1, 2, 3)])
        np.testing.assert_allclose(by_label[f"{name}: mean (n=3)"], seeds.mean(axis=0))
        np.testing.assert_allclose(by_label[f"{name}: sd (n=3)"], seeds.std(axis=0, ddof=1))
    assert [row.kind for row in table.rows] == ["seed"] * 6 + ["mean", "sd"] * 2


def test_different_seeds_of_different_samplers_are_no_repetitions(make_run: Make, tmp_path: Path) -> None:
    make_run("sweep/0", sampler="x_y", seed=1)
    make_run("sweep/1", sampler="hybrid", seed=2)
    assert [row.kind for row in comparison_table(label_runs(find_runs(tmp_path / "sweep")), "help_r").rows] == ["run", "run"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "<.0001"),
        (1e-9, "<.0001"),
        (0.0001, ".0001"),
        (0.00097, ".00097"),
        (0.00099996, ".00099996"),
        (0.0519, ".0519"),
        (0.05, ".0500"),
        (0.049999, ".049999"),
        (0.05003, ".05003"),
        (0.0099951, ".009995"),
        (0.0100049, ".010005"),
        (0.9, ".9000"),
        (1.0, "1.0000"),
    ],
)
def test_a_p_is_shown_on_its_side_of_the_levels(value: float, shown: str) -> None:
    assert p_value(value) == shown
    level = float(shown.lstrip("<"))
    assert [level < bound for bound in LEVELS] == [value < bound for bound in LEVELS]


def test_figures_are_not_rounded_onto_or_over_a_bound() -> None:
    rng = np.random.default_rng(0)
    for value, bound, digits in zip(
        rng.choice([-1, 1], 500) * rng.uniform(0.1, 1, 500),
        rng.choice([0.0, 0.05, 0.5, 1.0], 500).tolist(),
        rng.integers(0, 5, 500),
        strict=True,
    ):
        near = float(bound + value * 10.0 ** -rng.integers(0, digits + 4))
        shown = float(shown_number(near, int(digits), bounds=(bound,)))
        assert (shown > bound, shown < bound) == (near > bound, near < bound)
    assert shown_number(-0.00003, 4, "+") == "-0.00003"
    assert shown_number(0.0, 4, "+") == "+0.0000"
    assert shown_number(0.7829, 4) == "0.7829"
    assert shown_number(1e-15, 4) == "0.0000"


@pytest.mark.parametrize("value", [None, float("nan")])
def test_what_is_missing_is_a_dash(value: float | None) -> None:
    table = Table("t", "Run", [Column("mAP")], [Row("a|b", [value]), Row("c", [0.1]), Row("d", [0.2], best=frozenset({0}))])
    assert parsed(markdown(table).replace("\\|", "/"))[2:] == [["a/b", "-"], ["c", "0.1000"], ["d", "**0.2000**"]]


def test_the_comparison_fits_a_hundred_columns(make_run: Make, tmp_path: Path) -> None:
    for number, seed in enumerate((1, 2)):
        make_run(f"sweep/{number}", sampler="x_x_mono", seed=seed)
        make_run(f"sweep/{number + 2}", sampler="hybrid", seed=seed)
    screen = console()
    with screen.capture() as captured:
        screen.print(rich_table(comparison_table(label_runs(find_runs(tmp_path / "sweep")), "help_r")))
    assert max(map(len, captured.get().splitlines())) <= 100


def test_a_table_that_is_wider_than_the_terminal_comes_in_parts_with_whole_figures() -> None:
    columns = [Column("Measure", None), *(Column(f"Figure {number}") for number in range(12))]
    rows = [Row("hybrid of a long name", ["mAP", *(number / 7 for number in range(12))], best=frozenset({12}))]
    screen = Console(width=50, highlight=False, force_terminal=False)
    with screen.capture() as captured:
        show(screen, Table("title", "Run", columns, rows, ["a note"]))
    lines = captured.get().splitlines()
    assert max(map(len, lines[:-1])) <= 50
    assert [line.strip() for line in lines[:: len(lines) - 1]] == ["title", "a note"]
    words = captured.get().split()
    assert [word for word in words if re.fullmatch(r"\d\.\d+", word)] == [f"{number / 7:.4f}" for number in range(12)]
    assert words.count("Measure") == words.count("Run") == words.count("mAP") > 1


def with_baseline(path: Path, shift: float) -> Path:
    """Figures of a baseline beside those of a fake run."""
    shifted = [replace(one, value=one.value + shift) for one in Figures.read(path)]
    write_figures(path / "baselines" / "bm25", shifted)
    return path


def test_a_runs_table_has_its_baselines_under_each_setting(make_run: Make) -> None:
    run = RunDirectory.open(with_baseline(make_run("run"), -0.125))
    assert run.baselines.keys() == {"bm25"}
    assert run.reported == run.benchmarks
    table = run_table(run, "help_r")
    assert [row.label for row in table.rows] == ["Mo.", "Mo. · bm25", "Cr.", "Cr. · bm25", "Mul.", "Mul. · bm25"]
    for own, beside in zip(table.rows[::2], table.rows[1::2], strict=True):
        assert [value is None for value in own.values] == [value is None for value in beside.values]
        assert own.values[0] is not None
        assert beside.values[0] == pytest.approx(own.values[0] - 0.125)


def test_a_comparison_ends_with_the_baselines(make_run: Make, tmp_path: Path) -> None:
    for number, sampler in enumerate(["x_y", "hybrid"]):
        with_baseline(make_run(f"sweep/{number}", sampler=sampler), 10.0)
    table = comparison_table(label_runs(find_runs(tmp_path / "sweep")), "help_r")
    assert [row.label for row in table.rows] == ["x_y", "hybrid", "bm25"]
    cells = {row.label: shown for row, shown in table.cells()}
    assert cells["bm25"][-1].text == "-"


def test_half_an_interval_stands_below_its_figures_and_columns_are_those_that_there_are(tmp_path: Path) -> None:
    figures = [
        Figure("miracl", "monolingual", measure("ndcg@10"), None, None, 0.5, 0.45, 0.53),
        Figure("miracl", "monolingual", measure("recall@100"), None, None, 0.8),
        Figure("miracl", "multilingual", measure("ndcg@10"), None, None, 0.3),
    ]
    run = RunDirectory.open(write_figures(tmp_path / "run", figures))
    table = run_table(run, "miracl")
    assert [column.name for column in table.columns] == ["nDCG@10", "R@100"]
    assert [(row.label, list(row.values)) for row in table.rows] == [
        ("Mo.", [0.5, 0.8]),
        (MARGIN, [pytest.approx(0.04), None]),
        ("Mul.", [0.3, None]),
    ]
    assert bias_tables(run, "miracl", by_language=True) == []


def test_a_new_measure_stands_under_its_own_heading(tmp_path: Path) -> None:
    """Without mAP, runs are compared by every measure that one of them has."""
    names = ["precision@5", "ndcg@10", "precision@10"]
    for number in range(2):
        figures = [Figure("toy", "monolingual", measure(name), None, None, number + 0.5) for name in names]
        write_figures(tmp_path / str(number), figures)
    runs = find_runs(tmp_path)
    assert [column.name for column in run_table(runs[0], "toy").columns] == ["nDCG@10", "P@5", "P@10"]
    table = comparison_table(label_runs(runs), "toy")
    assert [column.name for column in table.columns] == ["Mo. nDCG@10", "Mo. P@5", "Mo. P@10", "Pairs/s"]


@pytest.mark.parametrize(("low", "said"), [(None, True), (4001.0, True), (3999.0, False)])
def test_a_rank_distance_that_is_worse_than_chance_is_named(tmp_path: Path, low: float | None, said: bool) -> None:
    chance = Figure("a", "multilingual", measure("rank_distance_chance"), None, None, 4000.0)
    path = write_figures(
        tmp_path / "run", [Figure("a", "multilingual", measure("rank_distance"), None, None, 4100.0, low), chance]
    )
    for name, value in (("bm25", 3900.0), ("random", 4200.0)):
        write_figures(
            path / "baselines" / name, [Figure("a", "multilingual", measure("rank_distance"), None, None, value), chance]
        )
    notes = run_table(RunDirectory.open(path), "a").notes
    assert notes == (["Rank distance of run: above the 4,000.0 expected of a random ranking."] if said else [])


def test_measures_of_bias_have_a_table_of_their_own(tmp_path: Path) -> None:
    rank_distance, share = measure("rank_distance"), measure("share@10")
    figures = [
        Figure("a", "multilingual", measure("map"), None, None, 0.3),
        Figure("a", "multilingual", rank_distance, None, None, 7.0, 6.0, 8.5),
        Figure("a", "multilingual", rank_distance, "de", None, 4.0),
        Figure("a", "multilingual", rank_distance, "th", None, 10.0),
        Figure("a", "multilingual", share, None, "de", 0.8),
    ]
    run = RunDirectory.open(write_figures(tmp_path / "run", figures))
    (table,) = bias_tables(run, "a", by_language=True)
    assert [column.name for column in table.columns] == ["All", "±", "de", "th"]
    assert {row.label: list(row.values) for row in table.rows} == {
        "Rank distance": [7.0, 1.25, 4.0, 10.0],
        "Share of a language@10": [None, None, 0.8, None],
    }
    assert [cell.text for _, cells in table.cells() for cell in cells] == ["7.0", "1.2", "4.0", "10.0", "-", "-", "0.8000", "-"]
    (short,) = bias_tables(run, "a", by_language=False)
    assert [list(row.values)[2:] for row in short.rows] == [[4.0, 10.0], [0.8, 0.8]]
