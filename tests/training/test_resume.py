"""The cases of `resume`, law 6 (bit-equal weights), and a run on two devices."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch

from hybrid_retrieval.files import record_text
from hybrid_retrieval.models.checkpoint import read_checkpoint
from tests.command_output import assert_one_line
from tests.conftest import SMALL, Command
from tests.training.runs import (
    DROPOUT,
    STATIC,
    STOPS_EARLY,
    Compose,
    assert_close_weights,
    assert_equal,
    assert_same_run,
    await_write,
    environment,
    finish,
    start,
    train,
    weights,
    written,
)


def test_same_seed_same_weights_and_another_seed_others(command: Command, job: Compose, tmp_path: Path) -> None:
    """As a command and as a function, in processes with other histories."""
    assert command("run", *SMALL, *DROPOUT, "hydra.run.dir=a").returncode == 0
    train(job(*DROPOUT), tmp_path / "b")
    assert_equal(weights(tmp_path / "a"), weights(tmp_path / "b"))
    train(job(*DROPOUT, "seed=2"), tmp_path / "c")
    words = "encoder.backbone.model.embeddings.word_embeddings.weight"
    assert not torch.equal(*(weights(tmp_path / name)[words] for name in ("a", "c")))


MODELS = [
    pytest.param([*STATIC, *STOPS_EARLY], 3, id="static, early stopping", marks=pytest.mark.slow),
    pytest.param(
        [*DROPOUT, "trainer.max_steps=200", "trainer.val_check_interval=50", "training.checkpoint_every=20"],
        3,
        id="dropout",
        marks=pytest.mark.slow,
    ),
]


@pytest.mark.parametrize(("settings", "kills"), MODELS)
def test_killed_and_resumed_equals_unkilled_bit_for_bit(
    command: Command, cache: Path, tmp_path: Path, settings: list[str], kills: int
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    settings = [*SMALL, *settings]
    done = command("run", *settings, "hydra.run.dir=whole")
    assert done.returncode == 0, done.stderr
    last = killed / "checkpoints" / "last.ckpt"
    moments = random.Random(1)
    for _ in range(kills):
        process = start(cache, tmp_path, *settings, "resume=auto", "hydra.run.dir=killed")
        await_write(last, process, written(last))
        time.sleep(moments.uniform(0, 0.05))
        process.kill()
        assert finish(process)[0] == -signal.SIGKILL
    done = command("run", *settings, "resume=auto", "hydra.run.dir=killed")
    assert done.returncode == 0, done.stderr
    assert environment(killed)["start_step"] > 0
    assert_same_run(whole, killed)


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)])
def test_a_signal_ends_in_one_line_and_no_success(
    command: Command, cache: Path, tmp_path: Path, sent: signal.Signals, code: int
) -> None:
    unvalidated = ["training.validation_batches=0", "training.validation_queries=0"]
    settings = [*SMALL, "trainer.max_steps=100000", *unvalidated]
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    process = start(cache, tmp_path, *settings, "hydra.run.dir=run", "training.checkpoint_every=50000")
    await_write(tmp_path / "run" / "telemetry.jsonl", process)  # steps are taken
    process.send_signal(sent)
    returned, errors = finish(process)
    assert returned == code, errors
    (line,) = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in errors
    assert not (tmp_path / "run" / "metrics.json").exists()
    assert read_checkpoint(last)["global_step"] > 0
    assert line.startswith(f"error: {'terminated' if sent == signal.SIGTERM else 'interrupted'}; ")
    assert f"resume=auto hydra.run.dir={tmp_path / 'run'} goes on" in line


@pytest.mark.slow
def test_sigterm_while_starting_and_while_scoring_ends_in_one_line_too(command: Command, cache: Path, tmp_path: Path) -> None:
    settings = [*SMALL, "training.checkpoint_every=100", "resume=auto", "hydra.run.dir=run"]
    for moment in (tmp_path / "run" / "config.yaml", tmp_path / "run" / "checkpoints" / "last.ckpt"):
        process = start(cache, tmp_path, *settings)
        await_write(moment, process)
        process.terminate()
        returned, errors = finish(process)
        assert returned == 143, errors
        assert errors.strip().splitlines()[-1].startswith("error: terminated; ")
    assert command("run", *settings).returncode == 0
    assert environment(tmp_path / "run")["start_step"] == 12


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("whom", ["main process", "process group"])
def test_a_signal_to_a_run_on_two_devices_leaves_no_process_and_a_run_to_go_on_with(
    command: Command, cache: Path, tmp_path: Path, sent: signal.Signals, whom: str
) -> None:
    settings = [*SMALL, *DROPOUT, "trainer.max_steps=120", "training.checkpoint_every=20", "trainer.devices=2"]
    ended, whole = tmp_path / "ended", tmp_path / "whole"
    last = ended / "checkpoints" / "last.ckpt"
    process = start(cache, tmp_path, *settings, "resume=auto", "hydra.run.dir=ended")
    await_write(last, process)
    if whom == "main process":
        process.send_signal(sent)
    else:
        os.killpg(process.pid, sent)
    try:
        process.wait(60)
        # The ranks hold the standard error that they were started with: it closes when the last of them is gone.
        errors = process.communicate(timeout=20)[1]
        assert not members(process.pid)
    finally:
        finish(process)
    assert process.returncode == {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGKILL: -9}[sent], errors
    assert "Traceback" not in errors
    step = read_checkpoint(last)["global_step"]
    assert 20 <= step < 120
    for run in ("whole", "ended"):
        done = command("run", *settings, "resume=auto", f"hydra.run.dir={run}")
        assert done.returncode == 0, done.stderr
    assert environment(ended)["start_step"] == step
    assert_same_run(whole, ended)


def members(group: int) -> list[int]:
    """The living processes of a process group."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state, _, of_group = (folder / "stat").read_text().rpartition(")")[2].split()[:3]
            if int(of_group) == group and state != "Z":
                found.append(int(folder.name))
    return found


