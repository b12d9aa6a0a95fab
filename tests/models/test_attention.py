"""Attention: texts unpadded give what padded ones give, and the function with dropout is what its definition says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface

from hybrid_retrieval.models import attention, transformer
from hybrid_retrieval.models.attention import ATTENTION, attend
from hybrid_retrieval.models.dropout import drawn
from hybrid_retrieval.models.transformer import TransformerBackbone, TransformerOptions
from tests.models.conftest import random_tokens, small_transformer

LENGTHS = [3, 1, 9, 4, 4, 17, 2]
SHAPE = {
    "vocab_size": 50,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "initializer_range": 0.3,
}


def xlmr() -> TransformerBackbone:
    return small_transformer(50, initializer_range=0.3)


def bert() -> TransformerBackbone:
    from transformers import BertConfig, BertModel

    return TransformerBackbone(BertModel(BertConfig(**SHAPE), add_pooling_layer=False), 0)


def modernbert() -> TransformerBackbone:
    """Two layers of three see three tokens to each side only."""
    from transformers import ModernBertConfig, ModernBertModel

    config = ModernBertConfig(**SHAPE, local_attention=6, global_attn_every_n_layers=3, pad_token_id=0)
    return TransformerBackbone(ModernBertModel(config), 0)


def qwen3(bidirectional: bool = False) -> TransformerBackbone:
    from transformers import Qwen3Config, Qwen3Model

    config = Qwen3Config(**SHAPE, num_key_value_heads=2, head_dim=8)
    return TransformerBackbone(Qwen3Model(config), 0, TransformerOptions(bidirectional=bidirectional))


def mistral() -> TransformerBackbone:
    """A token sees itself and the four before."""
    from transformers import MistralConfig, MistralModel

    config = MistralConfig(**SHAPE, num_key_value_heads=2, head_dim=8, sliding_window=5)
    return TransformerBackbone(MistralModel(config), 0)


KINDS: dict[str, Callable[[], TransformerBackbone]] = {
    "xlmr": xlmr,
    "bert": bert,
    "modernbert": modernbert,
    "qwen3": qwen3,
    "qwen3_bidirectional": lambda: qwen3(bidirectional=True),
    "mistral": mistral,
}


def text_by_text(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    starts: Tensor,
    key_starts: Tensor,
    longest: int,
    longest_key: int,
    *,
    scale: float | None,
    window_size: tuple[int, int],
    enable_gqa: bool,
) -> Tensor:
    """What torch's variable-length attention does, by its documentation: each text by itself."""
    assert starts.dtype == key_starts.dtype == torch.int32
    assert int(starts.diff().max()) == longest == longest_key
    assert all(part.is_contiguous() for part in (query, key, value))
    left, right = window_size
    parts = []
    for start, stop in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        q, k, v = (part[start:stop].transpose(0, 1)[None] for part in (query, key, value))
        apart = torch.arange(stop - start) - torch.arange(stop - start)[:, None]
        seen = torch.ones_like(apart, dtype=torch.bool)
        seen &= (apart >= -left) if left >= 0 else seen
        seen &= (apart <= right) if right >= 0 else seen
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=seen, scale=scale, enable_gqa=enable_gqa)
        parts.append(mixed[0].transpose(0, 1))
    return torch.cat(parts)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_unpadded_texts_give_the_states_and_gradients_of_padded_ones(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    backbone = KINDS[kind]().eval()
    tokens = random_tokens(2, LENGTHS)
    weights = torch.randn(sum(LENGTHS), 32)
    states, gradients = [], []
    for packed in (False, True):
        if packed:

            def refuse(*arguments: Any, **named: Any) -> None:
                raise AssertionError("padded attention, or a mask of all tokens by all tokens")

            monkeypatch.setattr(attention, "varlen_attn", text_by_text)
            monkeypatch.setattr(attention, "sdpa_attention_forward", refuse)
            monkeypatch.setitem(AttentionMaskInterface._global_mapping, ATTENTION, refuse)
            monkeypatch.setattr(transformer, "unpadded", lambda *_: True)
        backbone.zero_grad()
        found = backbone(tokens)
        (found * weights).sum().backward()
        states.append(found.detach())
        gradients.append({name: p.grad.to_dense() for name, p in backbone.named_parameters() if p.grad is not None})
    assert len(gradients[0]) > 15
    torch.testing.assert_close(states[1], states[0], rtol=1e-4, atol=1e-4)
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-3, atol=1e-3)


