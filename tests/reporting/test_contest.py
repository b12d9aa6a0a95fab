"""What is bold in a table, from values per query to the three ways in which it is shown."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from lxml import html

from hybrid_retrieval.compare import main as compare
from hybrid_retrieval.evaluation.figures import Figure, Figures
from hybrid_retrieval.evaluation.measures import SETTINGS, measure
from hybrid_retrieval.report import main as report
from tests.reporting.fake_runs import write_figures

LANGUAGES = ("de", "en")
QUESTIONS = 60
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A run whose values are those of the question, plus its gain in each setting, plus noise; two questions a cluster."""

    def make(name: str, gains: Mapping[str, float], *, sampler: str = "", seed: int = 0, noise: float = 0.03) -> Path:
        rng = np.random.default_rng([*name.encode(), seed])
        ease = np.random.default_rng(0).uniform(0.3, 0.6, QUESTIONS)
        rows, figures = [], []
        for setting in SETTINGS:
            for asked in LANGUAGES:
                for answered in {"monolingual": [asked], "crosslingual": {*LANGUAGES} - {asked}, "multilingual": [None]}[
                    setting
                ]:
                    values = ease + gains[setting] + rng.normal(0, noise, QUESTIONS)
                    about = ("toy", setting, asked, answered)
                    distance = 1000 * (1 - values) if setting == "multilingual" else np.full(QUESTIONS, np.nan)
                    cells = zip(values.tolist(), distance.tolist(), strict=True)
                    rows += [(*about, f"q{n}", f"c{n // 2}", *both) for n, both in enumerate(cells)]
                    figures.append(Figure("toy", setting, measure("map"), asked, answered, float(values.mean())))
                    if answered is None:
                        figures.append(Figure("toy", setting, measure("rank_distance"), asked, None, float(distance.mean())))
            for one in {figure.measure for figure in figures if figure.setting == setting}:
                mean = np.mean([figure.value for figure in figures if (figure.setting, figure.measure) == (setting, one)])
                figures.append(Figure("toy", setting, one, None, None, float(mean)))
        folder = write_figures(tmp_path / name, figures, pairs_per_second=float(1000 + seed))
        names = ("benchmark", "setting", "query_language", "corpus_language", "query_id", "cluster", "map", "rank_distance")
        pq.write_table(
            pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))), folder / "per_query.parquet"
        )
        config = {"seed": seed, "choices": {"sampler": sampler or name.rpartition("/")[2], "model": "static"}}
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        return folder

    return make


def gains(monolingual: float, crosslingual: float = 0.0, multilingual: float = 0.0) -> dict[str, float]:
    return dict(zip(SETTINGS, (monolingual, crosslingual, multilingual), strict=True))


def bold(out: Path) -> dict[str, list[str]]:
    """By column, the rows that are bold: in Markdown, and the same in the page."""
    lines = [line.strip("| ").split(" | ") for line in (out / "comparison.md").read_text().splitlines() if line.startswith("|")]
    header, _, *rows = lines
    found = {name: [row[0] for row in rows if row[at].startswith("**")] for at, name in enumerate(header) if at}
    table, _ = html.document_fromstring((out / "comparison.html").read_text()).find_class("figures")
    shown = [[cell.get("class") == "best" for cell in row.findall("td")] for row in table.findall("tbody/tr")]
    assert shown == [[cell.startswith("**") for cell in row[1:]] for row in rows]
    return found


def reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, list[str]], str]:
    """What is bold, and the line about it, which stands in the terminal, in Markdown and in the page."""
    assert report([str(tmp_path / "sweep")]) == 0
    printed = capsys.readouterr().out
    (line,) = [line for line in printed.splitlines() if "old" in line and ("Bold:" in line or "Nothing is in bold" in line)]
    for name in ("comparison.md", "comparison.html"):
        assert line.replace("<", "&lt;" if name.endswith("html") else "<") in (tmp_path / "sweep" / name).read_text()
    return bold(tmp_path / "sweep"), line


