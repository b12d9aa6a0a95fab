"""Devices that a job can be planned for: what their makers state, and the share of it that training reaches."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import torch
from torch import nn

from hybrid_retrieval.config import positive, share
from hybrid_retrieval.errors import choice
from hybrid_retrieval.models import kernels

HERE = "cpu"
"""The name of the processor of this machine, which is probed and not looked up."""
GPU_SHARE = 0.4
"""Of a card's matrix peak, reached in training: an assumption, stated with every plan (``plan.share``)."""
CPU_SHARE = 0.5
"""The same of a processor's, whose peak is probed; other work than products (dropout, norms) takes the other half."""
PROBED_SIDE, PROBED_BYTES, PROBES = 1024, 1 << 26, 5


@dataclass(frozen=True)
class Device:
    """One device.

    Attributes:
        single, half: peak FLOP/s of dense float32 products (without TF32, as here) and of bfloat16 or float16 ones.
        memory: bytes.
        bandwidth: bytes a second of its memory.
        link: bytes a second into it from the other devices of a machine.
        share: of the peak that training reaches.
        shared: whether all devices of a machine are this one, so that more processes do not make it faster.
    """

    name: str
    single: float
    half: float
    memory: float
    bandwidth: float
    link: float
    share: float = GPU_SHARE
    shared: bool = False

    def speed(self, precision: str) -> float:
        """FLOP/s that training reaches at ``trainer.precision``."""
        return (self.single if precision == "32-true" else self.half) * self.share


CARDS: Mapping[str, Device] = {
    card.name: card
    for card in (
        Device("a100_40gb", 19.5e12, 312e12, 40e9, 1.555e12, 300e9),
        Device("a100_80gb", 19.5e12, 312e12, 80e9, 2.039e12, 300e9),
        Device("h100_80gb", 67e12, 989e12, 80e9, 3.35e12, 450e9),
        Device("h200", 67e12, 989e12, 141e9, 4.8e12, 450e9),
        Device("l4", 30.3e12, 121e12, 24e9, 0.3e12, 25e9),
        Device("l40s", 91.6e12, 362e12, 48e9, 0.864e12, 25e9),
        Device("rtx3090", 35.6e12, 71e12, 24e9, 0.936e12, 25e9),
        Device("rtx4090", 82.6e12, 165e12, 24e9, 1.008e12, 25e9),
    )
}
"""Dense peaks and memory as in the makers' data sheets; SXM forms where there are several."""


def device(name: str, reached: float | None = None) -> Device:
    """The device of a name, with another share of its peak where one is given.

    Raises:
        InputError: the name is unknown, or the share is none.
    """
    choice("plan.device", name, [HERE, *CARDS])
    found = CARDS[name] if name != HERE else this_machine()
    if reached is None:
        return found
    share("plan.share", reached)
    positive("plan.share", reached)
    return Device(**{**vars(found), "share": reached})


@cache
def this_machine() -> Device:
    """The processor of this machine, by multiplying (as training would) and copying for some tenths of a second."""
    single, half = (2 * PROBED_SIDE**3 / _seconds(_product(kind)) for kind in (torch.float32, torch.bfloat16))
    values = torch.ones(PROBED_BYTES // 4)
    copied = torch.empty_like(values)
    bandwidth = 2 * PROBED_BYTES / _seconds(lambda: copied.copy_(values))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Device(HERE, single, half, memory, bandwidth, bandwidth / 2, CPU_SHARE, shared=True)


def _product(kind: torch.dtype) -> Callable[[], object]:
    layer = nn.Linear(PROBED_SIDE, PROBED_SIDE, dtype=kind)
    kernels.install(layer)
    left = torch.ones(PROBED_SIDE, PROBED_SIDE, dtype=kind)
    return torch.no_grad()(lambda: layer(left))


def _seconds(work: Callable[[], object]) -> float:
    """The shortest of a few runs, after one that does not count."""
    work()
    runs = []
    for _ in range(PROBES):
        start = time.perf_counter()
        work()
        runs.append(time.perf_counter() - start)
    return min(runs)
