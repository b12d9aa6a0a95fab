"""Chunks of texts of similar length, so that little of what goes through a transformer is padding.

The loss sees embeddings only, so the order in which texts are encoded is free: this is exact.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

CHUNK_COST = 1 / 8
"""The cost of a chunk beside its tokens, as a share of the budget, which is the device's: reading the weights, adding to their
gradients, starting kernels. 256 tokens of 2,048 on a CPU; on an H200, where a chunk of XLM-R base starts 1,300 kernels in
27 ms, some 8,000 of 65,536."""
LEVELS = 128
"""Distinct lengths that a cut is looked for at; more are rounded up."""


def plan(lengths: Ints, budget: int) -> list[Ints]:
    """Rows of each chunk, the longest texts first: the cuts with the least padded tokens and chunks together.

    The padded size of a chunk (rows x longest) is at most `budget`, except for a single text that is longer.

    Args:
        lengths: int64 [texts], tokens.
        budget: tokens, padding included.
    """
    if not len(lengths):
        return []
    order = np.argsort(-lengths, kind="stable")
    ordered = lengths[order]
    pieces: list[Ints] = []
    for start, stop in _cuts(ordered, budget):
        parts = -(-(stop - start) // max(1, budget // max(1, int(ordered[start]))))
        pieces.extend(np.array_split(np.arange(start, stop), parts))
    return [order[piece] for piece in pieces]


def _cuts(ordered: Ints, budget: int) -> list[tuple[int, int]]:
    """Runs of texts of descending length with the least cost, by dynamic programming over the places where length changes."""
    level = ordered
    if len(np.unique(ordered)) > LEVELS:
        level = -(-ordered // -(-int(ordered[0]) // LEVELS))
    places = np.concatenate([[0], np.flatnonzero(np.diff(level)) + 1, [len(ordered)]])
    longest = ordered[places[:-1]].astype(np.float64)
    best, before = np.zeros(len(places)), np.zeros(len(places), np.int64)
    for end in range(1, len(places)):
        padded = (places[end] - places[:end]) * longest[:end]
        total = best[:end] + padded + CHUNK_COST * budget * np.ceil(padded / budget)
        before[end] = np.argmin(total)
        best[end] = total[before[end]]
    runs = []
    end = len(places) - 1
    while end > 0:
        runs.append((int(places[before[end]]), int(places[end])))
        end = int(before[end])
    return runs[::-1]


def shares(chunks: list[Ints], lengths: Ints, ranks: int) -> list[list[int]]:
    """The chunks of each of `ranks` devices, in ascending order; the largest are dealt first, to the device that has least."""
    sizes = [len(chunk) * int(lengths[chunk[0]]) for chunk in chunks]
    taken: list[list[int]] = [[] for _ in range(ranks)]
    load = [0] * ranks
    for number in sorted(range(len(chunks)), key=lambda number: -sizes[number]):
        rank = load.index(min(load))
        taken[rank].append(number)
        load[rank] += sizes[number]
    return [sorted(numbers) for numbers in taken]
