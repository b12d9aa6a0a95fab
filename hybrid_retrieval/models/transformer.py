"""Transformer backbones: from scratch with a tokenizer trained on the spot, or from a published directory or the hub."""

from __future__ import annotations

import contextlib
import json
import pickle
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from hybrid_retrieval.config import PathsConfig, positive
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.models.encoder import (
    CHUNK_TOKENS,
    Backbone,
    BiEncoder,
    EncoderSettings,
    Model,
    Tokens,
    TrainingText,
    token_chunks,
)
from hybrid_retrieval.models.tokenization import first_line, load_tokenizer, pad_id
from hybrid_retrieval.models.trained_tokenizer import trained_tokenizer

HUB_PATIENCE = 5
"""Seconds to wait for the hub's first answer."""


class TransformerBackbone(Backbone):
    """A transformers model. Texts are padded in chunks of similar length, so that little of the work is padding."""

    def __init__(self, model: nn.Module, padding: int) -> None:
        super().__init__()
        self.model = model
        self.padding = padding
        config: Any = model.config
        self.dimensions = int(config.hidden_size)

    def forward(self, tokens: Tokens) -> Tensor:
        lengths = tokens.offsets[1:] - tokens.offsets[:-1]
        on_host = lengths.cpu().numpy()
        chunks = token_chunks(np.argsort(-on_host, kind="stable"), on_host, CHUNK_TOKENS)
        states, places = [], []
        for chunk in chunks:
            rows = torch.from_numpy(chunk).to(tokens.ids.device)
            columns = torch.arange(int(on_host[chunk].max()), device=tokens.ids.device)
            mask = columns < lengths[rows, None]
            place = (tokens.offsets[rows, None] + columns)[mask]
            ids = torch.full(mask.shape, self.padding, dtype=torch.long, device=tokens.ids.device)
            ids[mask] = tokens.ids[place]
            states.append(self.model(input_ids=ids, attention_mask=mask.long()).last_hidden_state[mask])
            places.append(place)
        ragged = torch.cat(states)
        return torch.empty_like(ragged).index_copy(0, torch.cat(places), ragged)

    def save_config(self, directory: Path) -> None:
        config: Any = self.model.config
        config.save_pretrained(directory)
        (directory / "transformer.json").write_text(json.dumps({"padding": self.padding}))

    @classmethod
    def load_config(cls, directory: Path) -> TransformerBackbone:
        """The architecture as saved, with random weights."""
        from transformers import AutoConfig, AutoModel

        padding = json.loads((directory / "transformer.json").read_text())["padding"]
        return cls(AutoModel.from_config(AutoConfig.from_pretrained(directory), **_without_pooler(directory)), padding)


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
    ) -> None:
        """
        Args:
            layers, hidden, heads: of the transformer; its feed-forward layers are four times as wide.
            dropout: of states and of attention.
            pooling, projection, max_query_length, max_passage_length: see `EncoderSettings`.
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
        return BiEncoder(
            TransformerBackbone(XLMRobertaModel(config, add_pooling_layer=False), padding), tokenizer, self._settings
        )


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
    ) -> None:
        """
        Args:
            name: of the repository on the hub.
            path: a local directory instead; nothing is looked up on the hub then.
            revision: a branch, tag or commit of the hub repository.
            projection: dimensions of a new linear layer, or ``published``: the dense layer that the directory holds in
                sentence-transformers' layout (``2_Dense``), as LaBSE does.
            pooling, query_prefix, passage_prefix, max_query_length, max_passage_length: see `EncoderSettings`.
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

    @property
    def directory(self) -> Path:
        """Where the published files are; fetched from the hub on first use."""
        if self._located is None:
            self._located = self._local() if self._path else from_hub(self._name, self._revision)
        return self._located

    def _local(self) -> Path:
        assert self._path is not None
        if not (self._path / "config.json").exists():
            raise InputError(
                f"model.path={self._path} holds no config.json; expected a model directory in the published layout"
            )
        return self._path

    def tokenizer(self, training_text: TrainingText) -> Tokenizer:
        return load_tokenizer(self.directory)

    def build(self, tokenizer: Tokenizer) -> BiEncoder:
        backbone = TransformerBackbone(published_weights(self.directory), pad_id(tokenizer))
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


