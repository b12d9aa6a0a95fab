"""Transformer backbones: any of transformers' models, and XLM-R's architecture from scratch."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Annotated, Any, TypeVar, cast

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.errors import InputError, choice, first_line
from hybrid_retrieval.models.adapters import Lora, add_adapters
from hybrid_retrieval.models.encoder import Backbone, BiEncoder, EncoderSettings, Model, Tokens, TrainingText
from hybrid_retrieval.models.kernels import forget_attention
from hybrid_retrieval.models.tokenization import pad_id
from hybrid_retrieval.models.trained_tokenizer import Vocabulary, trained_tokenizer
from hybrid_retrieval.values import Count, Dropout, Range, check, construct, fault

T = TypeVar("T")
Layers = Annotated[int, Range(0, 10_000, above=True)]
"""More are a mistake in a file, that would be counted up to for hours."""


@dataclass(frozen=True)
class TransformerOptions:
    """Changes to a transformers model before it is trained."""

    token_embeddings: str = "dense"
    """Training of their table. dense: as AdamW does, all rows in every step; sparse: the rows of the step only, whose
    moments and decay stand still in between; frozen: not at all."""
    bidirectional: bool = False
    """Let every token of a causal model see the whole text (LLM2Vec, arXiv 2404.05961)."""
    lora: Lora | None = None
    """Train adapters only."""
    gradient_checkpointing: bool = False
    """Keep the states between layers only, and compute each layer again in the backward pass."""
    compile: bool = False
    """Compile the layers, once for all lengths."""

    def __post_init__(self) -> None:
        choice("model.token_embeddings", self.token_embeddings, ["dense", "sparse", "frozen"])
        if self.lora is not None and self.token_embeddings == "sparse":
            raise InputError("model.token_embeddings=sparse trains what model.lora freezes: choose one of them")


class TransformerBackbone(Backbone):
    """A transformers model, given texts padded or end to end as its attention allows."""

    def __init__(self, model: nn.Module, padding: int, options: TransformerOptions | None = None) -> None:
        super().__init__()
        self.model = model
        self.padding = padding
        self.options = options or TransformerOptions()
        config: Any = model.config
        config.use_cache = False
        self.dimensions = int(config.hidden_size)
        if self.options.lora is not None:
            add_adapters(model, self.options.lora)
        self._apply_options()

    def _apply_options(self) -> None:
        options, model = self.options, cast(Any, self.model)
        table: Any = self.table
        kind = type(table)
        if options.token_embeddings == "sparse":
            if kind is not nn.Embedding:
                raise InputError(f"model.token_embeddings=sparse: the table is a {kind.__name__}; expected a plain one")
            table.lazy = True  # see `kernels.lazy_tables`
        elif options.token_embeddings == "frozen":
            table.requires_grad_(False)
        if options.bidirectional:
            model.config.is_causal = False
        if options.gradient_checkpointing:
            # Its name until transformers 5.17.
            enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
            try:
                enable({"use_reentrant": False})
            except ValueError as error:
                raise InputError(f"model.gradient_checkpointing=true: {first_line(error)}") from error
        if options.compile:
            for layer in self.layers:
                layer.compile(dynamic=True)

    @property
    def table(self) -> nn.Embedding:
        found: nn.Embedding = cast(Any, self.model).get_input_embeddings()
        return found

    def forward(self, tokens: Tokens) -> Tensor:
        from hybrid_retrieval.models.kernels.attention import unpadded

        self.padded_last = not unpadded(self.model, tokens.ids.device)
        return self.padded(tokens) if self.padded_last else self.end_to_end(tokens)

    def padded(self, tokens: Tokens) -> Tensor:
        """States [tokens, dimensions] by way of texts padded to the longest: 2 to 6% more work in chunks of similar length."""
        lengths = tokens.offsets[1:] - tokens.offsets[:-1]
        longest = max(1, tokens.longest or int(lengths.max()))
        text, within = _places(tokens, lengths)
        places = text * longest + within
        ids = torch.full((len(tokens) * longest,), self.padding, dtype=torch.long, device=tokens.ids.device)
        ids = ids.index_copy(0, places, tokens.ids).view(-1, longest)  # [tokens] -> [texts, longest]
        mask = torch.arange(longest, device=ids.device) < lengths[:, None].clamp(min=1)  # a softmax over nothing is no number
        states: Tensor = self.model(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        return states.flatten(0, 1).index_select(0, places).float()  # [texts, longest, dimensions] -> [tokens, dimensions]

    def end_to_end(self, tokens: Tokens) -> Tensor:
        """The same without padding: one row of all tokens, whose positions start anew with each text."""
        from hybrid_retrieval.models.kernels.attention import ragged_arguments

        lengths = tokens.offsets[1:] - tokens.offsets[:-1]
        _, within = _places(tokens, lengths)
        states: Tensor = self.model(
            input_ids=tokens.ids[None],  # [1, tokens]
            position_ids=(within + first_position(self.model.config))[None],
            **ragged_arguments(tokens.offsets, tokens.longest or int(lengths.max())),
        ).last_hidden_state
        return states.squeeze(0).float()

    def architecture(self) -> dict[str, Any]:
        config: Any = self.model.config
        lora = self.options.lora and asdict(self.options.lora)
        return {"config": json.loads(config.to_json_string()), "padding": self.padding, "lora": lora}

    @classmethod
    def of_architecture(cls, architecture: Mapping[str, Any]) -> TransformerBackbone:
        from transformers import CONFIG_MAPPING

        check_config(architecture["config"])
        config = CONFIG_MAPPING[architecture["config"]["model_type"]].from_dict(architecture["config"])
        lora = architecture["lora"] and construct(Lora, architecture["lora"], "model.lora")
        return cls(model_of_config(config), architecture["padding"], TransformerOptions(lora=lora))


@dataclass
class ScratchTransformer(Model):
    """XLM-R's architecture with random weights, over a tokenizer trained on the training text."""

    paths: PathsConfig
    layers: Annotated[int, Range(0, 1000, above=True)]
    hidden: Annotated[int, Range(0, 1 << 17, above=True)]
    heads: Count
    vocabulary: Vocabulary = 32_000
    romanize: bool = False
    """Spell all alphabets in Latin letters."""
    dropout: Dropout = 0.1
    """For states and for attention."""
    pooling: str = "mean"
    projection: Count | None = None
    max_query_length: Count = 256
    max_passage_length: Count = 256
    token_embeddings: str = "dense"
    gradient_checkpointing: bool = False
    compile: bool = False

    def __post_init__(self) -> None:
        check(type(self), vars(self), "model")
        if self.hidden % self.heads:
            raise InputError(f"model.heads={self.heads} does not divide model.hidden={self.hidden}")
        self.settings, self.options = values_for(EncoderSettings, self), values_for(TransformerOptions, self)

    def tokenizer(self, training_text: TrainingText) -> Tokenizer:
        return trained_tokenizer(training_text, self.vocabulary, self.paths, self.romanize)

    def build(self, tokenizer: Tokenizer) -> BiEncoder:
        from transformers import XLMRobertaConfig, XLMRobertaModel

        padding = pad_id(tokenizer)
        config = XLMRobertaConfig(
            vocab_size=tokenizer.get_vocab_size(),
            pad_token_id=padding,
            bos_token_id=0,
            eos_token_id=2,
            type_vocab_size=1,
            layer_norm_eps=1e-5,
            # This architecture numbers positions from the padding id + 1.
            max_position_embeddings=self.settings.longest + padding + 1,
            num_hidden_layers=self.layers,
            hidden_size=self.hidden,
            num_attention_heads=self.heads,
            intermediate_size=4 * self.hidden,
            hidden_dropout_prob=self.dropout,
            attention_probs_dropout_prob=self.dropout,
        )
        model = XLMRobertaModel(config, add_pooling_layer=False)
        return BiEncoder(TransformerBackbone(model, padding, self.options), tokenizer, self.settings)


