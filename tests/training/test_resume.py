"""The cases of `resume`, law 6 (bit-equal weights), and a run on two devices."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from tests.conftest import SMALL, Command, command_environment
from tests.test_commands import assert_one_line

TINY = ["model=tiny", "model.hidden=16", "model.layers=1", "model.vocabulary=800", "model.dropout=0.2"]


def weights(run: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    return state


def assert_same_weights(left: Path, right: Path) -> None:
    first, second = weights(left), weights(right)
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def test_same_seed_same_weights_and_another_seed_others(command: Command, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert command("run", *SMALL, *TINY, f"seed={seed}", f"hydra.run.dir={name}").returncode == 0
    assert_same_weights(tmp_path / "a", tmp_path / "b")
    assert not torch.equal(*(next(iter(weights(tmp_path / name).values())) for name in ("a", "c")))


@pytest.mark.parametrize("model", [["model=static", "model.vocabulary=800"], TINY], ids=["static", "transformer with dropout"])
def test_killed_and_resumed_equals_unkilled_bit_for_bit(
    command: Command, cache: Path, tmp_path: Path, model: list[str]
) -> None:
    settings = [*SMALL, *model, "trainer.max_steps=400", "trainer.validate_every=50", "trainer.checkpoint_every=20"]
    assert command("run", *settings, "hydra.run.dir=whole").returncode == 0
    killed = [*settings, "resume=auto", "hydra.run.dir=killed"]
    process = subprocess.Popen(
        [sys.executable, "-m", "hybrid_retrieval.run", *killed],
        cwd=tmp_path,
        env=command_environment(cache),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    checkpoint = tmp_path / "killed" / "checkpoints" / "last.ckpt"
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(0.3)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed" / "metrics.json").exists(), "the run was over before it could be killed"
    done = command("run", *killed)
    assert done.returncode == 0, done.stderr
    step = json.loads((tmp_path / "killed" / "environment.json").read_text())["start_step"]
    assert 0 < step < 400
    assert_same_weights(tmp_path / "whole", tmp_path / "killed")
    manifests = [pq.read_table(tmp_path / name / "batch_manifest.parquet") for name in ("whole", "killed")]
    assert manifests[0].equals(manifests[1])
    curves = [(tmp_path / name / "metrics.csv").read_text().splitlines() for name in ("whole", "killed")]
    assert len(curves[0]) == len(curves[1])
    metrics = [json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("whole", "killed")]
    same = {key for key in metrics[0] if not key.startswith("train/")}
    assert {key: metrics[0][key] for key in same} == {key: metrics[1][key] for key in same}


@pytest.mark.parametrize(("sent", "code", "word"), [(signal.SIGTERM, 143, "terminated"), (signal.SIGINT, 130, "interrupted")])
def test_a_signal_ends_in_one_line_and_no_success(
    command: Command, cache: Path, tmp_path: Path, sent: signal.Signals, code: int, word: str
) -> None:
    settings = [*SMALL, "model.vocabulary=800", "trainer.max_steps=100000", "trainer.validation_batches=0", "hydra.run.dir=run"]
    process = subprocess.Popen(
        [sys.executable, "-m", "hybrid_retrieval.run", *settings],
        cwd=tmp_path,
        env=command_environment(cache),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs start without it
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "run" / "checkpoints" / "last.ckpt").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(sent)
    try:
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == code, errors
    assert errors.strip().splitlines()[-1].startswith(f"error: {word}")
    assert "Traceback" not in errors
    assert not (tmp_path / "run" / "metrics.json").exists()


def test_every_case_of_resume(command: Command, tmp_path: Path) -> None:
    empty = command("run", *SMALL, "resume=auto", "hydra.run.dir=run")
    assert empty.returncode == 0, empty.stderr
    again = command("run", *SMALL, "hydra.run.dir=run")
    assert_one_line(again, "holds a run already", "resume=auto")
    before = (tmp_path / "run" / "checkpoints" / "last.ckpt").stat().st_mtime_ns
    finished = command("run", *SMALL, "resume=auto", "hydra.run.dir=run")
    assert finished.returncode == 0
    assert "finished already" in finished.stdout
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").stat().st_mtime_ns == before
    (tmp_path / "run" / "config.yaml").rename(tmp_path / "kept.yaml")
    for damage in ("", "{"):
        (tmp_path / "run" / "config.yaml").write_text(damage)
        assert_one_line(command("run", *SMALL, "resume=auto", "hydra.run.dir=run"), "config.yaml is", "damaged")
    (tmp_path / "kept.yaml").rename(tmp_path / "run" / "config.yaml")
    changed = command("run", *SMALL, "resume=auto", "hydra.run.dir=run", "optimizer.lr=0.5", "seed=3")
    assert_one_line(changed, "optimizer.lr, seed")


def test_two_devices_train_on_the_same_batches_to_the_same_loss(command: Command, tmp_path: Path) -> None:
    """Laws 1 and 4 through the command: the batch stream is the same, the weights equal to float tolerance."""
    for name, devices in (("one", 1), ("two", 2)):
        done = command("run", *SMALL, "model.vocabulary=800", f"trainer.devices={devices}", f"hydra.run.dir={name}")
        assert done.returncode == 0, done.stderr
    manifests = [pq.read_table(tmp_path / name / "batch_manifest.parquet") for name in ("one", "two")]
    assert manifests[0].equals(manifests[1])
    assert json.loads((tmp_path / "two" / "environment.json").read_text())["world_size"] == 2
    first, second = weights(tmp_path / "one"), weights(tmp_path / "two")
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], atol=2e-4, rtol=1e-3)
