"""One vector from the states of a text's tokens; states are ragged, [tokens, dimensions] with offsets."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Pooling = Callable[[Tensor, Tensor], Tensor]


def mean(states: Tensor, offsets: Tensor) -> Tensor:
    """[texts, dimensions]: the mean over each text's tokens, special ones included, as sentence-transformers does; or 0."""
    return torch.segment_reduce(states, "mean", offsets=offsets, axis=0, unsafe=True, initial=0)


def cls(states: Tensor, offsets: Tensor) -> Tensor:
    """[texts, dimensions]: the first token."""
    return states[offsets[:-1]]


def last(states: Tensor, offsets: Tensor) -> Tensor:
    """[texts, dimensions]: the last token."""
    return states[offsets[1:] - 1]


POOLINGS: dict[str, Pooling] = {"mean": mean, "cls": cls, "last": last}
