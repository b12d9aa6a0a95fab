"""Score cards: what ours say, what a card may say, and verdicts and exit codes of a replay."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import pytest
import yaml

from hybrid_retrieval import verify
from hybrid_retrieval.config import config_directory
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.evaluation.benchmarks import lareqa, miracl, mldr, mr_tydi, tydiqa
from hybrid_retrieval.evaluation.measures import measure
from hybrid_retrieval.verify import Card, Score, System, card_directory, find_cards
from tests.conftest import Command

Write = Callable[..., Path]
REVISIONS = {
    "xquad_r": [lareqa.RELEASES["xquad_r"].revision],
    "mlqa_r": [lareqa.RELEASES["mlqa_r"].revision],
    "miracl": [miracl.TOPICS_REVISION, miracl.CORPORA_REVISION],
    "mr_tydi": [mr_tydi.TOPICS_REVISION, mr_tydi.CORPORA_REVISION],
    "mldr": [mldr.REVISION],
    "tydiqa": [tydiqa.REVISION],
}
RANDOM = ["retriever=random", "benchmark=held_out", "dataset=synthetic", "dataset.items=300", "evaluation.replicates=0"]
VALUES: dict[str, Any] = {
    "source": "a test",
    "program": "evaluate",
    "data": {"held_out": "synthetic"},
    "tolerance": {"default": 0.5},
    "systems": {"one": {"overrides": RANDOM, "expected": {"baselines/random/held_out/monolingual/map": 0.5}}},
}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a card: `VALUES` with some of them changed."""

    def card(**changed: Any) -> Path:
        path = tmp_path / "tiny.yaml"
        path.write_text(yaml.safe_dump({**VALUES, **changed}, sort_keys=False))
        return path

    return card


CARDS = [Card.read(path) for path in sorted(card_directory().glob("*.yaml"))]


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_every_card_names_measures_and_pinned_revisions(card: Card) -> None:
    for system in card.systems.values():
        for key in system.expected:
            benchmark, _, name = key.split("/")[-3:]
            assert measure(name).better
            assert (config_directory() / "benchmark" / f"{benchmark}.yaml").exists()
    for benchmark, revision in card.data.items():
        assert all(pinned in revision for pinned in REVISIONS.get(benchmark, []))


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_every_command_of_a_card_composes_and_scores_its_benchmarks(card: Card, tmp_path: Path) -> None:
    for system in card.systems.values():
        if system.overrides is None:
            continue
        _, _, *overrides = card.command(system, tmp_path)
        with hydra.initialize_config_dir(str(config_directory()), version_base="1.3"):
            composed = hydra.compose({"run": "config"}.get(card.program, card.program), overrides[:-1])
        baselines = {f"baselines/{name}/" for name in composed.get("retriever", ())}
        for key in system.expected:
            prefix = next((name for name in baselines if key.startswith(name)), "")
            assert key.removeprefix(prefix).split("/")[0] in composed.benchmark
            assert bool(prefix) == (card.program == "evaluate" and not composed.get("model"))


def test_what_the_readme_shows_can_be_replayed_anywhere_and_what_was_published_is_marked() -> None:
    marked = {card.name: {need for system in card.systems.values() for need in [*card.needs, *system.needs]} for card in CARDS}
    assert marked["hybrid_vs_baselines"] == marked["baselines"] == set()
    assert all("unreleased" in marked[f"paper_{model}"] for model in ("xlmr", "labse"))
    assert {name for name, needs in marked.items() if "hub" in needs} >= {
        *("lareqa_mbert", "miracl_baselines", "mr_tydi_baselines", "mldr_baselines", "paper_xlmr", "paper_labse")
    }


