"""Published encoders: any directory or hub name of sentence-transformers or transformers, used as its own files say.

A run directory of this framework is one, too: its encoder is a start for further training.
"""

from __future__ import annotations

import copy
import logging
from dataclasses import KW_ONLY, asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from tokenizers import Tokenizer, normalizers, processors
from torch import Tensor, nn

from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.errors import InputError, choice, reading
from hybrid_retrieval.files import read_mapping
from hybrid_retrieval.hub import Hub
from hybrid_retrieval.models import kernels
from hybrid_retrieval.models.adapters import Lora
from hybrid_retrieval.models.checkpoint import load_encoder
from hybrid_retrieval.models.encoder import Backbone, BiEncoder, EncoderSettings, Model, TrainingText
from hybrid_retrieval.models.pooling import POOLINGS
from hybrid_retrieval.models.sentence_transformer import MODULES, Layout, read_dense, read_layout, read_table
from hybrid_retrieval.models.static import StaticBackbone
from hybrid_retrieval.models.tokenization import load_tokenizer, pad_id, special_tokens
from hybrid_retrieval.models.transformer import (
    TransformerBackbone,
    TransformerOptions,
    check_config,
    model_of_config,
    positions,
    values_for,
    without_pooler,
)
from hybrid_retrieval.values import LARGEST, Count, check, construct

log = logging.getLogger(__name__)

ADVICE = "give a local directory in the published layout with model.path="
DEFAULTS: dict[str, Any] = {"pooling": "mean", "normalize": True, "query_prefix": "", "passage_prefix": "", "dimensions": None}
"""What holds where neither the config nor the directory's files say."""
LENGTHS = ("max_query_length", "max_passage_length")
DEFAULT_LENGTH = 256


