from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.reporting.labels import conditions, contrasts, label_runs
from hybrid_retrieval.reporting.run_directory import RunDirectory, find_runs
from hybrid_retrieval.reporting.systems import find_systems

Make = Callable[..., Path]


def labels(folder: Path) -> list[str]:
    return [one.label for one in label_runs(find_runs(folder))]


def test_runs_of_a_sweep_come_in_the_order_of_their_numbers(make_run: Make, tmp_path: Path) -> None:
    for number in (10, 2, 0, 1):
        make_run(f"sweep/{number}", seed=number)
    assert [run.path.name for run in find_runs(tmp_path / "sweep")] == ["0", "1", "2", "10"]


def test_neither_hydra_folders_nor_what_is_inside_a_run_are_runs(make_run: Make, tmp_path: Path) -> None:
    run = make_run("run")
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "metrics.json").write_text("{}")
    hidden = tmp_path / ".old"
    hidden.mkdir()
    (hidden / "metrics.json").write_text("{}")
    assert [found.path for found in find_runs(tmp_path)] == [run]


@pytest.mark.parametrize("name", ["absent", "empty"])
def test_a_path_without_runs_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=name):
        find_runs(tmp_path / name)


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_a_broken_file_is_named(make_run: Make, text: str) -> None:
    run = make_run("run")
    (run / "metrics.json").write_text(text)
    with pytest.raises(InputError, match=r"metrics\.json"):
        RunDirectory.open(run)


def test_a_broken_config_is_named(make_run: Make) -> None:
    run = make_run("run")
    (run / "config.yaml").write_text("a: [1\nb: 2")
    with pytest.raises(InputError, match=r"config\.yaml") as raised:
        RunDirectory.open(run)
    assert "\n" not in str(raised.value)


def test_benchmarks_are_those_with_figures(make_run: Make) -> None:
    run = RunDirectory.open(make_run("run", benchmarks=("xquad_r", "help_r")))
    assert run.benchmarks == ("help_r", "xquad_r")
    assert run.title == "hybrid · static · libreoffice_help"


def test_runs_are_called_by_what_differs(make_run: Make, tmp_path: Path) -> None:
    for number, sampler in enumerate(["x_x_mono", "x_y", "hybrid"]):
        make_run(f"samplers/{number}", sampler=sampler)
        make_run(f"seeds/{number}", sampler=sampler, seed=number)
        make_run(f"one_sampler/{number}", seed=number)
        make_run(f"same/{number}")
    assert labels(tmp_path / "samplers") == ["x_x_mono", "x_y", "hybrid"]
    assert labels(tmp_path / "seeds") == ["x_x_mono seed=0", "x_y seed=1", "hybrid seed=2"]
    assert labels(tmp_path / "one_sampler") == ["seed=0", "seed=1", "seed=2"]
    assert len(set(labels(tmp_path / "same"))) == 3


def test_values_that_follow_from_a_choice_are_not_in_the_label(make_run: Make, tmp_path: Path) -> None:
    make_run("sweep/0", model="static")
    make_run("sweep/1", model="tiny")
    assert labels(tmp_path / "sweep") == ["static", "tiny"]


def test_values_that_differ_within_a_choice_are_in_the_label(make_run: Make, tmp_path: Path) -> None:
    make_run("sweep/0", sampler="x_y")
    make_run("sweep/1", alpha=0.25)
    make_run("sweep/2", alpha=0.75)
    assert labels(tmp_path / "sweep") == ["x_y", "hybrid alpha=0.25", "hybrid alpha=0.75"]


def test_repetitions_share_a_condition(make_run: Make, tmp_path: Path) -> None:
    for number, (sampler, seed) in enumerate([("x_y", 1), ("x_y", 2), ("hybrid", 1), ("hybrid", 2)]):
        make_run(f"sweep/{number}", sampler=sampler, seed=seed)
    groups = conditions(label_runs(find_runs(tmp_path / "sweep")))
    assert {name: len(runs) for name, runs in groups.items()} == {"x_y": 2, "hybrid": 2}


def test_hybrid_is_set_against_each_sampler_of_its_own_model(make_run: Make, tmp_path: Path) -> None:
    cases = [(sampler, model) for model in ("static", "tiny") for sampler in ("x_x_mono", "hybrid")]
    for number, (sampler, model) in enumerate(cases):
        make_run(f"sweep/{number}", sampler=sampler, model=model)
    found = contrasts(label_runs(find_runs(tmp_path / "sweep")))
    assert found == [("hybrid static", "x_x_mono static"), ("hybrid tiny", "x_x_mono tiny")]


def test_the_reference_is_the_one_that_comes_first(make_run: Make, tmp_path: Path) -> None:
    """As in `compare`: new minus reference."""
    for number, sampler in enumerate(["x_x_mono", "hybrid", "x_y"]):
        make_run(f"sweep/{number}", sampler=sampler)
    labelled = label_runs(find_runs(tmp_path / "sweep"))
    assert contrasts(labelled) == [("hybrid", "x_x_mono"), ("x_y", "hybrid")]
    order = [one.name for one in find_systems([str(tmp_path / "sweep")])]
    assert all(order.index(reference) < order.index(new) for new, reference in contrasts(labelled))


def test_without_hybrid_each_is_set_against_the_first(make_run: Make, tmp_path: Path) -> None:
    for number, sampler in enumerate(["english", "x_x", "x_y"]):
        make_run(f"sweep/{number}", sampler=sampler)
    assert contrasts(label_runs(find_runs(tmp_path / "sweep"))) == [("x_x", "english"), ("x_y", "english")]
