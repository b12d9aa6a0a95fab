"""Losses with a softmax over cosines, and those of them that rank the batch's passages."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hybrid_retrieval.config import positive
from hybrid_retrieval.errors import InputError, choice
from hybrid_retrieval.losses.candidates import POOLS
from hybrid_retrieval.losses.loss import Loss
from hybrid_retrieval.losses.masks import MODES

SMALLEST_TEMPERATURE = 0.01
"""Where a learned temperature stops."""


@dataclass(eq=False, repr=False, kw_only=True)
class SoftmaxLoss(Loss):
    """A loss with a temperature that divides the cosines, fixed or learned; `temperature` is where it starts."""

    temperature: float = 0.05
    learn_temperature: bool = False
    hard_negatives: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        positive("loss.temperature", self.temperature)
        if self.learn_temperature and self.temperature < SMALLEST_TEMPERATURE:
            raise InputError(f"loss.temperature={self.temperature} is learned, and then must be {SMALLEST_TEMPERATURE} or more")
        start = torch.tensor(math.log(self.temperature))
        self.log_temperature = nn.Parameter(start, requires_grad=self.learn_temperature)

    @property
    def divisor(self) -> Tensor:
        """The temperature as it is now, a scalar."""
        temperature = self.log_temperature.exp()
        if not self.log_temperature.requires_grad:
            return temperature
        # The gradient passes the bound, so that a temperature that reached it can rise again.
        return temperature + (temperature.clamp(min=SMALLEST_TEMPERATURE) - temperature).detach()

    def figures(self) -> dict[str, Tensor]:
        return {"temperature": self.divisor.detach()}


@dataclass(eq=False, repr=False, kw_only=True)
class InBatchLoss(SoftmaxLoss):
    """A loss that ranks each query's passage among those of the batch; `mask` and `pool` as in `candidates.passages_of`."""

    mask: str = "ignore"
    pool: str = "all"

    def __post_init__(self) -> None:
        super().__post_init__()
        choice("loss.mask", self.mask, MODES)
        choice("loss.pool", self.pool, POOLS)
