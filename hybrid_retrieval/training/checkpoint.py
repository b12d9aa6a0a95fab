"""Checkpoints as encoders: what a checkpoint says of its encoder, and reading trained weights back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.models.adapters import merge_adapters
from hybrid_retrieval.models.encoder import BiEncoder
from hybrid_retrieval.sampling.manifest import languages_drawn

LAST, BEST = "last.ckpt", "best.ckpt"
PREFIX = "encoder."
"""Prefix of the encoder's weights in a checkpoint's ``state_dict``."""


def checkpoint_path(run_dir: Path, which: str) -> Path:
    """``best`` or ``last`` of a run; last stands in for best where nothing was validated."""
    folder = run_dir / "checkpoints"
    wanted = folder / (BEST if which == "best" else LAST)
    found = wanted if wanted.exists() else folder / LAST
    if not found.exists():
        raise InputError(f"{run_dir} holds no checkpoint ({wanted.name} or {LAST} in its folder checkpoints)")
    return found


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint's content; only plain types and tensors are loaded."""
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler raises whatever the damage leads it to
        raise InputError(f"{path} is not a readable checkpoint ({str(error).splitlines()[0][:120]})") from error
    return content


def trained_on(run_dir: Path, model: Any) -> tuple[str, ...] | None:
    """The languages of the text that a run's encoder has seen; None where its `model` began with published weights.

    Published weights have seen more than this run says. They are known by the directory or the name that the config gives.
    """
    from_scratch = isinstance(model, Mapping) and not (model.get("path") or model.get("name"))
    return languages_drawn(run_dir / "batch_manifest.parquet") if from_scratch else None


def check_checkpoint(path: Path, encoder: nn.Module) -> None:
    """Refuse to resume from a checkpoint of another model."""
    saved = read_checkpoint(path)["state_dict"]
    for name, value in encoder.state_dict(prefix=PREFIX).items():
        if isinstance(value, Tensor) and (name not in saved or saved[name].shape != value.shape):
            raise InputError(f"{path} is a checkpoint of another model: {name} is missing or of another shape")


def scoring_device(accelerator: str = "auto") -> torch.device:
    """The best device for an encoder, out of those that the machine has and ``trainer.accelerator`` allows."""
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return torch.device("cuda")
    if accelerator in ("auto", "gpu", "mps") and torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def load_encoder(run_dir: Path, which: str, strict: bool = False, accelerator: str = "auto") -> BiEncoder:
    """The trained encoder of a run directory, in evaluation mode; `strict` is law 7's.

    Raises:
        InputError: no checkpoint, or a damaged one.
    """
    path = checkpoint_path(run_dir, which)
    content = read_checkpoint(path)
    try:
        encoder = BiEncoder.described(content["hyper_parameters"]["encoder"])
        weights = {name.removeprefix(PREFIX): value for name, value in content["state_dict"].items() if name.startswith(PREFIX)}
        encoder.load_state_dict(weights)
    except (RuntimeError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} holds no encoder that can be read: {' '.join(str(error).split())[:160]}") from error
    encoder.strict = strict
    merge_adapters(encoder)
    return encoder.eval().to(scoring_device(accelerator))
