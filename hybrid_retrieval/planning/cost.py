"""What it costs to encode a chunk: operations and memory, from a model without weights.

The model runs once forward and once back on tensors that have a shape, a type and no content (`FakeTensorMode`), so that an
encoder of any size and architecture is measured in no memory. Both figures of one text are polynomials of its length L:
linear layers take tokens one by one, attention all pairs of them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

from hybrid_retrieval.models import kernels
from hybrid_retrieval.models.transformer import TransformerBackbone

ATTENTION = "hybrid_retrieval_counted"
LENGTHS = (16, 32, 48)
"""A polynomial of the second degree is known from its values at three places."""
KEPT = "kept_shares"
"""Name of the attribute that tells counted attention to keep its shares."""


@dataclass(frozen=True)
class Polynomial:
    """fixed + token x L + pair x L^2, L the tokens of a text; `fixed` counts once, whatever is encoded."""

    fixed: float
    token: float
    pair: float

    def of(self, tokens: float, pairs: float) -> float:
        """The value for texts of `tokens` in sum and of `pairs`, the sum of their squares; without `fixed`."""
        return self.token * tokens + self.pair * pairs


@dataclass(frozen=True)
class ChunkCost:
    """Of encoding a text: operations forward and back, and bytes that are kept for the way back."""

    forward: Polynomial
    backward: Polynomial
    kept: Polynomial


KNOWN: dict[tuple[object, ...], ChunkCost] = {}
"""What was measured in this process: the jobs of a sweep mostly share their model."""


def chunk_cost(backbone: TransformerBackbone, precision: str, gpu: bool) -> ChunkCost:
    """Measure a backbone that was built on the meta device; it is of no use afterwards.

    Args:
        precision: ``trainer.precision``.
        gpu: whether the kernels are a GPU's. On a CPU, attention with dropout keeps all shares.
    """
    trained = tuple(parameter.requires_grad for parameter in backbone.parameters())
    checkpointed = any(getattr(part, "gradient_checkpointing", False) for part in backbone.modules())
    key = (str(backbone), str(getattr(backbone.model, "config", "")), trained, checkpointed, precision, gpu)
    if key not in KNOWN:
        KNOWN[key] = _measured(backbone, precision, gpu)
    return KNOWN[key]


def _measured(backbone: TransformerBackbone, precision: str, gpu: bool) -> ChunkCost:
    with FakeTensorMode(allow_non_fake_inputs=True):
        model: Any = backbone.model.to_empty(device="cpu").train()
        kernels.remove(model)
        layers = _counted(model, gpu)
        measured = [_measure(model, length, precision, backbone.dimensions) for length in LENGTHS]
    forward, backward, kept = (_fit([one[place] for one in measured]) for place in range(3))
    if layers:
        size = 4 if precision == "32-true" else 2
        inputs = layers * backbone.dimensions * size
        kept = Polynomial(kept.fixed, kept.token / layers + inputs, kept.pair / layers)
        backward = Polynomial(*(one + other for one, other in zip(_terms(backward), _terms(forward), strict=True)))
    return ChunkCost(forward, backward, kept)


def _terms(polynomial: Polynomial) -> tuple[float, float, float]:
    return polynomial.fixed, polynomial.token, polynomial.pair


def _fit(values: list[float]) -> Polynomial:
    """The polynomial with these values at `LENGTHS`."""
    powers = np.vander(np.array(LENGTHS, np.float64), 3, increasing=True)
    return Polynomial(*(float(term) for term in np.linalg.solve(powers, np.array(values, np.float64))))


def _counted(model: nn.Module, gpu: bool) -> int:
    """Give a model parts that only have shapes; the number of layers that are checkpointed."""
    checkpointed = 0
    for part in model.modules():
        any_part: Any = part
        if type(part) is nn.Dropout:
            any_part.__class__ = _CountedDropout
        if gpu and isinstance(part, nn.LayerNorm):
            part.register_forward_pre_hook(_in_single)
        if hasattr(part, "config") and hasattr(any_part.config, "_attn_implementation"):
            any_part.config._attn_implementation = ATTENTION
        if getattr(part, "gradient_checkpointing", False):
            any_part.gradient_checkpointing = False
            checkpointed += not isinstance(part, type(model))
        setattr(part, KEPT, not gpu)
    return checkpointed


def _in_single(_: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """What autocast on a GPU does to a norm, and on a CPU does not."""
    return (arguments[0].float(), *arguments[1:])


def _measure(model: Any, length: int, precision: str, dimensions: int) -> tuple[float, float, float]:
    """Operations forward and back, and bytes kept, of one text."""
    table = model.get_input_embeddings().weight
    states = torch.empty(1, length, dimensions if table.shape[1] == dimensions else table.shape[1])
    states.requires_grad_(table.requires_grad)
    own = {_storage(parameter) for parameter in model.parameters()}
    with _kept_bytes(own) as kept, FlopCounterMode(display=False) as forward, _autocast(precision):
        out = model(inputs_embeds=states).last_hidden_state
    with FlopCounterMode(display=False) as backward:
        out.float().sum().backward()
    return forward.get_total_flops(), backward.get_total_flops(), sum(kept.values())


def _autocast(precision: str) -> contextlib.AbstractContextManager[Any]:
    return contextlib.nullcontext() if precision == "32-true" else torch.autocast("cpu", torch.bfloat16)


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


@contextlib.contextmanager
def _kept_bytes(known: set[int]) -> Iterator[dict[int, int]]:
    """Storages that autograd keeps within the block, and their bytes, each once and without those `known`."""
    found: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        if _storage(tensor) not in known:
            found[_storage(tensor)] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield found


class _Drop(torch.autograd.Function):
    """Dropout as it is counted: one byte is kept for each element."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        ctx.save_for_backward(torch.empty_like(values, dtype=torch.uint8))
        return torch.empty_like(values)

    @staticmethod
    def backward(_: Any, *gradients: Tensor) -> Tensor:
        return torch.empty_like(gradients[0])


