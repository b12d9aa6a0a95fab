"""Checkpoints as encoders: what a run directory's checkpoint says of its encoder, and reading the weights back."""

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

LAST, BEST = "last.ckpt", "best.ckpt"
PREFIX = "encoder."
"""Prefix of the encoder's weights in a checkpoint's ``state_dict``."""
CONTENT = {"state_dict": dict, "hyper_parameters": dict}
"""Parts of a checkpoint that are read, and their types."""


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
