"""How the rows of training are measured: the same pairs in the same order on both sides, agreement first, then time in turn."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.engine import Ours
from bench.peer import MINI_BATCHES, Peer
from bench.row import Row, Timings, interleaved
from bench.texts import SMALL, Texts, model_directory

AGREEMENT = 1e-3
"""Relative difference of the two sides' losses on the first batch without dropout, in float32."""


def batches(texts: Texts, size: int) -> Iterator[list[int]]:
    """Pairs of one step after another, in a fixed order, round and round."""
    start = 0
    while True:
        yield [row % len(texts.questions) for row in range(start, start + size)]
        start += size


def steps(side: Ours | Peer, texts: Texts, size: int, count: int) -> Callable[[], None]:
    """A run of `count` steps."""
    order = batches(texts, size)

    def run() -> None:
        for _ in range(count):
            loss = side.step(next(order))
            assert math.isfinite(loss), loss

    return run


def check_agreement(ours: Ours, peer: Peer, rows: Sequence[int]) -> dict[str, float]:
    """Both sides' loss on the same pairs without dropout, in float32.

    Raises:
        AssertionError: they differ, so that the two sides do not do the same work.
    """
    found = {}
    for name, side in (("ours", ours), ("peer", peer)):
        bf16, side.bf16 = side.bf16, False
        found[name] = side.evaluate(rows)
        side.bf16 = bf16
    assert math.isclose(found["ours"], found["peer"], rel_tol=AGREEMENT), f"losses differ without dropout: {found}"
    return found


def best_mini_batches(directory: Path, texts: Texts, bf16: bool, size: int) -> tuple[dict[str, int], dict[str, float]]:
    """The fastest of the peer's `MINI_BATCHES`, by one warm step of `size` pairs each, and the seconds of each."""
    seconds = {}
    for settings in MINI_BATCHES:
        peer, rows = Peer(directory, texts, bf16, settings), next(batches(texts, size))
        peer.step(rows[: size // 4])
        start = time.perf_counter()
        peer.step(rows)
        seconds[", ".join(f"{key} {value}" for key, value in settings.items())] = time.perf_counter() - start
    return MINI_BATCHES[int(np.argmin(list(seconds.values())))], seconds


def training_row(
    name: str, texts: Texts, size: int, target: float, bf16: bool = False, cached: bool = False, rounds: int = 3, count: int = 1
) -> Row:
    """Pairs a second of both sides.

    Args:
        size: pairs of a batch.
        cached: with GradCache, the peer at the best of its settings.
        count: steps of a run, of which there are `rounds`.
    """
    directory = model_directory(shape=SMALL if cached else None)
    tried: dict[str, Any] = {}
    settings = None
    if cached:
        settings, seconds = best_mini_batches(directory, texts, bf16, min(size, PROBED))
        tried = {"peer_settings": settings, "tried_seconds": {key: round(value, 2) for key, value in seconds.items()}}
    ours, peer = Ours(directory, texts, bf16, cached), Peer(directory, texts, bf16, settings)
    agreement = check_agreement(ours, peer, next(batches(texts, min(size, PROBED))))
    peer.step(next(batches(texts, min(size, 32))))
    mine, theirs = interleaved(steps(ours, texts, size, count), steps(peer, texts, size, count), rounds)
    details = {
        "text": texts.origin,
        "work": shape(ours, peer, next(batches(texts, size))),
        "ours": mine.details(),
        "peer": theirs.details(),
        "loss_without_dropout": agreement,
        **tried,
    }
    return Row(name, "pairs/s", *rates(size * count, mine, theirs), target, less_is_better=False, details=details)


PROBED = 64
"""Pairs of the step by which the peer's settings are chosen, and the losses compared."""


def rates(pairs: int, *timings: Timings) -> tuple[float, ...]:
    """Pairs a second."""
    return tuple(pairs / one.median for one in timings)


def shape(ours: Ours, peer: Peer, rows: Sequence[int]) -> dict[str, float]:
    """Tokens of a batch; the share of padding on either side (the peer's where it embeds a column at once)."""
    chunks = [chunk.tokens for chunk in ours.batch(rows).chunks]
    tokens, padded = sum(len(one.ids) for one in chunks), sum(len(one) * one.longest for one in chunks)
    padded_peer = sum(int(column["input_ids"].numel()) for column in peer.features(rows))
    return {
        "tokens": tokens,
        "padding_ours": round(1 - tokens / padded, 3),
        "padding_peer": round(1 - tokens / padded_peer, 3),
    }
