"""Loggers and callbacks from config alone: W&B's offline file is read back, TensorBoard and MLflow are stood in for."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import wandb
from wandb.proto.wandb_internal_pb2 import Record

from hybrid_retrieval import benchmarking, run
from hybrid_retrieval.config import RESOLVERS
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.training.callbacks import Publish
from tests.command_output import assert_one_line
from tests.conftest import SMALL, Command
from tests.endpoint_server import EndpointServer
from tests.training.runs import STATIC, Compose, curve, logged, placed, train

JOB = [*SMALL, "trainer.max_steps=30", "trainer.val_check_interval=10", "trainer.log_every_n_steps=10"]

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
    exits: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, run_dir: Path) -> OfflineRun:
        """The only run in a run directory, once its end is written: W&B's own process does it, a little later under load."""
        (file,) = (path for path in run_dir.glob("wandb/*/*.wandb") if not path.parent.is_symlink())
        for _ in range(100):
            found = cls._read(file)
            if found.exits:
                return found
            time.sleep(0.1)
        raise AssertionError(f"{file} has no end")

    @classmethod
    def _read(cls, file: Path) -> OfflineRun:
        found = cls(file.parent)
        for record in records(file):
            match record.WhichOneof("record_type"):
                case "run":
                    found.run = found.run or record.run
                    found.config |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
                case "config":
                    found.config |= {item.key: json.loads(item.value_json) for item in record.config.update}
                case "history":
                    found.history.append(values(record.history.item))
                case "summary":
                    found.summary |= values(record.summary.update)
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
    for name in ("train/loss", "val/loss", "val/monolingual/map"):
        assert list(found.curve(name)) == [9, 19, 29]
    results = {name: value for line in found.history for name, value in line.items()}
    for name in ("figures/held_out_map", "figures/training", "figures/batch_composition"):
        assert results[f"{name}|_type"] == "images/separated"
        for picture in results[f"{name}|filenames"]:
            assert (found.folder / "files" / picture).stat().st_size > 0
    table = json.loads((found.folder / "files" / results["results/held_out|path"]).read_text())
    assert table["columns"][:2] == ["Setting", "mAP"]
    assert table["data"][0][:2] == ["Mo.", metrics["held_out/monolingual/map"]]
    batches = json.loads((found.folder / "files" / results["batches|path"]).read_text())
    assert batches["columns"] == ["set", "query_language", "passage_language", "pairs"]
    assert sum(row[3] for row in batches["data"]) == 30 * 16
    assert found.exits == [0]


@pytest.mark.slow
def test_each_job_of_a_sweep_on_two_devices_is_a_run_of_its_own_in_one_group(command: Command, tmp_path: Path) -> None:
    sweep = tmp_path / "my_sweep"
    jobs = ["sampler=hybrid,x_y", f"hydra.sweep.dir={sweep}", "trainer.devices=2", "name=mine"]
    ended = command("run", "-m", *JOB, "logger=[csv,wandb]", *jobs)
    assert ended.returncode == 0, ended.stderr
    runs = [OfflineRun.of(sweep / str(number)) for number in range(2)]
    for number, (found, sampler) in enumerate(zip(runs, ("hybrid", "x_y"), strict=True)):
        check_results(found, sweep / str(number))
        assert found.run.run_group == "my_sweep"
        assert found.run.display_name == "mine"
        assert found.config["choices"]["sampler"] == sampler
        assert found.config["sampler"]["batch_size"] == 16
        assert found.config["trainer"]["max_steps"] == 30
    assert runs[0].run.run_id != runs[1].run.run_id


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


def test_a_run_that_fails_is_closed_as_failed_and_goes_on_as_the_same_one(
    offline: None, job: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(run_dir: Path) -> None:
        small = placed(job("logger=wandb", "trainer.max_steps=2", "resume=auto"), run_dir)
        run.run(small, run_dir, {}, benchmarks_by_name=True)

    with monkeypatch.context() as patched:
        patched.setattr(benchmarking, "score_benchmarks", fail)
        with pytest.raises(ZeroDivisionError):
            start(tmp_path / "bad")
    assert wandb.run is None
    start(tmp_path / "good")
    bad, good = OfflineRun.of(tmp_path / "bad"), OfflineRun.of(tmp_path / "good")
    assert (bad.exits, good.exits) == ([1], [0])
    assert not any(name.startswith("held_out/") for name in bad.summary)
    assert good.summary["held_out/monolingual/map"] > 0


def test_a_logger_that_cannot_start_is_refused_in_one_line(in_process: Command) -> None:
    refused = in_process("run", *JOB, "logger=tensorboard", "hydra.run.dir=run")
    assert_one_line(refused, "logger.tensorboard", "tensorboard")


def test_without_the_service_a_run_goes_on_offline_and_says_how_to_send_it(command: Command, tmp_path: Path) -> None:
    service = {"WANDB_MODE": "online", "WANDB_API_KEY": "x" * 40, "WANDB_BASE_URL": "http://127.0.0.1:9"}
    done = command("run", *SMALL, "logger=wandb", "hydra.run.dir=run", "trainer.max_steps=2", **service)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "cannot be reached" in line]
    assert "logger=wandb: http://127.0.0.1:9 cannot be reached: " in line
    (folder,) = tmp_path.glob(line.partition("wandb sync ")[2].partition(" ")[0].removeprefix(f"{tmp_path}/"))
    assert list(folder.glob("*.wandb"))


