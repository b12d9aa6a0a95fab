"""Reading trained weights back, for evaluation and for going on."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.models.encoder import BiEncoder

MODEL_FOLDER = "model"
PREFIX = "encoder."


def checkpoint_path(run_dir: Path, which: str) -> Path:
    """``best`` or ``last`` of a run; last stands in for best where nothing was validated."""
    folder = run_dir / "checkpoints"
    wanted = folder / f"{which}.ckpt"
    found = wanted if wanted.exists() else folder / "last.ckpt"
    if not found.exists():
        raise InputError(f"{run_dir} holds no checkpoint ({wanted.name} or last.ckpt in its folder checkpoints)")
    return found


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint's content; only plain types and tensors are loaded."""
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise InputError(f"{path} is not a readable checkpoint ({str(error).splitlines()[0][:120]})") from error
    return content


def load_encoder(run_dir: Path, which: str, strict: bool = False) -> BiEncoder:
    """The trained encoder of a run directory, in evaluation mode; `strict` is law 7's.

    Raises:
        InputError: no checkpoint, or one of another model.
    """
    encoder = BiEncoder.load(run_dir / MODEL_FOLDER)
    encoder.strict = strict
    path = checkpoint_path(run_dir, which)
    state = read_checkpoint(path).get("state_dict", {})
    weights = {name.removeprefix(PREFIX): value for name, value in state.items() if name.startswith(PREFIX)}
    try:
        encoder.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:160]
        raise InputError(
            f"{path} is a checkpoint of another model than {run_dir / MODEL_FOLDER} describes: {reason}"
        ) from error
    return encoder.eval()
