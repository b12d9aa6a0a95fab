"""Strategies for several devices: each holds the whole model (`Replicas`) or a shard of it (`Shards`).

Shards are FSDP2's (`torch.distributed.fsdp.fully_shard`; arXiv 2304.11277). Each rank keeps a shard of every weight. The
weights of a layer are gathered when it runs and dropped after it, so that each pass through the encoder, forward or
backward, is a collective operation: all ranks make as many as the rank with most chunks. Gradients are summed over ranks
once a step, with its last backward pass: until then a rank adds up those of its own chunks, whole. A device holds, beside
activations, one whole gradient and a shard of all else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import lightning
import torch
import torch.distributed as dist
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.models import kernels
from hybrid_retrieval.models.encoder import BiEncoder
from hybrid_retrieval.models.kernels import RowSparseEmbedding
from hybrid_retrieval.training.engine import sum_gradients


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


class Replicas(DDPStrategy):
    """One process a device with a replica each; gradients are summed after the last backward pass of an optimizer step."""

    last_backward = True
    """Whether the next backward pass is the last before the optimizer's step."""

    def configure_ddp(self) -> None:
        """No wrapping; all ranks start from the weights of rank 0."""
        assert self.model is not None
        for value in self.model.state_dict().values():
            if isinstance(value, Tensor):
                dist.broadcast(value, 0)

    @contextmanager
    def block_backward_sync(self) -> Iterator[None]:
        """Backward passes of batches that only accumulate."""
        self.last_backward = False
        try:
            yield
        finally:
            self.last_backward = True

    def post_backward(self, closure_loss: Tensor) -> None:
        """The one synchronisation of a step."""
        if self.last_backward:
            assert self.model is not None
            sum_gradients([parameter for parameter in self.model.parameters() if parameter.requires_grad])


class Shards(Replicas):
    """One process a device with a shard of the encoder each; the loss's own few parameters are replicas.

    Checkpoints are those of a single device: whole tensors, written by rank 0.
    """

    def configure_ddp(self) -> None:
        """Shard what all ranks start from; the optimizer is built over the shards."""
        super().configure_ddp()
        model: Any = self.model
        shard(model.encoder, self.root_device.type)

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """The weights, whole, on rank 0; a collective operation."""
        return whole(super().lightning_module_state_dict())

    def optimizer_state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """The optimizer's state, whole, on rank 0; a collective operation."""
        state: dict[str, Any] = super().optimizer_state(optimizer)
        return {**state, "state": {number: whole(values) for number, values in state["state"].items()}}

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """From whole tensors, of which each rank takes its shard."""
        states = []
        for optimizer, saved in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            of_parameters = {number: sharded(values, parameters[number]) for number, values in saved["state"].items()}
            states.append({**saved, "state": of_parameters})
        super().load_optimizer_state_dict({"optimizer_states": states})


STRATEGIES = {"auto": Replicas, "ddp": Replicas, "fsdp": Shards}


def every_rank_encodes(trainer: lightning.Trainer | None) -> bool:
    """Whether a forward pass is the work of all ranks together, so that all of them make the same ones."""
    return trainer is not None and isinstance(trainer.strategy, Shards)
