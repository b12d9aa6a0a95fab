from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.reporting import charts
from hybrid_retrieval.reporting.batch_composition import BatchComposition
from hybrid_retrieval.reporting.run_directory import RunDirectory
from hybrid_retrieval.reporting.training_curves import COSINE, DRAWN, WINDOW, in_words, read_curves, telemetry_figure

Make = Callable[..., Path]


def drawn(path: Path) -> dict[str, list[dict[str, Any]]]:
    """The rows of a run's panels by title; panels that are left out are not there."""
    accumulate = RunDirectory.open(path).setting("trainer", "accumulate_grad_batches", int) or 1
    chart = charts.specification(telemetry_figure(read_curves(path), BatchComposition.read(path), accumulate))
    return {
        panel["title"]["text"][0]: [row for layer in panel["layer"] for row in chart["datasets"][of(panel, layer)]]
        for panel in chart["concat"]
    }


def of(panel: dict[str, Any], layer: dict[str, Any]) -> str:
    return str((layer.get("data") or panel["data"])["name"])


def points(rows: list[dict[str, Any]], name: str, kind: str) -> tuple[list[float], list[float]]:
    found = {row["x"]: row["y"] for row in rows if row.get("series") == name and row["kind"] == kind}
    return list(found), list(found.values())


def test_each_panel_shows_what_the_file_says(make_run: Make) -> None:
    path = make_run("run")
    lines = [json.loads(line) for line in (path / "telemetry.jsonl").read_text().splitlines()]
    loss, accuracy, cosine, share = drawn(path).values()
    for rows, name in ((loss, "loss"), (accuracy, "accuracy@1")):
        for stream, label in (("monolingual", "Mo."), ("crosslingual", "Cr.")):
            steps, values = zip(
                *((line["step"], line[key]) for line in lines if (key := f"train/{name}/{stream}") in line), strict=True
            )
            assert points(rows, label, "faint") == (list(steps), list(values))
            assert points(rows, label, "line")[1] == pytest.approx(values)  # too few to be smoothed
    assert {"y": 0} in cosine
    assert points(cosine, "cosine", "cloud")[1] == [line[COSINE] for line in lines if COSINE in line]
    for key, label, kind in (("train/alpha", "alpha", "line"), ("decision/alpha", "decided", "cloud")):
        known = [line for line in lines if key in line]
        assert points(share, label, kind) == ([line["step"] for line in known], [line[key] for line in known])
    composition = BatchComposition.read(path)
    assert composition is not None
    around = composition.monolingual_around(WINDOW)
    assert points(share, DRAWN, "line") == (around.index.tolist(), around.tolist())


@pytest.mark.parametrize(("sampler", "stream"), [("x_x_mono", "Mo."), ("x_y", "Cr.")])
def test_a_run_of_one_stream_has_no_cosine(make_run: Make, sampler: str, stream: str) -> None:
    panels = drawn(make_run("run", sampler=sampler))
    assert len(panels) == 3
    assert not any("Gradients" in title for title in panels)
    assert {row["series"] for row in next(iter(panels.values()))} == {stream}


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
    assert max(points(share, DRAWN, "line")[0]) == 19


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