@pytest.mark.slow
def test_a_whole_sweep_is_gone_on_with(command: Command, cache: Path, tmp_path: Path) -> None:
    settings = [*SMALL, *DROPOUT, "trainer.max_steps=100", "training.checkpoint_every=20", "seed=1,2,3"]
    again = ["-m", *settings, "resume=auto", "hydra.sweep.dir=sweep"]
    process = start(cache, tmp_path, *again)
    await_write(tmp_path / "sweep" / "1" / "checkpoints" / "last.ckpt", process)
    process.terminate()
    returned, errors = finish(process)
    assert returned == 143
    assert errors.strip().splitlines()[-1].endswith("with resume=auto hydra.sweep.dir=sweep goes on from the last checkpoint")
    first = (tmp_path / "sweep" / "0" / "checkpoints" / "last.ckpt").stat().st_mtime_ns
    assert not (tmp_path / "sweep" / "2").exists()
    done = command("run", *again)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("finished already") == 1
    assert (tmp_path / "sweep" / "0" / "checkpoints" / "last.ckpt").stat().st_mtime_ns == first
    assert [environment(tmp_path / "sweep" / str(job))["start_step"] > 0 for job in range(3)] == [False, True, False]
    assert (tmp_path / "sweep" / "comparison.md").exists()
    done = command("run", "-m", *settings, "hydra.sweep.dir=whole")
    assert done.returncode == 0, done.stderr
    for job in range(3):
        assert_same_run(tmp_path / "sweep" / str(job), tmp_path / "whole" / str(job))
    refused = command("run", "-m", *settings, "hydra.sweep.dir=sweep")
    assert_one_line(refused, "holds a run already", "resume=auto")


def test_every_case_of_resume(in_process: Command, tmp_path: Path) -> None:
    empty = in_process("run", *SMALL, "resume=auto", "hydra.run.dir=run")
    assert empty.returncode == 0, empty.stderr
    again = in_process("run", *SMALL, "hydra.run.dir=run")
    assert_one_line(again, "holds a run already", "resume=auto")
    before = (tmp_path / "run" / "checkpoints" / "last.ckpt").stat().st_mtime_ns
    finished = in_process("run", *SMALL, "resume=auto", "hydra.run.dir=run")
    assert finished.returncode == 0
    assert "finished already" in finished.stdout
    assert finished.stdout.strip().splitlines()[-1] == f"run directory: {tmp_path / 'run'}"
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").stat().st_mtime_ns == before
    (tmp_path / "run" / "config.yaml").rename(tmp_path / "kept.yaml")
    for damage, said in (("", "is empty"), ("{", "cannot be read")):
        (tmp_path / "run" / "config.yaml").write_text(damage)
        assert_one_line(in_process("run", *SMALL, "resume=auto", "hydra.run.dir=run"), f"config.yaml {said}")
    (tmp_path / "kept.yaml").rename(tmp_path / "run" / "config.yaml")
    changed = in_process("run", *SMALL, "resume=auto", "hydra.run.dir=run", "optimizer.lr=0.5", "seed=3")
    assert_one_line(changed, "optimizer.lr, seed")
    # What its other processes decided is taken over: chunks of a size that this machine would not choose.
    config = tmp_path / "run" / "config.yaml"
    record_text(config, config.read_text().replace("chunk_tokens: 2048", "chunk_tokens: 77"))
    (tmp_path / "run" / "metrics.json").unlink()
    assert in_process("run", *SMALL, "resume=auto", "hydra.run.dir=run").returncode == 0
    assert "chunk_tokens: 77" in config.read_text()


@pytest.mark.slow
def test_a_run_may_go_on_with_another_number_of_devices(command: Command, cache: Path, tmp_path: Path) -> None:
    """Laws 1 and 6: the batch stream is the same, the weights equal to float tolerance."""
    settings = [*SMALL, *STATIC, "trainer.max_steps=60", "training.checkpoint_every=20", "trainer.val_check_interval=20"]
    last = tmp_path / "moved" / "checkpoints" / "last.ckpt"
    process = start(cache, tmp_path, *settings, "resume=auto", "hydra.run.dir=moved")
    await_write(last, process)
    process.terminate()
    assert finish(process)[0] == 143
    assert 20 <= read_checkpoint(last)["global_step"] < 60
    for run, devices in (("whole", 1), ("moved", 2)):
        done = command("run", *settings, f"trainer.devices={devices}", "resume=auto", f"hydra.run.dir={run}")
        assert done.returncode == 0, done.stderr
    assert environment(tmp_path / "moved")["start_step"] >= 20
    assert environment(tmp_path / "moved")["world_size"] == 2
    manifests = [(tmp_path / run / "batch_manifest.parquet").read_bytes() for run in ("whole", "moved")]
    assert manifests[0] == manifests[1]
    assert_close_weights(tmp_path / "whole", tmp_path / "moved")