def test_what_the_test_separates_from_the_rest_is_bold(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write("sweep/a", gains(0.1, 0.1))
    write("sweep/b", gains(0.0, 0.1))
    write("sweep/c", gains(0.0, 0.0))
    found, line = reported(tmp_path, capsys)
    assert found == {"Mo. mAP": ["a"], "Cr. mAP": ["a", "b"], "Mul. mAP": [], "Rank distance": [], "Pairs/s": []}
    assert "p < .05 by randomisation over clusters of questions, Holm-corrected over the table" in line


def test_a_difference_that_chance_explains_makes_nothing_bold(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write("sweep/a", gains(0.001))
    write("sweep/b", gains(0.0))
    found, line = reported(tmp_path, capsys)
    assert not any(found.values())
    assert line.startswith("Nothing is in bold: nothing is told apart")


def test_a_page_shows_intervals_and_significance_clusters_below_the_means(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, gain in (("a", 0.2), ("b", 0.0), ("c", 0.0)):
        write(f"sweep/{name}", gains(gain))
    reported(tmp_path, capsys)
    table, _ = html.document_fromstring((tmp_path / "sweep" / "comparison.html").read_text()).find_class("figures")
    for row, cluster in zip(table.findall("tbody/tr"), "122", strict=True):
        (shown,) = row.findall("td")[0].find_class("beside")
        low, high = (float(bound) for bound in shown.text.split(" … "))
        assert low < float(row.findall("td")[0].get("data-value")) < high
        assert shown.find("span").text == cluster


def test_without_values_per_query_nothing_is_bold_and_it_is_said(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write("sweep/a", gains(0.2))
    (write("sweep/b", gains(0.0)) / "per_query.parquet").unlink()
    found, line = reported(tmp_path, capsys)
    assert not any(found.values())
    assert line.startswith("Nothing is in bold, for nothing could be tested: ")
    assert "b/per_query.parquet is not there" in line


def test_nothing_that_is_worse_than_random_vectors_is_bold(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write("sweep/a", gains(0.1, 0.1, 0.1))
    write("sweep/b", gains(0.0, 0.0, 0.0))
    found, _ = reported(tmp_path, capsys)
    assert [found[name] for name in ("Mo. mAP", "Mul. mAP", "Rank distance")] == [["a"], ["a"], ["a"]]
    write("sweep/a/baselines/random", gains(-0.2, -0.2, 0.2))
    write("sweep/a/baselines/bm25", gains(0.3, -0.2, -0.2))
    found, line = reported(tmp_path, capsys)
    assert found == {"Mo. mAP": ["bm25"], "Cr. mAP": ["a"], "Mul. mAP": [], "Rank distance": [], "Pairs/s": []}
    assert "random vectors" in line


def test_nor_is_what_is_worse_than_expected_of_them(write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, gain in (("a", 0.1), ("b", 0.0)):
        folder = write(f"sweep/{name}", gains(0.0, 0.0, gain))
        chance = Figure("toy", "multilingual", measure("rank_distance_chance"), None, None, 400.0)
        write_figures(folder, [*Figures.read(folder), chance])
    found, _ = reported(tmp_path, capsys)
    assert (found["Mul. mAP"], found["Rank distance"]) == (["a"], [])


@pytest.mark.slow
def test_seeds_are_tried_together(write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two systems whose luck with their seeds is larger than their difference, and a third that is far below."""
    for seed, luck in enumerate((-0.1, 0.0, 0.1)):
        for sampler, gain in (("x_y", 0.0), ("hybrid", 0.05), ("english", -1.0)):
            write(f"sweep/{sampler}-{seed}", gains(gain + luck), sampler=sampler, seed=seed)
    found, line = reported(tmp_path, capsys)
    assert found["Mo. mAP"] == ["hybrid: mean (n=3)", "x_y: mean (n=3)"]
    assert "random effects of seeds and clusters of questions" in line


@pytest.mark.parametrize("seed", [0, *(pytest.param(one, marks=pytest.mark.slow) for one in (1, 2))])
def test_bold_is_what_compare_puts_into_its_first_cluster(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    for name in "abc":
        write(f"sweep/{name}", gains(*rng.choice([0.0, 0.01, 0.012, 0.1], 3)), seed=seed)
        folder = tmp_path / "sweep" / name
        table = pq.read_table(folder / "per_query.parquet").drop_columns(["rank_distance"])  # so that both have one family
        pq.write_table(table, folder / "per_query.parquet")
    found, _ = reported(tmp_path, capsys)
    assert compare([*(str(tmp_path / "sweep" / name) for name in "abc"), f"--out={tmp_path / 'out.json'}"]) == 0
    places = json.loads((tmp_path / "out.json").read_text())["ranking"]
    for setting, short in SETTINGS.items():
        mine = {one["system"].partition(" ")[0]: one["cluster"] for one in places if one["setting"] == setting}
        first = sorted(name for name, cluster in mine.items() if cluster == 1)
        assert found[f"{short} mAP"] == (first if max(mine.values()) > 1 else [])
