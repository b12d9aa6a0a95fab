"""Choices that depend on the machine, made once for a run and kept in its config (law 6).

A probe that is timed may come out otherwise the next time, so a run that is gone on with takes what its config says.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from hybrid_retrieval.config import TrainerConfig
from hybrid_retrieval.models.encoder import CHUNK_TOKENS
from hybrid_retrieval.models.linear import faster
from hybrid_retrieval.training.checkpoint import scoring_device

TOKENS_A_GIB = 512
"""On a GPU, tokens of a chunk for each GiB of its memory; rounded down to a power of two."""


def settled(config: TrainerConfig) -> TrainerConfig:
    """`config` with nothing left open."""
    tokens = chunk_tokens(config.accelerator) if config.chunk_tokens is None else config.chunk_tokens
    return replace(config, chunk_tokens=tokens, linear=config.linear or linear(config.accelerator))


def chunk_tokens(accelerator: str) -> int:
    """A constant on a CPU, where a chunk should stay near the caches; on a GPU by its memory."""
    if scoring_device(accelerator).type != "cuda":
        return CHUNK_TOKENS
    gibibytes = torch.cuda.get_device_properties(0).total_memory / 2**30
    return 1 << max(12, int(gibibytes * TOKENS_A_GIB).bit_length() - 1)


def linear(accelerator: str) -> str:
    """What multiplies in float32: the faster of two on a CPU, where it is probed; the default elsewhere."""
    return faster() if scoring_device(accelerator).type == "cpu" else "default"