def test_a_service_that_says_nothing_is_not_waited_for_and_one_that_refuses_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    node = {"_target_": "lightning.pytorch.loggers.WandbLogger", "offline": False, "save_dir": "run", "id": "7"}
    monkeypatch.setattr(run, "REACHED_SECONDS", 0.2)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("WANDB_MODE", "online")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert run.reached("wandb", node) == {**node, "offline": True}
        monkeypatch.setenv("WANDB_MODE", "offline")
        assert run.reached("wandb", node) == node
    server = EndpointServer()  # it answers 501 to a HEAD
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    assert run.reached("wandb", node) == node
    server.close()


def test_where_a_logger_cannot_start_the_same_command_may_be_given_again(
    offline: None, job: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = placed(job("logger=csv", "trainer.max_steps=2"), tmp_path / "run")
    with monkeypatch.context() as patched:
        patched.setattr("lightning.pytorch.loggers.CSVLogger.log_hyperparams", fail)
        with pytest.raises(InputError, match="logger=csv cannot start"):
            run.run(small, tmp_path / "run", {}, benchmarks_by_name=True)
    run.run(small, tmp_path / "run", {}, benchmarks_by_name=True)
    assert (tmp_path / "run" / "metrics.json").exists()


def test_credentials_are_found_in_the_environment_and_in_netrc(
    offline: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offline_by_default = RESOLVERS["wandb_offline"]
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert offline_by_default()
    (tmp_path / "netrc").write_text("machine other.example.org login user password secret\n")
    assert offline_by_default()
    (tmp_path / "netrc").write_text("machine wandb.example.org login user password secret\n")
    assert not offline_by_default()
    (tmp_path / "netrc").unlink()
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    assert not offline_by_default()


@pytest.fixture(scope="module")
def finished(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run without W&B."""
    from tests.training.runs import finish, start

    folder = tmp_path_factory.mktemp("finished")
    code, errors = finish(start(cache, folder, *SMALL, "callbacks=[best,progress,learning_rate]", "hydra.run.dir=run"))
    assert code == 0, errors
    return folder / "run"


class StandIn:
    """A logger's experiment: which of its methods were called, with what."""

    def __init__(self, *methods: str) -> None:
        self.calls: list[tuple[Any, ...]] = []
        for method in methods:
            setattr(self, method, lambda *given, method=method, **named: self.calls.append((method, *given)))

    def of(self, method: str) -> list[tuple[Any, ...]]:
        return [given for name, *given in self.calls if name == method]  # type: ignore[misc]


def test_results_go_to_tensorboard_and_mlflow_as_each_takes_them(finished: Path) -> None:
    board, flow, told = StandIn("add_image", "add_text"), StandIn("log_artifact", "log_text"), []
    loggers: list[Any] = [
        SimpleNamespace(experiment=board, log_metrics=told.append),
        SimpleNamespace(experiment=flow, run_id="7", log_metrics=told.append),
        SimpleNamespace(experiment=None, log_metrics=told.append),
    ]
    publish = Publish(finished)
    publish.on_train_end(SimpleNamespace(is_global_zero=False, loggers=loggers), None)  # type: ignore[arg-type]
    publish.on_train_end(SimpleNamespace(is_global_zero=True, loggers=loggers), None)  # type: ignore[arg-type]
    publish.results(loggers)
    metrics = json.loads((finished / "metrics.json").read_text())
    assert told == [metrics] * 3
    pictures = {name for name, *_ in board.of("add_image")}
    assert pictures == {f"figures/{path.stem}" for path in (finished / "figures").glob("*.png")}
    assert all(picture.ndim == 3 for _, picture in board.of("add_image"))
    texts = dict(board.of("add_text"))
    assert "| Mo. |" in texts["results/held_out"]
    assert texts["batches"].startswith("| set | query_language | passage_language | pairs |")
    files = {Path(path).name for _, path in flow.of("log_artifact")}
    assert files == {path.name for path in (finished / "figures").glob("*.png")}
    assert [name for _, _, name in flow.of("log_text")] == ["batches.md", "results/held_out.md"]


def test_any_callback_of_lightnings_comes_from_config(finished: Path) -> None:
    """Here its learning rate monitor, every step."""
    rates = {name for row in logged(finished) for name, value in row.items() if value and name.startswith("lr-")}
    (name,) = rates
    assert len(curve(finished, name)) == 12


def test_csv_holds_the_config_and_each_process_of_a_run_writes_a_version(job: Compose, tmp_path: Path) -> None:
    for _ in range(2):
        train(job(*STATIC), tmp_path)
    assert len(list(tmp_path.glob("csv/version_*"))) >= 1
    assert len(curve(tmp_path, "train/loss")) == 12


@pytest.mark.parametrize("mode", ["fast", "overfit", "profile"])
def test_the_ways_to_look_for_faults_run_to_their_end(in_process: Command, tmp_path: Path, mode: str) -> None:
    taken = [one for one in SMALL if not one.startswith(("trainer.max_steps", "trainer.val_check", "trainer.log_every"))]
    done = in_process("run", *taken, f"debug={mode}", "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    run_dir = tmp_path / "run"
    metrics = json.loads((run_dir / "metrics.json").read_text())
    assert metrics["train/steps"] == {"fast": 1, "overfit": 100, "profile": 50}[mode]
    assert metrics["held_out/monolingual/map"] > 0
    assert {path.name for path in run_dir.rglob("*.ckpt")} == {"last.ckpt"}
    if mode == "overfit":
        losses = curve(run_dir, "train/loss")
        assert losses[99] < 0.2 * losses[0]
    if mode == "profile":
        assert "[Strategy]SingleDeviceStrategy.training_step" in (run_dir / "run.log").read_text() + done.stderr + done.stdout
