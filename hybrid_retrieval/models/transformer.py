"""Transformer backbones: from scratch with a tokenizer trained on the spot, or from a published directory or the hub."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from hybrid_retrieval.config import PathsConfig, construct, positive
from hybrid_retrieval.errors import InputError, choice
from hybrid_retrieval.hub import Hub
from hybrid_retrieval.models.adapters import Lora, add_adapters
from hybrid_retrieval.models.attention import ATTENTION, unpadded
from hybrid_retrieval.models.dropout import Dropout
from hybrid_retrieval.models.encoder import (
    Backbone,
    BiEncoder,
    EncoderSettings,
    Model,
    Tokens,
    TrainingText,
)
from hybrid_retrieval.models.published import published_dense, published_weights, with_end, without_pooler
from hybrid_retrieval.models.row_sparse import RowSparseEmbedding
from hybrid_retrieval.models.tokenization import first_line, load_tokenizer, pad_id
from hybrid_retrieval.models.trained_tokenizer import trained_tokenizer


@dataclass(frozen=True)
class TransformerOptions:
    """What is done to a transformers model before it is trained."""

    token_embeddings: str = "dense"
    """How their table is trained. dense: as AdamW does, all rows in every step; sparse: the rows of the step only, whose
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

    @classmethod
    def of(cls, lora: Mapping[str, Any] | None, **values: Any) -> TransformerOptions:
        """With `lora` as a config node."""
        return cls(lora=None if lora is None else construct(Lora, lora, "model.lora"), **values)


