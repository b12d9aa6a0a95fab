"""A small tokenizer, encoders over it, and a published directory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer

from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.models.encoder import Backbone, BiEncoder, EncoderSettings
from hybrid_retrieval.models.static import StaticBackbone, StaticModel
from hybrid_retrieval.models.tokenization import train_unigram
from tests.models.small_models import (
    DIMENSIONS,
    TEXTS,
    TrainingSample,
    small_transformer,
    wordpiece,
    write_run,
    write_tokenizer,
    xlmr,
)


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return train_unigram(TEXTS, 500)


@pytest.fixture
def make_encoder(tokenizer: Tokenizer) -> Callable[..., BiEncoder]:
    def make(kind: str = "static", **settings: Any) -> BiEncoder:
        size = tokenizer.get_vocab_size()
        torch.manual_seed(0)
        backbone: Backbone = StaticBackbone(size, 32) if kind == "static" else small_transformer(size)
        chosen = {"max_query_length": 24, "max_passage_length": 64, "query_prefix": "Query: ", **settings}
        return BiEncoder(backbone, tokenizer, EncoderSettings(**chosen)).eval()

    return make


@pytest.fixture
def paths(tmp_path: Path) -> PathsConfig:
    return PathsConfig(cache=str(tmp_path / "cache"))


@pytest.fixture
def static_run(tmp_path: Path, paths: PathsConfig) -> Path:
    """The run directory of a static model, whose rows are as long as a token is rare."""
    model = StaticModel(paths, dimensions=DIMENSIONS, vocabulary=400)
    torch.manual_seed(1)
    return write_run(model.encoder(TrainingSample()), tmp_path / "run")


@pytest.fixture(scope="session")
def xlmr_like(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Path:
    directory = tmp_path_factory.mktemp("xlmr")
    xlmr(tokenizer.get_vocab_size(), seed=5, initializer_range=0.3).save_pretrained(directory)
    special = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>", "mask_token": "<mask>"}
    write_tokenizer(directory, tokenizer, **special)
    return directory


@pytest.fixture(scope="session")
def bert_like(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a pooling head in its weights, as published BERT models have."""
    from transformers import BertConfig, BertModel

    directory = tmp_path_factory.mktemp("bert")
    tokenizer = wordpiece()
    torch.manual_seed(6)
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
        initializer_range=0.3,
    )
    BertModel(config).save_pretrained(directory)
    special = {"cls_token": "[CLS]", "pad_token": "[PAD]", "sep_token": "[SEP]", "unk_token": "[UNK]", "mask_token": "[MASK]"}
    write_tokenizer(directory, tokenizer, **special)
    return directory
