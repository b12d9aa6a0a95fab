"""Directories of sentence-transformers: what their files say of how a text is cut, pooled, projected and prompted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hybrid_retrieval.errors import InputError, reading
from hybrid_retrieval.files import read_mapping, read_plain

POOLINGS = {"mean": "mean", "cls": "cls", "lasttoken": "last"}
"""Their names of pooling modes to ours."""
OLD_NAMES = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "lasttoken",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
}
"""Flags of files that were written before ``pooling_mode``, and that other programs still read."""
PROMPTS = {"query_prefix": ("query",), "passage_prefix": ("document", "passage", "corpus")}
MODULES, SETTINGS = "modules.json", "config_sentence_transformers.json"
PACKAGE = "sentence_transformers."
UNBOUNDED = 1_000_000
"""Tokens from which on a limit of transformers' means that there is none."""
KNOWN = "Transformer, Pooling, Dense and Normalize, or StaticEmbedding and Normalize"


@dataclass(frozen=True)
class Layout:
    """What a directory says of its encoder.

    Attributes:
        folder: of its weights and its tokenizer.
        saved: values of `EncoderSettings` by name, those that the files state.
        dense: the folders of its dense layers.
        static: whether it has a table of token embeddings instead of a transformer.
        lower_case: whether texts are lower-cased before the tokenizer sees them.
    """

    folder: Path
    saved: dict[str, Any]
    dense: tuple[Path, ...] = ()
    static: bool = False
    lower_case: bool = False


def read_layout(directory: Path) -> Layout:
    """The layout of a directory of sentence-transformers, or of one that holds a transformers model alone.

    Raises:
        InputError: it has a module, or a way to use one, that is unknown here.
    """
    if not (directory / MODULES).exists():
        with reading(f"model.path={directory} cannot be loaded", whole=True):
            return Layout(directory, _of_model(directory))
    with reading(f"{directory} is not as sentence-transformers saves a model"):
        return _layout(directory)


def _layout(directory: Path) -> Layout:
    modules = [(str(module["type"]), directory / module["path"]) for module in read_plain(directory / MODULES)]
    kinds = [kind.rpartition(".")[2] if kind.startswith(PACKAGE) else kind for kind, _ in modules]
    known = {"Transformer", "Pooling", "Dense", "Normalize", "StaticEmbedding"}
    if unknown := [kind for kind in kinds if kind not in known]:
        raise InputError(f"model.path={directory}: its module {unknown[0]} is unknown here; expected {KNOWN}")
    folders = [folder for _, folder in modules]
    normalises, static = kinds[-1:] == ["Normalize"], kinds[:1] == ["StaticEmbedding"]
    first = 1 if static else 2
    dense = folders[first : len(folders) - normalises]
    if kinds != [*(kinds[:1] if static else ["Transformer", "Pooling"]), *["Dense"] * len(dense), *["Normalize"] * normalises]:
        raise InputError(f"model.path={directory} is a chain of {', '.join(kinds)}; expected {KNOWN}")
    whole = _optional(directory / SETTINGS)
    saved = {"normalize": normalises or whole.get("similarity_fn_name") != "dot", **_prompts(whole.get("prompts") or {})}
    if whole.get("truncate_dim") is not None:
        saved["dimensions"] = whole["truncate_dim"]
    if static:
        return Layout(folders[0], saved | _lengths(_cut_by_tokenizer(folders[0])), tuple(dense), static=True)
    saved["pooling"] = _pooling(directory, read_mapping(folders[1] / "config.json"))
    config = _of_module(directory, folders[0])
    given = config.get("processor_kwargs") or config.get("tokenizer_args") or {}
    limit = next((value for value in (given.get("model_max_length"), config.get("max_seq_length")) if value is not None), None)
    lengths = _lengths(limit if limit is not None else _of_tokenizer(folders[0]))
    for key, name in (("max_query_length", "query_length"), ("max_passage_length", "document_length")):
        lengths |= {} if config.get(name) is None else {key: config[name]}
    return Layout(folders[0], saved | lengths, tuple(dense), lower_case=bool(config.get("do_lower_case")))


def _of_model(directory: Path) -> dict[str, Any]:
    """What a transformers model says on its own: its tokenizer's length; the last token, where it was made to continue text."""
    config = _optional(directory / "config.json")
    continues = str(next(iter(config.get("architectures") or []), "")).endswith("ForCausalLM") and config.get("is_causal", True)
    return _lengths(_of_tokenizer(directory)) | ({"pooling": "last"} if continues else {})


