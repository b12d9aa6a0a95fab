"""Attention: texts end to end give what padded ones give, and the function with dropout is what its definition says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from hybrid_retrieval.models import kernels
from hybrid_retrieval.models.kernels.attention import ATTENTION, attend, unpadded
from hybrid_retrieval.models.kernels.dropout import drawn
from hybrid_retrieval.models.transformer import TransformerBackbone
from tests.models.small_models import random_tokens, small_transformer, sped_up, xlmr

LENGTHS = [3, 1, 9, 4, 4, 17, 2]
SHAPE = {
    "vocab_size": 50,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "initializer_range": 0.3,
}


def bert() -> TransformerBackbone:
    from transformers import BertConfig, BertModel

    return sped_up(BertModel(BertConfig(**SHAPE), add_pooling_layer=False))


def modernbert() -> TransformerBackbone:
    """Two layers of three see three tokens to each side only."""
    from transformers import ModernBertConfig, ModernBertModel

    config = ModernBertConfig(**SHAPE, local_attention=6, global_attn_every_n_layers=3, pad_token_id=0)
    return sped_up(ModernBertModel(config))


def qwen3(bidirectional: bool = False) -> TransformerBackbone:
    from transformers import Qwen3Config, Qwen3Model

    config = Qwen3Config(**SHAPE, num_key_value_heads=2, head_dim=8)
    return sped_up(Qwen3Model(config), bidirectional=bidirectional)


def mistral() -> TransformerBackbone:
    """A token sees itself and the four before."""
    from transformers import MistralConfig, MistralModel

    config = MistralConfig(**SHAPE, num_key_value_heads=2, head_dim=8, sliding_window=5)
    return sped_up(MistralModel(config))


KINDS: dict[str, Callable[[], TransformerBackbone]] = {
    "xlmr": lambda: small_transformer(50, initializer_range=0.3),
    "bert": bert,
    "modernbert": modernbert,
    "qwen3": qwen3,
    "qwen3_bidirectional": lambda: qwen3(bidirectional=True),
    "mistral": mistral,
}


def text_by_text(
    states: list[Tensor], starts: Tensor, dropout: float, seed: int, scale: float | None, window: tuple[int, int]
) -> Tensor:
    """Variable-length attention by its definition: each text by itself, [tokens, heads, dimensions]."""
    draws = torch.Generator().manual_seed(seed)
    groups = states[0].shape[1] // states[1].shape[1]
    parts = []
    for start, stop in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        q, k, v = (part[start:stop].transpose(0, 1) for part in states)
        k, v = k.repeat_interleave(groups, 0), v.repeat_interleave(groups, 0)
        apart = torch.arange(stop - start) - torch.arange(stop - start)[:, None]
        left, right = (side if side >= 0 else stop for side in window)
        scores = (q @ k.mT) * (q.shape[-1] ** -0.5 if scale is None else scale)
        shares = scores.masked_fill((apart < -left) | (apart > right), -torch.inf).softmax(-1)
        kept = torch.rand(shares.shape, generator=draws) >= dropout
        parts.append((shares * kept / (1 - dropout) @ v).transpose(0, 1))
    return torch.cat(parts)


@pytest.fixture
def flash() -> Iterator[list[float]]:
    """Torch's FlashAttention operator for a CPU, by its definition, with the dropout of each call.

    The backward pass has nothing but what the operator says that it gets: its inputs, and the state of the generator.
    """
    asked: list[float] = []
    library = torch.library.Library("aten", "IMPL")

    def forward(q: Tensor, k: Tensor, v: Tensor, starts: Tensor, key_starts: Tensor, *rest: Any, **more: Any) -> Any:
        longest, longest_key, dropout, causal, _ = rest
        assert starts.dtype == torch.int32
        assert torch.equal(starts, key_starts)
        assert int(starts.diff().max()) == longest == longest_key
        assert all(part.is_contiguous() and part.dtype == q.dtype for part in (q, k, v))
        window = more["window_size_left"], more["window_size_right"]
        assert causal == (window == (-1, 0))
        asked.append(dropout)
        seed = torch.empty((), dtype=torch.int64).random_()
        mixed = text_by_text([q, k, v], starts, dropout, int(seed), more["scale"], window)
        return mixed, q.new_empty(q.shape[1], len(q)), seed, torch.empty(0), torch.empty(0)

    def backward(gradient: Tensor, q: Tensor, k: Tensor, v: Tensor, *rest: Any, **more: Any) -> Any:
        _, _, starts, _, _, _, dropout, _, seed, _ = rest
        window = more["window_size_left"], more["window_size_right"]

        def differentiate() -> tuple[Tensor, ...]:
            leaves = [part.detach().requires_grad_() for part in (q, k, v)]
            mixed = text_by_text(leaves, starts, dropout, int(seed), more["scale"], window)
            return torch.autograd.grad(mixed, leaves, gradient)

        with ThreadPoolExecutor(1) as apart:  # autograd is off in the thread of an operator
            return apart.submit(differentiate).result()

    library.impl("_flash_attention_forward", forward, "CPU")
    library.impl("_flash_attention_backward", backward, "CPU")
    yield asked
    library._destroy()


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_texts_end_to_end_give_the_states_and_gradients_of_padded_ones(kind: str, flash: list[float]) -> None:
    torch.manual_seed(0)
    backbone = KINDS[kind]().eval()
    tokens = random_tokens(2, LENGTHS)
    weights = torch.randn(sum(LENGTHS), 32)
    states, gradients = [], []
    for encode in (backbone.padded, backbone.end_to_end):
        assert not flash
        backbone.zero_grad()
        found = encode(tokens)
        (found * weights).sum().backward()
        states.append(found.detach())
        gradients.append({name: p.grad.to_dense() for name, p in backbone.named_parameters() if p.grad is not None})
    assert flash == [0.0] * len(backbone.layers)
    assert len(gradients[0]) > 15
    torch.testing.assert_close(states[1], states[0], rtol=1e-4, atol=1e-4)
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-3, atol=1e-3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card")
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_card_gives_the_states_of_padded_texts(kind: str) -> None:
    """The operator itself, in bfloat16, against padded texts in float32 on a CPU."""
    torch.manual_seed(0)
    backbone = KINDS[kind]().eval()
    tokens = random_tokens(2, LENGTHS)
    with torch.no_grad():
        expected = backbone.padded(tokens)
        with torch.autocast("cuda", torch.bfloat16):
            found = backbone.cuda().end_to_end(tokens.to("cuda")).float().cpu()
    assert float((found - expected).norm() / expected.norm()) < 3e-2


@pytest.mark.parametrize("checkpointing", [False, True])
def test_texts_end_to_end_drop_attention_as_the_seed_says(checkpointing: bool, flash: list[float]) -> None:
    """The same loss and gradients from the same seed; the gradient is that of the loss by differences; the mean is right."""
    model = xlmr(initializer_range=0.3, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.3)
    backbone = sped_up(model, 1, gradient_checkpointing=checkpointing)
    tokens, weights = random_tokens(2, LENGTHS), torch.randn(sum(LENGTHS), 32)

    def loss(seed: int = 1) -> Tensor:
        torch.manual_seed(seed)
        return (backbone.end_to_end(tokens) * weights).sum()

    assert loss().item() == loss().item() != loss(2).item()
    assert set(flash) == {0.3}
    loss().backward()
    parameter = backbone.model.get_parameter("encoder.layer.0.attention.self.query.weight")
    start, along = parameter.detach().clone(), parameter.grad / parameter.grad.norm()
    ends = []
    for side in (0.01, -0.01):
        parameter.data.copy_(start + side * along)
        ends.append(loss().item())
    assert (ends[0] - ends[1]) / 0.02 == pytest.approx(float(parameter.grad.norm()), rel=1e-2)
    with torch.no_grad():
        layer = backbone.layers[-1].attention.self
        layer.register_forward_hook(lambda *arguments: outputs.append(arguments[2][0]))
        outputs: list[Tensor] = []
        parameter.data.copy_(start)
        backbone.layers[0].eval()
        for seed in range(250):
            loss(seed)
        mean = torch.stack(outputs).mean(0)
        outputs.clear()
        backbone.eval().end_to_end(tokens)
    torch.testing.assert_close(mean, outputs[0], rtol=0, atol=0.35)
    assert float((mean - outputs[0]).mean().abs()) < 0.01


def test_autocast_reaches_what_norms_have_left_in_single_precision(flash: list[float]) -> None:
    """Qwen3 normalises queries and keys, not values: the operator wants one type."""
    backbone, tokens = qwen3().eval(), random_tokens(2, LENGTHS)
    exact = backbone.end_to_end(tokens)
    with torch.autocast("cpu", torch.bfloat16):
        states = backbone.end_to_end(tokens)
    assert states.dtype == torch.float32
    torch.testing.assert_close(states, exact, rtol=0.1, atol=0.1)
    assert len(flash) == 6


def test_padding_is_left_out_only_on_cuda_in_half_precision() -> None:
    """As far as it can be told without a GPU, which must be recent, too."""
    model = small_transformer(50).model
    assert not unpadded(model, torch.device("cpu"))
    assert not unpadded(model, torch.device("cuda"))
    model.to(torch.bfloat16)
    assert not unpadded(model, torch.device("cpu"))
    kernels.remove(model)
    assert not unpadded(model, torch.device("cuda"))


def test_it_is_registered_under_its_name() -> None:
    assert AttentionInterface()[ATTENTION] is attend


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
