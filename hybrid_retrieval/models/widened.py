"""A static encoder with random dimensions beside its own, as a start.

Few dimensions that were taught meaning tell few words apart. Random ones, which every token has for itself, tell all of them
apart: the mean of a text's rows then is near that of another text with the same rare words, too (a random projection of
tf-idf, whose products it keeps within 1 / sqrt(`random_dimensions`)). Training goes on with both.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.models.encoder import Backbone
from hybrid_retrieval.models.published import PublishedModel
from hybrid_retrieval.models.static import INITIAL_SCALE, StaticBackbone
from hybrid_retrieval.models.trained_tokenizer import information
from hybrid_retrieval.values import Count, NotNegative


@dataclass
class WidenedModel(PublishedModel):
    """The static model of a run directory, or a published one with a unigram tokenizer, made wider."""

    random_dimensions: Count = 640
    random_scale: NotNegative = 1.0
    """Length of the random part of the rarest token, in median lengths of the model's own rows that stand for text; by idf
    of all others."""

    def _backbone(self, tokenizer: Tokenizer) -> tuple[Backbone, int]:
        own = self._static().table.weight.detach()
        if json.loads(tokenizer.to_str())["model"].get("type") != "Unigram":
            raise InputError(f"model.path={self.directory}: expected a unigram tokenizer, which says how rare tokens are")
        wide = StaticBackbone(len(own), own.shape[1] + self.random_dimensions)
        if own.device.type == "meta":
            return wide, 0
        beside = StaticBackbone(len(own), self.random_dimensions)
        says = torch.tensor(information(tokenizer))
        beside.weigh(says)
        length = self.random_scale * own.norm(dim=1)[says > 0].median() / (INITIAL_SCALE * self.random_dimensions**0.5)
        wide.table.load_state_dict({"weight": torch.cat([own, beside.table.weight.detach() * length], dim=1)})
        return wide, 0
