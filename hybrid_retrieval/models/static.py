"""A static encoder: token embeddings and mean pooling, nothing else. Trains in seconds on a CPU.

A step touches only the rows of the tokens in its batch. Gradients of the table are row-sparse, with each row once and in
order (though autograd forgets to mark them as coalesced), and so is the optimizer (`hybrid_retrieval.training.optimizers`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.models.encoder import Backbone, BiEncoder, EncoderSettings, Model, Tokens, TrainingText
from hybrid_retrieval.models.kernels import RowSparseEmbedding
from hybrid_retrieval.models.trained_tokenizer import Vocabulary, information, trained_tokenizer
from hybrid_retrieval.values import Count, check

INITIAL_SCALE = 0.05
"""Standard deviation of a new table, of its rarest token; see `StaticBackbone.weigh`."""


class StaticBackbone(Backbone):
    """A table of token embeddings."""

    pads = False

    def __init__(self, vocabulary: int, dimensions: int) -> None:
        super().__init__()
        self.dimensions = dimensions
        self.embedding = RowSparseEmbedding(vocabulary, dimensions)
        self.embedding.lazy = True
        nn.init.normal_(self.embedding.weight, std=INITIAL_SCALE)

    @torch.no_grad()
    def weigh(self, information: Tensor) -> None:
        """Scale a new table: each row as a part of the largest `information`, float [vocabulary], as idf weighs terms.

        A mean of random vectors of these lengths tells texts apart by the tokens they have in common, the rare ones first.
        """
        self.embedding.weight.mul_((information / information.max())[:, None])

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
    romanize: bool = False
    """Spell all alphabets in Latin letters."""
    max_query_length: Count = 64
    max_passage_length: Count = 128

    def __post_init__(self) -> None:
        check(type(self), vars(self), "model")
        self.settings = EncoderSettings(max_query_length=self.max_query_length, max_passage_length=self.max_passage_length)

    def tokenizer(self, training_text: TrainingText) -> Tokenizer:
        return trained_tokenizer(training_text, self.vocabulary, self.paths, self.romanize)

    def build(self, tokenizer: Tokenizer) -> BiEncoder:
        backbone = StaticBackbone(tokenizer.get_vocab_size(), self.dimensions)
        backbone.weigh(torch.tensor(information(tokenizer)))
        return BiEncoder(backbone, tokenizer, self.settings)
