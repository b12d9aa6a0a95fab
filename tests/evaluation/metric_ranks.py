"""What a process does that shares the texts of a collection; without Lightning, so that it starts fast."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from hybrid_retrieval.evaluation.metric import MultilingualRetrieval
from hybrid_retrieval.evaluation.scoring.scorer import DenseScorer


def given(metric: MultilingualRetrieval, scorer: DenseScorer, rank: int = 0, ranks: int = 1, size: int = 7) -> None:
    """Every `ranks`-th row, in a random order, in batches; each rank starts with a row that another one has, too."""
    for side, vectors in (("query", scorer.queries), ("passage", scorer.corpus)):
        rows = np.random.default_rng(rank).permutation(np.arange(rank, len(vectors), ranks))
        for batch in torch.from_numpy(np.concatenate([[0], rows])).split(size):
            metric.update(torch.from_numpy(vectors)[batch], batch, side)


def one_rank(rank: int, ranks: int, folder: Path) -> None:
    """The last rank has no row at all."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=ranks)
    collection, scorer = torch.load(folder / "collection.pt", weights_only=False)
    metric = MultilingualRetrieval(collection)
    if rank < 2:
        given(metric, scorer, rank, 2)
    torch.save(metric.compute(), folder / f"{rank}.pt")
    dist.destroy_process_group()
