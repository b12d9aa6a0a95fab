"""A static encoder with transformer layers above its token embeddings, as a start that embeds as it does.

The output projections of new layers are 0 (as in arXiv 1706.02677, section 5.1), so that nothing is added to the residual
stream and training starts from the static encoder, not from noise (growth that keeps a function, arXiv 1511.05641). The
architecture is ModernBERT's (arXiv 2412.13663): a LayerNorm before attention and before MLP, and one at each end of the stream.

Those at the ends would take from each token its norm, which weighs it in the mean of a text. Two dimensions more keep it: they
bring every row to one norm and to a mean of 0, so that all rows are divided by the same, and are left out of the embedding.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, cast

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.models.encoder import Backbone
from hybrid_retrieval.models.published import DEFAULT_LENGTH, LENGTHS, PublishedModel
from hybrid_retrieval.models.tokenization import PADS, pad_id
from hybrid_retrieval.models.transformer import TransformerBackbone, model_of_config, positions
from hybrid_retrieval.values import Range

HEAD = 64
"""Dimensions of an attention head; as many heads as the rows need."""


@dataclass
class DeepenedModel(PublishedModel):
    """The static model of a run directory, or a published one, made deeper; embeddings keep its dimensions."""

    layers: Annotated[int, Range(0, 1000, above=True)] = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        refused = {"lora": self.lora, "bidirectional": self.bidirectional, "projection": self.projection}
        for name, value in refused.items():
            if value and value != "none":
                raise InputError(f"model.{name}={value}: model=deepened has layers of its own, all trained; leave it out")

    def own_tokenizer(self) -> Tokenizer:
        """The static model's, with its padding token as a special one, which a published static model may have as a word."""
        tokenizer = super().own_tokenizer()
        padding = next((token for token in PADS if tokenizer.token_to_id(token) is not None), None)
        if padding is None:
            raise InputError(f"model.path={self.directory}: its tokenizer has none of {', '.join(PADS)} to fill batches with")
        tokenizer.add_special_tokens([padding])
        return tokenizer

    @cached_property
    def _rows(self) -> Tensor:
        if self.projection != "none" and (self.layout.dense or (self.trained and self.trained.projection)):
            raise InputError(
                f"model.path={self.directory} has a dense layer; expected model.projection=none, which leaves it out"
            )
        return self._static_table()

    def _backbone(self, tokenizer: Tokenizer) -> tuple[Backbone, int]:
        from transformers import ModernBertConfig

        rows, padding = self._rows, pad_id(tokenizer)
        heads = -(-(rows.shape[1] + 2) // HEAD)
        config = ModernBertConfig(
            vocab_size=len(rows),
            pad_token_id=padding,
            **dict.fromkeys(("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id")),  # nothing asks for them
            num_hidden_layers=self.layers,
            hidden_size=heads * HEAD,
            num_attention_heads=heads,
            intermediate_size=heads * HEAD * 3 // 2,
            global_attn_every_n_layers=1,
        )
        backbone = TransformerBackbone(model_of_config(config), padding, self.options)
        if backbone.table.weight.device.type != "meta":
            with torch.no_grad():
                backbone.table.weight.zero_()[:, : rows.shape[1] + 2] = of_equal_norm(rows)
                for layer in backbone.layers:
                    for part in (cast(Any, layer).attn, cast(Any, layer).mlp):
                        nn.init.zeros_(part.Wo.weight)
        return backbone, positions(config)

    def _settings(self, limit: int) -> dict[str, Any]:
        settings, own = super()._settings(limit), self._rows.shape[1]
        settings["dimensions"] = settings["dimensions"] or own
        if settings["dimensions"] > own:
            raise InputError(f"model.dimensions={settings['dimensions']} is more than the static model's {own}")
        if not settings["normalize"]:
            raise InputError("model.normalize=false: model=deepened keeps the direction of embeddings; expected true")
        for name in LENGTHS:
            if getattr(self, name) is None and name not in self.layout.saved:
                settings[name] = DEFAULT_LENGTH  # a static model reads all of a text, which attention pays for
        return settings


def of_equal_norm(rows: Tensor) -> Tensor:
    """[rows, dimensions + 2]: the rows with two more numbers, after which all have one norm and a mean of 0.

    Two numbers of the sum -s have the squares s^2 / 2 + 2 d^2 as -s / 2 + d and -s / 2 - d; the row whose norm is the largest
    with d = 0 says what all become.
    """
    half = rows.sum(1) / 2
    square = rows.square().sum(1) + 2 * half.square()
    apart = ((square.max() - square) / 2).sqrt()
    return torch.cat([rows, torch.stack([apart - half, -apart - half], dim=1)], dim=1)
