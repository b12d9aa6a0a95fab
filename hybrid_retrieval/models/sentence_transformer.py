"""Directories in sentence-transformers' layout: settings that contradict the saved ones are refused, not used unawares."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from hybrid_retrieval.errors import InputError, reading
from hybrid_retrieval.files import read_mapping, read_plain
from hybrid_retrieval.models.encoder import EncoderSettings
from hybrid_retrieval.models.tokenization import load_tokenizer

log = logging.getLogger(__name__)

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
"""Flags of files that were written before ``pooling_mode``."""
PROMPTS = {"query_prefix": ("query",), "passage_prefix": ("passage", "document", "corpus")}
LENGTHS = ("max_query_length", "max_passage_length")
KNOWN = (["Transformer", "Pooling"], ["Transformer", "Pooling", "Dense"])
"""Modules that are computed here, in this order; `Normalize` may follow."""


def as_saved(directory: Path, settings: EncoderSettings) -> EncoderSettings:
    """`settings`, with or without normalisation as the directory has it; as they are where it is of another layout.

    Raises:
        InputError: the directory cuts, pools, projects or prefixes otherwise than `settings`, lower-cases where its tokenizer
            does not, or has a module that is unknown here.
    """
    if not (directory / "modules.json").exists():
        return settings
    with reading(f"{directory} is not as sentence-transformers saves a model"):
        return _as_saved(directory, settings)


def _as_saved(directory: Path, settings: EncoderSettings) -> EncoderSettings:
    modules: list[dict[str, Any]] = read_plain(directory / "modules.json")
    kinds = [str(module["type"]).rsplit(".", 1)[-1] for module in modules]
    normalises = kinds[-1:] == ["Normalize"]
    if kinds[: len(kinds) - normalises] not in KNOWN:
        raise InputError(f"model.path={directory} is a chain of {', '.join(kinds)}; expected Transformer, Pooling and Dense")
    _check_transformer(directory / modules[0]["path"], settings)
    pooling = _pooling(directory, read_mapping(directory / modules[1]["path"] / "config.json"))
    if pooling != settings.pooling:
        raise InputError(
            f"model.pooling={settings.pooling}, but {directory} was saved with {pooling}: give model.pooling={pooling}"
        )
    if "Dense" in kinds and settings.projection is None:
        raise InputError(f"model.projection=null, but {directory} has a dense layer: give model.projection=published")
    saved = _optional(directory / "config_sentence_transformers.json")
    _check_prompts(directory, saved.get("prompts") or {}, settings)
    return replace(settings, normalize=normalises or saved.get("similarity_fn_name") != "dot")


def _check_transformer(directory: Path, settings: EncoderSettings) -> None:
    """Refuse texts that are longer than the module reads, and capitals that it would not see."""
    file = next(iter(sorted(directory.glob("sentence_*_config.json"))), None)
    config = {} if file is None else read_mapping(file)
    given = config.get("processor_kwargs") or config.get("tokenizer_args") or {}
    of_tokenizer = _optional(directory / "tokenizer_config.json").get("model_max_length")  # holds where the module has none
    limits = given.get("model_max_length"), config.get("max_seq_length"), of_tokenizer
    limit = next((value for value in limits if value is not None), None)
    beyond = [key for key in LENGTHS if limit is not None and getattr(settings, key) > limit]
    if beyond:
        values = " and ".join(f"model.{key}={getattr(settings, key)}" for key in beyond)
        raise InputError(f"{values}, but {directory} was saved with max_seq_length={limit}: give at most {limit}")
    if config.get("do_lower_case"):
        normalizer = load_tokenizer(directory).normalizer
        if normalizer is None or "A" in normalizer.normalize_str("A"):
            raise InputError(
                f"model.path={directory} was saved with do_lower_case=true, but its tokenizer keeps capitals; "
                "expected a tokenizer.json that lower-cases, as sentence-transformers 6 saves it"
            )


def _pooling(directory: Path, config: dict[str, Any]) -> str:
    """The mode of a pooling module, by our name."""
    mode = config.get("pooling_mode") or [name for flag, name in OLD_NAMES.items() if config.get(flag)]
    modes = [mode] if isinstance(mode, str) else list(mode)
    if len(modes) != 1 or modes[0] not in POOLINGS:
        raise InputError(f"model.path={directory} pools by {' and '.join(modes)}; expected one of {', '.join(POOLINGS)}")
    if config.get("include_prompt") is False:
        raise InputError(f"model.path={directory} leaves prompts out of the pooling, which is not done here")
    return POOLINGS[modes[0]]


def _check_prompts(directory: Path, prompts: dict[str, str], settings: EncoderSettings) -> None:
    """Refuse prefixes other than the saved prompts, and name those that are used where none were saved."""
    added = []
    for key, names in PROMPTS.items():
        saved = next((prompts[name] for name in names if prompts.get(name)), "")
        if saved and saved != getattr(settings, key):
            raise InputError(f"model.{key}={getattr(settings, key)!r}, but {directory} was saved with the prompt {saved!r}")
        if not saved and getattr(settings, key):
            added.append(f"model.{key}={getattr(settings, key)!r}")
    if added:
        log.info("%s was saved without prompts for what gets %s", directory, " and ".join(added))


def _optional(path: Path) -> dict[str, Any]:
    """The values of a file that may be absent."""
    values: dict[str, Any] = read_mapping(path) if path.exists() else {}
    return values
