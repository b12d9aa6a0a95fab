"""Reading trained weights back, for evaluation and for going on."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.models.adapters import merge_adapters
from hybrid_retrieval.models.encoder import BiEncoder

MODEL_FOLDER = "model"
PREFIX = "encoder."


class WholeFiles(TorchCheckpointIO):
    """Checkpoints are written beside their place and renamed into it: a kill or a full disk leaves the old one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        final = Path(path)
        final.parent.mkdir(parents=True, exist_ok=True)
        part = final.with_name(f".{final.name}.part")
        try:
            torch.save(checkpoint, part)
            part.replace(final)
        except RuntimeError as error:  # what torch makes of a failed write
            raise OSError(errno.ENOSPC, f"cannot be written ({str(error).splitlines()[0]})", str(final)) from error
        finally:
            part.unlink(missing_ok=True)


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
    except Exception as error:  # the unpickler raises whatever the damage leads it to
        raise InputError(f"{path} is not a readable checkpoint ({str(error).splitlines()[0][:120]})") from error
    return content


def scoring_device(accelerator: str = "auto") -> torch.device:
    """Where an encoder is best used, out of what the machine has and ``trainer.accelerator`` allows."""
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return torch.device("cuda")
    if accelerator in ("auto", "gpu", "mps") and torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def load_encoder(
    run_dir: Path, which: str, strict: bool = False, accelerator: str = "auto", linear: str | None = None
) -> BiEncoder:
    """The trained encoder of a run directory, in evaluation mode; `strict` is law 7's, `linear` the run's ``trainer.linear``.

    Raises:
        InputError: no checkpoint, or one of another model.
    """
    encoder = BiEncoder.load(run_dir / MODEL_FOLDER)
    encoder.strict = strict
    encoder.multiply_with(linear or "default")
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
    merge_adapters(encoder)
    return encoder.eval().to(scoring_device(accelerator))
