"""Linear layers in float32 through oneDNN, where that is faster than the default backend of a CPU build.

PyTorch sends float32 products to MKL, which on AMD processors reaches half of what oneDNN does. Which of the two is used is
probed once for a run and kept in its config (`trainer.linear`), since their rounding differs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

LINEARS = ("default", "onednn")
PROBED = (2048, 384, 1536)
"""Rows, inputs and outputs of the product that is timed."""


def _product(left: Tensor, right: Tensor, bias: Tensor | None = None) -> Tensor:
    """Left @ right.T + bias."""
    return torch.ops.mkldnn._linear_pointwise(left, right, bias, "none", [], "")  # type: ignore[no-any-return]


class _OneDnn(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(values, weight)
        return _product(values, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        values, weight = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        outgoing = gradients[0].reshape(-1, gradients[0].shape[-1])
        of_values = _product(outgoing, weight.T).view(values.shape) if wanted[0] else None
        of_weight = _product(outgoing.T, values.reshape(-1, values.shape[-1]).T) if wanted[1] else None
        return of_values, of_weight, outgoing.sum(0) if wanted[2] else None


class OneDnnLinear(nn.Linear):
    """`torch.nn.Linear`, by oneDNN wherever it is a float32 product on a CPU."""

    def forward(self, values: Tensor) -> Tensor:
        plain = values.dtype == self.weight.dtype == torch.float32 and values.device.type == "cpu"
        if not plain or torch.is_autocast_enabled("cpu") or not values.numel() or torch.compiler.is_compiling():
            return super().forward(values)
        return _OneDnn.apply(values, self.weight, self.bias)  # type: ignore[no-any-return,no-untyped-call]


def available() -> bool:
    """Whether this build of torch has the operator."""
    built: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return built and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def faster() -> str:
    """``onednn`` or ``default``, whichever multiplies faster here; some 50 ms."""
    if not available():
        return "default"
    rows, inputs, outputs = PROBED
    values, weight = torch.ones(rows, inputs), torch.ones(outputs, inputs)
    ways: dict[str, Callable[[], Tensor]] = {
        "default": lambda: nn.functional.linear(values, weight),
        "onednn": lambda: _product(values, weight),
    }
    return min(ways, key=lambda name: _seconds(ways[name]))


def _seconds(way: Callable[[], Tensor]) -> float:
    """The shortest of five calls, after one that does not count."""
    way()
    runs = []
    for _ in range(5):
        start = time.perf_counter()
        way()
        runs.append(time.perf_counter() - start)
    return min(runs)
