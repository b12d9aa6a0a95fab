"""Checkpoints as states of training: which one may be resumed from, and which languages it has seen."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.models.checkpoint import CONTENT, check_weights, read_checkpoint
from hybrid_retrieval.sampling.manifest import languages_drawn

TO_RESUME = {**CONTENT, "callbacks": dict, "optimizer_states": list, "lr_schedulers": list, "global_step": int, "epoch": int}
"""Parts of a checkpoint to resume from, and their types."""


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
