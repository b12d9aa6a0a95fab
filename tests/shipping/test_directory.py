"""Exported directories of every layout, with sentence-transformers as the oracle."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.models.adapters import Lora
from hybrid_retrieval.models.encoder import Backbone, BiEncoder, EncoderSettings
from hybrid_retrieval.models.published import PublishedModel
from hybrid_retrieval.models.static import StaticBackbone
from hybrid_retrieval.models.tokenization import train_unigram
from hybrid_retrieval.models.transformer import TransformerBackbone, TransformerOptions
from hybrid_retrieval.shipping.directory import check, ready, without_special_tokens, write
from tests.models.small_models import SENTENCES, TEXTS, byte_pairs, load_decoder, small_transformer, write_decoder

MIXED = [*SENTENCES, *TEXTS[:9], "a", " ", "COPY <mask> a</s><S> 🎉", "สวัสดี", " ".join(TEXTS)]


def unigram(kind: str, **settings: Any) -> BiEncoder:
    tokenizer = train_unigram(TEXTS, 500)
    size = tokenizer.get_vocab_size()
    torch.manual_seed(0)
    backbone: Backbone = StaticBackbone(size, 32) if kind == "static" else small_transformer(size, initializer_range=0.3)
    chosen = {"max_query_length": 24, "max_passage_length": 64, "query_prefix": "Query: ", **settings}
    return BiEncoder(backbone, tokenizer, EncoderSettings(**chosen)).eval()


def bert(**settings: Any) -> BiEncoder:
    from transformers import BertConfig, BertModel

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(TEXTS, trainers.WordPieceTrainer(vocab_size=300, special_tokens=special))
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    torch.manual_seed(6)
    model = BertModel(
        BertConfig(vocab_size=tokenizer.get_vocab_size(), initializer_range=0.3, **sizes), add_pooling_layer=False
    )
    return BiEncoder(TransformerBackbone(model, 0), tokenizer, EncoderSettings(**settings)).eval()


def decoder(folder: Path, lora: Lora | None = None, **values: Any) -> BiEncoder:
    encoder = load_decoder(write_decoder(folder, "qwen3", byte_pairs()), **values)
    if lora is None:
        return encoder
    adapted = TransformerBackbone(encoder.backbone.model, encoder.backbone.padding, TransformerOptions(lora=lora))  # type: ignore[arg-type]
    for name, value in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(value, std=0.1)
    return BiEncoder(adapted, encoder.tokenizer, encoder.settings).eval()


MADE: dict[str, Callable[[Path], BiEncoder]] = {
    "static": lambda _: unigram("static", passage_prefix="passage "),
    "static with a dense layer": lambda _: unigram("static", projection=9, activation="tanh", normalize=False),
    "transformer": lambda _: unigram("transformer"),
    "dot products": lambda _: unigram("transformer", normalize=False, pooling="last"),
    "cls and dense": lambda _: unigram("transformer", pooling="cls", projection=16, activation="tanh", max_query_length=64),
    "bert": lambda _: bert(max_query_length=40),
    "decoder": lambda folder: decoder(folder),
    "decoder both ways": lambda folder: decoder(folder, bidirectional=True, pooling="mean"),
    "adapters": lambda folder: decoder(folder, Lora(rank=4)),
    "adapters on bfloat16": lambda folder: decoder(folder, Lora(rank=4, frozen="bfloat16")),
}


@pytest.mark.parametrize("kind", MADE)
def test_sentence_transformers_embeds_as_the_encoder(kind: str, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    given, folder = MADE[kind](tmp_path / "from"), tmp_path / "exported"
    folder.mkdir()
    before = {role: given.encode(MIXED, role) for role in ("query", "passage")}  # type: ignore[arg-type]
    encoder = ready(given)
    write(encoder, folder)
    assert " is " in check(encoder, folder)
    theirs = SentenceTransformer(str(folder), device="cpu", trust_remote_code=False)
    ours = PublishedModel(PathsConfig(), path=str(folder)).load()
    assert ours.settings == encoder.settings
    for role, encode in (("query", theirs.encode_query), ("passage", theirs.encode_document)):
        expected = encoder.encode(MIXED, role)  # type: ignore[arg-type]
        if not (kind == "adapters on bfloat16" or (kind.startswith("static") and role == "query")):  # read further there
            np.testing.assert_allclose(expected, before[role], rtol=0, atol=1e-5)
        np.testing.assert_allclose(encode(MIXED), expected, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(ours.encode(MIXED, role), expected, rtol=1e-5, atol=1e-5)  # type: ignore[arg-type]
    similarity = theirs.similarity(theirs.encode_query(MIXED[:2]), theirs.encode_document(MIXED[:3]))
    scores = encoder.encode(MIXED[:2], "query") @ encoder.encode(MIXED[:3], "passage").T
    np.testing.assert_allclose(similarity, scores, rtol=1e-5, atol=1e-5)
    assert theirs.max_seq_length == (np.inf if kind.startswith("static") else encoder.settings.longest)
    assert not list(folder.rglob("*.bin"))


def test_a_bag_of_tokens_without_special_ones_is_the_same_bag() -> None:
    tokenizer = train_unigram(TEXTS, 500)
    plain, rows = without_special_tokens(tokenizer)
    for text in [*MIXED, "<s>", "<s> <unk>x<pad>", "<MASK>", "\u0301combining", "ﬁ Å Ⅻ", "a\u00a0b\n\nc"]:
        expected = sorted(tokenizer.encode(text).ids)
        assert sorted(rows[plain.encode(text, add_special_tokens=False).ids].tolist()) == expected, text
    bare, same = without_special_tokens(plain)
    assert bare.encode(MIXED[0], add_special_tokens=False).ids == plain.encode(MIXED[0]).ids
    assert same.tolist() == list(range(len(rows)))


def test_what_has_no_counterpart_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a static encoder with model\.pooling=cls cannot be exported"):
        write(ready(unigram("static", pooling="cls")), tmp_path)
    bare = byte_pairs()
    text = json.loads(bare.to_str())
    encoder = unigram("transformer")
    encoder.tokenizer = Tokenizer.from_str(json.dumps({**text, "added_tokens": []}))
    with pytest.raises(InputError, match="its tokenizer has no special token"):
        write(encoder, tmp_path)


def test_a_directory_that_embeds_otherwise_is_found_out(tmp_path: Path) -> None:
    encoder = ready(unigram("transformer"))
    write(encoder, tmp_path)
    config = json.loads((tmp_path / "sentence_bert_config.json").read_text())
    (tmp_path / "sentence_bert_config.json").write_text(json.dumps({**config, "query_length": 23}))
    with pytest.raises(InputError, match=r"does not embed as the encoder: .* the largest difference is .*; expected 1e-05 at"):
        check(encoder, tmp_path)