@pytest.mark.parametrize(
    ("changed", "parts"),
    [
        ({"sourse": "x"}, ["sourse", "'source'"]),
        ({"program": "runn"}, ["program='runn'", "'run'"]),
        ({"needs": ["hubb"]}, ["needs='hubb'", "'hub'"]),
        ({"tolerance": {"map": 0.1}}, ["tolerance.default"]),
        ({"tolerance": {"default": "much"}}, ["tolerance.default='much'"]),
        ({"tolerance": {"default": float("inf")}}, ["tolerance.default=inf"]),
        ({"data": {"xquad_r": "x"}}, ["data.held_out"]),
        ({"data": "synthetic"}, ["data='synthetic'"]),
        ({"systems": {}}, ["systems"]),
        ({"systems": {"one": {"expected": {}}}}, ["systems.one.expected"]),
        ({"systems": {"one": {"expected": {"held_out/monolingual/map": True}}}}, ["held_out/monolingual/map=True"]),
        ({"systems": {"one": {"expected": {"held_out/map": 0.5}}}}, ["held_out/map", "metrics.json"]),
        ({"systems": {"one": {"expected": {"held_out/monolingul/map": 0.5}}}}, ["held_out/monolingul/map"]),
        ({"systems": {"one": {"overides": []}}}, ["systems.one.overides", "'overrides'"]),
        ({"systems": {"one": {"overrides": "seed=1", "expected": {}}}}, ["systems.one.overrides='seed=1'"]),
    ],
    ids=str,
)
def test_a_faulty_card_is_one_line(write: Write, changed: dict[str, Any], parts: list[str]) -> None:
    path = write(**changed)
    with pytest.raises(InputError) as error:
        Card.read(path)
    assert "\n" not in str(error.value)
    for part in [str(path), *parts]:
        assert part in str(error.value)


def test_a_missing_key_and_what_is_no_yaml_are_named(write: Write, tmp_path: Path) -> None:
    path = write()
    values = {key: value for key, value in VALUES.items() if key != "tolerance"}
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(InputError, match="tolerance is missing"):
        Card.read(path)
    path.write_text("a: [")
    with pytest.raises(InputError, match="cannot be read"):
        Card.read(path)
    with pytest.raises(InputError, match="card='papr_xlmr' is unknown; did you mean 'paper_xlmr'"):
        find_cards(["papr_xlmr"])
    assert [card.name for card in find_cards(["paper_xlmr", str(write())])] == ["paper_xlmr", "tiny"]


def test_the_tolerance_of_a_key_goes_before_that_of_its_measure() -> None:
    tolerance = {"default": 0.1, "map": 0.2, "x/monolingual/map": 0.3}
    card = Card("c", "s", "run", {"x": "1"}, tolerance, {"s": System({})})
    keys = ["x/monolingual/map", "x/multilingual/map/de", "x/multilingual/mrr", "baselines/bm25/x/monolingual/map"]
    assert [card.allowed(key) for key in keys] == [0.3, 0.2, 0.1, 0.2]


def test_a_score_agrees_within_its_tolerance() -> None:
    assert Score("k", 0.5, 0.1, 0.6).agrees
    assert Score("k", 0.5, 0.1, 0.4).agrees
    for found in (0.601, 0.399, None, float("nan")):
        assert not Score("k", 0.5, 0.1, found).agrees


SYSTEMS = {
    "here": {"overrides": [], "expected": {"held_out/monolingual/map": 0.5}},
    "away": {"overrides": [], "needs": ["hub", "gpu"], "expected": {"held_out/monolingual/map": 0.5}},
    "never": {"expected": {"held_out/monolingual/map": 0.5}},
}


@pytest.mark.parametrize(
    ("arguments", "replayed", "verdicts"),
    [
        ([], ["here"], ["agrees", "needs hub, gpu", "no command"]),
        (["--have", "gpu"], ["here"], ["agrees", "needs hub", "no command"]),
        (["--have", "gpu,hub"], ["here", "away"], ["agrees", "differs", "no command"]),
        (["--all"], ["here", "away"], ["agrees", "differs", "no command"]),
        (["--list"], [], ["can be replayed", "needs hub, gpu", "no command"]),
    ],
    ids=str,
)
def test_only_what_the_machine_can_is_replayed(
    write: Write,
    tmp_path: Path,
    arguments: list[str],
    replayed: list[str],
    verdicts: list[str],
) -> None:
    done: list[str] = []

    def replay(card: Card, name: str, folder: Path) -> tuple[dict[str, float], str]:
        done.append(name)
        return {"held_out/monolingual/map": {"here": 0.9, "away": 1.1}[name]}, ""

    code = verify.main([str(write(systems=SYSTEMS)), "--out", str(tmp_path / "out.json"), *arguments], replay)
    assert done == replayed
    assert code == (3 if "differs" in verdicts else 0)
    written = json.loads((tmp_path / "out.json").read_text())
    assert [one["verdict"] for one in written] == verdicts
    assert [one["system"] for one in written] == list(SYSTEMS)


