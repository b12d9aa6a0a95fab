"""Exact top-k search by blocks: the best documents of every query, whatever the size of the corpus.

Scores are compared with each query's k-th best so far, groups of columns at a time, so that only a few of them are looked at
twice; those are collected, and thinned out when they are as many as the best themselves.

Where the processor multiplies bfloat16 faster, the first look is at rough scores with a bound of their error (1.8 times as fast
as faiss in float32, over a million vectors), and what it keeps provably holds the true best. Let R be a query's k-th best rough
score, and e the bound. The k documents at or above R score at least R - e, so the true k best do, and their rough scores are at
least R - 2e: those documents are kept, and scored exactly at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hybrid_retrieval.evaluation.collection import Ints
from hybrid_retrieval.evaluation.scoring.ranks import (
    BLOCK_DOCUMENTS,
    BLOCK_SCORES,
    document_blocks,
    order_of,
    score_of,
    sort_key,
)
from hybrid_retrieval.evaluation.scoring.scorer import DenseScorer, Scorer, fast_bfloat16
from hybrid_retrieval.progress import track

ROUGH_QUERIES = 256
"""Queries whose rough scores are looked at together."""
COLUMNS = 64
"""Columns of a block whose largest score is compared first."""
PAIRS = 1 << 16
"""Pairs that are scored exactly together."""
LOWEST = torch.iinfo(torch.int64).min
"""Below any sort key."""


@dataclass(frozen=True)
class Top:
    """The best documents of queries.

    Attributes:
        documents: int64 [queries, depth], best first.
        scores: float32 [queries, depth].
    """

    documents: Ints
    scores: npt.NDArray[np.float32]


def search(
    scorer: Scorer,
    queries: int,
    documents: int,
    depth: int,
    tie_order: Ints | None = None,
    label: str = "",
    block_documents: int = BLOCK_DOCUMENTS,
    block_scores: int = BLOCK_SCORES,
    rough: bool | None = None,
) -> Top:
    """The `depth` best of all documents (or all, where there are fewer) for each of `queries` rows.

    Args:
        tie_order: int64 [documents]: of two documents with equal scores the one with the larger number comes first; by
            default the one with the smaller row.
        label: of a progress bar; none without it.
        block_documents, block_scores: as of `count_ranks`.
        rough: look at rough scores first, where the scorer has them; by default where the processor makes them cheaper.
    """
    order = np.arange(documents)[::-1].copy() if tie_order is None else tie_order
    best = Best(queries, min(depth, documents), torch.from_numpy(order))
    blocks = document_blocks(documents, block_documents)
    rough = fast_bfloat16() if rough is None else rough
    if rough and len(blocks) > 1 and isinstance(scorer, DenseScorer) and scorer.device == "cpu":
        return rough_then_exact(scorer, queries, blocks, best, label)
    for part in track(blocks, label, len(blocks), show=bool(label)):
        block = scorer.against(part)
        height = max(1, block_scores // (part.stop - part.start))
        for start in range(0, queries, height):
            best.see(block(start, min(start + height, queries)), start, part.start)
    return best.top()


def rough_then_exact(
    scorer: DenseScorer, queries: int, blocks: Sequence[slice], best: Best, label: str = "", at_once: int = ROUGH_QUERIES
) -> Top:
    """The best by exact scores, out of what rough ones leave of all documents."""
    lengths = torch.linalg.vector_norm(torch.from_numpy(np.asarray(scorer.queries[:queries], np.float32)), dim=1)
    bound = 0.0
    for part in track(blocks, label, len(blocks), show=bool(label)):
        block, error = scorer.rough(part)
        bound = max(bound, error)  # what was left out under a smaller one lies below that
        best.slack = 2 * bound * lengths
        for start in range(0, queries, at_once):
            best.see(block(start, min(start + at_once, queries)), start, part.start)
    rows, documents = best.kept()
    by_document = torch.argsort(documents)  # as they lie in memory
    rows, documents = rows[by_document], documents[by_document]
    parts = [slice(at, at + PAIRS) for at in range(0, len(rows), PAIRS)]
    scores = torch.cat([scorer.pairs(rows[part].numpy(), documents[part].numpy()) for part in parts])
    exact = Best(queries, best.depth, best.order)
    exact.add(rows, documents, scores)
    return exact.top()


class Best:
    """The best documents so far as (query, sort key) pairs, with those that yet may turn out to be.

    Attributes:
        slack: float32 [queries], how far below a query's depth-th best score one may lie that is kept; 0 of exact scores.
        last: int64 [queries], the key of the depth-th best so far, or one just below it.
    """

    def __init__(self, queries: int, depth: int, order: Tensor) -> None:
        """
        Args:
            order: int64 [documents], the order of ties.
        """
        self.depth, self.order = depth, order
        self.document = torch.empty_like(order)
        self.document[order] = torch.arange(len(order))
        self.slack = torch.zeros(queries)
        self.last = sort_key(torch.full((queries,), -torch.inf), torch.zeros(1, dtype=torch.int64))
        self.pairs: list[tuple[Tensor, Tensor]] = []
        self.waiting = 0

    def least(self, queries: slice = slice(None)) -> Tensor:
        """float32 [queries]: the least score that is of interest."""
        return score_of(self.last[queries]) - self.slack[queries]

    def see(self, scores: Tensor, start: int, first: int) -> None:
        """Look at scores, float32 or bfloat16, of the queries from `start` on and the documents from `first` on."""
        mine = slice(start, start + len(scores))
        if torch.isneginf(self.least(mine)).any() and scores.shape[1] >= self.depth:
            last = scores.float().topk(self.depth, 1).values[:, -1].cpu()
            self.last[mine] = sort_key(last, torch.zeros(1, dtype=torch.int64))
        rows, columns = at_least(scores, self.least(mine).to(scores.device))
        if len(rows):
            self.add(rows.cpu() + start, columns.cpu() + first, scores[rows, columns].float().cpu())

    def add(self, rows: Tensor, documents: Tensor, scores: Tensor) -> None:
        """Take in pairs; the last of the best is found anew when as many wait as there are best ones."""
        self.pairs.append((rows, sort_key(scores, self.order[documents])))
        self.waiting += len(rows)
        if self.waiting > self.depth * len(self.last):
            self.settle()

    def settle(self) -> None:
        """Find the depth-th best anew, and drop what lies too far below it."""
        rows, keys = (torch.cat(part) for part in zip(*self.pairs, strict=True))
        asked, table = by_row(rows, keys)
        if table.shape[1] >= self.depth:
            self.last[asked] = torch.maximum(self.last[asked], table.topk(self.depth, 1).values[:, -1])
        floor = torch.where(self.slack > 0, sort_key(self.least(), torch.zeros(1, dtype=torch.int64)), self.last)
        kept = keys >= floor[rows]
        self.pairs, self.waiting = [(rows[kept], keys[kept])], 0

    def kept(self) -> tuple[Tensor, Tensor]:
        """The queries and the documents of all pairs that are kept."""
        self.settle()
        rows, keys = self.pairs[0]
        return rows, self.document[order_of(keys)]

    def top(self) -> Top:
        """The best, sorted."""
        self.settle()
        keys = by_row(*self.pairs[0])[1].sort(1, descending=True).values  # [queries, depth]
        return Top(self.document[order_of(keys)].numpy(), score_of(keys).numpy())


def by_row(rows: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
    """The distinct rows, ascending, and a table of each one's keys, filled up to the longest."""
    order = torch.argsort(rows, stable=True)
    asked, sizes = torch.unique_consecutive(rows[order], return_counts=True)
    place = torch.arange(len(rows)) - torch.repeat_interleave(sizes.cumsum(0) - sizes, sizes)
    table = torch.full((len(asked), int(sizes.max())), LOWEST)
    table[torch.repeat_interleave(torch.arange(len(asked)), sizes), place] = keys[order]
    return asked, table


def at_least(scores: Tensor, least: Tensor) -> tuple[Tensor, Tensor]:
    """(rows, columns) of the scores, float32 or bfloat16, that are no less than their row's `least`."""
    height, width = scores.shape
    whole = width // COLUMNS * COLUMNS
    found = []
    if whole:
        groups = scores[:, :whole].view(height, -1, COLUMNS)  # [rows, groups, columns of a group]
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
