"""``hybrid-retrieval attack``: runs attacked, what transfers between them, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from hybrid_retrieval.attack import main
from tests.conftest import SMALL, Command

BENCHMARK = ["held_out", "--override", "dataset=synthetic", "dataset.items=300", "dataset.concepts=200"]
LETTERS = ["--candidates", "swap,drop,keyboard"]


@pytest.fixture
def runs(command: Command, tmp_path: Path) -> list[Path]:
    """A run, and the same under another name."""
    done = command("run", *SMALL, "hydra.run.dir=first")
    assert done.returncode == 0, done.stderr
    shutil.copytree(tmp_path / "first", tmp_path / "second")
    return [tmp_path / "first", tmp_path / "second"]


@pytest.fixture(autouse=True)
def environment(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYBRID_RETRIEVAL_CACHE", str(cache))
    monkeypatch.delenv("HYBRID_RETRIEVAL_DATA", raising=False)


def started(models: Sequence[Path], out: Path, *options: str) -> None:
    assert main([BENCHMARK[0], *map(str, models), "--out", str(out), *BENCHMARK[1:], *options]) == 0


def test_two_runs_are_attacked_and_each_answers_the_others_queries(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--queries", "8", "--variants", "12", "--words", "2", "--replicates", "100", *LETTERS, "--corpus-language", "s1")
    started(runs, tmp_path / "out", *options)
    printed = capsys.readouterr()
    for text in (
        "held_out · attacked by its own scores",
        "Mo. by language, 2 words",
        "held_out · transfer, 2 words",
        "(random)",
    ):
        assert text in printed.out
    assert "keyboard knows nothing of s0, s1, " in printed.err
    figures = pq.read_table(tmp_path / "out" / "attack.parquet").to_pylist()
    own, other = (
        {
            tuple(row[key] for key in ("words", "setting", "measure", "query_language", "corpus_language")): row["perturbed"]
            for row in figures
            if (row["attacker"], row["attacked"]) == ("first", attacked)
        }
        for attacked in ("first", "second")
    )
    assert own == other
    assert {(row["attacker"], row["attacked"]) for row in figures} == {
        (attacker, attacked) for attacker in ("first", "second", "(random)") for attacked in ("first", "second")
    }
    assert {row["corpus_language"] for row in figures if row["setting"] == "crosslingual"} == {None, "s1"}
    clean = json.loads((runs[0] / "metrics.json").read_text())
    whole = tmp_path / "whole"
    started(runs[:1], whole, "--variants", "2", "--words", "1", "--settings", "multilingual", *LETTERS)
    row = next(
        row
        for row in pq.read_table(whole / "attack.parquet").to_pylist()
        if (row["attacker"], row["measure"], row["query_language"]) == ("first", "map", None)
    )
    assert row["clean"] == pytest.approx(clean["held_out/multilingual/map"], abs=1e-3)
    assert row["perturbed"] < row["clean"]

    queries = pq.read_table(tmp_path / "out" / "attacked_queries.parquet").to_pylist()
    assert {row["words"] for row in queries} == {0, 1, 2}
    assert all(row["changed"] <= row["words"] and row["scored"] <= 12 for row in queries)
    assert all((row["margin"] is None) == (row["attacker"] == "(random)") for row in queries)
    counts = {(row["query_language"], row["setting"]) for row in queries}
    for language, setting in counts:
        mine = {row["query_id"] for row in queries if (row["query_language"], row["setting"]) == (language, setting)}
        assert len(mine) == 8
    facts = json.loads((tmp_path / "out" / "attack.json").read_text())
    assert (facts["benchmark"], facts["words"], facts["corpus_language"]) == ("held_out", 2, "s1")

    started(runs, tmp_path / "again", *options)
    for name in ("attack.parquet", "attacked_queries.parquet"):
        assert pq.read_table(tmp_path / "again" / name) == pq.read_table(tmp_path / "out" / name)

    started(
        runs[:1], tmp_path / "judged", *options, "--judge", str(runs[1]), "--similarity", "1.0", "--settings", "monolingual"
    )
    rows = pq.read_table(tmp_path / "judged" / "attacked_queries.parquet").to_pylist()
    assert not any(row["changed"] for row in rows if row["attacker"] == "first")


WRONG = {
    ("--candidates", "swop"): "--candidates='swop' is unknown; did you mean 'swap'?",
    ("--candidates", "word_order"): "--candidates='word_order' is unknown; expected one of: casing, code_switching,",
    ("--words", "0"): "--words=0 must be above 0",
    ("--words", "-1"): "--words=-1 must be above 0",
    ("--variants", "0"): "--variants=0 must be above 0",
    ("--queries", "0"): "--queries=0 must be above 0",
    ("--seed", "-1"): "--seed=-1 must be 0 or more",
    ("--replicates", "-1"): "--replicates=-1 is outside 0..1000000",
    ("--similarity", "0.9"): "--similarity=0.9 needs --judge=RUN|MODEL",
    ("--judge", "nowhere", "--similarity", "1.5"): "--similarity=1.5 is outside -1..1",
    ("--settings", "mono"): "--settings='mono' is unknown; expected one of: crosslingual, monolingual, multilingual",
    ("--corpus-language", "s9"): "--corpus-language='s9' is unknown",
    ("--candidates", "synonyms"): "--candidates=synonyms knows no language of held_out (s0, ",
    ("--candidates", "swap", "--judge", "./nowhere/at/all"): "./nowhere/at/all is not there; expected a run directory",
}


@pytest.mark.parametrize("options", WRONG, ids=" ".join)
def test_bad_options_are_one_line(options: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        started([tmp_path / "no" / "run"], tmp_path / "out", *options)
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert f"error: {WRONG[options]}" in said
    assert "Traceback" not in said
    assert not (tmp_path / "out").exists()


def test_what_is_no_run_and_what_is_there_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    for models, out, text in (
        (
            [tmp_path / "empty"],
            "out",
            f"{tmp_path / 'empty'} is neither a run directory (config.yaml, checkpoints) nor a model's",
        ),
        ([tmp_path / "absent"], "out", f"{tmp_path / 'absent'} is not there; expected a run directory"),
        ([tmp_path / "empty"] * 2, "out", f"{tmp_path / 'empty'} is named twice; expected different ones"),
        ([tmp_path / "empty"], "empty", f"--out={tmp_path / 'empty'} is there already"),
    ):
        with pytest.raises(SystemExit) as ended:
            started(models, tmp_path / out, *LETTERS)
        assert ended.value.code == 2
        assert f"error: {text}" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["xquad_q", "run", "--out", str(tmp_path / "out")])
    assert "did you mean 'xquad_r'?" in capsys.readouterr().err