def test_unpadded_only_on_cuda_in_half_precision_without_attention_dropout() -> None:
    cuda = torch.device("cuda")
    model = xlmr().model
    assert attention.varlen_attn is not None
    assert not attention.unpadded(model, torch.device("cpu"))
    assert not attention.unpadded(model, cuda)
    model.to(torch.bfloat16)
    assert attention.unpadded(model, cuda)
    model.train()
    assert not attention.unpadded(model, cuda)
    model.config.attention_probs_dropout_prob = 0.0
    assert attention.unpadded(model, cuda)
    model.set_attn_implementation("eager")
    assert not attention.unpadded(model, cuda)


def test_it_is_registered_under_its_name() -> None:
    assert AttentionInterface._global_mapping[ATTENTION] is attend
    assert xlmr().model.config._attn_implementation == ATTENTION


def inputs(heads: int = 3, length: int = 11, texts: int = 4) -> tuple[list[Tensor], Tensor]:
    torch.manual_seed(0)
    states = [torch.randn(texts, heads, length, 8, requires_grad=True) for _ in range(3)]
    lengths = torch.tensor([length, 3, 7, 1])
    mask = (torch.arange(length) < lengths[:, None])[:, None, None].expand(texts, 1, length, length)
    return states, mask


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("scaling", [None, 0.7])
def test_attention_with_dropout_equals_its_definition_in_float64(masked: bool, scaling: float | None) -> None:
    """softmax(Q K^T scale), dropped and scaled up, times V; with the mask of dropout drawn from the same seed."""
    states, mask = inputs()
    module = nn.Module()
    torch.manual_seed(42)
    found, _ = attend(module, *states, mask if masked else None, dropout=0.3, scaling=scaling)
    torch.manual_seed(42)
    kept, _ = drawn(torch.empty(4, 3, 11, 11), 0.3)
    assert 0.6 < float(kept.float().mean()) < 0.8
    exact = [state.detach().double().requires_grad_() for state in states]
    scores = exact[0] @ exact[1].mT * (8**-0.5 if scaling is None else scaling)
    if masked:
        scores = scores.masked_fill(~mask, -torch.inf)
    shares = scores.softmax(-1) * kept / (1 - round(0.3 * 65536) / 65536)
    expected = (shares @ exact[2]).transpose(1, 2)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)
    weights = torch.randn_like(found)
    ours = torch.autograd.grad((found * weights).sum(), states)
    theirs = torch.autograd.grad((expected * weights).sum(), exact)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.double(), other, rtol=1e-4, atol=1e-5)


def test_attention_with_dropout_replays_with_the_seed() -> None:
    states, mask = inputs()
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(attend(nn.Module(), *states, mask, dropout=0.3)[0])
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_attention_without_dropout_is_the_mean_of_that_with() -> None:
    states, mask = inputs()
    with torch.no_grad():
        expected, _ = attend(nn.Module(), *states, mask, is_causal=False)
        mean = torch.stack([attend(nn.Module(), *states, mask, dropout=0.5)[0] for _ in range(3000)]).mean(0)
    torch.testing.assert_close(mean, expected, rtol=0, atol=0.15)
    assert float((mean - expected).mean().abs()) < 0.005


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_causal_attention_without_a_mask_sees_nothing_ahead(dropout: float) -> None:
    states, _ = inputs()
    module = nn.Module()
    module.is_causal = True  # type: ignore[assignment]
    changed = [state.detach().clone() for state in states]
    changed[1][:, :, -1] += 1
    changed[2][:, :, -1] += 1
    found = []
    for one in (states, changed):
        torch.manual_seed(3)
        found.append(attend(module, *one, None, dropout=dropout)[0])
    torch.testing.assert_close(found[0][:, :-1], found[1][:, :-1])
    assert not torch.allclose(found[0][:, -1], found[1][:, -1])
