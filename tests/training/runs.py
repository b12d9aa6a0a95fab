"""Small runs of training, ended on purpose, gone on with and compared: in this process, and as commands."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from lightning.pytorch.callbacks import Checkpoint

from hybrid_retrieval.config import JobConfig
from hybrid_retrieval.models.checkpoint import read_checkpoint
from hybrid_retrieval.training import fit
from tests.conftest import RUN_DIR, command_environment

Compose = Callable[..., JobConfig]

STATIC = ["model=static", "model.vocabulary=800"]
DROPOUT = ["model=tiny", "model.hidden=16", "model.layers=1", "model.vocabulary=800", "model.dropout=0.2", "optimizer.lr=0.01"]
STOPS_EARLY = [
    *("trainer.max_steps=200", "trainer.val_check_interval=5", "training.checkpoint_every=5"),
    *("callbacks.early_stopping.patience=2", "training.monitor=val/crosslingual/map"),
    *("optimizer.lr=5e-3", "optimizer.schedule=constant", "optimizer.warmup=0", "optimizer.weight_decay=0"),
]
"""A rate that is kept up: the measure soon falls twice in a row, and the best step is not the first that is validated."""
TO_THE_END = ["trainer.max_steps=64", "trainer.val_check_interval=10", "training.checkpoint_every=7"]


class Killed(BaseException):
    """Nothing handles it: what is on the disk then is what a kill would leave."""


class End(Checkpoint):
    """Ends training in a hook when `step` steps are done; as a checkpoint callback it comes after all others.

    `how`: kill raises `Killed`, terminate sends SIGTERM to this process.
    """

    def __init__(self, hook: str, step: int, how: str) -> None:
        self.step, self.how = step, how
        setattr(self, hook, self._end)

    def _end(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == self.step and not trainer.sanity_checking:
            if self.how == "kill":
                raise Killed
            os.kill(os.getpid(), signal.SIGTERM)


def ending(job: JobConfig, hook: str, step: int, how: str = "kill") -> JobConfig:
    """`job` with an `End` from its config."""
    node = {"_target_": "tests.training.runs.End", "hook": hook, "step": step, "how": how}
    return replace(job, callbacks={**job.callbacks, "end": node})


def placed(job: JobConfig, run_dir: Path) -> JobConfig:
    """`job` as it is composed for this run directory."""
    nodes = {
        name: json.loads(json.dumps(getattr(job, name)).replace(RUN_DIR, str(run_dir))) for name in ("callbacks", "logger")
    }
    return replace(job, **nodes)


def train(job: JobConfig, run_dir: Path) -> dict[str, float]:
    """Train from the last checkpoint in `run_dir`, where there is one; the loggers of the config say what they are told."""
    from lightning.pytorch.loggers import Logger

    job = placed(job, run_dir)
    last = run_dir / "checkpoints" / "last.ckpt"
    loggers = [fit.instantiated(node, f"logger.{name}", Logger) for name, node in job.logger.items()]
    try:
        prepared = fit.prepare(job)
        chosen = fit.callbacks(job, run_dir, prepared.data)
        return fit.fit(job, run_dir, prepared, last if last.exists() else None, chosen, loggers)
    finally:
        for logger in loggers:
            logger.finalize("success")


def checkpoint(run_dir: Path, which: str = "last") -> dict[str, Any]:
    return read_checkpoint(run_dir / "checkpoints" / f"{which}.ckpt")


def weights(run_dir: Path, which: str = "last") -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = checkpoint(run_dir, which)["state_dict"]
    return state


def decided(content: dict[str, Any]) -> dict[str, Any]:
    """What the stock callbacks decided: the best figure, and the validations without a better one."""
    kept = {}
    for name, state in content["callbacks"].items():
        if name.startswith(("EarlyStopping", "ModelCheckpoint")):
            wanted = ("best_score", "best_model_score", "wait_count", "stopped_epoch")
            kept[name.partition("{")[0]] = {key: value for key, value in state.items() if key in wanted}
    return kept


def curve(run_dir: Path, name: str) -> dict[int, float]:
    """A logged figure by step, over all processes of a run."""
    found: dict[int, float] = {}
    for row in logged(run_dir):
        if row.get(name):
            assert int(row["step"]) not in found or found[int(row["step"])] == float(row[name])
            found[int(row["step"])] = float(row[name])
    return found


def logged(run_dir: Path) -> list[dict[str, str]]:
    """The rows that CSVLogger wrote, one version a process of the run."""
    rows: list[dict[str, str]] = []
    for path in sorted(run_dir.glob("csv/version_*/metrics.csv"), key=lambda path: int(path.parent.name.partition("_")[2])):
        with path.open(newline="") as file:
            rows += csv.DictReader(file)
    return rows


OF_THE_PROCESS = ("per_second", "memory_gib", "train/seconds", "train/start_step")


def curves(run_dir: Path) -> dict[tuple[int, str], str]:
    """What was logged of each step, but for when and how fast; a step that was taken again is logged again, to the digit."""
    found: dict[tuple[int, str], str] = {}
    for row in logged(run_dir):
        for name, value in row.items():
            if value and name not in ("step", "epoch") and not name.endswith(OF_THE_PROCESS):
                key = int(row["step"]), name
                assert found.get(key, value) == value, key
                found[key] = value
    return found


def assert_same_training(left: Path, right: Path) -> None:
    """Weights, optimizer, decisions, curves and manifest; all but the time that it took."""
    for which in ("last", "best"):
        one, two = checkpoint(left, which), checkpoint(right, which)
        assert one["global_step"] == two["global_step"]
        assert_equal(decided(one), decided(two))
        for part in ("state_dict", "optimizer_states", "lr_schedulers"):
            assert_equal(one[part], two[part])
    assert curves(left) == curves(right)
    tables = [pq.read_table(run / "batch_manifest.parquet") for run in (left, right)]
    assert tables[0].equals(tables[1])


def assert_same_run(left: Path, right: Path) -> None:
    """The same training, and the same scores."""
    assert_same_training(left, right)
    metrics = [json.loads((run / "metrics.json").read_text()) for run in (left, right)]
    same = {key for key in metrics[0] if not key.startswith("train/")}
    assert same
    assert {key: metrics[0][key] for key in same} == {key: metrics[1][key] for key in same}


def assert_close_weights(left: Path, right: Path, which: str = "last") -> None:
    """Those of runs on different numbers of devices."""
    one, two = weights(left, which), weights(right, which)
    assert one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, atol=2e-4, rtol=1e-3)


def assert_equal(left: Any, right: Any) -> None:
    assert type(left) is type(right)
    if isinstance(left, torch.Tensor):
        assert torch.equal(left, right)
    elif isinstance(left, dict):
        assert left.keys() == right.keys()
        for key in left:
            assert_equal(left[key], right[key])
    elif isinstance(left, (list, tuple)):
        assert len(left) == len(right)
        for one, two in zip(left, right, strict=True):
            assert_equal(one, two)
    else:
        assert left == right


def start(cache: Path, folder: Path, *arguments: str, interrupted: bool = True, **environment: str) -> subprocess.Popen[str]:
    """The command in the background, in a process group of its own; not `interrupted`: SIGINT is ignored, as a shell has it."""
    return subprocess.Popen(
        [sys.executable, "-m", "hybrid_retrieval.run", *arguments],
        cwd=folder,
        env=command_environment(cache, **environment),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL if interrupted else signal.SIG_IGN),
    )


def written(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


def await_write(path: Path, process: subprocess.Popen[str], before: int = 0) -> None:
    """Until the file is written anew; a process that ends before is a failure."""
    deadline = time.monotonic() + 120
    while written(path) == before:
        assert process.poll() is None, f"over before it could be ended: {process.communicate()[1]}"
        assert time.monotonic() < deadline, f"{path.name} is not written"
        time.sleep(0.002)


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and standard error; all that write to it are gone then."""
    try:
        return process.returncode if process.poll() is not None else process.wait(240), process.communicate(timeout=60)[1]
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def environment(run_dir: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run_dir / "environment.json").read_text())
    return found
