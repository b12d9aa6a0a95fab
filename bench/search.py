"""Exact search over stored float16 vectors, beside faiss's IndexFlatIP over the same ones in float32.

1 million vectors of 384 dimensions, 1,000 queries, the 100 best of each; both on all cores. The results are compared first:
those of ours must be those of float32 scores. Each side's memory comes from a process of its own: the most that was resident
during the search, mapped files included, less what was before the vectors were opened.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bench.index import resident
from bench.row import Row, interleaved

ROWS, DIMENSIONS, QUERIES, DEPTH = 1_000_000, 384, 1_000, 100
UNIT = "1M x 384, 1,000 queries, top 100"
ADDED_AT_ONCE = 50_000


def search_exact() -> Row:
    """Seconds of a search."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vectors.npy"
        make(path)
        search, find = ours(path), peer(path)
        mine, theirs = search(), find()
        same = float((mine == theirs).mean())
        assert same > 0.999, f"results differ: {same}"  # but for scores that differ by rounding
        one, other = interleaved(search, find, warm=0)
    details = {"ours": one.details(), "peer": other.details(), "same_documents": same}
    return Row("search_exact", f"s, {UNIT}", one.median, other.median, 1.0, details=details)


def search_memory() -> Row:
    """MB added by opening the vectors and searching."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vectors.npy"
        make(path)
        found: dict[str, list[float]] = {"ours": [], "peer": []}
        for _ in range(3):
            for side, kept in found.items():
                command = [sys.executable, "-m", "bench.search", side, str(path)]
                done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True)
                kept.append(json.loads(done.stdout.splitlines()[-1]))
    mine, theirs = (statistics.median(found[side]) for side in ("ours", "peer"))
    return Row("search_memory", f"MB, {UNIT}", mine, theirs, 1.9, details=found)


def make(path: Path) -> None:
    """Random unit vectors."""
    rng = np.random.default_rng(0)
    vectors = np.lib.format.open_memmap(path, "w+", "float16", (ROWS, DIMENSIONS))
    for start in range(0, ROWS, ADDED_AT_ONCE):
        vectors[start : start + ADDED_AT_ONCE] = unit(rng, ADDED_AT_ONCE)
    vectors.flush()


def unit(rng: np.random.Generator, rows: int) -> np.ndarray:
    """float32 [rows, dimensions] of length 1."""
    vectors = rng.standard_normal((rows, DIMENSIONS), np.float32)
    found: np.ndarray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return found


def ours(path: Path) -> Callable[[], np.ndarray]:
    """The documents of each query, best first."""
    from hybrid_retrieval.evaluation.scoring.scorer import DenseScorer
    from hybrid_retrieval.evaluation.scoring.search import search

    scorer = DenseScorer(unit(np.random.default_rng(1), QUERIES), np.load(path, mmap_mode="r"))
    return lambda: search(scorer, QUERIES, ROWS, DEPTH).documents


def peer(path: Path) -> Callable[[], np.ndarray]:
    """The same by faiss."""
    import faiss

    from hybrid_retrieval.evaluation.scoring.vectors import release

    index, vectors = faiss.IndexFlatIP(DIMENSIONS), np.load(path, mmap_mode="r")
    for start in range(0, ROWS, ADDED_AT_ONCE):
        rows = slice(start, start + ADDED_AT_ONCE)
        index.add(np.asarray(vectors[rows], np.float32))
        release(vectors, rows)  # the file is no part of its memory
    queries = unit(np.random.default_rng(1), QUERIES)
    return lambda: index.search(queries, DEPTH)[1]


def added(side: Callable[[Path], Callable[[], np.ndarray]], path: Path) -> float:
    """MB that were resident at the worst moment of the search, less what was before the vectors were opened."""
    import faiss  # noqa: F401
    import torch  # noqa: F401

    import hybrid_retrieval.evaluation.scoring.search  # noqa: F401

    before = resident("VmRSS")
    search = side(path)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew: what building took is not counted
    search()
    return resident("VmHWM") - before


if __name__ == "__main__":
    print(json.dumps(added({"ours": ours, "peer": peer}[sys.argv[1]], Path(sys.argv[2]))))