class TransformerBackbone(Backbone):
    """A transformers model with the attention, dropout and token embeddings of this package in place of its own."""

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
        replace_parts(model)
        self._apply_options()

    def _apply_options(self) -> None:
        options, model = self.options, cast(Any, self.model)
        table = model.get_input_embeddings()
        if options.token_embeddings == "sparse":
            if not isinstance(table, RowSparseEmbedding):
                raise InputError(f"model.token_embeddings=sparse: the table is a {type(table).__name__}; expected a plain one")
            table.lazy = True
        elif options.token_embeddings == "frozen":
            table.requires_grad_(False)
        if options.bidirectional:
            model.config.is_causal = False
        if options.gradient_checkpointing:
            try:
                model.activation_checkpointing_enable({"use_reentrant": False})
            except ValueError as error:
                raise InputError(f"model.gradient_checkpointing=true: {first_line(error)}") from error
        if options.compile:
            for layer in self._stack[1]:
                layer.compile(dynamic=True)

    def forward(self, tokens: Tokens) -> Tensor:
        if unpadded(self.model, tokens.ids.device):
            return self._unpadded(tokens)
        lengths = tokens.offsets[1:] - tokens.offsets[:-1]
        longest = tokens.longest or int(lengths.max())
        text, within = _places(tokens, lengths)
        places = text * longest + within
        ids = torch.full((len(tokens) * longest,), self.padding, dtype=torch.long, device=tokens.ids.device)
        ids = ids.index_copy(0, places, tokens.ids).view(-1, longest)
        mask = torch.arange(longest, device=ids.device) < lengths[:, None]
        states: Tensor = self.model(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        return states.flatten(0, 1).index_select(0, places).float()

    def _unpadded(self, tokens: Tokens) -> Tensor:
        """States of texts laid end to end; positions start anew with each text."""
        lengths = tokens.offsets[1:] - tokens.offsets[:-1]
        _, within = _places(tokens, lengths)
        offsets = tokens.offsets.int()
        longest = tokens.longest or int(lengths.max())
        states: Tensor = self.model(
            input_ids=tokens.ids[None],
            # Whatever has four dimensions passes for a mask, so that none of [tokens, tokens] is made.
            attention_mask=torch.ones(1, 1, 1, 1, dtype=torch.bool, device=offsets.device),
            position_ids=(within + first_position(self.model.config))[None],
            cu_seq_lens_q=offsets,
            cu_seq_lens_k=offsets,
            max_length_q=longest,
            max_length_k=longest,
        ).last_hidden_state
        return states.squeeze(0).float()

    @property
    def _stack(self) -> tuple[str, nn.ModuleList]:
        """The list of layers, and its name in the model."""
        config: Any = self.model.config
        count = config.num_hidden_layers
        for name, part in self.model.named_modules():
            if isinstance(part, nn.ModuleList) and len(part) == count:
                return name, part
        raise InputError(f"a {config.model_type} model has no list of {count} layers")

    def layers_above(self, name: str) -> int:
        stack, layers = self._stack
        start = f"model.{stack}."
        if name.startswith(start):
            return len(layers) - int(re.findall(r"\d+", name.removeprefix(start))[0])
        names = [one for one, _ in self.named_parameters()]
        first = next(place for place, one in enumerate(names) if one.startswith(start))
        return len(layers) + 1 if names.index(name) < first else 0

    def save_config(self, directory: Path) -> None:
        config: Any = self.model.config
        config.save_pretrained(directory)
        lora = self.options.lora and asdict(self.options.lora)
        (directory / "transformer.json").write_text(json.dumps({"padding": self.padding, "lora": lora}))

    @classmethod
    def load_config(cls, directory: Path) -> TransformerBackbone:
        """The architecture as saved, with random weights."""
        from transformers import AutoConfig, AutoModel

        record = json.loads((directory / "transformer.json").read_text())
        model = AutoModel.from_config(AutoConfig.from_pretrained(directory), **without_pooler(directory))
        return cls(model, record["padding"], TransformerOptions.of(record["lora"]))


class ScratchTransformer(Model):
    """XLM-R's architecture with random weights, over a tokenizer trained on the training text."""

    def __init__(
        self,
        paths: PathsConfig,
        layers: int,
        hidden: int,
        heads: int,
        vocabulary: int = 32_000,
        dropout: float = 0.1,
        pooling: str = "mean",
        projection: int | None = None,
        max_query_length: int = 64,
        max_passage_length: int = 256,
        token_embeddings: str = "dense",
        gradient_checkpointing: bool = False,
        compile: bool = False,  # noqa: A002 (a config key)
    ) -> None:
        """
        Args:
            layers, hidden, heads: of the transformer; its feed-forward layers are four times as wide.
            dropout: of states and of attention.
            pooling, projection, max_query_length, max_passage_length: see `EncoderSettings`.
            token_embeddings, gradient_checkpointing, compile: see `TransformerOptions`.
        """
        for name, number in (("layers", layers), ("hidden", hidden), ("heads", heads), ("vocabulary", vocabulary)):
            positive(f"model.{name}", number)
        if hidden % heads:
            raise InputError(f"model.heads={heads} does not divide model.hidden={hidden}")
        self._paths, self._vocabulary = paths, vocabulary
        self._shape = {
            "num_hidden_layers": layers,
            "hidden_size": hidden,
            "num_attention_heads": heads,
            "intermediate_size": 4 * hidden,
            "hidden_dropout_prob": dropout,
            "attention_probs_dropout_prob": dropout,
        }
        self._settings = EncoderSettings(
            pooling=pooling, projection=projection, max_query_length=max_query_length, max_passage_length=max_passage_length
        )
        self._options = TransformerOptions(
            token_embeddings=token_embeddings, gradient_checkpointing=gradient_checkpointing, compile=compile
        )

    def tokenizer(self, training_text: TrainingText) -> Tokenizer:
        return trained_tokenizer(training_text, self._vocabulary, self._paths)

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
            max_position_embeddings=self._settings.longest + padding + 1,
            **self._shape,
        )
        model = XLMRobertaModel(config, add_pooling_layer=False)
        return BiEncoder(TransformerBackbone(model, padding, self._options), tokenizer, self._settings)


