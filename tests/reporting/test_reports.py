from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import vl_convert
from lxml import html
from omegaconf import OmegaConf

from hybrid_retrieval.evaluation.figures import Figures
from hybrid_retrieval.report import main
from hybrid_retrieval.reporting import page
from hybrid_retrieval.reporting.comparison import leaders
from hybrid_retrieval.reporting.run_report import report_run
from hybrid_retrieval.reporting.sweep import CompareSweep
from hybrid_retrieval.reporting.table import Column, Row, Table
from tests.reporting.fake_runs import write_figures

ROOT = Path(__file__).parents[2]
Make = Callable[..., Path]


def python(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    root = str(Path(__file__).parents[2])
    environment = {"PYTHONPATH": root, "PATH": "/usr/bin:/bin", "MPLCONFIGDIR": str(cwd or root), "COLUMNS": "120"}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=cwd, env=environment, check=False)


def assert_self_contained(page: Path) -> html.HtmlElement:
    document = html.document_fromstring(page.read_text())
    for element in document.iter():
        for name in ("src", "href"):
            assert str(element.get(name, "data:")).startswith("data:")
    ours = {(ROOT / "hybrid_retrieval" / "reporting" / name).read_text().strip() for name in ("page.js", "browser.js")}
    bundle = next(page_scripts(document), "") if charts_of(document) else ""
    assert bundle.startswith(vega_begins()) == bool(charts_of(document))
    assert {script.strip() for script in page_scripts(document)} - {bundle.strip()} <= ours
    assert "url(" not in "".join(style.text for style in document.findall(".//style"))
    return document


@cache
def vega_begins() -> str:
    return vl_convert.javascript_bundle("")[:40]


def page_scripts(document: html.HtmlElement) -> Iterator[str]:
    return (script.text for script in document.findall(".//script") if not script.get("type"))


def charts_of(document: html.HtmlElement) -> list[str]:
    return [script.get("data-name") for script in document.findall(".//script") if script.get("class") == "chart-data"]


