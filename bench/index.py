"""Composing batches of 100 million pairs in 9 languages, beside sentence-transformers' ProportionalBatchSampler.

Both sides draw batches of indices and read no text. Ours is the hybrid sampler over one set of 11.1 million items that
exist in 9 languages: 100 million same-language pairs, and the cross-lingual ones besides. The peer is what its trainer
builds for `multi_dataset_batch_sampler=proportional` on 9 data sets of as many rows, one a language: a batch sampler over
torch's RandomSampler for each. Its data sets are `range` objects, which take neither time nor memory.

Every figure comes from a process of its own, after its imports. `index_start` is the time from nothing to the first
batch. `index_memory` is the most memory that was resident over the first batches, less what was before; the peer orders a
language's rows when it first comes to it, so as many batches are drawn as bring all of them, on both sides.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

from bench.row import Row, Timings

LANGUAGES = ("ar", "de", "en", "es", "hi", "ru", "th", "vi", "zh")
ITEMS = 100_000_000 // len(LANGUAGES)
BATCH, LARGE_BATCH = 1024, 65_536
BATCHES = 200
ROUNDS = 3
RAGGED_PATTERNS = 500
START_TARGET, MEMORY_TARGET = 100.0, 20.0
UNIT = "100M pairs, 9 languages"


def index_start() -> Row:
    """Seconds to the first batch."""
    figures = measured()
    mine, theirs = (Timings([one["seconds"] for one in figures[side]]) for side in SIDES)
    details = {"ours": {**mine.details(), **figures["ours"][-1]["more"]}, "peer": theirs.details(), "batch": BATCH}
    return Row("index_start", f"s to the first batch, {UNIT}", mine.median, theirs.median, START_TARGET, details=details)


def index_memory() -> Row:
    """Added memory."""
    figures = measured()
    mine, theirs = ([one["mib"] for one in figures[side]] for side in SIDES)
    details = {"ours": {"mib": mine}, "peer": {"mib": theirs}, "batch": BATCH, "batches": BATCHES}
    unit = f"MiB added, {UNIT}"
    return Row("index_memory", unit, statistics.median(mine), statistics.median(theirs), MEMORY_TARGET, details=details)


@cache
def measured() -> dict[str, list[dict[str, Any]]]:
    """Both sides in turn, each time in a fresh process."""
    found: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    for _ in range(ROUNDS):
        for side, kept in found.items():
            command = [sys.executable, "-m", "bench.index", side]
            done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True)
            kept.append(json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{"))))
    return found


def ours() -> dict[str, Any]:
    """Our side, and what else its reader may want to know: indices a second, and the time to resume."""
    import numpy as np

    from hybrid_retrieval.sampling.availability import Availability, SetAvailability
    from hybrid_retrieval.sampling.composer import Composer
    from hybrid_retrieval.sampling.hybrid import Hybrid
    from hybrid_retrieval.sampling.sampler import XY

    def available(patterns: int) -> Availability:
        rng = np.random.default_rng(0)
        masks = rng.integers(1, 2 ** len(LANGUAGES), (2, patterns)).astype(np.uint64)
        masks[:, 0] = 2 ** len(LANGUAGES) - 1
        bounds = np.cumsum([0, *rng.dirichlet(np.ones(patterns)) * ITEMS]).astype(np.int64)
        return Availability([SetAvailability("set", LANGUAGES, *masks, bounds[:-1], bounds[1:])])

    sets = {"complete": available(1), "ragged": available(RAGGED_PATTERNS)}

    def fresh(size: int, name: str = "complete", seed: int = 1) -> Composer:
        return Hybrid(size).compose(sets[name], seed=seed, steps=1_000_000)

    def batches() -> Iterator[object]:
        composer = fresh(BATCH)
        return (composer.batch(step) for step in range(BATCHES))

    figures = first_and_peak(batches)
    rng = np.random.default_rng(1)
    more: dict[str, Any] = {}
    for name, one in sets.items():
        draw = median(XY(BATCH).compose(one, seed=1).crosslingual.pairs.draw, [(number * 10**6, 10**6) for number in range(9)])
        resumed = {}
        for size in (BATCH, LARGE_BATCH):
            composers = [fresh(size, name, seed) for seed in range(9)]
            steps = rng.integers(0, 1_000_000, 9).tolist()
            seconds = median(lambda composer, step: composer.batch(step), list(zip(composers, steps, strict=True)))
            resumed[str(size)] = round(1000 * seconds, 2)
        started = median(lambda *key: fresh(*key).batch(0), [(LARGE_BATCH, name, seed) for seed in range(9)])
        more[name] = {
            "million_indices_per_second": round(1 / draw, 1),
            "milliseconds_to_the_batch_of_any_step": resumed,
            "milliseconds_to_the_first_batch_of_65536": round(1000 * started, 2),
        }
    return {**figures, "more": more}


def peer() -> dict[str, Any]:
    """sentence-transformers' side."""
    import torch
    from sentence_transformers.base.sampler import DefaultBatchSampler, ProportionalBatchSampler
    from torch.utils.data import ConcatDataset, RandomSampler

    def batches() -> Iterator[object]:
        generator = torch.Generator()
        generator.manual_seed(1)
        rows: list[Any] = [range(ITEMS) for _ in LANGUAGES]
        samplers = [
            DefaultBatchSampler(RandomSampler(one, generator=generator), BATCH, drop_last=True, generator=generator, seed=1)
            for one in rows
        ]
        return islice(ProportionalBatchSampler(ConcatDataset(rows), samplers, generator=generator, seed=1), BATCHES)

    return first_and_peak(batches)


SIDES: dict[str, Callable[[], dict[str, Any]]] = {"ours": ours, "peer": peer}


def first_and_peak(batches: Callable[[], Iterator[object]]) -> dict[str, Any]:
    """Seconds to the first batch, and MiB of memory added at the worst moment up to the last."""
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    start = time.perf_counter()
    stream = batches()
    next(stream)
    seconds = time.perf_counter() - start
    for _ in stream:
        pass
    return {"seconds": seconds, "mib": resident("VmHWM") - before}


def resident(field: str) -> float:
    """Linux's figure of this process's memory, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{field}:"))


def median(work: Callable[..., object], calls: Sequence[tuple[Any, ...]]) -> float:
    """Seconds of one of the calls."""
    seconds = []
    for arguments in calls:
        start = time.perf_counter()
        work(*arguments)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


if __name__ == "__main__":
    print(json.dumps(SIDES[sys.argv[1]]()))
