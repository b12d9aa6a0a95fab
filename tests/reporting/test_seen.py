"""Languages that an encoder was never trained on, in every table and picture that names languages."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lxml import html

from hybrid_retrieval.compare import main as compare
from hybrid_retrieval.evaluation.figures import Figures
from hybrid_retrieval.evaluation.measures import SETTINGS
from hybrid_retrieval.report import main as report
from tests.reporting.fake_runs import LANGUAGES, write_figures

Make = Callable[..., Path]
SEEN = tuple(language for language in LANGUAGES if language != "zh")


@pytest.fixture
def half(make_run: Make) -> Callable[..., Path]:
    """A run whose encoder never saw Chinese, and whose mean without it is twice the first."""

    def make(name: str, **values: str) -> Path:
        folder = make_run(name, **values)
        figures = list(Figures.read(folder))
        means = [one for one in figures if one.query_language is None and one.measure.name not in ("queries", "left_out")]
        figures += [replace(one, value=2 * one.value, low=one.value, high=3 * one.value, seen=SEEN) for one in means]
        share = replace(figures[0], setting="multilingual", measure=replace(figures[0].measure, stem="centroid_distance"))
        figures += [replace(share, query_language=language, corpus_language=None) for language in LANGUAGES]
        write_figures(folder, figures)
        return folder

    return make


def test_the_report_of_a_run_marks_them_and_shows_the_mean_without_them(half: Make, capsys: pytest.CaptureFixture[str]) -> None:
    run = half("run")
    assert report([str(run)]) == 0
    printed = capsys.readouterr().out
    for setting, short in SETTINGS.items():
        value = Figures.read(run).value("help_r", setting, "map", "seen")
        (line,) = [line for line in printed.splitlines() if line.startswith(f"│ {short} · seen†")]
        assert f"{value:.4f}" in line
    assert (
        "† Never in the training text: zh. seen†: the mean without them, in Mo. and Mul. as query languages (the pool"
        in printed
    )
    document = html.document_fromstring((run / "report.html").read_text())
    headings = [cell.text_content() for cell in document.findall(".//thead//th")]
    assert "zh†" in headings
    assert "de" in headings
    assert "† Never in the training text: zh." in document.text_content()


def test_a_comparison_says_who_never_saw_what(half: Make, make_run: Make, tmp_path: Path) -> None:
    half("sweep/0", sampler="x_y")
    make_run("sweep/1", sampler="hybrid")
    assert report([str(tmp_path / "sweep")]) == 0
    text = (tmp_path / "sweep" / "comparison.md").read_text()
    rows = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("|")]
    assert rows[2:] == ["x_y", "x_y · seen†", "hybrid"]
    assert "† Never in the training text: zh (x_y)." in text


def test_a_comparison_by_questions_leaves_them_out_a_second_time_and_marks_them(
    half: Make, make_run: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A question is worth a ninth more than the one before, and Chinese ones nothing; the other system has 1 more of each."""
    runs = {"one": make_run("one"), "other": half("other")}
    pairs = [(asked, answered) for asked in LANGUAGES for answered in LANGUAGES]
    names = ("benchmark", "setting", "query_language", "corpus_language", "query_id", "map")
    for more, folder in enumerate(runs.values()):
        rows = []
        for asked, answered in pairs:
            about = ("help_r", "monolingual" if asked == answered else "crosslingual", asked, answered)
            rows += [(*about, f"q{n}", ("zh" not in about) * n / 9 + more) for n in range(9)]
        columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
        pq.write_table(pa.table(columns), folder / "per_query.parquet")
    named = [f"{name}={folder}" for name, folder in runs.items()]
    assert compare([*named, "--matrix", "--replicates=50", f"--out={tmp_path / 'out.json'}"]) == 0
    found = {(row["setting"], row["seen"]): row for row in json.loads((tmp_path / "out.json").read_text())["differences"]}
    assert set(found) == {(setting, seen) for setting in ("monolingual", "crosslingual") for seen in (False, True)}
    for (setting, seen), row in found.items():
        mine = [pair for pair in pairs if (pair[0] == pair[1]) == (setting == "monolingual")]
        everything = np.mean([0 if "zh" in pair else 4 / 9 for pair in mine])
        assert row["baseline_mean"] == pytest.approx(4 / 9 if seen else everything)
        assert row["difference"] == pytest.approx(1)
    printed = capsys.readouterr().out
    assert "help_r · mAP: other minus one" in printed
    assert "│ Cr. · seen†" in printed
    assert "zh†" in printed
    assert "de†" not in printed
    assert "† Never in the training text: zh (other)." in printed
