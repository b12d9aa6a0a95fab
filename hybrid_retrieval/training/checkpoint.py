"""Checkpoints as encoders: what a checkpoint says of its encoder, and reading trained weights back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hybrid_retrieval.errors import InputError, reading
from hybrid_retrieval.files import check_recorded
from hybrid_retrieval.models.adapters import merge_adapters
from hybrid_retrieval.models.encoder import BiEncoder
from hybrid_retrieval.sampling.manifest import languages_drawn

LAST, BEST = "last.ckpt", "best.ckpt"
PREFIX = "encoder."
"""Prefix of the encoder's weights in a checkpoint's ``state_dict``."""
CONTENT = {"state_dict": dict, "hyper_parameters": dict}
TO_RESUME = {**CONTENT, "callbacks": dict, "optimizer_states": list, "lr_schedulers": list, "global_step": int, "epoch": int}
"""Parts of a checkpoint that are read, and their types; of one to resume from, there are more."""


def checkpoint_path(run_dir: Path, which: str) -> Path:
    """``best`` or ``last`` of a run; last stands in for best where nothing was validated."""
    folder = run_dir / "checkpoints"
    wanted = folder / (BEST if which == "best" else LAST)
    found = wanted if wanted.exists() else folder / LAST
    if not found.exists():
        raise InputError(f"{run_dir} holds no checkpoint ({wanted.name} or {LAST} in its folder checkpoints)")
    return found


def read_checkpoint(path: Path, parts: Mapping[str, type] = CONTENT) -> dict[str, Any]:
    """A checkpoint's content; only plain types and tensors are loaded.

    Raises:
        InputError: it is not the file that was written, or no checkpoint.
    """
    check_recorded(path)
    with reading(f"{path} is not a readable checkpoint"):
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(content, dict):
            raise TypeError(f"it holds a {type(content).__name__}")
        for name, kind in parts.items():
            if not isinstance(content.get(name), kind):
                raise TypeError(f"its {name} is a {type(content.get(name)).__name__}")
    return content


def trained_on(run_dir: Path, model: Any) -> tuple[str, ...] | None:
    """The languages of the text that a run's encoder has seen; None where its `model` began with published weights.

    Published weights have seen more than this run says. They are known by the directory or the name that the config gives.
    """
    from_scratch = isinstance(model, Mapping) and not (model.get("path") or model.get("name"))
    return languages_drawn(run_dir / "batch_manifest.parquet") if from_scratch else None


def check_checkpoint(path: Path, encoder: nn.Module, steps: int) -> int:
    """Refuse to resume from a checkpoint of another model, or of a step outside the run; the step."""
    content = read_checkpoint(path, TO_RESUME)
    check_weights(path, content["state_dict"], encoder)
    step: int = content["global_step"]
    if not 0 <= step <= steps:
        raise InputError(f"{path} is of step {step}; expected one of the run's, 0 to trainer.max_steps={steps}")
    return step


def check_weights(path: Path, weights: Mapping[str, Any], encoder: nn.Module) -> None:
    """Refuse weights that are not those of an encoder."""
    for name, value in encoder.state_dict(prefix=PREFIX).items():
        if isinstance(value, Tensor) and getattr(weights.get(name), "shape", None) != value.shape:
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
    description, saved = content["hyper_parameters"].get("encoder"), content["state_dict"]
    with reading(f"{path} holds no encoder that can be read", whole=True):
        with torch.device("meta"):  # sizes out of a file are compared with the weights before they take memory
            check_weights(path, saved, BiEncoder.described(description))
        encoder = BiEncoder.described(description)
        encoder.load_state_dict({name.removeprefix(PREFIX): saved[name] for name in saved if name.startswith(PREFIX)})
    encoder.strict = strict
    merge_adapters(encoder)
    return encoder.eval().to(scoring_device(accelerator))
