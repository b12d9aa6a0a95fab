"""The comparison of finished runs, from the command line to its JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from hybrid_retrieval.compare import main
from hybrid_retrieval.evaluation.degradation import Degradation, write_changes
from hybrid_retrieval.evaluation.degradation import write as write_lost
from hybrid_retrieval.evaluation.measures import measure
from hybrid_retrieval.evaluation.statistics.significance import holm

LANGUAGES = ("de", "en", "pt_br")
Write = Callable[..., Path]


@pytest.fixture
def write_run(tmp_path: Path) -> Write:
    """A run directory; its values are those of the question plus `gain` plus noise of the run."""

    def write(
        name: str,
        gain: float = 0.0,
        *,
        seed: int = 0,
        config: dict[str, Any] | None = None,
        questions: Sequence[str] = tuple(f"q{number}" for number in range(60)),
        benchmark: str = "toy",
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir(parents=True)
        noise = np.random.default_rng([*name.encode(), seed])
        ease = {id_: np.random.default_rng(list(id_.encode())).normal(0.5, 0.2) for id_ in questions}
        rows = []
        for asked in LANGUAGES:
            for answered in (*LANGUAGES, None):
                setting = "multilingual" if answered is None else "monolingual" if asked == answered else "crosslingual"
                for id_ in questions:
                    value = ease[id_] + gain + noise.normal(0, 0.05)
                    distance = 100 - 100 * value if answered is None else None
                    rows.append((benchmark, setting, asked, answered, id_, value, 1.0 if value > 0.5 else 0.0, distance))
        names = ("benchmark", "setting", "query_language", "corpus_language", "query_id", "map", "recall@1", "rank_distance")
        columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
        pq.write_table(pa.table(columns), folder / "per_query.parquet")
        (folder / "metrics.json").write_text("{}")
        if config is not None:
            (folder / "config.yaml").write_text(yaml.safe_dump(config))
        return folder

    return write


def config_of(sampler: str, seed: int) -> dict[str, Any]:
    return {"seed": seed, "choices": {"sampler": sampler, "model": "static"}}


def compared(tmp_path: Path, *arguments: object) -> dict[str, Any]:
    """The JSON of a comparison that succeeds."""
    out = tmp_path / "out.json"
    assert main([*map(str, arguments), "--out", str(out), "--replicates", "500"]) == 0
    content: dict[str, Any] = json.loads(out.read_text())
    return content


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line of a comparison that is refused."""
    assert main([*map(str, arguments)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    return said.err


def test_two_runs(write_run: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = write_run("a"), write_run("b", 0.1)
    content = compared(tmp_path, a, b)
    rows = {row["setting"]: row for row in content["differences"]}
    assert list(rows) == ["monolingual", "crosslingual", "multilingual"]
    tables = [pq.read_table(path / "per_query.parquet").to_pandas() for path in (a, b)]
    for setting, row in rows.items():
        means = [
            table[table.setting == setting].groupby(["query_language", "corpus_language"], dropna=False)["map"].mean().mean()
            for table in tables
        ]
        assert (row["baseline_mean"], row["system_mean"]) == pytest.approx(means)
        assert row["difference"] == pytest.approx(means[1] - means[0])
        assert row["low"] < row["difference"] < row["high"]
        assert row["low"] > 0.05
        assert row["p"] == pytest.approx(1 / 501)
        assert row["corrected"] == pytest.approx(3 / 501)
        assert (row["baseline"], row["system"], row["questions"], row["measure"]) == ("a", "b", 60, "map")
    shown = capsys.readouterr().out
    for text in ("toy: b minus a", "Mo.", "Cr.", "Mul.", "**", "+0.10", "randomisation over clusters of questions"):
        assert text in shown
    assert content["ranking"] == []


def test_equal_runs_differ_in_nothing(write_run: Write, tmp_path: Path) -> None:
    a, b = write_run("a"), write_run("b")
    pq.write_table(pq.read_table(a / "per_query.parquet"), b / "per_query.parquet")
    for row in compared(tmp_path, a, b)["differences"]:
        assert (row["difference"], row["low"], row["high"], row["p"]) == (0, 0, 0, 1)


def test_seeds_are_crossed_with_questions(write_run: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Runs that go up and down by 0.1 with their seed: a difference of 0.1 is significant for one seed, not for three."""
    for sampler, gain in (("x_y", 0.0), ("hybrid", 0.1)):
        for seed, luck in enumerate((-0.1, 0.0, 0.1)):
            write_run(f"sweep/{sampler}-{seed}", gain + luck, seed=seed, config=config_of(sampler, seed))
    sweep = tmp_path / "sweep"
    single = compared(tmp_path, sweep / "x_y-1", sweep / "hybrid-1")["differences"][0]
    content = compared(tmp_path, sweep)
    several = content["differences"][0]
    assert [system["name"] for system in content["systems"]] == ["hybrid", "x_y"]
    assert [system["seeds"] for system in content["systems"]] == [[0, 1, 2], [0, 1, 2]]
    assert single["p"] < 0.01
    assert several["p"] > 0.1
    assert several["low"] < -0.1 < several["high"]
    named = compared(tmp_path, f"new={sweep}/hy*", f"old={sweep / 'x_y-0'},{sweep / 'x_y-1'},{sweep / 'x_y-2'}")
    assert [system["name"] for system in named["systems"]] == ["new", "old"]
    assert named["differences"][0]["p"] == pytest.approx(several["p"])
    capsys.readouterr()
    compared(tmp_path, f"new={sweep}/hy*", sweep / "x_y-1")
    assert "x_y · static: one run; how it varies with its seed is not in the intervals" in capsys.readouterr().out
    compared(tmp_path, f"new={sweep}/hy*", write_run("bm25", config={"choices": {"model": "bm25"}}))
    assert "varies with its seed" not in capsys.readouterr().out


def test_only_questions_that_all_runs_have_are_compared(
    write_run: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"q{number}" for number in range(60)]
    content = compared(tmp_path, write_run("a", questions=names[:40]), write_run("b", questions=names[10:][::-1]))
    assert {row["questions"] for row in content["differences"]} == {30}
    assert "toy/monolingual/map: 90 queries are not in every run and are left out." in content["notes"]
    assert "90 queries" in capsys.readouterr().out


def test_language_matrix_is_corrected_as_one_family(
    write_run: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = compared(tmp_path, write_run("a"), write_run("b", 0.012), "--matrix")
    pairs = content["matrix"]
    assert len(pairs) == 12
    assert [pair["corrected"] for pair in pairs] == pytest.approx(holm([pair["p"] for pair in pairs]))
    assert {pair["corrected"] < 0.05 for pair in pairs} == {True, False}
    shown = capsys.readouterr().out
    assert "pool" in shown
    (row,) = [line for line in shown.splitlines() if line.startswith("│ pt_br")]
    pt = [pair for pair in pairs if pair["query_language"] == "pt_br"]
    assert row.count(".") == len(pt) == 4
    assert row.count("*") == sum((pair["corrected"] < 0.05) + (pair["corrected"] < 0.01) for pair in pt)


def test_three_systems_are_ranked_in_clusters(write_run: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [write_run("a", 0.1), write_run("b"), write_run("c", 0.101)]
    content = compared(tmp_path, *paths, "--measure", "map,rank_distance", "--setting", "multilingual")
    for name in ("map", "rank_distance"):
        ranked = [(place["cluster"], place["system"]) for place in content["ranking"] if place["measure"] == name]
        assert {system for number, system in ranked if number == 1} == {"a", "c"}
        assert ranked[2] == (2, "b")
    assert len(content["differences"]) == 6
    p = [row["p"] for row in content["differences"]]
    assert [row["corrected"] for row in content["differences"]] == pytest.approx(holm(p))
    assert "significance clusters" in capsys.readouterr().out


def test_systems_of_a_challenge_set_are_ranked_in_clusters(write_run: Write, tmp_path: Path) -> None:
    paths = [write_run("a", 0.1), write_run("b"), write_run("c", 0.101)]
    for path in paths:
        table = pq.read_table(path / "per_query.parquet").drop_columns(["recall@1", "rank_distance"])
        names = ["kendall" if name == "map" else name for name in table.column_names]
        pq.write_table(table.rename_columns(names), path / "per_query.parquet")
    ranking = compared(tmp_path, *paths, "--measure", "kendall", "--setting", "crosslingual")["ranking"]
    assert [(place["cluster"], place["measure"]) for place in ranking] == [(1, "kendall"), (1, "kendall"), (2, "kendall")]
    assert ranking[2]["system"] == "b"


def test_measures(write_run: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = write_run("a"), write_run("b")
    rows = compared(tmp_path, a, b, "--measure", "all")["differences"]
    assert [(row["measure"], row["setting"]) for row in rows if row["measure"] == "rank_distance"] == [
        ("rank_distance", "multilingual")
    ]
    assert {row["measure"] for row in rows} == {"map", "recall@1", "rank_distance"}
    capsys.readouterr()
    assert "did you mean 'map'" in refused(capsys, a, b, "--measure", "maps")
    assert "did you mean 'toy'" in refused(capsys, a, b, "--benchmark", "tony")


def test_what_cannot_be_compared_is_said_in_one_line(
    write_run: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, strangers = write_run("a"), write_run("strangers", questions=["x", "y"])
    elsewhere = write_run("elsewhere", benchmark="other")
    assert "no query in common" in refused(capsys, a, strangers)
    assert "no query in common" in refused(capsys, a, elsewhere)
    assert "one system to compare" in refused(capsys, a)
    assert "nowhere is not there" in refused(capsys, a, tmp_path / "nowhere")
    assert "two systems are called a" in refused(capsys, f"a={a}", f"a={strangers}")
    assert "no seed in config.yaml" in refused(capsys, a, f"b={strangers},{elsewhere}")
    twice = [write_run(name, config=config_of("hybrid", 4)) for name in ("one", "two")]
    assert "the same seed=4" in refused(capsys, a, f"b={twice[0]},{twice[1]}")
    assert "--replicates=0" in refused(capsys, a, strangers, "--replicates", 0)
    assert "--seed=-1 is outside" in refused(capsys, a, strangers, "--seed", -1)
    (a / "metrics.json").write_text("[")
    assert "metrics.json cannot be read" in refused(capsys, a, strangers)


def test_damaged_files_are_named(write_run: Write, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = write_run("a"), write_run("b")
    path = b / "per_query.parquet"
    table = pq.read_table(path)
    pq.write_table(pa.concat_tables([table, table.slice(0, 1)]), path)
    assert "is there twice" in refused(capsys, a, b)
    pq.write_table(table.drop_columns(["query_id"]), path)
    assert "query_id" in refused(capsys, a, b)
    path.write_bytes(b"no parquet")
    assert f"{path} cannot be read" in refused(capsys, a, b)
    path.unlink()
    assert f"{path} is not there" in refused(capsys, a, b)


def test_a_benchmark_that_a_run_lacks_is_left_out_with_a_note(write_run: Write, tmp_path: Path) -> None:
    a, b, more = write_run("a"), write_run("b"), write_run("more", benchmark="other")
    tables = [pq.read_table(folder / "per_query.parquet") for folder in (b, more)]
    pq.write_table(pa.concat_tables(tables), b / "per_query.parquet")
    content = compared(tmp_path, a, b)
    assert {row["benchmark"] for row in content["differences"]} == {"toy"}
    assert content["notes"] == ["other: not compared, for it is not scored by every run."]


def test_a_path_with_an_equals_sign_is_a_path(write_run: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["seed=1,sampler=x", "seed=2,sampler=x"]
    for name in names:
        write_run(name)
    monkeypatch.chdir(tmp_path)
    assert [system["runs"] for system in compared(tmp_path, *names)["systems"]] == [[name] for name in names]


def test_it_starts_without_torch(write_run: Write, tmp_path: Path) -> None:
    a, b = write_run("a"), write_run("b")
    code = (
        "import sys; from hybrid_retrieval.compare import main; assert main(sys.argv[1:]) == 0; "
        "assert not {'torch', 'lightning', 'hydra', 'transformers', 'scipy.stats'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(a), str(b)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def gate(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, list[str]]:
    """The exit code and the lines of a gate, its verdict first."""
    capsys.readouterr()
    code = main([*map(str, arguments), "--gate"])
    said = capsys.readouterr()
    assert said.err == ""
    lines = said.out.splitlines()
    return code, lines[next(at for at, line in enumerate(lines) if line.startswith("gate: ")) :]


def worse_in(path: Path, language: str, column: str = "map", by: float = 0.1) -> None:
    """Make a run worse for queries of a language in its own corpus."""
    table = pq.read_table(path / "per_query.parquet").to_pandas()
    mine = (table.query_language == language) & (table.corpus_language == language)
    table.loc[mine, column] -= by
    table.to_parquet(path / "per_query.parquet")


def test_a_gate_names_the_language_that_got_worse(write_run: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, tuned = write_run("base"), write_run("tuned", 0.01)
    code, lines = gate(capsys, f"base={base}", f"tuned={tuned}")
    assert (code, len(lines)) == (0, 1)
    assert lines[0] == "gate: open; tuned is nowhere significantly worse than base (15 tests, Holm-corrected together)"
    worse_in(tuned, "pt_br", by=0.06)
    code, lines = gate(capsys, f"base={base}", f"tuned={tuned}", "--out", tmp_path / "out.json")
    assert code == 3
    assert lines[0].startswith("gate: shut; tuned is significantly worse than base in 1 of 15 tests")
    assert lines[1].startswith("  toy Mo. mAP pt_br: ")
    content = json.loads((tmp_path / "out.json").read_text())["gate"]
    assert [one["query_language"] for one in content["drops"]] == ["pt_br"]
    worse_in(tuned, "pt_br", by=-0.06)
    table = pq.read_table(tuned / "per_query.parquet").to_pandas()
    pair = (table.query_language == "de") & (table.corpus_language == "en")
    table.loc[pair, "map"] -= 0.1
    table.to_parquet(tuned / "per_query.parquet")
    assert gate(capsys, f"base={base}", f"tuned={tuned}")[1][1].startswith("  toy Cr. mAP de-en: ")


def test_a_gate_knows_the_good_end_and_takes_several_measures(write_run: Write, capsys: pytest.CaptureFixture[str]) -> None:
    far, near = write_run("far"), write_run("near", 0.1)
    code, lines = gate(capsys, far, near, "--measure", "map,recall@1,rank_distance")
    assert (code, lines[0].count("(34 tests")) == (0, 1)
    code, lines = gate(capsys, near, far, "--measure", "map,rank_distance")
    assert code == 3
    assert sum("Rank distance" in line for line in lines) == 4
    assert all("(+" in line for line in lines if "Rank distance" in line)
    assert all("(-" in line for line in lines if " mAP" in line)


def test_a_gate_of_equal_models_is_open(write_run: Write, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = write_run("a"), write_run("b")
    pq.write_table(pq.read_table(a / "per_query.parquet"), b / "per_query.parquet")
    code, lines = gate(capsys, a, b)
    assert (code, len(lines)) == (0, 1)
    assert lines[0].startswith("gate: open; b and a are equal on every question")
    assert "same run" not in capsys.readouterr().out
    few = [write_run(name, gain, questions=["x", "y"]) for name, gain in (("good", 0.5), ("bad", 0.0))]
    code, lines = gate(capsys, *few)
    assert code == 0
    assert lines[1] == "gate: 15 of the tests have too few questions for any drop to be significant"


def test_what_a_gate_cannot_decide_is_said_in_one_line(write_run: Write, capsys: pytest.CaptureFixture[str]) -> None:
    a, b, c = write_run("a"), write_run("b"), write_run("c")
    assert "--gate compares two systems, got 3: a, b, c" in refused(capsys, a, b, c, "--gate")
    assert "one system to compare" in refused(capsys, a, "--gate")
    assert "--replicates=100 are too few for the 15 tests of --gate; expected 10000" in refused(
        capsys, a, b, "--gate", "--replicates", 100
    )
    path = b / "per_query.parquet"
    table = pq.read_table(path).to_pandas()
    pd.concat([table, table.assign(benchmark="more")], ignore_index=True).to_parquet(path)
    assert "--gate: more is not scored by every run" in refused(capsys, a, b, "--gate")
    assert gate(capsys, a, b, "--benchmark", "toy")[0] == 0
    of_german = (table.setting == "monolingual") & (table.query_language == "de")
    table[~of_german].to_parquet(path)
    assert "--gate: toy/monolingual/map of de-de is not in every run" in refused(capsys, a, b, "--gate")
    assert gate(capsys, a, b, "--setting", "multilingual")[0] == 0
    table[table.setting != "crosslingual"].to_parquet(path)
    assert "--gate: toy/crosslingual/map of de-en, " in refused(capsys, a, b, "--gate")


def test_the_same_run_twice_is_hinted_at(write_run: Write, capsys: pytest.CaptureFixture[str]) -> None:
    a = write_run("a")
    assert main([str(a), str(a)]) == 0
    assert f"(0: a) and (1: a) are the same run, {a}." in capsys.readouterr().out
    assert main([f"x={a}", f"y={a}"]) == 0
    assert f"x and y are the same run, {a}." in capsys.readouterr().out


def test_what_perturbed_queries_change_is_compared(
    write_run: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = {"a": write_run("a"), "b": write_run("b", gain=0.1), "c": write_run("c")}
    means = {"a": 0.5, "b": 0.6}
    lost = {"a": {"drop@0.1": -0.2, "swap@0.1": -0.3}, "b": {"drop@0.1": -0.2, "swap@0.1": -0.22}}
    expected = {}
    for name, of in lost.items():
        clean = pq.read_table(runs[name] / "per_query.parquet")
        rng = np.random.default_rng(list(name.encode()))
        tables = []
        for condition, mean in of.items():
            change = mean + rng.normal(0, 0.02, len(clean))
            kept = clean.drop_columns(["recall@1", "rank_distance"]).set_column(5, "map", pa.array(change))
            tables.append(kept.append_column("perturbation", pa.array([condition] * len(clean))))
            alone = kept.to_pandas()[lambda rows: rows.setting == "monolingual"]
            expected[name, condition] = 100 * alone.groupby("query_language").map.mean().mean() / means[name]
        write_changes(tables, runs[name])
        whole = ("monolingual", measure("map"), None, None, 180, 1.0, means[name], means[name])
        write_lost([Degradation("toy", of.split("@")[0], 0.1, *whole) for of in lost[name]], runs[name])
    found = compared(tmp_path, runs["a"], runs["b"], "--perturbed", "all", "--setting", "monolingual")["differences"]
    assert [one["perturbed"] for one in found] == ["drop@0.1", "swap@0.1"]
    for one in found:
        assert one["difference"] == pytest.approx(expected["b", one["perturbed"]] - expected["a", one["perturbed"]])
    assert found[0]["corrected"] == pytest.approx(holm([one["p"] for one in found])[0])
    assert found[0]["low"] > 5, "a fifth of .5 is more than a fifth of .6"
    assert found[1]["low"] > 20
    said = capsys.readouterr().out
    assert "toy, perturbed minus clean in percent of the clean mean: b minus a" in said
    assert "Mo. · swap@0.1" in said
    assert compared(tmp_path, runs["a"], runs["b"], "--setting", "monolingual")["differences"][0]["perturbed"] is None
    capsys.readouterr()
    wrong = refused(capsys, runs["a"], runs["b"], "--perturbed", "swop@0.1")
    assert "--perturbed='swop@0.1' is unknown; did you mean 'swap@0.1'?" in wrong
    for name, content in (("a", "1"), ("b", "2")):
        read = {"code_switching": [{"name": "omw_lexicon", "fingerprint": content}]}
        (runs[name] / "environment.json").write_text(json.dumps({"benchmarks": {"toy": {"perturbations": read}}}))
    assert "code_switching of" in refused(capsys, runs["a"], runs["b"], "--perturbed", "all")
    for name, seed in (("a", 0), ("b", 1)):
        (runs[name] / "config.yaml").write_text(yaml.safe_dump({"evaluation": {"perturb_seed": seed}}))
    assert "evaluation.perturb_seed=0, 1" in refused(capsys, runs["a"], runs["b"], "--perturbed", "all")
    assert "expected a run that was evaluated with evaluation.perturb" in refused(
        capsys, runs["a"], runs["c"], "--perturbed", "all"
    )
