"""Transformer backbones: from scratch with a tokenizer trained on the spot, or from a published directory or the hub."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import KW_ONLY, asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from hybrid_retrieval.config import Count, Dropout, PathsConfig, Range, check, construct
from hybrid_retrieval.errors import InputError, choice, first_line, reading
from hybrid_retrieval.hub import Hub
from hybrid_retrieval.models.adapters import Lora, add_adapters
from hybrid_retrieval.models.encoder import Backbone, BiEncoder, EncoderSettings, Model, Tokens, TrainingText
from hybrid_retrieval.models.published import check_config, model_of_config, published_dense, published_weights, with_end
from hybrid_retrieval.models.tokenization import load_tokenizer, pad_id
from hybrid_retrieval.models.trained_tokenizer import Vocabulary, trained_tokenizer

T = TypeVar("T")


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
        longest = tokens.longest or int(lengths.max())
        text, within = _places(tokens, lengths)
        places = text * longest + within
        ids = torch.full((len(tokens) * longest,), self.padding, dtype=torch.long, device=tokens.ids.device)
        ids = ids.index_copy(0, places, tokens.ids).view(-1, longest)  # [tokens] -> [texts, longest]
        mask = torch.arange(longest, device=ids.device) < lengths[:, None]
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
class TransformerModel(Model):
    """Config that both kinds of transformer share; see `EncoderSettings` and `TransformerOptions` for what it means."""

    paths: PathsConfig
    _: KW_ONLY
    pooling: str = "mean"
    max_query_length: Count = 256
    max_passage_length: Count = 256
    token_embeddings: str = "dense"
    gradient_checkpointing: bool = False
    compile: bool = False


@dataclass
class ScratchTransformer(TransformerModel):
    """XLM-R's architecture with random weights, over a tokenizer trained on the training text."""

    layers: Annotated[int, Range(0, 1000, above=True)]
    hidden: Annotated[int, Range(0, 1 << 17, above=True)]
    heads: Count
    vocabulary: Vocabulary = 32_000
    dropout: Dropout = 0.1
    """For states and for attention."""
    projection: Count | None = None

    def __post_init__(self) -> None:
        check(type(self), vars(self), "model")
        if self.hidden % self.heads:
            raise InputError(f"model.heads={self.heads} does not divide model.hidden={self.hidden}")
        self.settings, self.options = _of(EncoderSettings, self), _of(TransformerOptions, self)

    def tokenizer(self, training_text: TrainingText) -> Tokenizer:
        return trained_tokenizer(training_text, self.vocabulary, self.paths)

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


@dataclass
class PretrainedTransformer(TransformerModel):
    """A published encoder, from the hub or from a local directory in the published layout."""

    name: str
    """The repository on the hub."""
    path: str | None = None
    """A local directory instead; nothing is looked up on the hub then."""
    revision: str | None = None
    """A branch, tag or commit of the hub repository."""
    projection: Count | str | None = None
    """Dimensions of a new linear layer, or ``published``: the dense layer that the directory holds in
    sentence-transformers' layout (``2_Dense``), as LaBSE does."""
    query_prefix: str = ""
    passage_prefix: str = ""
    end_token: str | None = None
    """With ``pooling=last``, the token that ends every text; by default what the tokenizer ends texts with, or else its end
    of sequence."""
    bidirectional: bool = False
    lora: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.projection, str) and self.projection != "published":
            raise InputError(f"model.projection={self.projection!r} is unknown; expected a number, 'published' or null")
        width = None if self.projection == "published" else self.projection
        self.settings = _of(EncoderSettings, self, projection=width)
        lora = None if self.lora is None else construct(Lora, self.lora, "model.lora")
        self.options = _of(TransformerOptions, self, lora=lora)

    @cached_property
    def directory(self) -> Path:
        """The published files; fetched from the hub on first use."""
        if not self.path:
            advice = "give a local directory in the published layout with model.path="
            return Hub().model_directory(self.name, self.revision, advice)
        local = Path(self.path).expanduser()
        if not (local / "config.json").exists():
            raise InputError(f"model.path={local} holds no config.json; expected a model directory in the published layout")
        return local

    def tokenizer(self, training_text: TrainingText) -> Tokenizer:
        tokenizer = load_tokenizer(self.directory)
        return with_end(tokenizer, self.directory, self.end_token) if self.pooling == "last" else tokenizer

    def build(self, tokenizer: Tokenizer) -> BiEncoder:
        backbone = TransformerBackbone(published_weights(self.directory), pad_id(tokenizer), self.options)
        config: Any = backbone.model.config
        limit = _positions(config)
        if limit and self.settings.longest > limit:
            raise InputError(f"model.max_*_length={self.settings.longest} is more than the {limit} positions of {self.name}")
        with reading(f"model.path={self.directory}", whole=True):
            if self.projection != "published":
                return BiEncoder(backbone, tokenizer, self.settings)
            weights, activation = published_dense(self.directory, backbone.dimensions)
            settings = replace(self.settings, projection=len(weights["bias"]), activation=activation)
            encoder = BiEncoder(backbone, tokenizer, settings)
            cast(nn.Linear, encoder.projection).load_state_dict(weights)
            return encoder


def _of(kind: type[T], model: Model, **given: Any) -> T:
    """The dataclass `kind` with the values that a model's config has under the same names."""
    names = {field.name for field in fields(cast(Any, kind))} & vars(model).keys()
    return kind(**({name: getattr(model, name) for name in names} | given))


def _positions(config: Any) -> int:
    """Tokens that the position embeddings have room for; 0 where the architecture sets no limit."""
    positions = int(getattr(config, "max_position_embeddings", 0) or 0)
    return positions - first_position(config) if positions else 0


def _places(tokens: Tokens, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """int64 [tokens]: the text of every token, and its position there; nothing waits for a GPU to count a mask."""
    text = torch.repeat_interleave(lengths, output_size=len(tokens.ids))
    return text, torch.arange(len(tokens.ids), device=tokens.ids.device) - tokens.offsets[text]


def first_position(config: Any) -> int:
    """The number of a text's first position; RoBERTa and its kin number from the padding id + 1."""
    return config.pad_token_id + 1 if config.model_type in {"roberta", "xlm-roberta", "camembert", "mpnet"} else 0
