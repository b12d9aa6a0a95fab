"""The attention function that transformers models use here, under the name `ATTENTION`.

It is SDPA but for two cases. Where texts come end to end (CUDA, see `unpadded`), it is FlashAttention over ragged texts. On a
CPU with attention dropout, where SDPA falls back to slow random bits and keeps three [heads, length, length] arrays a text, it
is a function that draws cheap bits and keeps one such array and a mask of bytes.

Ragged attention calls the operator beneath torch's SDPA, as `torch.nn.attention.varlen` does, because that module has no
dropout, a jagged SDPA has no sliding window, and flash-attn is a package to compile. The operator draws its bits from the
generator of the device, which each chunk seeds, and its backward pass replays them: randomness stays a function of
(seed, step, chunk).
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from hybrid_retrieval.models.kernels.dropout import drawn

ATTENTION = "hybrid_retrieval"
SCORES_AT_ONCE = 2**21
"""Attention scores held at a time in bfloat16 on a CPU: 4 MB."""
AMPERE = (8, 0)
"""The oldest GPUs that FlashAttention 2 runs on."""


class _Attention(torch.autograd.Function):
    """softmax(Q K^T scale) with dropout, times V."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float, probability: float
    ) -> Tensor:
        # Once contiguous, for all products of both passes.
        query, key, value = (query * scale).contiguous(), key.contiguous(), value.contiguous()
        shares = torch.softmax(_scores(query, key, mask), -1, dtype=torch.float32).to(query.dtype)
        kept, factor = drawn(shares, probability)
        ctx.save_for_backward(query, key, value, shares, kept)
        ctx.scale, ctx.factor = scale, factor
        return (shares.mul(kept) @ value).mul_(factor)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, shares, kept = ctx.saved_tensors
        outgoing = (gradients[0].to(query.dtype) * ctx.factor).contiguous()
        of_value = shares.mul(kept).mT @ outgoing
        of_shares = (outgoing @ value.mT).mul_(kept)
        of_scores = torch._softmax_backward_data(of_shares, shares, -1, shares.dtype)
        return (of_scores @ key).mul_(ctx.scale), of_scores.mT @ query, of_value, None, None, None


def _scores(query: Tensor, key: Tensor, mask: Tensor | None) -> Tensor:
    """[texts, heads, length, length]; the mask, which all heads share, is added, which is cheaper than filling."""
    scores = query @ key.mT
    if mask is not None:
        least = torch.finfo(scores.dtype).min
        scores += torch.zeros(mask.shape, dtype=scores.dtype).masked_fill_(mask.logical_not(), least)
    return scores


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **rest: Any,
) -> tuple[Tensor, None]:
    """[texts, length, heads, dimensions] from states of [texts, heads, length, dimensions], as transformers asks for it."""
    if "cu_seq_lens_q" in rest:
        return _unpadded(module, query, key, value, dropout, scaling, **rest), None
    causal = attention_mask is None and rest.get("is_causal", getattr(module, "is_causal", False))
    plain = query.device.type == "cpu" and key.shape == query.shape and "position_bias" not in rest
    plain = plain and not causal and not torch.compiler.is_compiling()
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if plain and not dropout and query.dtype == torch.bfloat16 and not torch.is_grad_enabled():
        return _in_bfloat16(query, key, value, attention_mask, scale), None
    if plain and dropout:
        mixed: Tensor = _Attention.apply(query, key, value, attention_mask, scale, dropout)  # type: ignore[no-untyped-call]
        return mixed.transpose(1, 2).contiguous(), None
    result: tuple[Tensor, None] = sdpa_attention_forward(
        module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **rest
    )
    return result


def _in_bfloat16(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """SDPA takes as long as in float32 on a CPU; two products in bfloat16 do not.

    A few texts at a time and in place, so that the scores stay in the cache: new pages would cost more than the softmax.
    """
    texts, heads, length, _ = query.shape
    result = query.new_empty(texts, length, heads, value.shape[-1])
    at_once = max(1, SCORES_AT_ONCE // (heads * length * length))
    for start in range(0, texts, at_once):
        some = slice(start, start + at_once)
        scores = _scores((query[some] * scale).contiguous(), key[some].contiguous(), None if mask is None else mask[some])
        result[some] = (torch.softmax(scores, -1, out=scores) @ value[some].contiguous()).transpose(1, 2)
    return result


def _unpadded(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    dropout: float,
    scaling: float | None,
    *,
    cu_seq_lens_q: Tensor,
    max_length_q: int,
    is_causal: bool | None = None,
    sliding_window: int | None = None,
    **_: Any,
) -> Tensor:
    """The same over texts laid end to end; keys and values may have fewer heads. A window counts the token itself."""
    device = query.device.type
    kind = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else query.dtype
    # [1, heads, tokens, dimensions] -> [tokens, heads, dimensions]; norms and rotations may have left autocast's type
    states = [part.squeeze(0).transpose(0, 1).contiguous().to(kind) for part in (query, key, value)]
    causal = getattr(module, "is_causal", False) if is_causal is None else is_causal
    left = -1 if sliding_window is None else sliding_window - 1
    right = 0 if causal else left
    mixed: Tensor = torch.ops.aten._flash_attention_forward(
        *states,
        *(cu_seq_lens_q, cu_seq_lens_q),
        *(max_length_q, max_length_q),
        dropout,
        (left, right) == (-1, 0),
        False,
        scale=scaling,
        window_size_left=left,
        window_size_right=right,
    )[0]
    return mixed.unsqueeze(0)  # [1, tokens, heads, dimensions]


def ragged_arguments(offsets: Tensor, longest: int) -> dict[str, Any]:
    """Arguments of a transformers model, beside ids and positions, with which `attend` sees texts end to end.

    Args:
        offsets: int64 [texts + 1].
        longest: tokens of the longest text.
    """
    bounds = offsets.int()
    return {
        # Whatever has four dimensions passes for a mask, so that none of [tokens, tokens] is made.
        "attention_mask": torch.ones(1, 1, 1, 1, dtype=torch.bool, device=offsets.device),
        "cu_seq_lens_q": bounds,
        "cu_seq_lens_k": bounds,
        "max_length_q": longest,
        "max_length_k": longest,
    }


def unpadded(model: nn.Module, device: torch.device) -> bool:
    """True where texts may go through `model` end to end: in half precision on a GPU that FlashAttention runs on."""
    config: Any = model.config
    if device.type != "cuda" or config._attn_implementation != ATTENTION:  # it may compute attention in its own way
        return False
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    half = torch.is_autocast_enabled("cuda") or next(model.parameters()).dtype in (torch.float16, torch.bfloat16)
    return half and width % 8 == 0 and _has_flash(device)


@cache
def _has_flash(device: torch.device) -> bool:
    return torch.backends.cuda.is_flash_attention_available() and torch.cuda.get_device_capability(device) >= AMPERE


def install(model: Any) -> None:
    """Let a transformers model use `attend`, where its architecture allows for that."""
    if model.config._attn_implementation != ATTENTION:
        model.set_attn_implementation(ATTENTION)


def remove(model: Any) -> None:
    """Let it use the function that transformers would choose."""
    if model.config._attn_implementation == ATTENTION:
        model.set_attn_implementation("sdpa" if model._supports_sdpa else "eager")


AttentionInterface.register(ATTENTION, attend)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)
