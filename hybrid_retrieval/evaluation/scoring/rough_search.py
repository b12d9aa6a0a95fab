"""The first look of a search at rough scores, in bfloat16, with a bound of their error: what it keeps holds the true best.

Let R be a query's k-th best rough score, and e the bound. The k documents at or above R score at least R - e, so the true k
best do, and their rough scores are at least R - 2e: those documents are kept, and scored exactly at the end.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from hybrid_retrieval.evaluation.scoring.scorer import DenseScorer
from hybrid_retrieval.progress import track

ROUGH_ROWS = 256
"""Queries that are looked at together."""
COLUMNS = 64
"""Columns of a block whose largest score is compared first."""
PAIRS = 1 << 16
"""Pairs that are scored exactly together."""


def best_candidates(
    scorer: DenseScorer, queries: int, blocks: Sequence[slice], depth: int, label: str = "", at_once: int = ROUGH_ROWS
) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, documents and exact scores (float32) of candidates among which are the `depth` best of every row."""
    lengths = torch.linalg.vector_norm(torch.from_numpy(np.asarray(scorer.queries[:queries], np.float32)), dim=1)
    found = _Candidates(lengths, depth)
    for part in track(blocks, label, len(blocks), show=bool(label)):
        block, bound = scorer.rough(part)
        found.widen(bound)
        for start in range(0, queries, at_once):
            found.see(block(start, min(start + at_once, queries)), start, part.start)
    found.settle()
    rows, documents = found.rows, found.documents
    order = torch.argsort(documents)  # as they lie in memory
    rows, documents = rows[order], documents[order]
    parts = [slice(at, at + PAIRS) for at in range(0, len(rows), PAIRS)]
    scores = torch.cat([scorer.pairs(rows[part].numpy(), documents[part].numpy()) for part in parts])
    return rows, documents, scores


class _Candidates:
    """Pairs whose rough score is within twice the error of the row's k-th best, so far."""

    def __init__(self, lengths: Tensor, depth: int) -> None:
        self.lengths, self.depth, self.bound = lengths, depth, 0.0
        self.best = torch.full_like(lengths, -torch.inf)
        self.rows = self.documents = torch.empty(0, dtype=torch.int64)
        self.scores = torch.empty(0)
        self.waiting: list[tuple[Tensor, Tensor, Tensor]] = []
        self.count = 0

    @property
    def least(self) -> Tensor:
        return self.best - 2 * self.bound * self.lengths

    def widen(self, bound: float) -> None:
        """The bound is the largest of the blocks so far: what was left out under a smaller one lies below that."""
        self.bound = max(self.bound, bound)

    def see(self, scores: Tensor, start: int, first: int) -> None:
        """bfloat16 scores of the queries from `start` on and the documents from `first` on."""
        mine = slice(start, start + len(scores))
        if torch.isneginf(self.best[mine]).any() and scores.shape[1] >= self.depth:
            self.best[mine] = scores.float().topk(self.depth, 1).values[:, -1]
        rows, columns = at_least(scores, self.least[mine])
        self.waiting.append((rows + start, columns + first, scores[rows, columns].float()))
        self.count += len(rows)
        if self.count > self.depth * len(self.lengths):
            self.settle()

    def settle(self) -> None:
        """Find the k-th best anew, and drop what lies too far below it."""
        parts = [(self.rows, self.documents, self.scores), *self.waiting]
        rows, documents, scores = (torch.cat(part) for part in zip(*parts, strict=True))
        self.waiting, self.count = [], 0
        asked, table = by_row(rows, scores, -torch.inf)
        if table.shape[1] >= self.depth:
            self.best[asked] = torch.maximum(self.best[asked], table.topk(self.depth, 1).values[:, -1])
        kept = scores >= self.least[rows]
        self.rows, self.documents, self.scores = rows[kept], documents[kept], scores[kept]


def by_row(rows: Tensor, values: Tensor, fill: float) -> tuple[Tensor, Tensor]:
    """The distinct rows, ascending, and a table of each one's values, filled up to the longest."""
    order = torch.argsort(rows, stable=True)
    asked, sizes = torch.unique_consecutive(rows[order], return_counts=True)
    place = torch.arange(len(rows)) - torch.repeat_interleave(sizes.cumsum(0) - sizes, sizes)
    table = torch.full((len(asked), int(sizes.max())), fill, dtype=values.dtype)
    table[torch.repeat_interleave(torch.arange(len(asked)), sizes), place] = values[order]
    return asked, table


def at_least(scores: Tensor, least: Tensor) -> tuple[Tensor, Tensor]:
    """(rows, columns) of the scores, float32 or bfloat16, that are no less than their row's `least`."""
    height, width = scores.shape
    whole = width // COLUMNS * COLUMNS
    found = []
    if whole:
        groups = scores[:, :whole].view(height, -1, COLUMNS)
        row, group = torch.nonzero(_largest(groups, least) >= least[:, None], as_tuple=True)
        inside, column = torch.nonzero(groups[row, group].float() >= least[row, None], as_tuple=True)
        found.append((row[inside], group[inside] * COLUMNS + column))
    if whole < width:
        row, column = torch.nonzero(scores[:, whole:].float() >= least[:, None], as_tuple=True)
        found.append((row, column + whole))
    rows, columns = (torch.cat(part) for part in zip(*found, strict=True))
    return rows, columns


def _largest(groups: Tensor, least: Tensor) -> Tensor:
    """The largest score of each group; of bfloat16, any number below `least` may stand for a negative one."""
    if groups.dtype == torch.bfloat16 and bool((least > 0).all()):
        # Positive floats sort as their bits do, and negative ones lie below them: integers are compared several times as fast.
        return groups.view(torch.int16).amax(-1).view(torch.bfloat16)
    return groups.amax(-1)
