"""The Encoder protocol, and the bi-encoder: backbone, pooling, optional projection, normalisation.

Texts travel as ragged tokens (ids end to end, with offsets): nothing is padded before a backbone that needs it.
"""

from __future__ import annotations

import hashlib
import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from hybrid_retrieval.errors import InputError, choice
from hybrid_retrieval.models import kernels
from hybrid_retrieval.models.chunks import plan
from hybrid_retrieval.models.pooling import POOLINGS
from hybrid_retrieval.models.tokenization import Tokenization, check_vocabulary
from hybrid_retrieval.progress import track
from hybrid_retrieval.ragged import Ragged
from hybrid_retrieval.values import Count, check, locate

log = logging.getLogger(__name__)

Role = Literal["query", "passage"]
WORTH_SAYING = 0.005
"""Share of single-byte tokens above which the log mentions them: they lose nothing, but mean little."""
CHUNK_TOKENS = 2_048
"""Tokens, padding included, that go through a transformer at once on a CPU, where a chunk should stay near the caches."""
ENCODED_AT_ONCE = {"cpu": 8_192, "cuda": 32_768}
"""The same for texts that are only encoded, by kind of device."""
TOKENISED_AT_ONCE = 4096


class Encoder(Protocol):
    """Anything that turns texts into vectors whose dot product is the score."""

    def encode(self, texts: Sequence[str], role: Role, label: str = "") -> npt.NDArray[np.float32]:
        """float32 [texts, dimensions]; with a `label`, progress and what was lost of the texts are shown under that name."""


@dataclass(frozen=True)
class Tokens:
    """Ragged token ids.

    Attributes:
        ids: int64 [tokens], texts end to end.
        offsets: int64 [texts + 1].
        longest: tokens of the longest text, where it is known on the host (asking a GPU for it would wait for it).
    """

    ids: Tensor
    offsets: Tensor
    longest: int = 0

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @classmethod
    def of(cls, ids: Ragged) -> Tokens:
        """From ids as a tokenizer or a token store gives them, on the host."""
        values = ids.values.astype(np.int64, copy=False)
        return cls(torch.from_numpy(values), torch.from_numpy(ids.offsets), int(ids.lengths.max(initial=0)))

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Tokens:
        """The same on another device."""
        return replace(
            self, ids=self.ids.to(device, non_blocking=non_blocking), offsets=self.offsets.to(device, non_blocking=non_blocking)
        )


@dataclass(frozen=True)
class Lost:
    """Losses of tokenisation (law 7): texts that were cut, tokens that are unknown, tokens that are single bytes."""

    texts: int = 0
    cut: int = 0
    tokens: int = 0
    unknown: int = 0
    in_bytes: int = 0

    def __add__(self, other: Lost) -> Lost:
        return Lost(*(one + more for one, more in zip(astuple(self), astuple(other), strict=True)))


class Backbone(nn.Module, ABC):
    """Ragged tokens to ragged states."""

    dimensions: int
    pads: bool = True
    """Texts may be padded to the longest that they are encoded with, so that chunks of similar length pay."""
    padded_last: bool = False
    """Whether the texts that were encoded last were padded."""

    @property
    @abstractmethod
    def table(self) -> nn.Embedding:
        """The token embeddings."""

    @property
    def layers(self) -> list[nn.Module]:
        """Its layers from the bottom up: the outermost lists of modules; none where it has no list."""
        found: list[nn.Module] = []
        parts: list[nn.Module] = [self]
        while parts:
            part = parts.pop(0)
            if isinstance(part, nn.ModuleList):
                found.extend(part)
            else:
                parts.extend(part.children())
        return found

    @abstractmethod
    def forward(self, tokens: Tokens) -> Tensor:
        """States of every token, [tokens, dimensions]."""

    def pooled(self, tokens: Tokens, pooling: str) -> Tensor:
        """One vector a text, [texts, dimensions]."""
        return POOLINGS[pooling](self(tokens), tokens.offsets)

    def layers_above(self) -> dict[nn.Parameter, int]:
        """The number of layers above each parameter, its own included; a parameter before the layers has one more."""
        layers = self.layers
        own = {parameter: len(layers) - at for at, layer in enumerate(layers) for parameter in layer.parameters()}
        found, outside = {}, len(layers) + 1 if layers else 0
        for parameter in self.parameters():
            outside = 0 if parameter in own else outside
            found[parameter] = own.get(parameter, outside)
        return found

    @abstractmethod
    def architecture(self) -> dict[str, Any]:
        """All of the backbone but its weights, in plain types."""

    @classmethod
    def of_architecture(cls, architecture: Mapping[str, Any]) -> Backbone:
        """The backbone of an `architecture`, with random weights."""
        return cls(**architecture)