@dataclass
class PublishedModel(Model):
    """An encoder from the hub or from a local directory; what is None is as its own files say."""

    paths: PathsConfig
    name: str | None = None
    """The repository on the hub."""
    _: KW_ONLY
    path: str | None = None
    """A local directory instead; nothing is looked up on the hub then."""
    revision: str | None = None
    """A branch, tag or commit of the hub repository."""
    pooling: str | None = None
    projection: Count | str | None = None
    """Dimensions of a new linear layer; ``published``: the dense layers that the directory must hold, as LaBSE does;
    ``none``: no layer; by default the directory's, if it holds any."""
    normalize: bool | None = None
    dimensions: Count | None = None
    query_prefix: str | None = None
    passage_prefix: str | None = None
    max_query_length: Count | None = None
    max_passage_length: Count | None = None
    end_token: str | None = None
    """With ``pooling=last``, the token that ends every text; by default what the tokenizer ends texts with, or else its end
    of sequence."""
    token_embeddings: str = "dense"
    gradient_checkpointing: bool = False
    compile: bool = False
    bidirectional: bool = False
    lora: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        check(type(self), vars(self), "model")
        if not (self.name or self.path):
            raise InputError("model.name=null and model.path=null: name a model of the hub, or a local directory")
        if isinstance(self.projection, str) and self.projection not in ("published", "none"):
            raise InputError(f"model.projection={self.projection!r} is unknown; expected a number, 'published', 'none' or null")
        if self.pooling is not None:
            choice("model.pooling", self.pooling, POOLINGS)
        lora = None if self.lora is None else construct(Lora, self.lora, "model.lora")
        self.options = values_for(TransformerOptions, self, lora=lora)

    @cached_property
    def directory(self) -> Path:
        """The published files; fetched from the hub on first use."""
        if not self.path:
            return Hub().model_directory(str(self.name), self.revision, ADVICE)
        local = Path(self.path).expanduser()
        if not ((local / "config.json").exists() or (local / MODULES).exists() or _is_run(local)):
            raise InputError(
                f"model.path={local} holds no config.json; expected a directory in the published layout, or of a run"
            )
        return local

    @cached_property
    def trained(self) -> BiEncoder | None:
        """The encoder that training left in the directory, on the CPU, where it is a run directory of this framework."""
        if not _is_run(self.directory):
            return None
        with torch.device("cpu"):
            return load_encoder(self.directory, "best", accelerator="cpu")

    @cached_property
    def layout(self) -> Layout:
        """What the directory's files say."""
        if self.trained is not None:
            saved = asdict(self.trained.settings)
            known = {name: saved[name] for name in (*DEFAULTS, *LENGTHS)}
            return Layout(self.directory, known, static=isinstance(self.trained.backbone, StaticBackbone))
        return read_layout(self.directory)

    def tokenizer(self, training_text: TrainingText) -> Tokenizer:
        return self.own_tokenizer()

    def own_tokenizer(self) -> Tokenizer:
        """The directory's tokenizer, as its encoder uses it."""
        layout = self.layout
        if self.trained is not None:
            return Tokenizer.from_str(self.trained.tokenizer.to_str())
        tokenizer = load_tokenizer(layout.folder)
        if layout.static:
            tokenizer.post_processor = None  # special tokens are left out
        elif layout.lower_case:
            normalizer = tokenizer.normalizer
            tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *([normalizer] if normalizer else [])])
        if (self.pooling or layout.saved.get("pooling")) == "last":
            return with_end(tokenizer, layout.folder, self.end_token)
        return tokenizer

    def build(self, tokenizer: Tokenizer) -> BiEncoder:
        backbone, limit = self._backbone(tokenizer)
        with reading(f"model.path={self.directory}", whole=True):
            settings, dense = self._settings(limit), self._dense(backbone.dimensions)
            if dense is None:
                width = self.projection if isinstance(self.projection, int) else None
                return BiEncoder(backbone, tokenizer, EncoderSettings(**settings, projection=width))
            weights, activation = dense
            width = len(weights["bias"])
            encoder = BiEncoder(backbone, tokenizer, EncoderSettings(**settings, projection=width, activation=activation))
            cast(nn.Linear, encoder.projection).load_state_dict(weights)
            return encoder

    def load(self) -> BiEncoder:
        """The encoder as it was published.

        Raises:
            InputError: ``projection`` asks for a layer that has no weights before it is trained.
        """
        if isinstance(self.projection, int):
            raise InputError(f"model.projection={self.projection} is a layer that only training gives weights; choose null")
        encoder = self.build(self.own_tokenizer()).eval()
        if self.trained is not None:
            encoder.set_extra_state(self.trained.get_extra_state())  # a run multiplies as it did, as `load_encoder` has it
        return encoder

    def _backbone(self, tokenizer: Tokenizer) -> tuple[Backbone, int]:
        """The backbone, and the tokens that it can read; 0 where there is no limit."""
        if self.layout.static:
            return self._static(), 0
        model = _copied(self.trained.backbone) if self.trained else published_weights(self.layout.folder)
        with reading(f"model.path={self.directory}", whole=True):
            backbone = TransformerBackbone(model, pad_id(tokenizer), self.options)
        return backbone, positions(backbone.model.config)

    def _static(self) -> StaticBackbone:
        """The backbone of a static model."""
        table = self._static_table()
        if self.options != TransformerOptions():
            raise InputError(f"model.path={self.directory} is a static model; expected no option of transformers for it")
        static = StaticBackbone(*table.shape)
        static.table.load_state_dict({"weight": table})
        return static

    def _static_table(self) -> Tensor:
        """float32 [tokens, dimensions]: the token embeddings of a static model."""
        if not self.layout.static:
            raise InputError(f"model.path={self.directory} is a transformer; expected a static model")
        return self.trained.backbone.table.weight.detach() if self.trained else read_table(self.layout.folder)

    def _settings(self, limit: int) -> dict[str, Any]:
        """Values of `EncoderSettings`: those of the config, of the directory's files, or by default."""
        saved, found, other = self.layout.saved, {}, []
        default = LARGEST if self.layout.static else DEFAULT_LENGTH
        for name in (*DEFAULTS, *LENGTHS):
            own, given = getattr(self, name), saved.get(name, DEFAULTS.get(name, default))
            if name in LENGTHS:
                if own and limit and own > limit:
                    raise InputError(f"model.max_*_length={own} is more than the {limit} positions of its weights")
                given = min(given, limit) if limit and isinstance(given, int) else given
            found[name] = given if own is None else own
            if own is not None and name in saved and (own > given if name in LENGTHS else own != given):
                other.append(f"model.{name}={own!r} (saved: {given!r})")
        if other:
            log.warning("%s is not used as it was saved: %s", self.directory, ", ".join(other))
        if (self.directory / MODULES).exists() and not other:
            log.info("%s, as it was saved: %s", self.directory, ", ".join(f"{key}={value!r}" for key, value in found.items()))
        return found

    def _dense(self, dimensions: int) -> tuple[dict[str, Tensor], str] | None:
        """Weight and bias of the directory's layer after pooling, and its activation, where there is one and it is wanted."""
        if self.projection not in (None, "published"):
            return None
        if self.trained is not None and self.trained.projection is not None:
            return self.trained.projection.state_dict(), self.trained.settings.activation
        if self.layout.dense:
            return read_dense(self.layout.dense, dimensions)
        if self.projection == "published":
            raise InputError("model.projection=published, but it has no dense layer")
        return None


