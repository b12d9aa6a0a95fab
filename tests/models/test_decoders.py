"""Decoder LLMs: the real last token, an end token, an instruction, and attention that looks both ways when asked to."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, processors

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.models.encoder import BiEncoder, Tokens
from tests.models.small_models import (
    INSTRUCTION,
    SENTENCES,
    TEXTS,
    byte_pairs,
    load_decoder,
    random_tokens,
    saved_and_read,
    write_decoder,
)

KINDS = ["qwen2", "qwen3", "llama", "mistral"]
FAST = ("qwen3", "mistral")
MIXED = [*SENTENCES, "a", " ".join(SENTENCES), "", "สวัสดี 🎉"]


def beginning(tokenizer: Tokenizer) -> Tokenizer:
    """As Llama's: a token before every text, none after it."""
    tokenizer.add_special_tokens(["<s>"])
    number = tokenizer.token_to_id("<s>")
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", number)])
    return tokenizer


@pytest.fixture(scope="module", params=[one if one in FAST else pytest.param(one, marks=pytest.mark.slow) for one in KINDS])
def decoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokenizer = beginning(byte_pairs()) if request.param in ("llama", "mistral") else byte_pairs()
    return write_decoder(tmp_path_factory.mktemp(request.param), request.param, tokenizer)


def ids_of(encoder: BiEncoder, text: str, role: str = "passage") -> list[int]:
    return [int(one) for one in encoder.tokenise([text], role)[0]]


