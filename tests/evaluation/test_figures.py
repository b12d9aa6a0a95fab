"""Figures as objects, as metrics.json and as a table: the same in all three."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.evaluation.figures import Figure, Figures
from hybrid_retrieval.evaluation.measures import measure
from hybrid_retrieval.files import CHECKSUMS

FIGURES = Figures(
    (
        Figure("xquad_r", "monolingual", measure("map"), None, None, 0.5, 0.4, 0.625),
        Figure("xquad_r", "monolingual", measure("map"), "de", "de", 0.25),
        Figure("xquad_r", "crosslingual", measure("recall@10"), "de", "pt_br", 0.75, 0.5, 1.0),
        Figure("xquad_r", "multilingual", measure("rank_distance"), None, None, 1169.5),
        Figure("help_r", "multilingual", measure("share@10"), None, "de", 0.125),
    )
)


def test_keys_are_those_of_metrics_json() -> None:
    assert FIGURES.metrics() == {
        "xquad_r/monolingual/map": 0.5,
        "xquad_r/monolingual/map.low": 0.4,
        "xquad_r/monolingual/map.high": 0.625,
        "xquad_r/monolingual/map/de": 0.25,
        "xquad_r/crosslingual/recall@10/de-pt_br": 0.75,
        "xquad_r/crosslingual/recall@10/de-pt_br.low": 0.5,
        "xquad_r/crosslingual/recall@10/de-pt_br.high": 1.0,
        "xquad_r/multilingual/rank_distance": 1169.5,
        "help_r/multilingual/share@10/de": 0.125,
    }


def test_figures_are_found_by_what_they_are() -> None:
    assert FIGURES.benchmarks == ("help_r", "xquad_r")
    assert FIGURES.value("xquad_r", "monolingual", "map") == 0.5
    assert FIGURES.get("xquad_r", "monolingual", "map").margin == pytest.approx(0.1125)
    assert FIGURES.get("xquad_r", "monolingual", "map", "de").margin is None
    assert FIGURES.value("xquad_r", "multilingual", "map") is None
    assert {name: one.value for name, one in FIGURES.by_languages("xquad_r", "monolingual", "map").items()} == {"de": 0.25}
    assert [one.name for one in FIGURES.measures("xquad_r")] == ["map", "recall@10", "rank_distance"]


def test_the_file_gives_the_figures_back(tmp_path: Path) -> None:
    FIGURES.write(tmp_path)
    assert Figures.read(tmp_path) == FIGURES
    names = ["benchmark", "setting", "measure", "query_language", "corpus_language", "value", "low", "high", "seen"]
    assert pq.read_table(tmp_path / "figures.parquet").column_names == names
    assert len(Figures.read(tmp_path / "elsewhere")) == 0
    (tmp_path / "figures.parquet").write_text("no parquet")
    with pytest.raises(InputError, match=r"figures\.parquet is not the file that was written"):
        Figures.read(tmp_path)
    (tmp_path / CHECKSUMS).unlink()
    with pytest.raises(InputError, match=r"figures\.parquet holds no figures"):
        Figures.read(tmp_path)
    FIGURES.write(tmp_path)
    (tmp_path / CHECKSUMS).unlink()
    table = pq.read_table(tmp_path / "figures.parquet").drop_columns(["seen"])
    pq.write_table(table, tmp_path / "figures.parquet")
    assert {figure.seen for figure in Figures.read(tmp_path)} == {None}
    pq.write_table(table.drop_columns(["low"]), tmp_path / "figures.parquet")
    with pytest.raises(InputError, match="low"):
        Figures.read(tmp_path)
