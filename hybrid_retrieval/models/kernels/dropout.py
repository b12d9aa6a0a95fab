"""Dropout with cheaper random bits on a CPU.

PyTorch draws a double for every element there, on one thread: a seventh of a training step. Here a 64-bit draw of a fast
generator (SFC64) serves four elements. The generator is seeded from torch's own, so that whatever replays torch's random state
(a seed, gradient checkpointing, the second pass of GradCache) replays the masks.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

LEVELS = 1 << 16
"""Probabilities are right to one in this many, and the scale is that of the probability used: the expectation is exact."""


class _Drop(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, kept: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(kept)
        ctx.scale = scale
        return values.mul(kept).mul_(scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (kept,) = ctx.saved_tensors
        return gradients[0].mul(kept).mul_(ctx.scale), None, None


def drawn(like: Tensor, probability: float) -> tuple[Tensor, float]:
    """A mask of the kept elements, uint8 in the shape of `like`, and the factor that makes up for the others; on a CPU."""
    dropped = round(probability * LEVELS)
    seed = int(torch.empty((), dtype=torch.int64).random_())
    words = np.random.SFC64(seed).random_raw(-(-like.numel() // 4))
    bits = torch.from_numpy(words.view(np.int16))[: like.numel()].view(like.shape)
    return bits.ge(dropped - LEVELS // 2).view(torch.uint8), LEVELS / (LEVELS - dropped)


def dropout(values: Tensor, probability: float) -> Tensor:
    """`values` with each element set to 0 with `probability`, and the others scaled up."""
    if values.device.type != "cpu" or not 0 < probability < 1 or torch.compiler.is_compiling():
        return nn.functional.dropout(values, probability)
    return _Drop.apply(values, *drawn(values, probability))  # type: ignore[no-any-return,no-untyped-call]


class Dropout(nn.Dropout):
    """`torch.nn.Dropout` by way of `dropout`."""

    def forward(self, values: Tensor) -> Tensor:
        return dropout(values, self.p) if self.training else values