def _of_module(directory: Path, folder: Path) -> dict[str, Any]:
    """The config of a transformer module, of which nothing that is unknown here is asked for."""
    file = next(iter(sorted(folder.glob("sentence_*_config.json"))), None)
    config = {} if file is None else read_mapping(file)
    for key, expected in (("transformer_task", "feature-extraction"), ("query_expansion", None)):
        if config.get(key, expected) != expected:
            raise InputError(f"model.path={directory}: its module Transformer has {key}={config[key]!r}, which is unknown here")
    return config


def _of_tokenizer(folder: Path) -> Any:
    return _optional(folder / "tokenizer_config.json").get("model_max_length")


def _cut_by_tokenizer(folder: Path) -> Any:
    """The length that ``tokenizer.json`` itself cuts to, which counts in a static model alone."""
    return (_optional(folder / "tokenizer.json").get("truncation") or {}).get("max_length")


def _lengths(limit: Any) -> dict[str, Any]:
    """Both roles' limit; none where there is none."""
    bounded = limit is not None and not (isinstance(limit, (int, float)) and limit >= UNBOUNDED)
    return dict.fromkeys(("max_query_length", "max_passage_length"), limit) if bounded else {}


def _prompts(prompts: dict[str, Any]) -> dict[str, Any]:
    return {key: next((prompts[name] for name in names if prompts.get(name)), "") for key, names in PROMPTS.items()}


def _pooling(directory: Path, config: dict[str, Any]) -> str:
    """The mode of a pooling module, by our name."""
    mode = config.get("pooling_mode") or [name for flag, name in OLD_NAMES.items() if config.get(flag)]
    modes = [mode] if isinstance(mode, str) else list(mode)
    if len(modes) != 1 or modes[0] not in POOLINGS:
        raise InputError(f"model.path={directory} pools by {' and '.join(modes)}; expected one of {', '.join(POOLINGS)}")
    if config.get("include_prompt") is False:
        raise InputError(f"model.path={directory} leaves prompts out of the pooling, which is not done here")
    return POOLINGS[modes[0]]


def read_dense(folders: tuple[Path, ...], dimensions: int) -> tuple[dict[str, Tensor], str]:
    """Dense layers as one: its weight and bias, and the name of its activation.

    Args:
        dimensions: of the first one's inputs.

    Raises:
        InputError: one cannot be read, or they are more than one layer because of what stands between them.
    """
    weight, bias, activation = torch.eye(dimensions, device="cpu"), torch.zeros(dimensions, device="cpu"), "identity"
    for folder in folders:
        with reading(f"{folder} holds no dense layer that can be read", whole=True):
            if activation != "identity":
                raise InputError(f"it follows one that ends with {activation}; expected nothing between dense layers")
            config = read_mapping(folder / "config.json")
            for key in ("use_residual", "module_input_name", "module_output_name"):
                if config.get(key) not in (None, False, "sentence_embedding"):
                    raise InputError(f"{key}={config[key]!r} is unknown here")
            state = weights_in(folder)
            one = state["linear.weight"].float()
            more = state.get("linear.bias", torch.zeros(len(one))).float()
            if one.shape != (len(more), len(weight)) or more.shape != (len(one),):
                shapes = " and ".join(str(list(part.shape)) for part in (one, more))
                raise InputError(f"weight and bias are {shapes}; expected [outputs, {len(weight)}] and [outputs]")
            first = folder == folders[0]
            weight, bias = (one, more) if first else (one @ weight, one @ bias + more)
            activation = str(config.get("activation_function") or "Tanh").rpartition(".")[2].lower()
    return {"weight": weight, "bias": bias}, activation


def read_table(folder: Path) -> Tensor:
    """The token embeddings of a static model, float32 [tokens, dimensions]; of a model2vec one too, a row for each token."""
    with reading(f"{folder} holds no token embeddings that can be read", whole=True):
        state = weights_in(folder)
        if "embedding.weight" in state:
            return state["embedding.weight"].float()
        table = state["embeddings"].float()
        table = table[state["mapping"].long()] if "mapping" in state else table
        return table * state["weights"].float()[:, None] if "weights" in state else table


def weights_in(folder: Path) -> dict[str, Tensor]:
    """The weights of a module, on the CPU."""
    if (folder / "model.safetensors").exists():
        from safetensors.torch import load_file

        return dict(load_file(folder / "model.safetensors"))
    return dict(torch.load(folder / "pytorch_model.bin", map_location="cpu", weights_only=True))


def _optional(path: Path) -> dict[str, Any]:
    """The values of a file that may be absent."""
    values: dict[str, Any] = read_mapping(path) if path.exists() else {}
    return values
