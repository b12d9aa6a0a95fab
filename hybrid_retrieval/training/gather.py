"""Gathering across ranks: embeddings with gradients, ids without."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def world() -> tuple[int, int]:
    """(rank, number of ranks) of the process group; (0, 1) without one."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


class _Gather(torch.autograd.Function):
    """Concatenates over ranks; the gradient of a rank's rows is the sum of what all ranks' losses say of them."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        ctx.rows = len(values)
        return gather_ids(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous()
        dist.all_reduce(total)
        start = dist.get_rank() * ctx.rows
        return total[start : start + ctx.rows]


def gather(values: Tensor) -> Tensor:
    """[ranks x rows, ...] of equal [rows, ...] on every rank, with gradients.

    Averaging parameter gradients over ranks, as DDP does, then gives the gradient of the mean loss over the global batch.
    """
    return values if world()[1] == 1 else _Gather.apply(values)  # type: ignore[no-untyped-call]


def gather_ids(values: Tensor) -> Tensor:
    """The same without gradients."""
    _, ranks = world()
    if ranks == 1:
        return values
    parts = [torch.empty_like(values) for _ in range(ranks)]
    dist.all_gather(parts, values.contiguous())
    return torch.cat(parts)