@pytest.mark.slow
def test_a_replay_agrees_or_differs_or_fails(command: Command, write: Write, tmp_path: Path) -> None:
    names = ["monolingual/map", "crosslingual/map/s1-s0", "monolingual/mapp"]
    keys = [f"baselines/random/held_out/{name}" for name in names]
    expected = dict(zip(keys, [0.5, 2.0, 0.0], strict=True))
    systems = {
        "one": {"overrides": RANDOM, "expected": expected},
        "broken": {"overrides": [*RANDOM, "evaluation.replicates=-7"], "expected": expected},
    }
    done = command("verify", str(write(systems=systems)), "--dir", "kept, here", "--out", "out.json")
    assert done.returncode == 3, done.stderr
    assert "2 of 2 systems were replayed; 0 agree" in done.stdout
    one, broken = json.loads((tmp_path / "out.json").read_text())
    metrics = json.loads((tmp_path / "kept, here" / "tiny" / "one" / "metrics.json").read_text())
    assert (one["verdict"], broken["verdict"]) == ("differs", "failed")
    assert [score["agrees"] for score in one["scores"]] == [True, False, False]
    assert [score["found"] for score in one["scores"]] == [metrics[keys[0]], metrics[keys[1]], None]
    assert [score["found"] for score in broken["scores"]] == [None] * 3
    assert "exit code 2: error: evaluation.replicates=-7" in broken["reason"]
    assert broken["reason"] in done.stdout
    shown = [[part.strip() for part in line.split("│")] for line in done.stdout.splitlines()]
    assert [row[-2] for row in shown if len(row) > 2 and row[1] == "tiny/one"] == ["agrees", "differs", "differs"]


def test_the_reason_of_a_failure_is_its_error_line_or_else_its_last(tmp_path: Path) -> None:
    for printed, code, reason in (
        ("first\nerror: the cause\nlast", 2, "exit code 2: error: the cause"),
        ("first\nlast", 1, "exit code 1: last"),
        ("", 143, "exit code 143: it printed nothing"),
        ("fine", 0, ""),
    ):
        program = ["-c", f"import sys; print({printed!r}); sys.exit({code})"]
        assert verify.failure(program, tmp_path / "one.log") == reason
        assert (tmp_path / "one.log").read_text().strip() == printed


@pytest.mark.parametrize("out", ["folder", "file/out.json"])
def test_an_outcome_that_cannot_be_written_is_said_before_the_replays(
    write: Write, capsys: pytest.CaptureFixture[str], tmp_path: Path, out: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("kept")
    done: list[str] = []
    with pytest.raises(SystemExit) as ended:
        verify.main([str(write()), "--out", str(tmp_path / out)], lambda card, name, folder: done.append(name) or ({}, "no"))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: --out={tmp_path / out} cannot be written")
    assert (ended.value.code, done) == (2, [])


def test_an_older_outcome_stays_until_there_is_another(write: Write, tmp_path: Path) -> None:
    old, new = tmp_path / "old.json", tmp_path / "new" / "out.json"
    old.write_text("older")
    seen: list[tuple[str, bool]] = []

    def replay(card: Card, name: str, folder: Path) -> tuple[dict[str, float], str]:
        seen.append((old.read_text(), new.exists()))
        return {}, "no"

    for out in (new, old):
        verify.main([str(write()), "--out", str(out)], replay)
    assert seen == [("older", False), ("older", True)]
    assert json.loads(old.read_text()) == json.loads(new.read_text())


def test_bad_arguments_are_one_line_and_exit_code_2(write: Write, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for arguments, part in (
        (["nothing"], "card='nothing'"),
        ([str(write()), "--have", "gpus"], "--have='gpus'"),
        ([str(write()), "--dir", str(tmp_path)], "is not empty"),
    ):
        with pytest.raises(SystemExit) as ended:
            verify.main(arguments)
        said = capsys.readouterr()
        assert (ended.value.code, said.out) == (2, "")
        (line,) = said.err.splitlines()
        assert line.startswith("error: ")
        assert part in line
