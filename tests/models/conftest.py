"""Text in several scripts, a small tokenizer trained on it, and small encoders over that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer

from hybrid_retrieval.models.encoder import Backbone, BiEncoder, EncoderSettings, Tokens
from hybrid_retrieval.models.static import StaticBackbone
from hybrid_retrieval.models.tokenization import train_unigram
from hybrid_retrieval.models.transformer import TransformerBackbone

SENTENCES = [
    "The spreadsheet keeps its formulas when a sheet is copied.",
    "Die Tabelle behält ihre Formeln, wenn ein Blatt kopiert wird.",
    "La hoja de cálculo conserva sus fórmulas al copiar una hoja.",
    "Таблица сохраняет формулы при копировании листа.",
    "Le texte est mis en forme par un style de paragraphe.",
    "Choose a paragraph style to format the text.",
    "Wählen Sie eine Absatzvorlage, um den Text zu formatieren.",
    "Выберите стиль абзаца, чтобы отформатировать текст.",
]
TEXTS = [f"{one} {other}" for one in SENTENCES for other in SENTENCES]


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return train_unigram(TEXTS, 500)


def random_tokens(seed: int, lengths: list[int], vocabulary: int = 50) -> Tokens:
    """Ragged random ids above those of special tokens, with repetitions inside of a text."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, vocabulary, (sum(lengths),), generator=generator)
    return Tokens(ids, torch.tensor([0, *torch.tensor(lengths).cumsum(0).tolist()]))


def small_transformer(vocabulary: int, seed: int = 0, **changes: Any) -> TransformerBackbone:
    from transformers import XLMRobertaConfig, XLMRobertaModel

    torch.manual_seed(seed)
    config = XLMRobertaConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=80,
        pad_token_id=1,
        type_vocab_size=1,
        **changes,
    )
    return TransformerBackbone(XLMRobertaModel(config, add_pooling_layer=False), 1).eval()


@pytest.fixture
def make_encoder(tokenizer: Tokenizer) -> Callable[..., BiEncoder]:
    def make(kind: str = "static", **settings: Any) -> BiEncoder:
        size = tokenizer.get_vocab_size()
        torch.manual_seed(0)
        backbone: Backbone = StaticBackbone(size, 32) if kind == "static" else small_transformer(size)
        chosen = {"max_query_length": 24, "max_passage_length": 64, "query_prefix": "Query: ", **settings}
        return BiEncoder(backbone, tokenizer, EncoderSettings(**chosen)).eval()

    return make
