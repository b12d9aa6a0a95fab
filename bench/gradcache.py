"""GradCache steps of batches that do not fit, beside sentence-transformers' CachedMultipleNegativesRankingLoss.

As `bench.train`; the peer has the fastest of its settings (`bench.peer.MINI_BATCHES`: fixed mini-batches, and token budgets),
chosen by one step of a smaller batch each. The memory row runs each side in a fresh process and takes the peak of its resident
memory over one step, above what it held before that step (the model, the optimiser's state and the gradients of a first, small
step are there by then).
"""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
import time
from pathlib import Path

from bench.row import Row
from bench.side_by_side import batches, training_row
from bench.texts import SMALL, model_directory, texts

SIZE = 512
MEMORY_RUNS = 3


def gradcache_f32_512() -> Row:
    return training_row("gradcache_f32_512", texts(), SIZE, 3.0, cached=True)


def gradcache_bf16_512() -> Row:
    return training_row("gradcache_bf16_512", texts(), SIZE, 3.0, bf16=True, cached=True)


def gradcache_similar_lengths() -> Row:
    return training_row("gradcache_similar_lengths", texts(similar=True), SIZE, 1.6, cached=True)


def gradcache_memory() -> Row:
    """Both at their defaults: the peer's mini-batches of 32, this package's chunks."""
    model_directory(shape=SMALL), texts()
    measured: dict[str, list[dict[str, float]]] = {"ours": [], "peer": []}
    for _ in range(MEMORY_RUNS):
        for side, found in measured.items():
            command = [sys.executable, "-m", "bench.gradcache", side]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found.append(json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{"))))
    ours, peer = (sorted(run["peak_mb"] for run in measured[side])[MEMORY_RUNS // 2] for side in ("ours", "peer"))
    return Row("gradcache_memory", f"MB, {SIZE} pairs, float32", ours, peer, 1.2, details={"text": texts().origin, **measured})


def peak_of_a_step(side: str, size: int = SIZE) -> dict[str, float]:
    """Megabytes that one step adds at its peak, in this process."""
    from bench.engine import Ours
    from bench.peer import Peer

    text, directory = texts(), model_directory(shape=SMALL)
    model = Ours(directory, text, cached=True) if side == "ours" else Peer(directory, text, cached={"mini_batch_size": 32})
    order = batches(text, size)
    model.step(next(order)[:16])
    ctypes.CDLL(None).malloc_trim(0)
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew from here
    start = time.perf_counter()
    model.step(next(order))
    return {"peak_mb": resident("VmHWM") - before, "before_mb": before, "seconds": time.perf_counter() - start}


def resident(name: str) -> float:
    """Megabytes of resident memory of this process: VmRSS now, VmHWM at its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


if __name__ == "__main__":
    print(json.dumps(peak_of_a_step(sys.argv[1], *map(int, sys.argv[2:]))))
