"""A static encoder with transformer layers above its token embeddings, as a start that embeds as it does.

Layers begin at 0: what they add to the residual stream is multiplied by weights of 0 (arXiv 1706.02677, section 5.1), so that
training starts from the static encoder and not from noise (growth that keeps a function, arXiv 1511.05641). The architecture is
ModernBERT's (arXiv 2412.13663), whose norms stand before each part and not on the stream.

Its first and last norm would take from each token its length, which weighs it in the mean of a text. Two dimensions more keep
it: they bring every row to one length and to a mean of 0, so that the norms multiply all rows by the same, and are left out of
the embedding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, cast

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.models.encoder import Backbone
from hybrid_retrieval.models.published import PublishedModel
from hybrid_retrieval.models.tokenization import pad_id
from hybrid_retrieval.models.transformer import TransformerBackbone, model_of_config, positions
from hybrid_retrieval.values import Range

HEAD = 64
"""Dimensions of an attention head; as many heads as the rows need."""


@dataclass
class DeepenedModel(PublishedModel):
    """The static model of a run directory, or a published one, made deeper."""

    layers: Annotated[int, Range(0, 1000, above=True)] = 2

    def _backbone(self, tokenizer: Tokenizer) -> tuple[Backbone, int]:
        from transformers import ModernBertConfig

        own = self._static_table()
        if self.lora is not None:
            raise InputError("model=deepened trains new layers, which model.lora would freeze; expected model.lora=null")
        heads = -(-(own.shape[1] + 2) // HEAD)
        padding = pad_id(tokenizer)
        config = ModernBertConfig(
            vocab_size=len(own),
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
                backbone.table.weight.zero_()[:, : own.shape[1] + 2] = of_one_length(own)
                for layer in backbone.layers:
                    for part in (cast(Any, layer).attn, cast(Any, layer).mlp):
                        nn.init.zeros_(part.Wo.weight)
        return backbone, positions(config)

    def _settings(self, limit: int) -> dict[str, Any]:
        settings, own = super()._settings(limit), self._static_table().shape[1]
        settings["dimensions"] = settings["dimensions"] or own
        if settings["dimensions"] > own:
            raise InputError(f"model.dimensions={settings['dimensions']} is more than the static model's {own}")
        return settings


def of_one_length(rows: Tensor) -> Tensor:
    """[rows, dimensions + 2]: the rows with two more numbers, after which all have one length and a mean of 0.

    Two numbers of the sum -s have the squares s^2 / 2 + 2 d^2 as -s / 2 + d and -s / 2 - d; the row that is longest with d = 0
    says how long all become.
    """
    half = rows.sum(1) / 2
    square = rows.square().sum(1) + 2 * half.square()
    apart = ((square.max() - square) / 2).sqrt()
    return torch.cat([rows, torch.stack([apart - half, -apart - half], dim=1)], dim=1)