class _CountedDropout(nn.Dropout):
    def forward(self, values: Tensor) -> Tensor:
        return _Drop.apply(values) if self.p else values  # type: ignore[no-untyped-call]


class _Attention(torch.autograd.Function):
    """Attention as it is counted: states of [texts, heads, length, dimensions]; keys and values may have fewer heads.

    A fused kernel keeps its inputs, its output and a normaliser, and makes the shares again on the way back (five products in
    place of four). Where shares are kept (`models.kernels.attention` on a CPU), there is a byte for each beside them.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, keep: bool) -> Tensor:
        groups = query.shape[1] // key.shape[1]
        shares = query @ key.repeat_interleave(groups, 1).mT
        mixed = shares @ value.repeat_interleave(groups, 1)
        ctx.keep, ctx.groups = keep, groups
        more = (
            (shares, torch.empty_like(shares, dtype=torch.uint8))
            if keep
            else (mixed, query.new_empty(query.shape[:-1]).float())
        )
        ctx.save_for_backward(query, key, value, *more)
        return mixed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value = ctx.saved_tensors[:3]
        wide_key, wide_value = (part.repeat_interleave(ctx.groups, 1) for part in (key, value))
        shares = ctx.saved_tensors[3] if ctx.keep else query @ wide_key.mT
        of_value, of_shares = shares.mT @ gradients[0], gradients[0] @ wide_value.mT
        of_query, of_key = of_shares @ wide_key, of_shares.mT @ query
        folded = [part.unflatten(1, (-1, ctx.groups)).sum(2) for part in (of_key, of_value)]
        return of_query, folded[0], folded[1], None


def _attend(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, _: Tensor | None, **rest: Any) -> tuple[Tensor, None]:
    keep = bool(getattr(module, KEPT) and rest.get("dropout"))
    kind = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else query.dtype
    mixed: Tensor = _Attention.apply(query.to(kind), key.to(kind), value.to(kind), keep)  # type: ignore[no-untyped-call]
    return mixed.transpose(1, 2).contiguous(), None


AttentionInterface.register(ATTENTION, _attend)
AttentionMaskInterface.register(ATTENTION, lambda *_, **__: None)