def from_hub(name: str, revision: str | None) -> Path:
    """The local snapshot of a hub repository; fails within seconds where the hub cannot be reached."""
    import huggingface_hub

    patterns = ["*.json", "*.model", "*.txt", "*.safetensors", "*.bin", "*/config.json", "2_Dense/*"]
    advice = "give a local directory in the published layout with model.path="
    try:
        _ask_hub()
        huggingface_hub.hf_hub_download(name, "config.json", revision=revision, etag_timeout=5)
        unwanted = ["onnx/*", "openvino/*"]
        if any(file.endswith(".safetensors") for file in huggingface_hub.list_repo_files(name, revision=revision)):
            unwanted.append("*.bin")
        return Path(
            huggingface_hub.snapshot_download(name, revision=revision, allow_patterns=patterns, ignore_patterns=unwanted)
        )
    except Exception as error:  # whatever the HTTP library beneath the hub's client raises
        cached = huggingface_hub.try_to_load_from_cache(name, "config.json", revision=revision)
        if isinstance(cached, str):
            return Path(cached).parent
        raise InputError(f"{name} cannot be had from the hub ({type(error).__name__}): {advice}") from error


def _ask_hub() -> None:
    """One quick question to the hub, whose own client would try again and again; any answer will do.

    Raises:
        OSError: there is none, or ``HF_HUB_OFFLINE`` is set.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise ConnectionError("HF_HUB_OFFLINE is set")
    request = urllib.request.Request(constants.ENDPOINT, method="HEAD")  # noqa: S310 (the user's own HF_ENDPOINT)
    with contextlib.suppress(urllib.error.HTTPError), urllib.request.urlopen(request, timeout=HUB_PATIENCE):  # noqa: S310
        pass


def published_weights(directory: Path) -> nn.Module:
    """The transformer of a model directory, in float32.

    Raises:
        InputError: the weights are damaged, or some are missing (which transformers would fill with random numbers).
    """
    from safetensors import SafetensorError
    from transformers import AutoModel

    try:
        loaded = AutoModel.from_pretrained(
            directory, dtype=torch.float32, output_loading_info=True, local_files_only=True, **_without_pooler(directory)
        )
    except (OSError, ValueError, RuntimeError, KeyError, EOFError, SafetensorError, pickle.UnpicklingError) as error:
        raise InputError(f"model.path={directory} cannot be loaded: {first_line(error)}") from error
    model: nn.Module = loaded[0]
    missing = sorted(name for name in loaded[1]["missing_keys"] if not name.startswith("pooler."))
    if missing:
        raise InputError(
            f"model.path={directory}: its weights lack {len(missing)} of the architecture's, {missing[0]} among them"
        )
    return model


def published_dense(directory: Path) -> tuple[dict[str, Tensor], str]:
    """Weight and bias of the dense layer in sentence-transformers' layout, and the name of its activation."""
    from safetensors import SafetensorError

    folder = directory / "2_Dense"
    try:
        config = json.loads((folder / "config.json").read_text())
        if (folder / "model.safetensors").exists():
            from safetensors.torch import load_file

            state = load_file(folder / "model.safetensors")
        else:
            state = torch.load(folder / "pytorch_model.bin", map_location="cpu", weights_only=True)
        weight = state["linear.weight"]
    except (OSError, ValueError, RuntimeError, KeyError, EOFError, SafetensorError, pickle.UnpicklingError) as error:
        raise InputError(
            f"model.projection=published, but {folder} holds no dense layer that can be read ({first_line(error)})"
        ) from error
    activation = str(config.get("activation_function", "")).rsplit(".", 1)[-1].lower()
    return {"weight": weight, "bias": state.get("linear.bias", torch.zeros(len(weight)))}, activation or "identity"


def _positions(config: Any) -> int:
    """Tokens that the position embeddings have room for; 0 where the architecture sets no limit."""
    positions = int(getattr(config, "max_position_embeddings", 0) or 0)
    # RoBERTa and its kin number positions from the padding id + 1.
    first = config.pad_token_id + 1 if config.model_type in {"roberta", "xlm-roberta", "camembert", "mpnet"} else 0
    return positions - first if positions else 0


def _without_pooler(directory: Path) -> dict[str, Any]:
    """BERT-like models carry a pooling head that nothing here uses."""
    kind = json.loads((directory / "config.json").read_text()).get("model_type", "")
    return {"add_pooling_layer": False} if kind in {"bert", "roberta", "xlm-roberta"} else {}
