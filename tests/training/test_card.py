"""What only a CUDA card can show; skipped without one (`tests/fake_card.py` is what can be seen then)."""

from __future__ import annotations

import copy

import pytest
import torch
from tokenizers import Tokenizer
from torch import Tensor

from hybrid_retrieval.models.encoder import BiEncoder
from hybrid_retrieval.models.kernels.attention import unpadded
from hybrid_retrieval.models.transformer import TransformerBackbone
from hybrid_retrieval.training.collate import TokenisedSet
from hybrid_retrieval.training.engine import Engine
from tests.training.ragged import batch_of, gradients, info_nce, small_encoder

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card")

CARD = torch.device("cuda")
LEARNED = {"directions": "both", "learn_temperature": True}


def step(
    encoder: BiEncoder, sets: list[TokenisedSet], budget: int, bf16: bool, cached: bool = False
) -> tuple[float, dict[str, Tensor]]:
    """Loss and gradients of one batch on the encoder's device, in float32 or under autocast."""
    device = encoder.device
    engine = Engine(encoder, info_nce(**LEARNED).to(device), 3, cached)
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        contrast = engine.step(batch_of(sets, budget).to(device))
    return float(contrast.loss), {name: value.cpu() for name, value in gradients(engine).items()}


def distance(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """Relative L2 distance of all gradients."""
    assert found.keys() == expected.keys()
    apart = torch.cat([(found[name] - expected[name]).flatten() for name in expected])
    return float(apart.norm() / torch.cat([value.flatten() for value in expected.values()]).norm())


@pytest.mark.parametrize("bf16", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("budget", [60, 100_000], ids=lambda budget: f"budget {budget}")
def test_cached_equals_uncached_under_dropout(
    ragged: list[TokenisedSet], tokenizer: Tokenizer, budget: int, bf16: bool
) -> None:
    """FlashAttention's backward pass adds up in any order."""
    encoder = small_encoder(tokenizer, "tiny", 0.1).to(CARD)
    plain, cached = (step(encoder, ragged, budget, bf16, cached) for cached in (False, True))
    assert plain[0] == pytest.approx(cached[0], rel=1e-5)
    assert distance(cached[1], plain[1]) < (1e-2 if bf16 else 1e-5)


@pytest.mark.parametrize("bf16", [False, True], ids=["float32", "bfloat16"])
def test_a_card_gives_what_a_cpu_gives(ragged: list[TokenisedSet], tokenizer: Tokenizer, bf16: bool) -> None:
    """In bfloat16 by texts end to end, within what bfloat16 can hold."""
    encoder = small_encoder(tokenizer, "tiny")
    on_card = copy.deepcopy(encoder).to(CARD)
    expected, found = step(encoder, ragged, 300, bf16=False), step(on_card, ragged, 300, bf16)
    assert found[0] == pytest.approx(expected[0], rel=2e-2 if bf16 else 1e-4)
    assert distance(found[1], expected[1]) < (5e-2 if bf16 else 1e-3)


def test_attention_is_unpadded_in_half_precision(ragged: list[TokenisedSet], tokenizer: Tokenizer) -> None:
    """And drops as the seed says: another seed, another loss."""
    encoder = small_encoder(tokenizer, "tiny", 0.1).to(CARD)
    assert isinstance(encoder.backbone, TransformerBackbone)
    assert not unpadded(encoder.backbone.model, CARD)
    with torch.autocast("cuda", torch.bfloat16):
        assert unpadded(encoder.backbone.model, CARD)
        batch = batch_of(ragged, 300).to(CARD)
        losses = [float(Engine(encoder, info_nce().to(CARD), seed).step(batch).loss) for seed in (1, 1, 2)]
    assert losses[0] == losses[1] != losses[2]
