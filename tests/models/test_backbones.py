"""Ragged texts give what padded ones give, whatever else is in the batch and however it is cut into chunks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hybrid_retrieval.models.chunks import plan
from hybrid_retrieval.models.encoder import Tokens
from hybrid_retrieval.models.pooling import POOLINGS
from hybrid_retrieval.models.static import StaticBackbone
from tests.models.small_models import random_tokens, small_transformer

LENGTHS = [3, 1, 9, 4, 4, 17, 2]


def texts_of(tokens: Tokens) -> list[Tensor]:
    return list(tokens.ids.tensor_split(tokens.offsets[1:-1]))


@pytest.mark.parametrize("pooling", sorted(POOLINGS))
def test_pooling_equals_padding_and_masking(pooling: str) -> None:
    tokens = random_tokens(0, LENGTHS)
    states = torch.randn(len(tokens.ids), 6, dtype=torch.float64, requires_grad=True)
    padded = nn.utils.rnn.pad_sequence(list(states.tensor_split(tokens.offsets[1:-1])), batch_first=True)
    mask = (torch.arange(padded.shape[1]) < torch.tensor(LENGTHS)[:, None])[..., None]
    if pooling == "mean":
        expected = (padded * mask).sum(1) / mask.sum(1)
    else:
        place = torch.zeros(len(LENGTHS), dtype=torch.long) if pooling == "cls" else torch.tensor(LENGTHS) - 1
        expected = padded[torch.arange(len(LENGTHS)), place]
    found = POOLINGS[pooling](states, tokens.offsets)
    torch.testing.assert_close(found, expected)
    weights = torch.randn_like(expected)
    ours, theirs = (torch.autograd.grad((value * weights).sum(), states)[0] for value in (found, expected))
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("seed", range(3))
def test_the_fast_mean_is_an_embedding_bag_forward_and_backward(seed: int) -> None:
    torch.manual_seed(seed)
    tokens = random_tokens(seed, [*LENGTHS, 40], vocabulary=30)
    assert any(len(text.unique()) < len(text) for text in texts_of(tokens))
    backbone = StaticBackbone(30, 8).double()
    bag = nn.EmbeddingBag(30, 8, mode="mean", include_last_offset=True).double()
    bag.weight.data.copy_(backbone.embedding.weight.data)
    ours, theirs = backbone.pooled(tokens, "mean"), bag(tokens.ids, tokens.offsets)
    torch.testing.assert_close(ours, theirs)
    weights = torch.randn_like(ours)
    (gradient,) = torch.autograd.grad((ours * weights).sum(), backbone.embedding.weight)
    (expected,) = torch.autograd.grad((theirs * weights).sum(), bag.weight)
    assert gradient.is_sparse
    assert gradient.is_coalesced()
    assert gradient.indices()[0].tolist() == sorted(set(tokens.ids.tolist()))
    torch.testing.assert_close(gradient.to_dense(), expected)


def test_the_fast_mean_is_the_mean_of_the_states() -> None:
    backbone = StaticBackbone(50, 8)
    tokens = random_tokens(1, LENGTHS)
    torch.testing.assert_close(backbone.pooled(tokens, "mean"), POOLINGS["mean"](backbone(tokens), tokens.offsets))


def test_states_equal_the_padded_forward_of_transformers() -> None:
    backbone = small_transformer(50)
    tokens = random_tokens(2, LENGTHS)
    texts = texts_of(tokens)
    ids = nn.utils.rnn.pad_sequence(texts, batch_first=True, padding_value=1)
    mask = torch.arange(ids.shape[1]) < torch.tensor(LENGTHS)[:, None]
    with torch.no_grad():
        expected = backbone.model(input_ids=ids, attention_mask=mask.long()).last_hidden_state[mask]
        torch.testing.assert_close(backbone(tokens), expected, rtol=1e-4, atol=1e-5)


def cut(tokens: Tokens, budget: int) -> list[tuple[list[int], Tokens]]:
    """Rows of each chunk of a plan, and its tokens."""
    texts = texts_of(tokens)
    found = []
    for chunk in plan(np.array([len(text) for text in texts]), budget):
        mine = [texts[row] for row in chunk]
        offsets = torch.tensor([0, *np.cumsum([len(text) for text in mine])])
        found.append((chunk.tolist(), Tokens(torch.cat(mine), offsets, max(len(text) for text in mine))))
    return found


@pytest.mark.parametrize("budget", [1, 20, 60])
def test_chunks_and_company_do_not_change_a_text(budget: int) -> None:
    backbone = small_transformer(50)
    tokens = random_tokens(3, LENGTHS)
    with torch.no_grad():
        whole = backbone.pooled(tokens, "mean")
        for rows, chunk in cut(tokens, budget):
            torch.testing.assert_close(backbone.pooled(chunk, "mean"), whole[rows], rtol=1e-4, atol=1e-5)
        for text, embedding in zip(texts_of(tokens), whole, strict=True):
            alone = backbone.pooled(Tokens(text, torch.tensor([0, len(text)])), "mean")
            torch.testing.assert_close(alone[0], embedding, rtol=1e-4, atol=1e-5)


def test_the_longest_text_is_found_where_it_is_not_given() -> None:
    backbone = small_transformer(50)
    tokens = random_tokens(3, LENGTHS)
    assert torch.equal(backbone(tokens), backbone(replace(tokens, longest=17)))


def test_chunks_do_not_change_gradients() -> None:
    backbone = small_transformer(50)
    tokens = random_tokens(4, LENGTHS)
    weights = torch.randn(len(LENGTHS), 32)
    found = []
    for budget in (10_000, 12):
        backbone.zero_grad()
        for rows, chunk in cut(tokens, budget):
            (backbone.pooled(chunk, "mean") * weights[rows]).sum().backward()
        found.append([parameter.grad.to_dense() for parameter in backbone.parameters() if parameter.grad is not None])
    assert len(found[0]) > 20
    for whole, parts in zip(*found, strict=True):
        torch.testing.assert_close(whole, parts, rtol=1e-3, atol=1e-4)