@dataclass(frozen=True)
class EncoderSettings:
    """A bi-encoder around its backbone: texts to tokens, states to an embedding."""

    pooling: str = "mean"
    """mean, cls or last."""
    projection: Count | None = None
    """Dimensions of a linear layer after pooling; none by default."""
    activation: str = "identity"
    """After the projection: identity or tanh."""
    dimensions: Count | None = None
    """Leading ones that are kept (Matryoshka); all by default."""
    normalize: bool = True
    """Unit length, so that the dot product is the cosine."""
    query_prefix: str = ""
    passage_prefix: str = ""
    max_query_length: Count = 64
    """Tokens, special ones included."""
    max_passage_length: Count = 256

    def __post_init__(self) -> None:
        check(type(self), vars(self), "model")
        choice("model.pooling", self.pooling, POOLINGS)
        choice("model.activation", self.activation, ["identity", "tanh"])

    @property
    def longest(self) -> int:
        """The larger of the two length limits."""
        return max(self.max_query_length, self.max_passage_length)


class BiEncoder(nn.Module):
    """One encoder with shared weights for queries and passages (arXiv 2408.10536, section 3).

    It is sped up as it is made (see `hybrid_retrieval.models.kernels`). What multiplies in it goes with its weights, so that
    training that is resumed on another machine rounds as before.

    Attributes:
        strict: make an error of texts that `encode` cuts and of tokens that are unknown, instead of a line in the log.
        lost: of the texts that were tokenised last.
    """

    strict: bool = False
    lost: Lost = Lost()

    def __init__(self, backbone: Backbone, tokenizer: Tokenizer, settings: EncoderSettings) -> None:
        super().__init__()
        check_vocabulary(tokenizer, backbone.table.num_embeddings)
        self.backbone = backbone
        self.tokenizer = tokenizer
        self.settings = settings
        self.projection = nn.Linear(backbone.dimensions, settings.projection) if settings.projection else None
        width = settings.projection or backbone.dimensions
        self.dimensions = settings.dimensions or width
        if self.dimensions > width:
            raise InputError(f"model.dimensions={self.dimensions} is more than the encoder's {width}")
        self._tokenizations: dict[Role, Tokenization] = {
            "query": Tokenization(tokenizer, settings.query_prefix, settings.max_query_length),
            "passage": Tokenization(tokenizer, settings.passage_prefix, settings.max_passage_length),
        }
        self._linear = kernels.install(self, backbone.table)

    def get_extra_state(self) -> Tensor:
        """The choice of linear layers, by its place in `kernels.LINEARS`."""
        return torch.tensor(list(kernels.LINEARS).index(self._linear), device="cpu")

    def set_extra_state(self, state: Tensor) -> None:
        """Multiply as the encoder did that the weights are from."""
        self._linear = kernels.install(self, linear=list(kernels.LINEARS)[int(state)])

    def tokenization(self, role: Role) -> Tokenization:
        """The way from texts of a role to tokens."""
        return self._tokenizations[role]

    def forward(self, tokens: Tokens) -> Tensor:
        """Embeddings, [texts, dimensions], of texts that are encoded together: see `hybrid_retrieval.models.chunks`."""
        pooled = self.backbone.pooled(tokens, self.settings.pooling)
        if self.projection is not None:
            pooled = self.projection(pooled)
            pooled = torch.tanh(pooled) if self.settings.activation == "tanh" else pooled
        pooled = pooled[:, : self.dimensions]
        return nn.functional.normalize(pooled, dim=-1) if self.settings.normalize else pooled

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return next(self.parameters()).device

    def encode(
        self, texts: Sequence[str], role: Role, label: str = "", chunk_tokens: int | None = None
    ) -> npt.NDArray[np.float32]:
        """float32 [texts, dimensions], encoded in chunks of similar length.

        Args:
            chunk_tokens: encoded at once, padding included; by default what suits the device.

        Raises:
            InputError: an embedding is not finite; or a text is cut or a token unknown, `strict` is set and there is a label.
        """
        ids = self.tokenise(texts, role, label)
        result = np.zeros((len(ids), self.dimensions), np.float32)
        chunks = plan(ids.lengths, chunk_tokens or ENCODED_AT_ONCE.get(self.device.type, CHUNK_TOKENS))
        training = self.training
        self.eval()
        try:
            with torch.inference_mode():
                for chunk in track(chunks, label, show=bool(label)):
                    tokens = Tokens.of(ids.gather(chunk)).to(self.device)
                    result[chunk] = self(tokens).float().cpu().numpy()
        finally:
            self.train(training)
        bad = ~np.isfinite(result).all(1)
        if bad.any():
            raise InputError(f"{int(bad.sum())} of {len(texts)} {role} embeddings are not finite: the weights are damaged")
        return result

    def tokenise(self, texts: Sequence[str], role: Role, label: str = "") -> Ragged:
        """int64 ids of each text; with a label, what is lost is logged, or an InputError where `strict` (law 7)."""
        tokenization = self.tokenization(role)
        parts, cut = [Ragged.from_lists([])], 0
        starts = range(0, len(texts), TOKENISED_AT_ONCE)
        for part, was_cut in tokenization.chunks(texts[start : start + TOKENISED_AT_ONCE] for start in starts):
            parts.append(part)
            cut += int(was_cut.sum())
        ids = Ragged.join(parts)
        unknown, in_bytes = ids.values == tokenization.unknown_id, np.isin(ids.values, tokenization.byte_ids)
        self.lost = Lost(len(ids), cut, len(ids.values), int(unknown.sum()), int(in_bytes.sum()))
        if label and len(ids):
            self.say(label, role, self.lost)
        return ids

    def pieces(self, texts: Sequence[str], overlap: int) -> list[list[str]]:
        """Passages cut into pieces that fit into ``model.max_passage_length``, at words; neighbours share `overlap` tokens."""
        tokenization = self.tokenization("passage")
        return [tokenization.pieces(text, overlap) for text in texts]

    def fingerprint(self, role: Role) -> str:
        """A digest of all that the embeddings of a text in this role depend on: weights, tokenizer, settings."""
        found = hashlib.sha256(json.dumps([self.tokenization(role).fingerprint, self.description()], sort_keys=True).encode())
        for name, value in self.state_dict().items():
            found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            found.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
        return found.hexdigest()

    def say(self, label: str, role: Role, lost: Lost) -> None:
        """Law 7: one line in the log on texts that are cut and tokens that are unknown, or an error where `strict`."""
        limit = self.tokenization(role).max_length
        if self.strict and (lost.cut or lost.unknown):
            raise InputError(
                f"strict=true: {label}: {lost.cut} of {lost.texts} texts are cut to model.max_{role}_length={limit} "
                f"and {lost.unknown} tokens are unknown to the tokenizer"
            )
        in_bytes = lost.in_bytes / max(1, lost.tokens)
        found = [
            f"{lost.cut:,} of {lost.texts:,} texts are cut to {limit} tokens" if lost.cut else "",
            f"{lost.unknown / lost.tokens:.2%} of the tokens are unknown" if lost.unknown else "",
            f"{in_bytes:.2%} of the tokens are single bytes" if in_bytes > WORTH_SAYING else "",
        ]
        if any(found):
            log.info("%s: %s", label, ", ".join(filter(None, found)))

    def description(self) -> dict[str, Any]:
        """All of the encoder but its weights, in plain types."""
        kind = type(self.backbone)
        return {
            "backbone": f"{kind.__module__}.{kind.__qualname__}",
            "architecture": self.backbone.architecture(),
            "tokenizer": self.tokenizer.to_str(),
            "settings": asdict(self.settings),
        }

    @classmethod
    def described(cls, description: Mapping[str, Any]) -> BiEncoder:
        """The encoder of a `description`, with random weights."""
        kind: Any = locate(str(description["backbone"]), Backbone, "backbone", read=True)
        backbone: Backbone = kind.of_architecture(description["architecture"])
        settings = EncoderSettings(**description["settings"])
        return cls(backbone, Tokenizer.from_str(description["tokenizer"]), settings)


class Model(ABC):
    """Config of an encoder. A new kind is a subclass in a file of its own, and a config that names it."""

    @abstractmethod
    def tokenizer(self, training_text: TrainingText) -> Tokenizer:
        """The tokenizer, trained on the training text where the model brings none."""

    @abstractmethod
    def build(self, tokenizer: Tokenizer) -> BiEncoder:
        """The encoder before training; random weights come from torch's generator."""

    def encoder(self, training_text: TrainingText) -> BiEncoder:
        """The encoder with its tokenizer."""
        return self.build(self.tokenizer(training_text))


class TrainingText(Protocol):
    """Text to train a tokenizer on."""

    @property
    def key(self) -> Any:
        """All that the sample depends on, as a cache key."""

    def sample(self, characters: int) -> list[str]:
        """Texts of all languages, about `characters` of each, always the same."""