def states(encoder: BiEncoder, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return encoder.backbone(Tokens(torch.tensor(ids), torch.tensor([0, len(ids)])))


@pytest.mark.parametrize("bidirectional", [False, True])
def test_company_and_padding_change_no_embedding(decoder: Path, bidirectional: bool) -> None:
    """One text at a time, without padding, by transformers' own model, its last token's state."""
    from transformers import AutoModel

    encoder = load_decoder(decoder, bidirectional=bidirectional)
    plain = AutoModel.from_pretrained(decoder, attn_implementation="eager").eval()
    plain.config.is_causal = not bidirectional
    for role in ("query", "passage"):
        found = encoder.encode(MIXED, role)
        for text, embedding in zip(MIXED, found, strict=True):
            with torch.no_grad():
                state = plain(input_ids=torch.tensor([ids_of(encoder, text, role)])).last_hidden_state[0, -1]
            np.testing.assert_allclose(embedding, torch.nn.functional.normalize(state, dim=0).numpy(), rtol=0, atol=2e-5)


def test_the_first_token_sees_the_last_only_where_attention_is_bidirectional(decoder: Path) -> None:
    for bidirectional in (False, True):
        encoder = load_decoder(decoder, bidirectional=bidirectional)
        ids = ids_of(encoder, SENTENCES[0])
        one, other = states(encoder, ids), states(encoder, [*ids[:-1], ids[-1] + 1])
        assert torch.equal(one[0], other[0]) != bidirectional
        assert not torch.equal(one[-1], other[-1])


def test_bidirectional_attention_is_so_with_dropout_too(decoder: Path) -> None:
    """Attention with dropout goes another way than without."""
    encoder = load_decoder(decoder, bidirectional=True).train()
    encoder.backbone.model.config.attention_dropout = 0.1
    for part in encoder.modules():
        if hasattr(part, "attention_dropout"):
            part.attention_dropout = 0.1
    ids = ids_of(encoder, SENTENCES[0])
    tokens = [Tokens(torch.tensor(one), torch.tensor([0, len(one)])) for one in (ids, [*ids[:-1], ids[-1] + 1])]
    found = []
    for one in tokens:
        torch.manual_seed(0)
        found.append(encoder.backbone(one).detach())
    assert not torch.equal(found[0][0], found[1][0])


def test_every_text_ends_with_the_end_token_once_and_cutting_keeps_it(decoder: Path) -> None:
    encoder = load_decoder(decoder)
    end = encoder.tokenizer.token_to_id("<|endoftext|>")
    for text in (*MIXED, " ".join(TEXTS)):
        for role in ("query", "passage"):
            ids = ids_of(encoder, text, role)
            assert ids[-1] == end
            assert ids.count(end) == 1
            assert len(ids) <= 60
    assert len(ids_of(encoder, " ".join(TEXTS))) == 60
    bare = load_decoder(decoder, pooling="mean")
    assert ids_of(bare, SENTENCES[0]) == ids_of(encoder, SENTENCES[0])[:-1]


def test_an_end_token_that_the_tokenizer_adds_is_left_alone_and_another_can_be_named(decoder: Path, tmp_path: Path) -> None:
    tokenizer = byte_pairs()
    number = tokenizer.token_to_id("<|im_end|>")
    tokenizer.post_processor = processors.TemplateProcessing("$A <|im_end|>", special_tokens=[("<|im_end|>", number)])
    directory = write_decoder(tmp_path, "qwen3", tokenizer)
    ids = ids_of(load_decoder(directory), "a")
    assert ids[-1] == number
    assert ids[-2] != number
    assert ids_of(load_decoder(directory, end_token="<|im_end|>"), "a") == ids
    named = load_decoder(decoder, end_token="<|im_end|>")
    assert ids_of(named, "a")[-1] == named.tokenizer.token_to_id("<|im_end|>")


def test_an_end_token_that_is_not_there_is_refused(decoder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"model\.end_token=<nope>: <nope> is not in"):
        load_decoder(decoder, end_token="<nope>")
    directory = write_decoder(tmp_path, "qwen2", byte_pairs())
    config = json.loads((directory / "tokenizer_config.json").read_text())
    del config["eos_token"]
    (directory / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"model\.end_token=None: an end token is not in"):
        load_decoder(directory)


def test_only_queries_carry_the_instruction(decoder: Path) -> None:
    encoder = load_decoder(decoder)
    instruction = encoder.tokenizer.encode(INSTRUCTION, add_special_tokens=False).ids
    query, passage = (ids_of(encoder, "copy", role) for role in ("query", "passage"))
    start = query.index(instruction[0])
    assert query[start : start + len(instruction) - 2] == instruction[:-2]
    assert len(passage) < len(instruction)


def test_embeddings_equal_those_of_sentence_transformers(decoder: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import modules

    end = "<|endoftext|>"
    transformer = modules.Transformer(str(decoder), max_seq_length=120)
    transformer.tokenizer.pad_token = end
    transformer.tokenizer.padding_side = "left"
    theirs = SentenceTransformer(modules=[transformer, modules.Pooling(32, "lasttoken"), modules.Normalize()], device="cpu")
    ours = load_decoder(decoder, max_query_length=120).encode(SENTENCES, "query")
    expected = theirs.encode([f"{INSTRUCTION}{text}{end}" for text in SENTENCES], batch_size=len(SENTENCES))
    np.testing.assert_allclose(ours, expected, rtol=0, atol=2e-5)
    assert np.abs(ours @ ours.T)[~np.eye(len(ours), dtype=bool)].min() < 0.99


@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_saved_decoder_is_read_back_to_the_bit(decoder: Path, bidirectional: bool, tmp_path: Path) -> None:
    encoder = load_decoder(decoder, bidirectional=bidirectional, projection=9)
    again = saved_and_read(encoder, tmp_path)
    for role in ("query", "passage"):
        np.testing.assert_array_equal(again.encode(MIXED, role), encoder.encode(MIXED, role))


def test_gradients_reach_every_weight_and_padding_none(decoder: Path) -> None:
    encoder = load_decoder(decoder).train()
    whole = random_tokens(0, [3, 17, 9])
    weights = torch.randn(3, 32)
    (encoder(whole) * weights).sum().backward()
    found = {name: parameter.grad.to_dense() for name, parameter in encoder.named_parameters()}
    encoder.zero_grad()
    for text, weight in zip(whole.ids.tensor_split(whole.offsets[1:-1]), weights, strict=True):
        (encoder(Tokens(text, torch.tensor([0, len(text)])))[0] * weight).sum().backward()
    for name, parameter in encoder.named_parameters():
        assert found[name].any()
        torch.testing.assert_close(found[name], parameter.grad.to_dense(), rtol=1e-3, atol=1e-4)
