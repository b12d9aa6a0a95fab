from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.reporting.batch_composition import BatchComposition
from hybrid_retrieval.reporting.run_directory import RunDirectory
from hybrid_retrieval.reporting.training_curves import WINDOW, in_words, read_curves, telemetry_figure

Make = Callable[..., Path]


def drawn(path: Path) -> dict[str, Any]:
    """The panels of a run's figure by title; those that are left out are not there."""
    accumulate = RunDirectory.open(path).setting("trainer", "accumulate_grad_batches", int) or 1
    figure = telemetry_figure(read_curves(path), BatchComposition.read(path), accumulate)
    return {axes.get_title(loc="left"): axes for axes in figure.axes if axes.axison}


def points(axes: Any, label: str) -> tuple[list[float], list[float]]:
    (line,) = [line for line in axes.lines if line.get_label() == label]
    return list(line.get_xdata()), list(line.get_ydata())


def test_each_panel_shows_what_the_file_says(make_run: Make) -> None:
    path = make_run("run")
    lines = [json.loads(line) for line in (path / "telemetry.jsonl").read_text().splitlines()]
    loss, accuracy, cosine, share = drawn(path).values()
    for axes, name in ((loss, "loss"), (accuracy, "accuracy@1")):
        for stream, label in (("monolingual", "Mo."), ("crosslingual", "Cr.")):
            steps, values = zip(
                *((line["step"], line[key]) for line in lines if (key := f"train/{name}/{stream}") in line), strict=True
            )
            assert (tuple(axes.lines[0].get_xdata()), steps) == (steps, tuple(points(axes, label)[0]))
            assert points(axes, label)[1] == pytest.approx(values)  # too few to be smoothed
    zero, dots = cosine.lines[:2]
    assert list(zero.get_ydata()) == [0, 0]
    assert list(dots.get_ydata()) == [line["train/gradient_cosine"] for line in lines if "train/gradient_cosine" in line]
    for key, label in (("train/alpha", "alpha"), ("decision/alpha", "decided")):
        assert points(share, label) == (
            [line["step"] for line in lines if key in line],
            [line[key] for line in lines if key in line],
        )
    composition = BatchComposition.read(path)
    assert composition is not None
    around = composition.monolingual_around(WINDOW)
    assert points(share, f"drawn (in {WINDOW:.0%} of the run)") == (around.index.tolist(), around.tolist())


@pytest.mark.parametrize(("sampler", "stream"), [("x_x_mono", "Mo."), ("x_y", "Cr.")])
def test_a_run_of_one_stream_has_no_cosine(make_run: Make, sampler: str, stream: str) -> None:
    panels = drawn(make_run("run", sampler=sampler))
    assert len(panels) == 3
    assert not any("Gradients" in title for title in panels)
    assert [text.get_text() for text in next(iter(panels.values())).get_legend().get_texts()] == [stream]


def test_a_run_without_telemetry_has_no_figure(make_run: Make) -> None:
    path = make_run("run")
    (path / "telemetry.jsonl").unlink()
    assert telemetry_figure(read_curves(path), None) is None
    assert in_words(read_curves(path)) == {}


@pytest.mark.parametrize(("steps", "accumulate"), [(60, 1), (61, 2), (400, 3), (7, 1)])
def test_the_share_is_that_of_the_pairs_drawn_around_a_step(make_run: Make, steps: int, accumulate: int) -> None:
    path = make_run("run", steps=steps, sampler="hybrid")
    composition = BatchComposition.read(path)
    assert composition is not None
    around = composition.monolingual_around(WINDOW, accumulate)
    rows = pq.read_table(path / "batch_manifest.parquet").to_pylist()
    last = (steps - 1) // accumulate
    reach = max(1, round((last + 1) * WINDOW / 2))
    assert around.index.tolist() == list(range(0, last + 1, reach))
    for middle, share in around.items():
        near = [row for row in rows if abs(row["step"] // accumulate - middle) <= reach]
        same = sum(row["pairs"] for row in near if row["query_language"] == row["passage_language"])
        assert share == pytest.approx(same / sum(row["pairs"] for row in near))
    assert around.nunique() > 1


def test_the_steps_of_accumulated_batches_are_the_optimizer_s(make_run: Make) -> None:
    path = make_run("run", steps=80)
    config = (path / "config.yaml").read_text().replace("max_steps: 200", "max_steps: 200\n  accumulate_grad_batches: 4")
    (path / "config.yaml").write_text(config)
    share = list(drawn(path).values())[-1]
    assert max(points(share, f"drawn (in {WINDOW:.0%} of the run)")[0]) == 19


def test_telemetry_in_words(make_run: Make) -> None:
    values = {
        "train/gradient_cosine": [-0.25, 0.5, 0.125],
        "train/memory_gib": [1.5, 1.25],
        "train/tokens_per_second": [10.0, 123456.0, 999999.0],
        "decision/alpha": [0.5, 0.75, 0.7],
    }
    curves = {name: pd.Series(one) for name, one in values.items()}
    told = list(in_words(curves).values())
    assert told == [
        "123,456",
        "1.50 GiB",
        "+0.125; below zero in 1 of 3 comparisons",
        "0.5 to 0.75, at the end 0.7",
    ]


def test_curves_are_the_finite_values_by_step_the_last_one_counting(tmp_path: Path) -> None:
    assert read_curves(tmp_path) == {}
    (tmp_path / "telemetry.jsonl").write_text(
        '{"step": 4, "train/loss": 2.0, "val/loss": null}\n{"step": 4, "val/loss": 1.5}\n'
        '{"step": 2, "train/loss": 3.5, "train/lost": NaN}\n{"step": 2, "train/loss": 3.25}\n{"step": 14, "tr'
    )
    curves = {name: curve.to_dict() for name, curve in read_curves(tmp_path).items()}
    assert curves == {"train/loss": {2: 3.25, 4: 2.0}, "val/loss": {4: 1.5}}


@pytest.mark.parametrize("line", ["{", "[1]", "3"])
def test_a_file_that_is_no_telemetry_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "telemetry.jsonl").write_text(line + "\n")
    with pytest.raises(InputError, match=r"telemetry\.jsonl"):
        read_curves(tmp_path)
