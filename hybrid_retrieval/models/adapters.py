"""LoRA (Hu et al., arXiv 2106.09685) through peft: low-rank adapters beside frozen weights."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from hybrid_retrieval.errors import InputError, choice, first_line
from hybrid_retrieval.values import Count, Dropout, Positive


@dataclass(frozen=True)
class Lora:
    """Config of the adapters."""

    rank: Count = 16
    alpha: Positive = 32.0
    """An adapter's product counts alpha / rank times."""
    dropout: Dropout = 0.0
    """Applied to the inputs of an adapter."""
    target_modules: list[str] | None = None
    """Names of the linear layers that get one, as in ``[q_proj, v_proj]``; by default all of them."""
    frozen: str = "float32"
    """Type of the frozen weights: float32, or bfloat16 in half the memory; adapters are float32."""

    def __post_init__(self) -> None:
        choice("model.lora.frozen", self.frozen, ["float32", "bfloat16"])


def add_adapters(model: nn.Module, lora: Lora) -> None:
    """Put adapters into a transformers model, in place; only they remain trainable.

    Raises:
        InputError: peft is not installed, or no layer has a name of `lora.target_modules`.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise InputError("model.lora needs peft, which is not installed: pip install 'hybrid-retrieval[lora]'") from error
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules or "all-linear",
    )
    model.to(getattr(torch, lora.frozen))
    try:
        inject_adapter_in_model(config, model)
    except ValueError as error:
        raise InputError(f"model.lora.target_modules={lora.target_modules}: {first_line(error)}") from error
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def merge_adapters(module: nn.Module) -> None:
    """Add adapters to the float32 weights beside them, and leave plain layers: the same embeddings with less work."""
    if "peft" not in sys.modules:
        return
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, part in list(module.named_modules()):
        if isinstance(part, BaseTunerLayer):
            layer: Any = part
            if layer.get_base_layer().weight.dtype != torch.float32:
                continue
            layer.merge()
            parent, _, child = name.rpartition(".")
            setattr(module.get_submodule(parent), child, layer.get_base_layer())
