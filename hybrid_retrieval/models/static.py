"""A static encoder: token embeddings and mean pooling, nothing else. Trains in seconds on a CPU.

A step touches only the rows of the tokens in its batch. Gradients of the table are row-sparse, with each row once and in
order (though autograd forgets to mark them as coalesced), and so is the optimizer (`hybrid_retrieval.training.optimizers`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer
from torch import Tensor, nn

from hybrid_retrieval.config import Count, PathsConfig, check
from hybrid_retrieval.models.encoder import Backbone, BiEncoder, EncoderSettings, Model, Tokens, TrainingText
from hybrid_retrieval.models.kernels import RowSparseEmbedding
from hybrid_retrieval.models.trained_tokenizer import Vocabulary, trained_tokenizer

INITIAL_SCALE = 0.01
"""Standard deviation of a new table: small, so that a token that training never met says little in a mean."""


class StaticBackbone(Backbone):
    """A table of token embeddings."""

    pads = False

    def __init__(self, vocabulary: int, dimensions: int) -> None:
        super().__init__()
        self.dimensions = dimensions
        self.embedding = RowSparseEmbedding(vocabulary, dimensions)
        self.embedding.lazy = True
        nn.init.normal_(self.embedding.weight, std=INITIAL_SCALE)

    @property
    def table(self) -> nn.Embedding:
        return self.embedding

    def forward(self, tokens: Tokens) -> Tensor:
        states: Tensor = self.embedding(tokens.ids)
        return states

    def pooled(self, tokens: Tokens, pooling: str) -> Tensor:
        if pooling == "mean" and isinstance(self.embedding, RowSparseEmbedding):
            return self.embedding.mean(tokens.ids, tokens.offsets)
        return super().pooled(tokens, pooling)

    def architecture(self) -> dict[str, Any]:
        vocabulary, dimensions = self.embedding.weight.shape
        return {"vocabulary": vocabulary, "dimensions": dimensions}


@dataclass
class StaticModel(Model):
    """Static embeddings over a tokenizer trained on the training text."""

    paths: PathsConfig
    dimensions: Count = 256
    vocabulary: Vocabulary = 32_000
    max_query_length: Count = 64
    max_passage_length: Count = 256

    def __post_init__(self) -> None:
        check(type(self), vars(self), "model")
        self.settings = EncoderSettings(max_query_length=self.max_query_length, max_passage_length=self.max_passage_length)

    def tokenizer(self, training_text: TrainingText) -> Tokenizer:
        return trained_tokenizer(training_text, self.vocabulary, self.paths)

    def build(self, tokenizer: Tokenizer) -> BiEncoder:
        return BiEncoder(StaticBackbone(tokenizer.get_vocab_size(), self.dimensions), tokenizer, self.settings)
