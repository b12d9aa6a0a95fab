"""Loggers and callbacks from config alone: what W&B, TensorBoard and MLflow wrote is read back, and equals the local files."""

from __future__ import annotations

import io
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
import yaml
from lightning_utilities.core.imports import RequirementCache
from PIL import Image
from wandb.proto.wandb_internal_pb2 import Record

from hybrid_retrieval import benchmarking, run
from hybrid_retrieval.config import RESOLVERS
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.reporting import workspace
from hybrid_retrieval.reporting.logged import logged_keys, pairs_drawn, pictures, tables
from hybrid_retrieval.reporting.run_directory import RunDirectory
from hybrid_retrieval.training import loggers
from hybrid_retrieval.training.callbacks import Publish
from hybrid_retrieval.training.mlflow import stored_name
from tests.command_output import assert_one_line
from tests.conftest import SMALL, Command
from tests.endpoint_server import EndpointServer
from tests.forks import Forks
from tests.training.runs import STATIC, Compose, curve, logged, placed, train

JOB = [*SMALL, "trainer.max_steps=30", "trainer.val_check_interval=10", "trainer.log_every_n_steps=10"]

BLOCK = 32768
FILE_HEADER = b":W&B\xe1\xbe\x00"
WHOLE, LAST = 1, 4


def records(file: Path) -> Iterator[Record]:
    """The records of a W&B transaction log, which is a LevelDB log behind a header of its own.

    Blocks of 32 KiB hold fragments: CRC (4 bytes), length (2), kind (1: whole, 2: first, 3: middle, 4: last), data. No
    fragment's header crosses a block's end. W&B's process may still be writing: what is not whole yet is left out.
    """
    content = file.read_bytes()
    assert content.startswith(FILE_HEADER)
    at, parts = len(FILE_HEADER), b""
    while at + 7 <= len(content):
        if BLOCK - at % BLOCK < 7:
            at += BLOCK - at % BLOCK
            continue
        size, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        if at + 7 + size > len(content):
            return
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
    artifacts: list[Any] = field(default_factory=list)
    alerts: list[Any] = field(default_factory=list)

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
                case "artifact":
                    found.artifacts.append(record.artifact)
                case "alert":
                    found.alerts.append(record.alert)
                case "exit":
                    found.exits.append(record.exit.exit_code)
        return found

    def media(self, name: str, part: str) -> Any:
        """Of a table or a picture, where its files are."""
        (value,) = [line[f"{name}|{part}"] for line in self.history if f"{name}|{part}" in line]
        return value

    def curve(self, name: str) -> dict[int, float]:
        return {line["trainer/global_step"]: line[name] for line in self.history if name in line}


def values(items: Any) -> dict[str, Any]:
    """Keys as they were logged; the parts of a table or an image are joined to theirs by a bar."""
    return {"|".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items}


def check_results(found: OfflineRun, run_dir: Path) -> None:
    """A run that went well: it equals the local files."""
    directory = RunDirectory.open(run_dir)
    assert directory.metrics
    assert {name: found.summary[name] for name in directory.metrics} == directory.metrics
    names = {name for row in logged(run_dir) for name, value in row.items() if value} - {"step", *directory.metrics}
    names |= {"train/loss/monolingual", "train/loss/crosslingual", "train/accuracy@1/crosslingual", "val/monolingual/map"}
    for name in names:
        assert found.curve(name) == curve(run_dir, name), name
    wanted = {**tables(directory), "batches": pairs_drawn(run_dir / "batch_manifest.parquet")}
    assert wanted.keys() == {"batches", *(f"{kind}/held_out" for kind in ("results", "languages", "pairs"))}
    for name, grid in wanted.items():
        stored = json.loads((found.folder / "files" / found.media(name, "path")).read_text())
        assert (stored["columns"], stored["data"]) == (grid.columns, json.loads(json.dumps(grid.rows))), name
    assert pictures(directory).keys() > {"figures/held_out_map", "figures/training"}
    for name, path in pictures(directory).items():
        (stored_picture,) = found.media(name, "filenames")
        assert (found.folder / "files" / stored_picture).read_bytes() == path.read_bytes()
    recorded = yaml.safe_load((run_dir / "config.yaml").read_text())
    assert {name: found.config[name] for name in recorded if name != "paths"} == {
        name: value for name, value in recorded.items() if name != "paths"
    }
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


