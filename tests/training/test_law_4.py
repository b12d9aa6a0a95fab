"""Law 4: N ranks with B/N pairs give the loss and the gradients of one rank with B (no dropout)."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.multiprocessing.spawn import spawn
from torch.nn.parallel import DistributedDataParallel

from hybrid_retrieval.config import JobConfig
from hybrid_retrieval.training.batches import PairBatch, StepBatches
from hybrid_retrieval.training.contrast import contrastive_loss
from hybrid_retrieval.training.fit import prepare

TINY = ("model=tiny", "model.hidden=16", "model.layers=1", "model.dropout=0", "sampler.batch_size=16")
STEP = 1  # cross-lingual under the sampler below


class Loss(nn.Module):
    """What DDP wraps: the loss of a batch."""

    def __init__(self, job: JobConfig) -> None:
        super().__init__()
        prepared = prepare(job)
        self.encoder, self.loss = prepared.module.encoder, prepared.module.loss
        self.data = prepared.data

    def batch(self, rank: int, ranks: int) -> PairBatch:
        return StepBatches(self.data.builder, self.data.train_composer, 10, rank, ranks)[STEP]

    def forward(self, batch: PairBatch) -> torch.Tensor:
        return contrastive_loss(self.encoder, self.loss, batch)[0]


def one_rank(rank: int, ranks: int, port: int, job: JobConfig, out: Path) -> None:
    """Writes this rank's loss and the synchronised gradients."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=ranks)
    module = Loss(job)
    wrapped = DistributedDataParallel(module)  # it synchronises only as long as it lives
    loss = wrapped(module.batch(rank, ranks))
    loss.backward()
    torch.save((loss.detach(), gradients(module)), out / f"{rank}.pt")
    dist.barrier()
    # Not through destructors: a gloo thread that still drops its work wants the interpreter's lock, which the main thread
    # holds while it joins that thread.
    os._exit(0)


def gradients(module: nn.Module) -> dict[str, torch.Tensor]:
    """Dense copies of the gradients."""
    return {name: value.grad.to_dense().clone() for name, value in module.named_parameters() if value.grad is not None}


@pytest.mark.parametrize(
    "overrides",
    [
        ("model=static",),
        ("model=static", "loss.directions=both", "loss.mask=positive", "sampler=x_x", "dataset.items=60"),
        TINY,
        (*TINY, "loss.directions=both", "loss.learn_temperature=true"),
    ],
    ids=["static", "static both ways", "transformer", "transformer both ways"],
)
def test_two_ranks_equal_one(overrides: tuple[str, ...], job: Callable[..., Any], tmp_path: Path) -> None:
    config = job("sampler=x_y", "sampler.batch_size=16", *overrides)
    module = Loss(config)
    loss = module(module.batch(0, 1))
    loss.backward()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spawn(one_rank, (2, port, config, tmp_path), nprocs=2)
    found = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    torch.testing.assert_close((found[0][0] + found[1][0]) / 2, loss.detach())
    expected = gradients(module)
    assert expected.keys() == found[0][1].keys()
    for name, value in expected.items():
        for rank in range(2):
            torch.testing.assert_close(found[rank][1][name], value, atol=1e-6, rtol=1e-4)
    assert max(float(value.abs().max()) for value in expected.values()) > 1e-4
