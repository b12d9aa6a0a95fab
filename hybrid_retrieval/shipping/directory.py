"""An encoder as a directory that `SentenceTransformer` loads, without code of this package."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.files import read_mapping, write_text
from hybrid_retrieval.models import kernels
from hybrid_retrieval.models.adapters import merge_adapters
from hybrid_retrieval.models.encoder import BiEncoder, EncoderSettings, Role
from hybrid_retrieval.models.sentence_transformer import MODULES, OLD_NAMES, POOLINGS, SETTINGS
from hybrid_retrieval.models.static import StaticBackbone
from hybrid_retrieval.models.tokenization import special_tokens
from hybrid_retrieval.models.transformer import TransformerBackbone, model_of_config
from hybrid_retrieval.shipping.texts import TEXTS

TOLERANCE = 1e-5
NAMES: dict[Role, str] = {"query": "query", "passage": "document"}
"""Our names of roles to theirs."""
SPECIAL = {
    "<s>": ("bos_token", "cls_token"),
    "</s>": ("eos_token", "sep_token"),
    "<unk>": ("unk_token",),
    "<mask>": ("mask_token",),
    "[CLS]": ("cls_token",),
    "[SEP]": ("sep_token",),
    "[UNK]": ("unk_token",),
    "[MASK]": ("mask_token",),
}
"""What transformers calls the tokens that tokenizers have by these names."""
STAND_IN = 0x10FF00
"""The first of the private characters that stand for special tokens in a text, each in a word of its own."""


def ready(encoder: BiEncoder, dimensions: int | None = None) -> BiEncoder:
    """The encoder as it leaves, in place of the one that is given, which is used up.

    It is on the CPU in float32, with adapters merged, `dimensions` leading ones, and transformers' own operators. A static one
    reads queries as far as passages: sentence-transformers has one length for a table of token embeddings.

    Raises:
        InputError: the encoder has fewer dimensions.
    """
    settings = replace(encoder.settings, dimensions=dimensions or encoder.settings.dimensions)
    if isinstance(encoder.backbone, StaticBackbone):
        settings = replace(settings, max_query_length=settings.longest, max_passage_length=settings.longest)
    if settings.dimensions and settings.dimensions > encoder.dimensions:
        raise InputError(f"--dimensions {dimensions} is more than the encoder's {encoder.dimensions}")
    backbone = encoder.backbone.cpu().float()
    merge_adapters(backbone)
    if isinstance(backbone, TransformerBackbone) and backbone.options.lora:
        merged, backbone = backbone.model, TransformerBackbone(model_of_config(backbone.model.config), backbone.padding)
        backbone.model.load_state_dict(merged.state_dict())  # and not what bfloat16 made of constants
    copy = BiEncoder(backbone, encoder.tokenizer, settings)
    if copy.projection is not None and encoder.projection is not None:
        copy.projection.load_state_dict(encoder.projection.state_dict())
    if isinstance(backbone, TransformerBackbone):
        kernels.remove(copy)
    return copy.float().eval()


def write(encoder: BiEncoder, folder: Path) -> None:
    """Fill a folder with an encoder that is `ready`.

    Raises:
        InputError: sentence-transformers has no module for a part of it.
    """
    settings, backbone = encoder.settings, encoder.backbone
    if isinstance(backbone, StaticBackbone):
        modules = {"": "StaticEmbedding"}
        _write_static(encoder, folder)
    elif isinstance(backbone, TransformerBackbone):
        modules = {"": "Transformer", "1_Pooling": "Pooling"}
        _write_transformer(encoder, backbone, folder)
    else:
        raise InputError(f"a {type(backbone).__name__} has no counterpart in sentence-transformers")
    if encoder.projection is not None:
        modules[f"{len(modules)}_Dense"] = "Dense"
        _write_dense(encoder.projection, settings.activation, folder / f"{len(modules) - 1}_Dense")
    if settings.normalize:
        modules[f"{len(modules)}_Normalize"] = "Normalize"
        _write_json(folder / f"{len(modules) - 1}_Normalize" / "config.json", {})
    chain = [
        {"idx": place, "name": str(place), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for place, (path, kind) in enumerate(modules.items())
    ]
    _write_json(folder / MODULES, chain)
    whole: dict[str, Any] = {
        "model_type": "SentenceTransformer",
        "prompts": {name: getattr(settings, f"{role}_prefix") for role, name in NAMES.items()},
        "default_prompt_name": None,
        "similarity_fn_name": "cosine" if settings.normalize else "dot",
    }
    _write_json(folder / SETTINGS, whole | ({"truncate_dim": settings.dimensions} if settings.dimensions else {}))


def _write_static(encoder: BiEncoder, folder: Path) -> None:
    if encoder.settings.pooling != "mean":
        raise InputError(f"a static encoder with model.pooling={encoder.settings.pooling} cannot be exported; expected mean")
    tokenizer, rows = without_special_tokens(encoder.tokenizer)
    tokenizer.enable_truncation(encoder.settings.longest)
    tokenizer.save(str(folder / "tokenizer.json"))
    save_file({"embedding.weight": encoder.backbone.table.weight.detach()[rows].contiguous()}, folder / "model.safetensors")


def without_special_tokens(tokenizer: Tokenizer) -> tuple[Tokenizer, torch.Tensor]:
    """A tokenizer that needs no special tokens to give the same bag of ids, and the row of the table that each of its ids has.

    sentence-transformers asks static models for a text's tokens without the special ones. Those that stand around every text
    become words before it, of characters that no text has, and so do those that are written in a text; the order of tokens
    does not count in a mean. Only of an empty text are they missing.

    Raises:
        InputError: the tokenizer is not of the kind that is trained here.
    """
    description: dict[str, Any] = json.loads(tokenizer.to_str())
    around = [id_ for side in special_tokens(tokenizer) for id_ in side]
    plain = {**description, "post_processor": None, "padding": None, "truncation": None}
    rows = list(range(tokenizer.get_vocab_size()))
    if around:
        model, before = description["model"], description["normalizer"]
        if model["type"] != "Unigram" or (description["pre_tokenizer"] or {}).get("type") != "Metaspace":
            raise InputError(f"a static encoder over a tokenizer of the kind {model['type']} cannot be exported")
        words = {token["id"]: chr(STAND_IN + place) for place, token in enumerate(description["added_tokens"])}
        written = [
            {"type": "Replace", "pattern": {"String": token["content"]}, "content": f" {words[token['id']]} "}
            for token in description["added_tokens"]
        ]
        first = {"type": "Prepend", "prepend": "".join(f"{words[id_]} " for id_ in around)}
        plain["normalizer"] = {"type": "Sequence", "normalizers": [*written, first, *([before] if before else [])]}
        plain["model"] = {**model, "vocab": [*model["vocab"], *([f"▁{word}", 0.0] for word in words.values())]}
        plain["added_tokens"] = []
        rows += list(words)
    return Tokenizer.from_str(json.dumps(plain)), torch.tensor(rows)


def _write_transformer(encoder: BiEncoder, backbone: TransformerBackbone, folder: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    settings, model = encoder.settings, backbone.model
    model.save_pretrained(folder)  # type: ignore[operator]
    tokenizer = Tokenizer.from_str(encoder.tokenizer.to_str())
    tokenizer.no_padding()
    tokenizer.no_truncation()
    special = {token.content for token in tokenizer.get_added_tokens_decoder().values()}  # a word of this name is no such token
    known = {name: token for token, names in SPECIAL.items() if token in special for name in names}
    named = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=_padding(tokenizer, backbone.padding),
        model_max_length=settings.longest,
        padding_side="right",
        truncation_side="right",
        clean_up_tokenization_spaces=False,
        **known,
    )
    named.save_pretrained(folder)
    file = folder / "tokenizer_config.json"
    _write_json(
        file, {**read_mapping(file), "tokenizer_class": "PreTrainedTokenizerFast"}
    )  # transformers before 5 reads it too
    config: dict[str, Any] = {"max_seq_length": settings.longest, "do_lower_case": False}
    if settings.max_query_length != settings.max_passage_length:
        config |= {"query_length": settings.max_query_length, "document_length": settings.max_passage_length}
    _write_json(folder / "sentence_bert_config.json", config)
    flags = {flag: POOLINGS.get(mode) == settings.pooling for flag, mode in OLD_NAMES.items()}
    _write_json(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": backbone.dimensions, **flags})


def _padding(tokenizer: Tokenizer, padding: int) -> str:
    """A special token to fill batches with; of a plain one, transformers would make a special one."""
    special = [id_ for id_, token in tokenizer.get_added_tokens_decoder().items() if token.special]
    if not special:
        raise InputError("its tokenizer has no special token, and batches are filled with one; expected one at least")
    return str(tokenizer.id_to_token(padding if padding in special else special[0]))


def _write_dense(layer: torch.nn.Linear, activation: str, folder: Path) -> None:
    kind = {"identity": "linear.Identity", "tanh": "activation.Tanh"}[activation]
    outputs, inputs = layer.weight.shape
    sizes = {"in_features": inputs, "out_features": outputs, "bias": True}
    _write_json(folder / "config.json", {**sizes, "activation_function": f"torch.nn.modules.{kind}"})
    state = {"linear.weight": layer.weight.detach().contiguous(), "linear.bias": layer.bias.detach().contiguous()}
    save_file(state, folder / "model.safetensors")


def _write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def read(folder: Path) -> tuple[Any, str]:
    """The encoder of a folder by sentence-transformers, or where that is not installed by this package; and by which."""
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        from hybrid_retrieval.config import PathsConfig
        from hybrid_retrieval.models.published import PublishedModel

        return PublishedModel(PathsConfig(), path=str(folder)).load(), "this package (sentence-transformers is not installed)"
    return SentenceTransformer(str(folder), device="cpu", local_files_only=True), "sentence-transformers"


def check(encoder: BiEncoder, folder: Path) -> str:
    """Compare the embeddings of a folder with those of the encoder that it was written from; what was compared, in words.

    Raises:
        InputError: they differ.
    """
    found, by = read(folder)
    worst = max(difference(encoder.encode(TEXTS, role), _embed(found, role), encoder.settings) for role in NAMES)
    said = f"{len(TEXTS)} texts as queries and passages, read by {by}: the largest difference is {worst:.1e}"
    if not worst <= TOLERANCE:
        raise InputError(f"the export does not embed as the encoder: {said}; expected {TOLERANCE:g} at most")
    return said


def _embed(encoder: Any, role: Role) -> npt.NDArray[np.float32]:
    if isinstance(encoder, BiEncoder):
        return encoder.encode(TEXTS, role)
    return np.asarray(getattr(encoder, f"encode_{NAMES[role]}")(list(TEXTS)), np.float32)


def difference(ours: npt.NDArray[np.float32], theirs: npt.NDArray[np.float32], settings: EncoderSettings) -> float:
    """The largest one of any number, in lengths of an embedding; of embeddings whose cosine is taken, at unit length."""
    length = np.linalg.norm(theirs, axis=1, keepdims=True)
    same = theirs / length if settings.normalize else theirs
    return float(np.abs(ours - same).max() / max(1.0, float(np.linalg.norm(ours, axis=1).max())))