def test_the_report_of_a_run_holds_its_pictures_tables_and_config(make_run: Make, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run("run", benchmarks=("help_r", "xquad_r"))
    report_run(run)
    document = assert_self_contained(run / "report.html")
    assert {path.stem for path in (run / "figures").iterdir()} == set(charts_of(document))
    text = document.text_content()
    metrics = json.loads((run / "metrics.json").read_text())
    shown = f"{metrics['xquad_r/crosslingual/map']:.4f}"
    assert shown in text
    assert "7 left out without a relevant text" in text
    assert "2.0 <test>" in text
    assert "Padding among the tokens encoded (median)" in text
    assert "12.5%" in text
    assert "batch_size: 100" in "".join(part.text_content() for part in document.findall(".//details"))
    assert shown in capsys.readouterr().out
    assert not list(run.glob("*.part"))


def test_text_of_the_run_cannot_become_markup(make_run: Make) -> None:
    run = make_run("run", sampler="<script>alert(1)</script>")
    report_run(run)
    assert "<script>alert" not in (run / "report.html").read_text()


@pytest.mark.parametrize(
    ("missing", "drawn"),
    [
        (["batch_manifest.parquet", "telemetry.jsonl"], {"help_r_map.png"}),
        (["batch_manifest.parquet"], {"help_r_map.png", "telemetry.png", "training.png"}),
        (["config.yaml", "environment.json"], {"help_r_map.png", "batch_composition.png", "telemetry.png", "training.png"}),
        (["figures.parquet", "telemetry.jsonl"], {"batch_composition.png"}),
        (["figures.parquet", "metrics.json", "batch_manifest.parquet"], {"telemetry.png", "training.png"}),
    ],
)
def test_what_a_directory_has_is_shown(make_run: Make, missing: list[str], drawn: set[str]) -> None:
    run = make_run("run")
    for name in missing:
        (run / name).unlink()
    report_run(run)
    assert {path.name for path in (run / "figures").iterdir()} == drawn
    assert len(charts_of(assert_self_contained(run / "report.html"))) == len(drawn)


def test_the_comparison_is_written(make_run: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, sampler in enumerate(["x_x_mono", "hybrid"]):
        make_run(f"sweep/{number}", sampler=sampler)
    assert main([str(tmp_path / "sweep")]) == 0
    out = tmp_path / "sweep"
    printed = capsys.readouterr().out
    for name in ("comparison.md", "comparison.json", "comparison.html", "help_r_comparison.png"):
        assert (out / name).is_file()
        assert f"wrote {out / name}" in printed
    runs = json.loads((out / "comparison.json").read_text())["runs"]
    assert [(run["label"], run["directory"]) for run in runs] == [("x_x_mono", "0"), ("hybrid", "1")]
    assert runs[1]["metrics"] == json.loads((out / "1" / "metrics.json").read_text())
    assert charts_of(assert_self_contained(out / "comparison.html")) == ["help_r_pairs", "help_r_comparison"]
    mean = f"{runs[1]['metrics']['help_r/crosslingual/map']:.4f}"
    assert mean in (out / "comparison.md").read_text()
    assert mean in printed


def test_the_best_of_each_setting_are_said_with_their_intervals() -> None:
    good = ("Mo. mAP", "Cr. mAP", "Mo. R@1")
    columns = [*(Column(name, 4, "higher") for name in good), Column("Rank distance", 0, "lower"), Column("Pairs/s", 0)]
    places = {"hybrid: mean (n=3)": (1, 1, 1, 2), "x_y": (2, 1, 1, 1), "x_x": (3, 2, 2, 3)}
    rows = [
        Row(
            name,
            [0.5, value, 0.3, 4000.0, 9.0],
            "mean",
            intervals=dict.fromkeys(range(4), (0.45, 0.55)) | {3: (3900.0, 4100.0)},
            clusters=dict(enumerate(clusters)),
        )
        for value, (name, clusters) in zip((0.4, 0.41, 0.3), places.items(), strict=True)
    ]
    assert leaders(Table("set", "Run", columns, [*rows, Row("hybrid: sd (n=3)", [0.0] * 5, "sd")])) == [
        "set, best Mo. mAP: hybrid 0.5000 (0.4500 to 0.5500)",
        "set, best Cr. mAP: x_y 0.4100 (0.4500 to 0.5500), hybrid 0.4000 (0.4500 to 0.5500), not told apart",
        "set, best Rank distance: x_y 4,000 (3,900 to 4,100)",
    ]


def test_a_run_that_has_only_its_baselines_figures_is_compared(
    make_run: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As ``evaluate retriever=bm25`` leaves it."""
    mine, alone = make_run("mine"), tmp_path / "alone"
    write_figures(alone / "baselines" / "bm25", [replace(one, value=one.value / 2) for one in Figures.read(mine)])
    (alone / "metrics.json").write_text("{}")
    assert main([str(alone), str(mine), "--out", str(tmp_path / "there")]) == 0
    printed = capsys.readouterr().out
    rows = [
        line.split("|")[1].strip() for line in (tmp_path / "there" / "comparison.md").read_text().splitlines() if "|" in line
    ]
    assert [row.partition(" ")[0] for row in rows[2:]] == ["hybrid", "bm25"]
    assert "Not compared" not in printed
    assert "not scored by" not in printed


def test_a_list_of_runs_goes_where_it_is_told(make_run: Make, tmp_path: Path) -> None:
    one, other = make_run("one", seed=1), make_run("other", seed=2)
    assert main([str(one), str(other), "--out", str(tmp_path / "there")]) == 0
    assert (tmp_path / "there" / "comparison.html").is_file()


def test_runs_that_cannot_be_compared_are_told(make_run: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run("sweep/0", sampler="x_y")
    make_run("sweep/1", benchmarks=("help_r", "xquad_r"))
    unscored = make_run("sweep/2", sampler="x_x")
    (unscored / "figures.parquet").unlink()
    figures = Figures.read(tmp_path / "sweep/0")
    write_figures(tmp_path / "sweep/0", [replace(one, value=3.0) if one.measure.name == "queries" else one for one in figures])
    assert main([str(tmp_path / "sweep")]) == 0
    for text in (capsys.readouterr().out, (tmp_path / "sweep/comparison.md").read_text()):
        assert "for want of benchmark figures: 2" in text
        assert "xquad_r: not scored by x_y" in text
        assert "help_r: the runs were asked different numbers of questions" in text


@pytest.mark.parametrize("case", ["absent", "empty", "file", "nothing to show", "out of one run"])
def test_bad_paths_end_in_one_line_and_code_2(
    make_run: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    arguments = [str(tmp_path / "it")]
    if case == "empty":
        (tmp_path / "it").mkdir()
    elif case == "file":
        (tmp_path / "it").write_text("")
    elif case == "nothing to show":
        (tmp_path / "it").mkdir()
        (tmp_path / "it" / "metrics.json").write_text("{}")
    elif case == "out of one run":
        make_run("it")
        arguments += ["--out", str(tmp_path / "there")]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1


def sweep_config(path: Path) -> object:
    return OmegaConf.create({"hydra": {"sweep": {"dir": str(path)}}})


def test_a_sweep_is_compared_at_its_end(make_run: Make, tmp_path: Path) -> None:
    make_run("sweep/0", sampler="x_y")
    CompareSweep().on_multirun_end(sweep_config(tmp_path / "sweep"))  # type: ignore[arg-type]
    assert not (tmp_path / "sweep" / "comparison.md").exists()
    make_run("sweep/1", sampler="hybrid")
    CompareSweep().on_multirun_end(sweep_config(tmp_path / "sweep"))  # type: ignore[arg-type]
    assert (tmp_path / "sweep" / "comparison.md").exists()


def test_a_comparison_that_fails_is_told_in_one_line(
    make_run: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run("sweep/0", sampler="x_y")
    make_run("sweep/1", sampler="hybrid")
    (tmp_path / "sweep" / "1" / "metrics.json").write_text("{")
    CompareSweep().on_multirun_end(sweep_config(tmp_path / "sweep"))  # type: ignore[arg-type]
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "metrics.json" in error


def test_reporting_never_loads_torch_or_lightning(make_run: Make, tmp_path: Path) -> None:
    run = make_run("run")
    code = (
        "import sys; from hybrid_retrieval.report import main; main(sys.argv[1:]);"
        "import hybrid_retrieval.reporting.sweep, hybrid_retrieval.reporting.comparison_figures;"
        "print([name for name in ('torch', 'lightning', 'transformers') if name in sys.modules])"
    )
    done = python("-c", code, str(run), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_callback_loads_nothing_heavy(tmp_path: Path) -> None:
    heavy = ("numpy", "altair", "pyarrow", "jinja2", "rich")
    code = f"import sys, hybrid_retrieval.reporting.sweep; print([name for name in {heavy} if name in sys.modules])"
    assert python("-c", code, cwd=tmp_path).stdout.strip() == "[]"


def test_a_machine_puts_the_library_of_charts_together_once(
    make_run: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, asked, pages = make_run("run"), [], []
    monkeypatch.setattr(vl_convert, "javascript_bundle", lambda snippet: asked.append(snippet) or "// charts")
    (tmp_path / "a file").write_text("")
    for number, folder in enumerate(("new", "new", "a file/below"), 1):
        monkeypatch.setenv("HYBRID_RETRIEVAL_CACHE", str(tmp_path / folder))
        page._vega.cache_clear()
        report_run(run)
        pages.append((run / "report.html").read_bytes())
        assert len(asked) == (1 if number < 3 else 2), "kept; where nothing can be kept, made again"
    assert len(set(pages)) == 1


def test_help_is_quick_and_names_the_arguments(tmp_path: Path) -> None:
    start = time.perf_counter()
    done = python("-m", "hybrid_retrieval.report", "--help", cwd=tmp_path)
    assert time.perf_counter() - start < 3
    assert done.returncode == 0
    assert re.search(r"PATH.*--out|--out.*PATH", done.stdout, re.DOTALL)


@pytest.mark.slow
def test_hydra_calls_the_comparison(make_run: Make, tmp_path: Path) -> None:
    """A sweep of a small Hydra application whose jobs are written by hand."""
    made = [make_run("made/0", sampler="x_y"), make_run("made/1", sampler="hybrid")]
    (tmp_path / "config.yaml").write_text(
        "job: 0\nhydra:\n  callbacks:\n    compare:\n      _target_: hybrid_retrieval.reporting.sweep.CompareSweep\n"
    )
    (tmp_path / "application.py").write_text(
        "import shutil, hydra\n"
        "from hydra.core.hydra_config import HydraConfig\n"
        "@hydra.main(version_base='1.3', config_path='.', config_name='config')\n"
        "def main(config):\n"
        f"    source = {[str(path) for path in made]}[config.job]\n"
        "    shutil.copytree(source, HydraConfig.get().runtime.output_dir, dirs_exist_ok=True)\n"
        "main()\n"
    )
    done = python("application.py", "-m", "job=0,1", "hydra.sweep.dir=sweep", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "hybrid" in (tmp_path / "sweep" / "comparison.md").read_text()
    assert "wrote sweep/comparison.html" in done.stdout


def test_values_per_query_that_are_gone_are_one_line(make_run: Make, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run("run")
    names = ["benchmark", "setting", "query_language", "corpus_language", "query_id", "cluster"]
    pq.write_table(pa.table({name: pa.array([], pa.string()) for name in names}), run / "per_query.parquet")
    assert main([str(run)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == f"error: {run}/per_query.parquet is empty; expected the values of each query: evaluate the run again\n"