def check_config(values: Mapping[str, Any]) -> None:
    """Refuse the values of a config that no model here can have, before transformers acts on them."""
    if values.get("quantization_config") is not None:
        raise InputError("config.json says that the weights are quantised (quantization_config); expected plain ones")
    if values.get("is_encoder_decoder"):
        raise InputError("config.json is of an encoder with a decoder (is_encoder_decoder); expected one of the two")
    for name, value in values.items():
        if re.fullmatch(r"(num_|n_).*layers?", name) and (said := fault(value, Layers)):
            raise InputError(f"config.json: {name}{said}")


def model_of_config(config: Any) -> nn.Module:
    """A model of a transformers config, with random weights; whatever code the config names, none but transformers' runs."""
    from transformers import AutoModel

    forget_attention(config)
    model: nn.Module = AutoModel.from_config(config, trust_remote_code=False, **without_pooler(config))
    return model


def without_pooler(config: Any) -> dict[str, Any]:
    """BERT-like models carry a pooling head that nothing here uses."""
    return {"add_pooling_layer": False} if config.model_type in {"bert", "roberta", "xlm-roberta"} else {}


def values_for(kind: type[T], model: Model, **given: Any) -> T:
    """The dataclass `kind` with the values that a model's config has under the same names."""
    names = {field.name for field in fields(cast(Any, kind))} & vars(model).keys()
    return kind(**({name: getattr(model, name) for name in names} | given))


def positions(config: Any) -> int:
    """Tokens that the position embeddings have room for; 0 where the architecture sets no limit."""
    numbers = int(getattr(config, "max_position_embeddings", 0) or 0)
    return numbers - first_position(config) if numbers else 0


def _places(tokens: Tokens, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """int64 [tokens]: the text of every token, and its position there; nothing waits for a GPU to count a mask."""
    text = torch.repeat_interleave(lengths, output_size=len(tokens.ids))
    return text, torch.arange(len(tokens.ids), device=tokens.ids.device) - tokens.offsets[text]


def first_position(config: Any) -> int:
    """The number of a text's first position; RoBERTa and its kin number from the padding id + 1."""
    return config.pad_token_id + 1 if config.model_type in {"roberta", "xlm-roberta", "camembert", "mpnet"} else 0
