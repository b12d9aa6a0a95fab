"""Weights, gradients and moments sharded over the devices: FSDP2 (`torch.distributed.fsdp.fully_shard`; arXiv 2304.11277).

Each rank keeps a shard of every weight. The weights of a layer are gathered when it runs and dropped after it, so that each
pass through the encoder, forward or backward, is a collective operation: all ranks make as many as the rank with most chunks.
Gradients are summed over ranks once a step, with its last backward pass: until then a rank adds up those of its own chunks,
whole. What is left of a device's memory beside activations is one whole gradient and a shard of all else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.models import kernels
from hybrid_retrieval.models.encoder import BiEncoder
from hybrid_retrieval.models.kernels import RowSparseEmbedding


def check_shardable(encoder: BiEncoder) -> None:
    """Refuse a model without layers, one with a table of which only some rows are updated in a step, and an older torch."""
    if not hasattr(FSDPModule, "set_force_sum_reduction_for_comms"):
        raise InputError(f"trainer.strategy=fsdp needs a later torch than {torch.__version__}: choose ddp, or upgrade torch")
    if not encoder.backbone.layers:
        kind = type(encoder.backbone).__name__
        raise InputError(
            f"trainer.strategy=fsdp shards a model by its layers, and a {kind} has none: choose ddp, or a transformer"
        )
    if kernels.lazy_tables(encoder):
        raise InputError("trainer.strategy=fsdp needs dense gradients: choose model.token_embeddings=dense or frozen, or ddp")


def shard(encoder: BiEncoder, device_type: str) -> None:
    """Keep this rank's shard of every parameter, in place: each layer by itself, and all else together.

    All ranks hold the same weights before. Parameters become DTensors, sharded along their first dimension.
    """
    kernels.remove(encoder, RowSparseEmbedding)  # a shard's gradient is dense
    mesh = init_device_mesh(device_type, (dist.get_world_size(),))
    for part in (*encoder.backbone.layers, encoder):
        module = fully_shard(part, mesh=mesh)
        # The sum over ranks: what a rank has is its part of the gradient of the mean over the global batch.
        module.set_gradient_divide_factor(1.0)
        module.set_force_sum_reduction_for_comms(True)


def whole(values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` with shards put together, on the CPU of rank 0; nothing on other ranks. A collective operation."""
    found = {}
    for name, value in values.items():
        full = value.full_tensor().cpu() if isinstance(value, DTensor) else value
        if dist.get_rank() == 0:
            found[name] = full
    return found


def sharded(values: Mapping[str, Any], parameter: Tensor) -> dict[str, Any]:
    """An optimizer's state of a parameter, with this rank's shard of what it keeps of each element."""
    if not isinstance(parameter, DTensor):
        return dict(values)
    mesh, placements = parameter.device_mesh, parameter.placements
    return {
        name: distribute_tensor(value, mesh, placements, src_data_rank=None) if value.shape == parameter.shape else value
        for name, value in values.items()
    }
