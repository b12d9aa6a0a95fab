"""Pictures of which the test asks what they hold: whatever is drawn validates against Vega-Lite's schema, or Altair raises."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageChops

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.evaluation.figures import Figure
from hybrid_retrieval.evaluation.measures import measure
from hybrid_retrieval.report import main
from hybrid_retrieval.reporting import charts, distributions, heatmap, tradeoff
from hybrid_retrieval.reporting.batch_composition import BatchComposition
from hybrid_retrieval.reporting.comparison import draw_sweep
from hybrid_retrieval.reporting.labels import label_runs
from hybrid_retrieval.reporting.language_order import ORDERS, family, places, script
from hybrid_retrieval.reporting.page import Chart
from hybrid_retrieval.reporting.run_directory import RunDirectory, find_runs
from hybrid_retrieval.reporting.run_report import draw_run
from hybrid_retrieval.reporting.training_curves import read_curves
from tests.reporting.fake_runs import rows_of, write_figures

Make = Callable[..., Path]
NAMES = [f"a rather long name of condition {number}, batch_size=512 lr=0.002" for number in range(40)]


def scales(node: Any, channel: str) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        if "scale" in node.get(channel, {}):
            yield node[channel]["scale"]
        for one in node.values():
            yield from scales(one, channel)
    elif isinstance(node, list):
        for one in node:
            yield from scales(one, channel)


def pictures(run: RunDirectory) -> dict[str, Any]:
    return draw_run(run, read_curves(run.path), BatchComposition.read(run.path), "family")


def test_the_same_run_gives_the_same_bytes_and_each_format_is_what_it_says(make_run: Make, tmp_path: Path) -> None:
    run = RunDirectory.open(make_run("run"))
    for name, chart in pictures(run).items():
        first = charts.save(chart, tmp_path / f"{name}.svg").read_bytes()
        again = charts.save(pictures(run)[name], tmp_path / "again.svg").read_bytes()
        assert first == again
        assert b'fill="white"' in first
    chart = pictures(run)["training"]
    starts = {"pdf": b"%PDF", "png": b"\x89PNG", "svg": b"<svg"}
    assert {form: charts.save(chart, tmp_path / f"one.{form}").read_bytes()[:4] for form in starts} == starts
    with pytest.raises(InputError, match="jpeg"):
        charts.save(chart, tmp_path / "one.jpeg")


def test_a_png_has_the_pixels_that_were_drawn_in_fewer_bytes(
    make_run: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import vl_convert

    drawn: list[bytes] = []

    def kept(*arguments: Any, own: Any = vl_convert.svg_to_png, **options: Any) -> bytes:
        drawn.append(own(*arguments, **options))
        return drawn[-1]

    monkeypatch.setattr(vl_convert, "svg_to_png", kept)
    packed = charts.save(pictures(RunDirectory.open(make_run("run")))["training"], tmp_path / "one.png")
    ours, theirs = Image.open(packed), Image.open(BytesIO(drawn[0]))
    assert ours.size == theirs.size
    assert ours.info == theirs.info
    assert ours.tobytes() == theirs.tobytes()
    assert packed.stat().st_size < len(drawn[0]) / 2


def test_a_file_is_what_vega_draws_in_print_and_a_picture_is_drawn_once(
    make_run: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import vl_convert

    draw, drawn = vl_convert.vegalite_to_svg, []
    monkeypatch.setattr(vl_convert, "vegalite_to_svg", lambda spec: drawn.append(spec) or draw(spec))
    for name, picture in pictures(RunDirectory.open(make_run("run"))).items():
        spec = charts.specification(picture)
        drawn.clear()
        charts._vector.cache_clear()
        file = charts.save(spec, tmp_path / f"{name}.png")
        assert Chart(name, spec, "").still.startswith("data:image/svg+xml;base64,")
        assert len(drawn) == 1
        in_print = {**spec, "config": charts.style(charts.INK), "background": "white", "padding": 10}
        expected = vl_convert.svg_to_png(draw(in_print), scale=charts.SCALE, ppi=charts.PPI / charts.SCALE)
        assert ImageChops.difference(*(Image.open(one).convert("RGB") for one in (file, BytesIO(expected)))).getbbox() is None


def test_a_page_gives_a_picture_its_own_ink(make_run: Make) -> None:
    for chart in pictures(RunDirectory.open(make_run("run"))).values():
        spec = charts.specification(chart)
        assert "background" not in spec
        assert spec["config"]["title"]["color"] == spec["config"]["axis"]["labelColor"] == "currentColor"


def test_more_conditions_than_colours_have_marks_of_their_own() -> None:
    encodings = charts.by_colour("name", NAMES), charts.by_shape("name", NAMES), charts.by_dash("name", NAMES[:35])
    colours, shapes, dashes = (one.to_dict()["scale"]["range"] for one in encodings)
    assert len(colours) == len(shapes) == len(NAMES)
    assert len(set(zip(colours, shapes, strict=True))) == len(NAMES)
    assert len({(colour, *dash) for colour, dash in zip(colours, dashes, strict=False)}) == 35
    assert set(charts.COLOURS) == set(colours)


@pytest.mark.slow
def test_a_comparison_of_many_conditions_has_a_colour_for_each(make_run: Make, tmp_path: Path) -> None:
    for number in range(10):
        make_run(f"sweep/{number}", sampler="hybrid", alpha=number / 10, steps=4)
    runs = label_runs(find_runs(tmp_path / "sweep"))
    drawn = draw_sweep(runs, ["help_r"], "value")
    assert list(drawn) == ["help_r_comparison", "help_r_alpha"]
    spec = charts.specification(drawn["help_r_comparison"])
    ranges = [one for one in scales(spec, "color") if one.get("domain") == [run.condition for run in runs]]
    assert ranges
    assert all(len(one["range"]) == 10 for one in ranges)
    assert charts.save(drawn["help_r_alpha"], tmp_path / "alpha.svg").stat().st_size > 10_000


def test_cells_of_a_comparison_are_squares_side_by_side(make_run: Make, tmp_path: Path) -> None:
    for number, sampler in enumerate(("x_x_mono", "x_y", "x_x", "english", "hybrid")):
        make_run(f"sweep/{number}", sampler=sampler, steps=4)
    chart = draw_sweep(label_runs(find_runs(tmp_path / "sweep")), ["help_r"])["help_r_comparison"]
    svg = charts.save(chart, tmp_path / "comparison.svg").read_text()
    cells = re.findall(r'aria-roledescription="rect mark" d="M([\d.]+),([\d.]+)h([\d.]+)v([\d.]+)h-[\d.]+Z"', svg)
    side = heatmap.SIDE / 4
    assert {(width, height) for *_, width, height in cells} == {(f"{side:g}", f"{side:g}")}
    assert len({(x, y) for x, y, *_ in cells}) == 16
    panels = 5 + 4
    assert len(cells) == panels * (16 + 4)  # with the frames of the diagonals


@pytest.mark.parametrize("count", [1, 2, 28])
def test_matrices_of_any_size_hold_every_cell(tmp_path: Path, count: int) -> None:
    names = "ar bn cs de el en es fa fi fr hi id it ja ko pl pt pt_br ru sw te th tr uk ur vi zh zh_tw"
    languages = names.split()[:count]
    values = np.random.default_rng(0).random((count, count))
    values[0, -1] = np.nan if count > 1 else 0.5
    chart = heatmap.with_order(heatmap.language_pairs(values, languages, heatmap.Scale.of("mAP", [values]), ("title", "under")))
    shown = [row["value"] for row in rows_of(chart)]
    assert [np.nan if value is None else value for value in shown] == pytest.approx(values.ravel().tolist(), nan_ok=True)
    assert charts.save(chart, tmp_path / "map.svg").stat().st_size > 1000


def test_text_is_light_where_a_cell_is_dark() -> None:
    scale = heatmap.Scale.of("mAP", [np.array([[0.0, 1.0]])])
    assert [scale.is_dark(value) for value in (0.1, 0.9)] == [True, False]
    difference = heatmap.Scale.signed("difference", [np.array([[-0.1, 0.1]])])
    assert [difference.is_dark(value) for value in (-0.1, 0.0, 0.1)] == [True, False, True]


def test_languages_are_ordered_by_name_family_script_and_value() -> None:
    languages = ["ar", "de", "en", "fa", "ja", "pt", "pt_br", "ru", "xx"]
    places_of = places(languages, {"ru": 0.9, "ar": 0.5, "en": 0.7})
    order = {by: sorted(languages, key=lambda name: places_of[name][at]) for at, by in enumerate(ORDERS)}
    assert order["name"] == languages
    assert order["family"] == ["en", "de", "pt", "pt_br", "ru", "fa", "ar", "ja", "xx"]
    assert order["script"] == ["en", "de", "pt", "pt_br", "ru", "fa", "ar", "ja", "xx"]
    assert order["value"][:3] == ["ru", "en", "ar"]
    assert [family(name) for name in ("zh_tw", "swh_Latn", "qq")] == ["Sino-Tibetan", "Bantu", "unknown"]
    assert [script(name) for name in ("sr", "sr_latn", "zh_tw", "de", "kas_Arab", "qq")] == [
        "Cyrillic",
        "Latin",
        "Han",
        "Latin",
        "Arabic",
        "unknown",
    ]


def test_the_curve_over_alpha_is_the_metrics(make_run: Make, tmp_path: Path) -> None:
    for alpha in (0.25, 0.5, 0.75):
        for seed in (1, 2):
            make_run(f"sweep/{alpha}_{seed}", seed=seed, alpha=alpha, steps=4)
    make_run("sweep/other", sampler="x_y", steps=4)
    runs = label_runs(find_runs(tmp_path / "sweep"))
    figures = tradeoff.over_alpha(runs, "help_r")
    assert figures is not None
    panels = tradeoff.panels_of(figures)
    assert panels == tradeoff.PANELS
    rows = rows_of(tradeoff.pareto(figures, "alpha", "title", panels))
    for run in (one.run for one in runs if one.run.choices["sampler"] == "hybrid"):
        mine = [one for one in rows if one.get("seed") == run.config["seed"] and one["x"] == run.config["sampler"]["alpha"]]
        found = {(row["one"], row["other"]) for row in mine}
        mono = run.metrics["help_r/monolingual/map"]
        others = ("crosslingual/map", "multilingual/rank_distance")
        assert {(mono, run.metrics[f"help_r/{name}"]) for name in others} <= found
    (apart,) = {row["system"] for row in rows if row["x"] is None}
    assert apart.startswith("x_y")
    curve = rows_of(tradeoff.curve(figures, "alpha", "title", panels))
    means = {row["x"]: row["value"] for row in curve if "seed" not in row and row["value"] < 1 and row["x"]}
    assert means.keys() == {0.25, 0.5, 0.75}
    assert tradeoff.over_alpha(runs[:2], "help_r") is None


def test_differences_keep_their_intervals() -> None:
    table = pd.DataFrame(
        {
            "setting": "monolingual",
            "measure": "map",
            "series": ["a", "a", "b"],
            "x": [1.0, 10.0, 1.0],
            "value": [0.1, 0.2, -0.1],
            "low": [0.05, 0.1, -0.2],
            "high": [0.15, 0.3, 0.0],
        }
    )
    rows = rows_of(tradeoff.gain(table, "size", "title", {"Mo. mAP": ("monolingual", "map")}, log=True))
    shown = {(row["series"], row["x"]): (row["low"], row["value"], row["high"]) for row in rows if "series" in row}
    assert shown == {("a", 1.0): (0.05, 0.1, 0.15), ("a", 10.0): (0.1, 0.2, 0.3), ("b", 1.0): (-0.2, -0.1, 0.0)}


def test_distributions_are_those_of_the_queries(tmp_path: Path) -> None:
    run = write_figures(tmp_path / "run", [Figure("b", "multilingual", measure("rank_distance"), None, None, 5.0)])
    values = np.arange(1000.0)
    keys = {"benchmark": "b", "setting": "multilingual", "corpus_language": None, "query_id": values.astype(str)}
    table = pd.DataFrame({**keys, "query_language": ["de", "en"] * 500, "rank_distance": values})
    table.to_parquet(run / "per_query.parquet")
    chart = distributions.rank_distance_figure({"mine": RunDirectory.open(run)}, "b")
    rows = rows_of(chart)
    parts = {round(row["part"], 2): row["rank distance"] for row in rows if "part" in row}
    assert {part: parts[part] for part in (0.0, 0.5, 1.0)} == pytest.approx({0.0: 0.0, 0.5: 499.5, 1.0: 999.0})
    halves = {row["language"]: row["50%"] for row in rows if "language" in row}
    assert halves == {"de": 499.0, "en": 500.0}
    assert distributions.rank_distance_figure({"mine": RunDirectory.open(run)}, "another") is None


def test_shares_are_the_figures_at_the_largest_depth(tmp_path: Path) -> None:
    shares = {("de", 10): 0.25, ("en", 10): 0.75, ("de", 100): 0.4, ("en", 100): 0.6}
    figures = [
        Figure("b", "multilingual", measure(f"share@{depth}"), None, language, value)
        for (language, depth), value in shares.items()
    ]
    run = RunDirectory.open(write_figures(tmp_path / "run", figures))
    rows = rows_of(distributions.share_figure({"mine": run}, "b"))
    assert {row["language"]: row["share"] for row in rows if "language" in row} == {"de": 0.4, "en": 0.6}
    assert {"share": 0.5} in rows


def test_a_curve_is_thinned_to_what_a_panel_shows_and_keeps_its_ends() -> None:
    curve = pd.Series(np.arange(100_003.0))
    thin = charts.thinned(curve)
    assert len(thin) <= charts.POINTS
    assert (thin.iloc[0], thin.iloc[-1]) == (0, 100_002)
    assert charts.thinned(curve[:600]).equals(curve[:600])


def test_a_single_value_is_seen(tmp_path: Path) -> None:
    chart = charts.Panel("Loss", "step", "loss").lines({"validation": pd.Series([2.5], [100])})
    assert 'aria-roledescription="point"' in charts.save(chart, tmp_path / "one.svg").read_text()


def test_formats_are_chosen_on_the_command_line(make_run: Make, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run("run")
    assert main([str(run), "--formats", "pdf,svg,tex,md", "--order", "script"]) == 0
    written = {path.name for path in (run / "figures").iterdir()}
    assert {f"help_r_map.{form}" for form in ("png", "pdf", "svg")} <= written
    assert {path.name for path in (run / "tables").iterdir()} == {"help_r.tex", "help_r.md"}
    for wrong in (["--formats", "gif"], ["--formats", ""], ["--order", "size"]):
        capsys.readouterr()
        assert main([str(run), *wrong]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"error: {wrong[0]}=")
        assert error.count("\n") == 1