def test_a_logger_that_cannot_start_is_refused_in_one_line(in_process: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    without = (
        "lightning.fabric.loggers.tensorboard._TENSORBOARD_AVAILABLE",
        "lightning.fabric.loggers.tensorboard._TENSORBOARDX_AVAILABLE",
    )
    for name in without:
        monkeypatch.setattr(name, RequirementCache("tensorboard>10000"))
    refused = in_process("run", *JOB, "logger=tensorboard", "hydra.run.dir=run")
    assert_one_line(refused, "logger.tensorboard", "tensorboard")


@pytest.mark.slow
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
    monkeypatch.setattr(loggers, "REACHED_SECONDS", 0.2)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("WANDB_MODE", "online")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert loggers.reached("wandb", node) == {**node, "offline": True}
        monkeypatch.setenv("WANDB_MODE", "offline")
        assert loggers.reached("wandb", node) == node
    server = EndpointServer()  # it answers 501 to a HEAD
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    assert loggers.reached("wandb", node) == node
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


EVERY = ["csv", "wandb", "tensorboard", "mlflow"]


@pytest.fixture(scope="module")
def finished(forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with all loggers and all that they keep, without an account."""
    folder = tmp_path_factory.mktemp("finished")
    asked = [f"logger=[{','.join(EVERY)}]", "logger.wandb.log_model=true", "logger.mlflow.log_model=true"]
    asked += ["callbacks=[best,progress,learning_rate]", "hydra.run.dir=run", "name=mine"]
    done = forks.run("hybrid_retrieval.run", *SMALL, *asked, folder=folder)
    errors = done.stderr
    assert done.returncode == 0, errors
    assert "Replacing" not in errors  # MLflow's names are not the logger's to guess
    assert "Run summary" not in errors  # logger.wandb.settings.quiet
    assert f"the run is logged offline: wandb sync {folder}/run/wandb/offline-run-*-" in errors
    return folder / "run"


def test_an_offline_run_of_wandb_equals_the_local_files(finished: Path) -> None:
    found = OfflineRun.of(finished)
    check_results(found, finished)
    names = {name.partition("|")[0] for line in found.history for name in line}
    assert logged_keys(RunDirectory.open(finished)) <= names  # which is what a dashboard goes by
    assert workspace.STEP in names
    assert found.run.display_name == "mine"
    assert not found.alerts


def test_files_are_kept_with_what_they_were_made_from(finished: Path) -> None:
    found = OfflineRun.of(finished)
    used = {one.type: one for one in found.artifacts if one.use_after_commit}
    made = {one.type: one for one in found.artifacts if not one.use_after_commit and one.type != "run_table"}  # W&B's own
    origin = json.loads((finished / "environment.json").read_text())
    assert json.loads(used["dataset"].metadata) == {key: value for key, value in origin["data"][0].items() if key != "path"}
    assert used["benchmark"].name == "held_out"
    assert "start" not in used  # a static model starts from nothing
    files = {kind: {Path(entry.path).as_posix() for entry in one.manifest.contents} for kind, one in made.items()}
    assert files.keys() == {"checkpoint", "manifest", "model"}
    assert files["checkpoint"] == {"best.ckpt", "last.ckpt"}
    assert files["manifest"] == {"batch_manifest.parquet"}
    assert {"modules.json", "README.md"} < files["model"]
    assert all(one.name.endswith(found.run.run_id) for one in made.values())
    (kept,) = finished.glob("mlruns/*/*/artifacts")
    assert (kept / "manifest" / "batch_manifest.parquet").read_bytes() == (finished / "batch_manifest.parquet").read_bytes()
    assert (kept / "checkpoint" / "best.ckpt").read_bytes() == (finished / "checkpoints" / "best.ckpt").read_bytes()
    assert (kept / "model" / "modules.json").exists()


def test_published_weights_are_what_a_run_is_made_from() -> None:
    facts = {"data": [{"name": "a b", "path": "/here", "version": 1}], "benchmarks": {}}
    model = {"_target_": "x", "name": "intfloat/multilingual-e5-base", "revision": "7", "path": None}
    found = list(loggers.inputs(facts, model))
    assert found == [
        ("dataset", "a b", {"name": "a b", "version": 1}),
        ("start", "multilingual-e5-base", {"name": "intfloat/multilingual-e5-base", "revision": "7"}),
    ]


def test_a_file_store_of_mlflow_equals_the_local_files(finished: Path) -> None:
    metrics = json.loads((finished / "metrics.json").read_text())
    (kept,) = (one for one in finished.glob("mlruns/*/*") if one.is_dir())
    stored = {}
    for path in (kept / "metrics").rglob("*"):
        if path.is_file():
            lines = [line.split() for line in path.read_text().splitlines()]
            stored[path.relative_to(kept / "metrics").as_posix()] = {int(step): float(value) for _, value, step, *_ in lines}
    named = {stored_name(name): name for name in metrics}
    assert len(named) == len(metrics)
    assert {named[name]: values[0] for name, values in stored.items() if name in named and 0 in values} == metrics
    for name in ("train/loss", "train/loss/monolingual", "train/accuracy@1/crosslingual", "val/multilingual/map"):
        assert stored[stored_name(name)] == curve(finished, name)
    assert (kept / "tags" / "mlflow.runName").read_text() == "mine"
    assert (kept / "params" / "sampler" / "batch_size").read_text() == "16"
    run_directory = RunDirectory.open(finished)
    for name, grid in tables(run_directory).items():
        assert (kept / "artifacts" / f"{name}.md").read_text() == grid.markdown()
    for name, path in pictures(run_directory).items():
        assert (kept / "artifacts" / f"{name}.png").read_bytes() == path.read_bytes()


def test_event_files_of_tensorboard_equal_the_local_files(finished: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(finished / "tensorboard" / "version_0"), {"images": 0, "scalars": 0, "tensors": 0})
    events.Reload()
    run_directory = RunDirectory.open(finished)
    for name, value in run_directory.metrics.items():
        assert events.Scalars(name)[-1].value == pytest.approx(value, rel=1e-6), name
    for name in ("train/loss/monolingual", "train/loss/crosslingual", "val/loss"):
        found = {one.step: one.value for one in events.Scalars(name)}
        assert found == pytest.approx(curve(finished, name), rel=1e-6)
    for name, path in pictures(run_directory).items():
        (stored,) = events.Images(name)
        shown, drawn = Image.open(io.BytesIO(stored.encoded_image_string)), Image.open(path)
        assert shown.convert("RGBA").tobytes() == drawn.convert("RGBA").tobytes()
    for name, grid in {**tables(run_directory), "batches": pairs_drawn(finished / "batch_manifest.parquet")}.items():
        (text,) = events.Tensors(f"{name}/text_summary")
        assert text.tensor_proto.string_val[0].decode() == grid.markdown()


def test_every_table_is_told_in_figures(finished: Path) -> None:
    """Each cell by language or pair is the figure of that name."""
    found, metrics = tables(RunDirectory.open(finished)), json.loads((finished / "metrics.json").read_text())
    columns, rows = found["pairs/held_out"]
    assert columns == ["Query language", "Passage language", "mAP", "low", "high"]
    assert len(rows) == 16
    for query, passage, *values in rows:
        key = "held_out/" + (f"monolingual/map/{query}" if query == passage else f"crosslingual/map/{query}-{passage}")
        assert values == [metrics[key], metrics[f"{key}.low"], metrics[f"{key}.high"]]
    columns, rows = found["languages/held_out"]
    for language, *cells in rows:
        row = dict(zip(columns[1:], cells, strict=True))
        assert row["Mo. mAP"] == metrics[f"held_out/monolingual/map/{language}"]
        assert row["Mul. R@10"] == metrics[f"held_out/multilingual/recall@10/{language}"]
        assert row["Rank distance"] == metrics[f"held_out/multilingual/rank_distance/{language}"]


def test_a_rank_that_is_not_the_first_tells_no_logger(tmp_path: Path) -> None:
    Publish(tmp_path).on_train_end(SimpleNamespace(is_global_zero=False, loggers=[object()]), None)  # type: ignore[arg-type]


def test_a_loss_that_is_not_finite_alerts(offline: None, job: Compose, tmp_path: Path) -> None:
    wild = placed(job("logger=wandb", "optimizer.lr=1e30", "optimizer.warmup=0", "loss.temperature=0.001"), tmp_path / "run")
    with pytest.raises(InputError, match="diverged"):
        run.run(wild, tmp_path / "run", {}, benchmarks_by_name=True)
    found = OfflineRun.of(tmp_path / "run")
    (alert,) = found.alerts
    assert (alert.title, alert.level) == ("The loss is not finite", "ERROR")
    assert "training has diverged" in alert.text
    assert found.exits == [2]


def test_log_model_is_true_or_false(in_process: Command) -> None:
    for name in ("wandb", "mlflow"):
        refused = in_process("run", *SMALL, f"logger={name}", f"logger.{name}.log_model=all", "hydra.run.dir=run")
        assert_one_line(refused, f"logger.{name}.log_model='all'", "true or false")


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


@pytest.mark.parametrize("mode", ["fast", *(pytest.param(one, marks=pytest.mark.slow) for one in ("overfit", "profile"))])
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
