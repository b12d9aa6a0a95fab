"""Averages of the weights over the steps: what is validated, kept as the best, and scored.

Lightning's own callback swaps the weights back before a module scores its retrieval, and updates every row of a table in every
step. Here validation sees the averages to its end, and of a table whose rows are updated only where a step has a gradient
(``lazy``, see `hybrid_retrieval.training.optimizers`), only those rows are touched: the average of a row that stands still is
known in closed form.
"""

from __future__ import annotations

import math
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from hybrid_retrieval.models.kernels import lazy_tables

KEY = "averaging"


class Averaging(Callback):
    """Averages the trainable weights after every step.

    The n-th weights count 1/n, as in a plain mean (SWA, arXiv 1803.05407), until that is less than 1 - `decay`, as in an
    exponential moving average: the average owes nothing to the first weights. With a `decay` of 1 it stays a mean.

    A checkpoint's ``state_dict`` holds the averages; the weights that training goes on from lie under `KEY`.
    """

    def __init__(self, decay: float, start: int = 0) -> None:
        """
        Args:
            decay: what is left of an average after a step, once it has more than a mean of few.
            start: steps before averaging begins.
        """
        self.decay, self.start = decay, start
        self.count = 0
        self._average: dict[str, Tensor] = {}
        self._updated: dict[str, Tensor] = {}
        self._current: dict[str, Tensor] | None = None

    def on_before_optimizer_step(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Bring the averages of the rows that are about to move up to date with where they stood until now."""
        if self.count:
            for name, parameter in lazy_tables(module).items():
                if parameter.grad is not None:
                    rows = _rows(parameter)
                    self._average[name][rows] = self._caught_up(name, parameter.detach()[rows], rows)
                    self._updated[name][rows] = self.count

    def on_train_batch_end(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        if trainer.global_step <= self.start + self.count:
            return
        self.count += 1
        lazy = lazy_tables(module)
        weights = {name: parameter.detach() for name, parameter in trainable(module).items()}
        for name in weights.keys() - self._average.keys():
            self._average[name] = torch.zeros_like(weights[name])
            if name in lazy:
                self._updated[name] = torch.zeros(len(weights[name]), dtype=torch.long, device=weights[name].device)
        dense = {name: value for name, value in weights.items() if name not in lazy}
        if dense:
            weight = 1 - float(self.kept(torch.tensor(self.count - 1)))
            torch._foreach_lerp_([self._average[name] for name in dense], list(dense.values()), weight)

    def kept(self, updates: Tensor) -> Tensor:
        """The share of an average after so many `updates` that is left in it now; the rest is the weights since then."""
        horizon = 1 / (1 - self.decay) if self.decay < 1 else math.inf
        horizon = math.floor(horizon + 1e-9) if math.isfinite(horizon) else self.count
        first = updates.clamp(max=horizon).double() / min(self.count, horizon)
        return first * self.decay ** (max(self.count - horizon, 0) - (updates - horizon).clamp(min=0).double())

    def averages(self, module: nn.Module) -> dict[str, Tensor]:
        """The average of every trainable parameter; nothing before the first update."""
        found: dict[str, Tensor] = {}
        if self.count:
            for name, parameter in trainable(module).items():
                weights = parameter.detach()
                found[name] = self._caught_up(name, weights) if name in self._updated else self._average[name]
        return found

    def _caught_up(self, name: str, weights: Tensor, rows: Tensor | None = None) -> Tensor:
        """The averages of a lazy table's `rows`, or of all, which have stood at `weights` since they were last updated."""
        average, updated = self._average[name], self._updated[name]
        if rows is not None:
            average, updated = average[rows], updated[rows]
        return weights + self.kept(updated).to(weights.dtype)[:, None] * (average - weights)

    def on_validation_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        found = self.averages(module)
        parameters = trainable(module)
        self._current = {name: parameters[name].detach().clone() for name in found}
        _set(module, found)

    def on_validation_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        _set(module, self._current or {})
        self._current = None

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        weights: dict[str, Tensor] = checkpoint["state_dict"]
        current = self._current or {name: weights[name] for name in trainable(module)}
        averages = {} if self._current else self.averages(module)
        checkpoint["state_dict"] = {**weights, **averages}
        checkpoint[KEY] = {
            "count": self.count,
            "current": current if self.count else {},
            "average": self._average,
            "updated": self._updated,
        }

    def on_load_checkpoint(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        saved = checkpoint[KEY]
        self.count = saved["count"]
        device = module.device
        self._average = {name: value.to(device) for name, value in saved["average"].items()}
        self._updated = {name: value.to(device) for name, value in saved["updated"].items()}
        _set(module, saved["current"])


def trainable(module: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters that are trained, by name."""
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


def _rows(parameter: nn.Parameter) -> Tensor:
    """The rows of a table that have a gradient."""
    gradient = parameter.grad
    assert gradient is not None
    if not gradient.is_sparse:
        return torch.arange(len(parameter), device=parameter.device)
    parameter.grad = gradient.coalesce()
    return parameter.grad.indices()[0]


@torch.no_grad()
def _set(module: nn.Module, values: dict[str, Tensor]) -> None:
    parameters = trainable(module)
    for name, value in values.items():
        parameters[name].copy_(value)
