"""ONNX files of exported directories: equal to the encoder by onnxruntime, in int8 nearly, or refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.models.encoder import Backbone, BiEncoder, EncoderSettings
from hybrid_retrieval.models.static import StaticBackbone
from hybrid_retrieval.models.tokenization import train_unigram
from hybrid_retrieval.shipping.directory import ready, write
from hybrid_retrieval.shipping.onnx import write_onnx
from tests.models.small_models import (
    SENTENCES,
    TEXTS,
    byte_pairs,
    load_decoder,
    small_transformer,
    write_decoder,
)

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


def small(kind: str, folder: Path, **settings: Any) -> BiEncoder:
    if kind == "decoder":
        return load_decoder(write_decoder(folder / "decoder", "qwen3", byte_pairs()), bidirectional=True)
    tokenizer: Tokenizer = train_unigram(TEXTS, 500)
    size = tokenizer.get_vocab_size()
    torch.manual_seed(0)
    backbone: Backbone = StaticBackbone(size, 32) if kind == "static" else small_transformer(size, initializer_range=0.3)
    chosen = {"max_query_length": 24, "max_passage_length": 64, "query_prefix": "Query: ", **settings}
    return BiEncoder(backbone, tokenizer, EncoderSettings(**chosen)).eval()


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("static", {}),
        ("transformer", {"pooling": "cls", "projection": 16, "activation": "tanh", "dimensions": 12}),
        pytest.param("transformer", {"normalize": False}, marks=pytest.mark.slow),
        pytest.param("decoder", {}, marks=pytest.mark.slow),
    ],
)
def test_onnxruntime_embeds_as_the_encoder(kind: str, settings: dict[str, Any], tmp_path: Path) -> None:
    encoder = ready(small(kind, tmp_path, **settings))
    folder = tmp_path / "exported"
    folder.mkdir()
    write(encoder, folder)
    (_, whole), (said, quantised) = write_onnx(folder, "int8")
    assert "onnx/model_int8.onnx, " in said
    texts = [*SENTENCES, "a", " ".join(TEXTS), "สวัสดี 🎉"]
    for role in ("query", "passage"):
        expected = encoder.encode(texts, role)  # type: ignore[arg-type]
        np.testing.assert_allclose(whole.encode(texts, role), expected, rtol=0, atol=1e-4)  # type: ignore[arg-type]
        rough = quantised.encode(texts, role)  # type: ignore[arg-type]
        cosine = (rough * expected).sum(1) / np.linalg.norm(rough, axis=1) / np.linalg.norm(expected, axis=1)
        assert cosine.min() > 0.9
    assert quantised.file.stat().st_size < whole.file.stat().st_size
    session = onnxruntime.InferenceSession(whole.file)
    names = [one.name for one in session.get_outputs()]
    assert names == ["sentence_embedding"] + (["last_hidden_state"] if kind != "static" else [])


def test_an_architecture_that_cannot_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "exported"
    folder.mkdir()
    write(ready(small("transformer", tmp_path)), folder)

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("no rule for aten::something\nand more")

    monkeypatch.setattr(torch.onnx, "export", fail)
    with pytest.raises(
        InputError, match=r"^--onnx: XLMRobertaModel cannot be exported to ONNX \(no rule for aten::something\)$"
    ):
        list(write_onnx(folder, "float32"))
