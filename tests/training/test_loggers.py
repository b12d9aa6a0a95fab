"""Every job is one W&B run, read back from the offline file: config, curves, results, and how it ended."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import wandb
from wandb.proto.wandb_internal_pb2 import Record

from hybrid_retrieval import benchmarking, run
from hybrid_retrieval.config import JobConfig
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.training.loggers import RunLoggers, exit_code, has_credentials
from tests.conftest import Command

JOB = [
    "dataset=synthetic",
    "dataset.items=300",
    "dataset.concepts=200",
    "benchmark=held_out",
    "model=static",
    "model.vocabulary=800",
    "sampler.batch_size=32",
    "trainer.max_steps=30",
    "trainer.validate_every=10",
    "trainer.log_every=10",
    "trainer.accelerator=cpu",
    "trainer.progress=false",
]

BLOCK = 32768
FILE_HEADER = b":W&B\xe1\xbe\x00"
WHOLE, LAST = 1, 4


def records(file: Path) -> Iterator[Record]:
    """The records of a W&B transaction log, which is a LevelDB log behind a header of its own.

    Blocks of 32 KiB hold fragments: CRC (4 bytes), length (2), kind (1: whole, 2: first, 3: middle, 4: last), data. No
    fragment's header crosses a block's end.
    """
    content = file.read_bytes()
    assert content.startswith(FILE_HEADER)
    at, parts = len(FILE_HEADER), b""
    while at < len(content):
        if BLOCK - at % BLOCK < 7:
            at += BLOCK - at % BLOCK
            continue
        size, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        parts += content[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (WHOLE, LAST):
            yield Record.FromString(parts)
            parts = b""


@dataclass
class OfflineRun:
    """What an offline run's file holds."""

    folder: Path
    run: Any = None
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    exits: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, run_dir: Path) -> OfflineRun:
        """The only run in a run directory."""
        (file,) = run_dir.glob("wandb/*/*.wandb")
        found = cls(file.parent)
        for record in records(file):
            match record.WhichOneof("record_type"):
                case "run":
                    assert found.run is None
                    found.run = record.run
                    found.config = {item.key: json.loads(item.value_json) for item in record.run.config.update}
                case "history":
                    found.history.append(values(record.history.item))
                case "summary":
                    found.summary |= values(record.summary.update)
                case "files":
                    found.files += [one.path for one in record.files.files]
                case "exit":
                    found.exits.append(record.exit.exit_code)
        return found

    def curve(self, name: str) -> dict[int, float]:
        return {line["trainer/global_step"]: line[name] for line in self.history if name in line}


def values(items: Any) -> dict[str, Any]:
    """Keys as they were logged; the parts of a table or an image are joined to theirs by a bar."""
    return {"|".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items}


def check_results(found: OfflineRun, run_dir: Path) -> None:
    """A run that went well: everything that it should hold."""
    metrics = json.loads((run_dir / "metrics.json").read_text())
    assert metrics
    assert {name: found.summary[name] for name in metrics} == metrics

    assert list(found.curve("train/loss")) == [9, 19, 29]
    assert list(found.curve("val/loss")) == [9, 19, 29]
    assert list(found.curve("val/monolingual/map")) == [9, 19, 29]

    results = found.history[-1]
    pictures = {"figures/held_out_map", "figures/training", "figures/batch_composition"}
    for name in pictures:
        assert results[f"{name}|_type"] == "image-file"
        assert (found.folder / "files" / results[f"{name}|path"]).stat().st_size > 0
    table = json.loads((found.folder / "files" / results["results/held_out|path"]).read_text())
    assert table["columns"][:2] == ["Setting", "mAP"]
    assert table["data"][0][:2] == ["Mo.", metrics["held_out/monolingual/map"]]
    batches = json.loads((found.folder / "files" / results["batches|path"]).read_text())
    assert batches["columns"] == ["set", "query_language", "passage_language", "pairs"]
    assert sum(row[3] for row in batches["data"]) == 30 * 32
    assert "batch_manifest.parquet" in found.files
    manifest = found.folder / "files" / "batch_manifest.parquet"
    assert manifest.read_bytes() == (run_dir / "batch_manifest.parquet").read_bytes()
    assert found.exits == [0]


