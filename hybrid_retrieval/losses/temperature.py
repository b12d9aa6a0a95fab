"""The temperature that divides the cosines of a softmax, fixed or learned."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from hybrid_retrieval.config import positive
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.losses.loss import SIDES, Dimensions, Loss, Sides

SMALLEST_TEMPERATURE = 0.01
"""Where a learned temperature stops."""


class SoftmaxLoss(Loss):
    """A loss with a softmax over cosines."""

    def __init__(
        self,
        temperature: float,
        learn_temperature: bool = False,
        sides: Sides = SIDES,
        dimensions: Dimensions = None,
    ) -> None:
        """
        Args:
            temperature: divides the cosine.
            learn_temperature: train its logarithm (kept at 0.01 or more).
            sides, dimensions: see `Loss`.
        """
        super().__init__(sides, dimensions)
        positive("loss.temperature", temperature)
        if learn_temperature and temperature < SMALLEST_TEMPERATURE:
            raise InputError(f"loss.temperature={temperature} is learned, and then must be {SMALLEST_TEMPERATURE} or more")
        self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature)), requires_grad=learn_temperature)

    @property
    def temperature(self) -> Tensor:
        """The divisor of the cosine, a scalar."""
        temperature = self.log_temperature.exp()
        if not self.log_temperature.requires_grad:
            return temperature
        # The gradient passes the bound, so that a temperature that reached it can rise again.
        return temperature + (temperature.clamp(min=SMALLEST_TEMPERATURE) - temperature).detach()

    def figures(self) -> dict[str, Tensor]:
        return {"temperature": self.temperature.detach()}
