"""Exact top-k search by blocks: the best documents of every query, whatever the size of the corpus.

Scores are compared with each query's k-th best so far, groups of columns at a time, so that only a few of them are looked at
twice; those are collected, and merged into the best when there are as many as the best themselves. Where a scorer also
offers rough scores with a bound of their error, and they are cheaper, the first look is at those: see `rough_search`.
"""

from __future__ import annotations

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
from hybrid_retrieval.evaluation.scoring.rough_search import at_least, best_candidates, by_row
from hybrid_retrieval.evaluation.scoring.scorer import DenseScorer, Scorer, rough_pays
from hybrid_retrieval.progress import track


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
    best = _Best(queries, min(depth, documents), torch.from_numpy(order))
    blocks = document_blocks(documents, block_documents)
    rough = rough_pays() if rough is None else rough
    if rough and len(blocks) > 1 and isinstance(scorer, DenseScorer) and scorer.device == "cpu":
        best.set_candidates(*best_candidates(scorer, queries, blocks, best.depth, label))
        return best.top()
    for part in track(blocks, label, len(blocks), show=bool(label)):
        block = scorer.against(part)
        height = max(1, block_scores // (part.stop - part.start))
        for start in range(0, queries, height):
            best.see(block(start, min(start + height, queries)), start, part.start)
    return best.top()


class _Best:
    """The best so far, as keys that sort like (score, tie order).

    Attributes:
        keys: int64 [queries, depth], descending.
    """

    def __init__(self, queries: int, depth: int, order: Tensor) -> None:
        self.depth, self.order = depth, order
        self.document = torch.empty_like(order)
        self.document[order] = torch.arange(len(order))
        self.keys = sort_key(torch.full((queries, depth), -torch.inf), torch.zeros(1, dtype=torch.int64))
        self.least = torch.full((queries,), -torch.inf)
        self.waiting: list[tuple[Tensor, Tensor]] = []
        self.count = 0

    def see(self, scores: Tensor, start: int, first: int) -> None:
        """Scores of the queries from `start` on and the documents from `first` on."""
        height, width = scores.shape
        stop = start + height
        order = self.order[first : first + width].to(scores.device)
        if torch.isneginf(self.least[start:stop]).any():
            # Not yet `depth` candidates: the best of this block are all of interest.
            keys = sort_key(scores, order)
            keys = keys if width <= self.depth else keys.topk(self.depth, 1).values
            both = torch.cat([self.keys[start:stop], keys.cpu()], 1)
            self._set(slice(start, stop), both.topk(self.depth, 1).values)
            return
        rows, columns = at_least(scores, self.least[start:stop].to(scores.device))
        if len(rows):
            self.waiting.append((rows.cpu() + start, sort_key(scores[rows, columns], order[columns]).cpu()))
            self.count += len(rows)
        if self.count > self.keys.numel():
            self.merge()

    def set_candidates(self, rows: Tensor, documents: Tensor, scores: Tensor) -> None:
        """Documents that hold the best of each row, with their scores."""
        self.waiting = [(rows, sort_key(scores, self.order[documents]))]
        self.merge()

    def merge(self) -> None:
        """The candidates that wait join the best."""
        if not self.waiting:
            return
        rows, keys = (torch.cat(part) for part in zip(*self.waiting, strict=True))
        self.waiting, self.count = [], 0
        asked, table = by_row(rows, keys, torch.iinfo(torch.int64).min)
        self._set(asked, torch.cat([self.keys[asked], table], 1).topk(self.depth, 1).values)

    def _set(self, rows: slice | Tensor, keys: Tensor) -> None:
        self.keys[rows] = keys
        self.least[rows] = score_of(keys[:, -1])

    def top(self) -> Top:
        """Sorted."""
        self.merge()
        keys = self.keys.sort(1, descending=True).values
        documents = self.document[order_of(keys)]
        return Top(documents.numpy(), score_of(keys).numpy())