def test_each_job_of_a_sweep_is_a_run_of_its_own_in_one_group(command: Command, tmp_path: Path) -> None:
    sweep = tmp_path / "my_sweep"
    ended = command("run", "-m", *JOB, "logger=[csv,wandb]", "sampler=hybrid,x_y", f"hydra.sweep.dir={sweep}", "name=null")
    assert ended.returncode == 0, ended.stderr
    assert "wandb:" not in ended.stdout + ended.stderr  # its banners and notices
    runs = [OfflineRun.of(sweep / str(number)) for number in range(2)]
    for number, (found, sampler) in enumerate(zip(runs, ("hybrid", "x_y"), strict=True)):
        check_results(found, sweep / str(number))
        assert found.run.run_group == "my_sweep"
        assert found.run.display_name == f"{sampler}-static-seed1"
        assert found.config["choices"]["sampler"] == sampler
        assert found.config["sampler"]["batch_size"] == 32
        assert found.config["trainer"]["max_steps"] == 30
    assert runs[0].run.run_id != runs[1].run.run_id


def test_with_two_devices_rank_0_writes_to_the_run_of_the_main_process(command: Command, tmp_path: Path) -> None:
    ended = command("run", *JOB, "logger=[csv,wandb]", f"hydra.run.dir={tmp_path}/job", "trainer.devices=2", "name=mine")
    assert ended.returncode == 0, ended.stderr
    found = OfflineRun.of(tmp_path / "job")
    check_results(found, tmp_path / "job")
    assert found.run.display_name == "mine"
    assert not found.run.run_group


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No account, whoever runs the tests; W&B's process ends with the test."""
    for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    wandb.teardown()
    yield
    wandb.teardown()


def fail(*_: object) -> None:
    raise ZeroDivisionError("evaluation fails")


def test_a_run_that_fails_is_closed_as_failed_and_the_next_one_is_new(
    offline: None, job: Callable[..., JobConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = job("logger=wandb", "trainer.max_steps=2")
    with monkeypatch.context() as patched:
        patched.setattr(benchmarking, "score_benchmarks", fail)
        with pytest.raises(ZeroDivisionError):
            run.run(small, tmp_path / "bad", {}, benchmarks_by_name=True)
    assert wandb.run is None
    run.run(small, tmp_path / "good", {}, benchmarks_by_name=True)
    bad, good = OfflineRun.of(tmp_path / "bad"), OfflineRun.of(tmp_path / "good")
    assert bad.exits == [1]
    assert bad.curve("train/loss")
    assert not any(name.startswith("held_out/") for name in bad.summary)
    assert good.exits == [0]
    assert good.run.run_id != bad.run.run_id


def test_a_run_that_is_gone_on_with_keeps_its_id(offline: None, job: Callable[..., JobConfig], tmp_path: Path) -> None:
    ids = []
    for _ in range(2):
        loggers = RunLoggers(job("logger=wandb"), tmp_path)
        with loggers.opened({}):
            ids.append(wandb.run and wandb.run.id)
    assert ids[0] == ids[1] is not None


def test_bad_input_and_an_interruption_end_as_the_process_does() -> None:
    codes = [exit_code(error) for error in (InputError("x"), KeyboardInterrupt(), SystemExit(3), SystemExit(), OSError())]
    assert codes == [2, 130, 3, 0, 1]


def test_an_unknown_mode_is_refused(job: Callable[..., JobConfig], tmp_path: Path) -> None:
    config = job("logger=wandb")
    logger = {"wandb": {**config.logger["wandb"], "mode": "onlin"}}
    with pytest.raises(InputError, match=r"logger\.wandb\.mode='onlin'|onlin"):
        RunLoggers(replace(config, logger=logger), tmp_path)


def test_credentials_are_found_in_the_environment_and_in_netrc(
    offline: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = "https://wandb.example.org"
    assert not has_credentials(server)
    (tmp_path / "netrc").write_text("machine other.example.org login user password secret\n")
    assert not has_credentials(server)
    (tmp_path / "netrc").write_text("machine wandb.example.org login user password secret\n")
    assert has_credentials(server)
    (tmp_path / "netrc").unlink()
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    assert has_credentials(server)
