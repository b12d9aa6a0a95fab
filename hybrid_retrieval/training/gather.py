"""What ranks tell each other in a step: embeddings, their gradients, and, once, the gradients of the parameters."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor

BUCKET_BYTES = 64 << 20
"""Dense gradients travel in pieces of about this size."""


def world() -> tuple[int, int]:
    """(rank, number of ranks) of the process group; (0, 1) without one."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def gather_rows(mine: Tensor, counts: Sequence[int]) -> Tensor:
    """The rows of all ranks end to end; `counts` says how many each has. Without gradients."""
    if len(counts) == 1:
        return mine
    padded = mine.new_zeros(max(counts), *mine.shape[1:])
    padded[: len(mine)] = mine
    parts = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(parts, padded)
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])


def norm_over_ranks(norms: Tensor) -> Tensor:
    """The L2 norm, a scalar, of what all ranks have `norms` [n] of."""
    square = norms.square().sum()
    dist.all_reduce(square)
    return square.sqrt()


def sum_gradients(parameters: Sequence[Tensor]) -> None:
    """Replace every gradient by its sum over ranks: the one synchronisation of a step.

    A rank without a gradient for a parameter counts as zero; a parameter that no rank has a gradient for keeps none.
    Row-sparse gradients stay row-sparse. Those of sharded parameters are left out: they were summed with the last backward
    pass (see `hybrid_retrieval.training.sharding`).
    """
    parameters = [parameter for parameter in parameters if not isinstance(parameter, DTensor)]
    if world()[1] == 1 or not parameters:
        return
    kinds = torch.tensor([0 if p.grad is None else 2 if p.grad.is_sparse else 1 for p in parameters], dtype=torch.int32)
    kinds = kinds.to(parameters[0].device)
    dist.all_reduce(kinds, dist.ReduceOp.MAX)
    dense: dict[torch.dtype, list[Tensor]] = {}
    for parameter, kind in zip(parameters, kinds.tolist(), strict=True):
        if kind == 2:
            parameter.grad = _sum_rows(parameter)
        elif kind == 1:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            dense.setdefault(parameter.grad.dtype, []).append(parameter.grad)
    for gradients in dense.values():
        _sum_dense(gradients)


def _sum_dense(gradients: Sequence[Tensor]) -> None:
    """In buckets, all under way at once."""
    buckets: list[list[Tensor]] = [[]]
    size = 0
    for gradient in gradients:
        if size > BUCKET_BYTES:
            buckets.append([])
            size = 0
        buckets[-1].append(gradient)
        size += gradient.numel() * gradient.element_size()
    flat = [torch.cat([gradient.flatten() for gradient in bucket]) for bucket in buckets]
    works = [dist.all_reduce(values, async_op=True) for values in flat]
    for bucket, values, work in zip(buckets, flat, works, strict=True):
        work.wait()
        for gradient, summed in zip(bucket, torch.split(values, [gradient.numel() for gradient in bucket]), strict=True):
            gradient.copy_(summed.view_as(gradient))


def _sum_rows(parameter: Tensor) -> Tensor:
    """The sum over ranks of a row-sparse gradient."""
    mine = parameter.grad
    if mine is None:
        mine = torch.sparse_coo_tensor(
            torch.empty((1, 0), dtype=torch.long, device=parameter.device),
            parameter.new_empty((0, *parameter.shape[1:])),
            parameter.shape,
        )
    mine = mine.coalesce()
    count = torch.tensor([mine.indices().shape[1]], device=parameter.device)
    every = [torch.empty_like(count) for _ in range(world()[1])]
    dist.all_gather(every, count)
    counts = [int(one) for one in every]
    rows, values = gather_rows(mine.indices()[0], counts), gather_rows(mine.values(), counts)
    return torch.sparse_coo_tensor(rows[None], values, parameter.shape).coalesce()