def _is_run(directory: Path) -> bool:
    return (directory / "checkpoints").is_dir()


def _copied(backbone: Backbone) -> nn.Module:
    """The transformers model of a trained backbone, for another encoder; on torch's meta device its shapes alone."""
    model: nn.Module = cast(TransformerBackbone, backbone).model
    if torch.get_default_device().type == "meta":
        return model_of_config(model.config)
    copied = copy.deepcopy(model)
    kernels.remove(copied)
    return copied.train()


def published_weights(directory: Path) -> nn.Module:
    """The transformer of a model directory, in float32; on torch's meta device its shapes alone, and no weights are needed.

    Raises:
        InputError: the weights are damaged, or some are missing (which transformers would fill with random numbers).
    """
    from transformers import AutoConfig, AutoModel
    from transformers.utils import logging as of_transformers

    of_transformers.set_verbosity_error()  # what is missing is an error below, and what is left over does not matter
    of_transformers.disable_progress_bar()
    with reading(f"model.path={directory} cannot be loaded", whole=True):
        check_config(read_mapping(directory / "config.json"))
        config = AutoConfig.from_pretrained(directory, trust_remote_code=False, local_files_only=True)
        if torch.get_default_device().type == "meta":
            return model_of_config(config)
        kernels.forget_attention(config)
        given = {"config": config, "trust_remote_code": False, "local_files_only": True, **without_pooler(config)}
        loaded = AutoModel.from_pretrained(directory, dtype=torch.float32, output_loading_info=True, **given)
    model: nn.Module = loaded[0]
    missing = sorted(name for name in loaded[1]["missing_keys"] if not name.startswith("pooler."))
    if missing:
        raise InputError(
            f"model.path={directory}: its weights lack {len(missing)} of the architecture's, {missing[0]} among them"
        )
    return model.train()


def with_end(tokenizer: Tokenizer, directory: Path, token: str | None) -> Tokenizer:
    """A tokenizer that ends every text with a special token: as it is if it does so already.

    The state of that token is a causal model's embedding of the text (arXiv 2401.00368, section 3.1).

    Args:
        token: the token; by default the one that the directory calls its end of sequence.
    """
    tokenizer.no_padding()
    before, after = special_tokens(tokenizer)
    if token is None and after:
        return tokenizer
    name = token or _end_of_sequence(directory)
    number = tokenizer.token_to_id(name) if name else None
    if name is None or number is None:
        raise InputError(f"model.end_token={token}: {name or 'an end token'} is not in {directory}; name a token that is")
    if after[-1:] != [number]:
        first, last = ([tokenizer.id_to_token(id_) for id_ in ids] for ids in (before, [*after, number]))
        known = {id_: tokenizer.id_to_token(id_) for id_ in (*before, *after, number)}
        tokenizer.post_processor = processors.TemplateProcessing(
            [*first, "$A", *last], special_tokens=[(text, id_) for id_, text in known.items()]
        )
    return tokenizer


def _end_of_sequence(directory: Path) -> str | None:
    """The ``eos_token`` of ``tokenizer_config.json``."""
    file = directory / "tokenizer_config.json"
    named = read_mapping(file).get("eos_token") if file.exists() else None
    found = named.get("content") if isinstance(named, dict) else named
    if not (found is None or isinstance(found, str)):
        raise InputError(f"{file}: eos_token={found!r}; expected a token")
    return found
