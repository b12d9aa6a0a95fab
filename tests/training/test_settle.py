"""Law 6 for what is probed: settled once in a run, written to its config, and reused whatever a later probe would say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from hybrid_retrieval import run
from hybrid_retrieval.config import JobConfig, TrainerConfig
from hybrid_retrieval.errors import Terminated
from hybrid_retrieval.models import kernels
from hybrid_retrieval.models.kernels.linear import OneDnnLinear, available
from hybrid_retrieval.run_record import read_config
from hybrid_retrieval.training import checkpoint, settle
from hybrid_retrieval.training.checkpoint import read_checkpoint
from tests.conftest import Command
from tests.training.test_kill import AFTER_BATCH, DROPOUT, ended, terminate

Compose = Callable[..., JobConfig]

needs_onednn = pytest.mark.skipif(not available(), reason="this build of torch has no oneDNN linear")
JOB = [*DROPOUT, "model.hidden=48", "resume=auto"]


def machine_is(monkeypatch: pytest.MonkeyPatch, linear: str, chunk_tokens: int) -> None:
    monkeypatch.setattr(kernels, "preferred", lambda: linear)
    monkeypatch.setattr(settle, "CHUNK_TOKENS", chunk_tokens)


def start(job: JobConfig, run_dir: Path) -> float | None:
    return run.run(job, run_dir, {}, benchmarks_by_name=True)


def weights(run_dir: Path) -> torch.Tensor:
    state = read_checkpoint(run_dir / "checkpoints" / "last.ckpt")["state_dict"]
    return torch.cat([value.flatten() for value in state.values()])


@needs_onednn
def test_a_resumed_run_multiplies_and_chunks_as_it_began(
    job: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_process: Command
) -> None:
    machine_is(monkeypatch, "onednn", 400)
    start(job(*JOB), tmp_path / "whole")
    with ended(monkeypatch, AFTER_BATCH, 6, terminate), pytest.raises(Terminated):
        start(job(*JOB), tmp_path / "resumed")
    settled = read_config(tmp_path / "resumed")["trainer"]
    assert settled["chunk_tokens"] == 400
    machine_is(monkeypatch, "default", 90)
    start(job(*JOB), tmp_path / "resumed")
    assert read_config(tmp_path / "resumed")["trainer"] == settled
    assert torch.equal(weights(tmp_path / "resumed"), weights(tmp_path / "whole"))
    # Each of the two would have been seen in the weights.
    for name, linear, chunk_tokens in (("linear", "default", 400), ("chunk_tokens", "onednn", 90)):
        machine_is(monkeypatch, linear, chunk_tokens)
        start(job(*JOB), tmp_path / name)
        assert not torch.equal(weights(tmp_path / name), weights(tmp_path / "whole")), name

    loaded: list[Any] = []
    original = checkpoint.load_encoder
    monkeypatch.setattr(
        checkpoint, "load_encoder", lambda *given, **named: loaded.append(original(*given, **named)) or loaded[-1]
    )
    for name, expected in (("resumed", True), ("linear", False)):
        done = in_process("evaluate", f"checkpoint={tmp_path / name}", "benchmark=held_out", f"hydra.run.dir=of_{name}")
        assert done.returncode == 0, done.stderr
        assert any(isinstance(part, OneDnnLinear) for part in loaded[-1].modules()) == expected


def test_a_finished_run_says_again_how_well_it_did(job: Compose, tmp_path: Path) -> None:
    """For a sweeper that searches: the best value of the monitor, when the job has run and when it has run before."""
    best = start(job("resume=auto"), tmp_path / "run")
    state = read_checkpoint(tmp_path / "run" / "checkpoints" / "best.ckpt")["callbacks"]["Checkpoints"]
    assert best == state["best_score"] > 0
    assert start(job("resume=auto"), tmp_path / "run") == best
    assert start(job("trainer.validation_batches=0"), tmp_path / "unvalidated") is None


@pytest.mark.parametrize(("gibibytes", "tokens"), [(4, 4096), (23.7, 8192), (39.5, 16384), (139.8, 65536)])
def test_a_gpu_takes_chunks_by_its_memory(monkeypatch: pytest.MonkeyPatch, gibibytes: float, tokens: int) -> None:
    monkeypatch.setattr(settle, "scoring_device", lambda accelerator: torch.device("cuda"))
    card = SimpleNamespace(total_memory=int(gibibytes * 2**30))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: card)
    assert settle.settled(TrainerConfig()) == TrainerConfig(chunk_tokens=tokens)
