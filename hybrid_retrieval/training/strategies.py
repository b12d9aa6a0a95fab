"""What each of several devices holds of the model: all of it, or a share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch.strategies import DDPStrategy

from hybrid_retrieval.training.module import ContrastiveModule
from hybrid_retrieval.training.sharding import shard, shares, whole


class Replicas(DDPStrategy):
    """One process a device with a replica each; gradients are summed by the training step itself, once, not by DDP's hooks.

    A rank may have more chunks than another, or none, and gradients may be row-sparse: hooks that wait for each other in
    every backward would hang, or synchronise once a chunk.
    """

    def configure_ddp(self) -> None:
        """No wrapping; all ranks start from the weights of rank 0."""
        assert self.model is not None
        for value in self.model.state_dict().values():
            torch.distributed.broadcast(value, 0)


class Shards(Replicas):
    """One process a device with a share of the encoder each; the loss's own few parameters are replicas.

    Checkpoints are those of a single device: whole tensors, written by rank 0.
    """

    def configure_ddp(self) -> None:
        """Shard what all ranks start from; the optimizer is built over the shares."""
        super().configure_ddp()
        assert isinstance(self.model, ContrastiveModule)
        shard(self.model.encoder, self.root_device.type)

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """The weights, whole, on rank 0; a collective operation."""
        return whole(super().lightning_module_state_dict())

    def optimizer_state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """The optimizer's state, whole, on rank 0; a collective operation."""
        state: dict[str, Any] = super().optimizer_state(optimizer)
        return {**state, "state": {number: whole(values) for number, values in state["state"].items()}}

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """From whole tensors, of which each rank takes its share."""
        states = []
        for optimizer, saved in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            of_parameters = {number: shares(values, parameters[number]) for number, values in saved["state"].items()}
            states.append({**saved, "state": of_parameters})
        super().load_optimizer_state_dict({"optimizer_states": states})
