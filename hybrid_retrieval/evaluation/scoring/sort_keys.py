"""A score and a place in trec_eval's order of ties as one integer, so that a sort of integers is a ranking."""

from __future__ import annotations

import torch
from torch import Tensor

LOW = 32
"""Bits of a key below those of the score."""


def key(scores: Tensor, order: Tensor) -> Tensor:
    """int64 that sort by score, then by `order` (0 .. 2^32 - 1)."""
    bits = (scores + 0.0).view(torch.int32).long()  # + 0: there is one zero
    high = torch.where(bits >= 0, bits, -(bits & 0x7FFFFFFF))
    return (high << LOW) | order


def score(keys: Tensor) -> Tensor:
    """The float32 score of a key."""
    high = keys >> LOW
    bits = torch.where(high >= 0, high, -high | (1 << 31))
    return torch.where(bits > 0x7FFFFFFF, bits - (1 << 32), bits).int().view(torch.float32)


def order_of(keys: Tensor) -> Tensor:
    """The place in the order of ties of a key."""
    return keys & ((1 << LOW) - 1)
