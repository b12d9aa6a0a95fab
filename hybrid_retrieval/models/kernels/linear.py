"""Linear layers in float32 through oneDNN, where torch's default serves the processor badly.

A torch build for x86 sends float32 products to MKL, which on processors other than Intel's reaches about half of what oneDNN
does. Their rounding differs: the choice follows from the processor alone, and is kept with the weights.
"""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


@cache
def available() -> bool:
    """True where this build of torch has the operator."""
    built: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return built and hasattr(torch.ops.mkldnn, "_linear_pointwise")


@cache
def preferred() -> str:
    """``onednn`` where torch would use MKL on a processor that is not Intel's, else ``default``."""
    described = Path("/proc/cpuinfo")
    processor = described.read_text() if described.exists() else platform.processor()
    with_mkl: bool = torch.backends.mkl.is_available()  # type: ignore[no-untyped-call]
    return "onednn" if available() and with_mkl and "GenuineIntel" not in processor else "default"


def _product(left: Tensor, right: Tensor, bias: Tensor | None = None) -> Tensor:
    """Left [..., n] @ right [m, n].T + bias [m]."""
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
        outgoing = gradients[0].reshape(-1, gradients[0].shape[-1])  # [rows, outputs]
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