class PretrainedTransformer(Model):
    """A published encoder, from the hub or from a local directory in the published layout."""

    def __init__(
        self,
        paths: PathsConfig,
        name: str,
        path: str | None = None,
        revision: str | None = None,
        pooling: str = "mean",
        projection: int | str | None = None,
        query_prefix: str = "",
        passage_prefix: str = "",
        max_query_length: int = 256,
        max_passage_length: int = 256,
        end_token: str | None = None,
        bidirectional: bool = False,
        token_embeddings: str = "dense",
        lora: dict[str, Any] | None = None,
        gradient_checkpointing: bool = False,
        compile: bool = False,  # noqa: A002 (a config key)
    ) -> None:
        """
        Args:
            name: of the repository on the hub.
            path: a local directory instead; nothing is looked up on the hub then.
            revision: a branch, tag or commit of the hub repository.
            projection: dimensions of a new linear layer, or ``published``: the dense layer that the directory holds in
                sentence-transformers' layout (``2_Dense``), as LaBSE does.
            pooling, query_prefix, passage_prefix, max_query_length, max_passage_length: see `EncoderSettings`.
            end_token: with ``pooling=last``, the token that ends every text; by default what the tokenizer ends texts
                with, or else its end of sequence.
            bidirectional, token_embeddings, lora, gradient_checkpointing, compile: see `TransformerOptions`.
        """
        if isinstance(projection, str) and projection != "published":
            raise InputError(f"model.projection={projection!r} is unknown; expected a number, 'published' or null")
        self._name, self._revision, self._projection = name, revision, projection
        self._path = Path(path).expanduser() if path else None
        self._located: Path | None = None
        self._settings = EncoderSettings(
            pooling=pooling,
            query_prefix=query_prefix,
            passage_prefix=passage_prefix,
            max_query_length=max_query_length,
            max_passage_length=max_passage_length,
        )
        self._end_token = end_token
        self._options = TransformerOptions.of(
            lora,
            bidirectional=bidirectional,
            token_embeddings=token_embeddings,
            gradient_checkpointing=gradient_checkpointing,
            compile=compile,
        )

    @property
    def directory(self) -> Path:
        """Where the published files are; fetched from the hub on first use."""
        if self._located is None:
            advice = "give a local directory in the published layout with model.path="
            self._located = self._local() if self._path else Hub().model_directory(self._name, self._revision, advice)
        return self._located

    def _local(self) -> Path:
        assert self._path is not None
        if not (self._path / "config.json").exists():
            raise InputError(
                f"model.path={self._path} holds no config.json; expected a model directory in the published layout"
            )
        return self._path

    def tokenizer(self, training_text: TrainingText) -> Tokenizer:
        tokenizer = load_tokenizer(self.directory)
        return with_end(tokenizer, self.directory, self._end_token) if self._settings.pooling == "last" else tokenizer

    def build(self, tokenizer: Tokenizer) -> BiEncoder:
        backbone = TransformerBackbone(published_weights(self.directory), pad_id(tokenizer), self._options)
        config: Any = backbone.model.config
        limit = _positions(config)
        if limit and self._settings.longest > limit:
            raise InputError(f"model.max_*_length={self._settings.longest} is more than the {limit} positions of {self._name}")
        if tokenizer.get_vocab_size() > config.vocab_size:
            raise InputError(
                f"model.path={self.directory}: the tokenizer has {tokenizer.get_vocab_size()} tokens and "
                f"the weights only {config.vocab_size}"
            )
        if self._projection != "published":
            width = self._projection if isinstance(self._projection, int) else None
            return BiEncoder(backbone, tokenizer, replace(self._settings, projection=width))
        weights, activation = published_dense(self.directory)
        settings = replace(self._settings, projection=len(weights["bias"]), activation=activation)
        encoder = BiEncoder(backbone, tokenizer, settings)
        assert encoder.projection is not None
        encoder.projection.load_state_dict(weights)
        return encoder


def _positions(config: Any) -> int:
    """Tokens that the position embeddings have room for; 0 where the architecture sets no limit."""
    positions = int(getattr(config, "max_position_embeddings", 0) or 0)
    return positions - first_position(config) if positions else 0


def _places(tokens: Tokens, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Of every token, which text it is in and which of the text's tokens it is; nothing waits for a GPU to count a mask."""
    text = torch.repeat_interleave(lengths, output_size=len(tokens.ids))
    return text, torch.arange(len(tokens.ids), device=tokens.ids.device) - tokens.offsets[text]


def first_position(config: Any) -> int:
    """The number of a text's first position; RoBERTa and its kin number from the padding id + 1."""
    return config.pad_token_id + 1 if config.model_type in {"roberta", "xlm-roberta", "camembert", "mpnet"} else 0


def replace_parts(model: nn.Module) -> None:
    """Put this package's attention, dropout and token embeddings in the place of a transformers model's own.

    Parameters keep their names and values.
    """
    any_model: Any = model
    any_model.set_attn_implementation(ATTENTION)
    for part in model.modules():
        if type(part) is nn.Dropout:
            part.__class__ = Dropout
    table = any_model.get_input_embeddings()
    if type(table) is nn.Embedding:
        table.__class__ = RowSparseEmbedding
