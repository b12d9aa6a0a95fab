"""The work of ranks that have the texts of a collection between them."""

from __future__ import annotations

import numpy as np
import torch

from hybrid_retrieval.evaluation.collection import RetrievalCollection
from hybrid_retrieval.evaluation.metric import MultilingualRetrieval
from hybrid_retrieval.evaluation.scoring.scorer import DenseScorer


def given(metric: MultilingualRetrieval, scorer: DenseScorer, rank: int = 0, ranks: int = 1, size: int = 7) -> None:
    """Every `ranks`-th row, in a random order, in batches; each rank starts with a row that another one has, too."""
    for side, vectors in (("query", scorer.queries), ("passage", scorer.corpus)):
        rows = np.random.default_rng(rank).permutation(np.arange(rank, len(vectors), ranks))
        for batch in torch.from_numpy(np.concatenate([[0], rows])).split(size):
            metric.update(torch.from_numpy(vectors)[batch], batch, side)


def figures_of(rank: int, collection: RetrievalCollection, scorer: DenseScorer) -> dict[str, float]:
    """The figures that a rank computes of what two ranks were given; further ranks have no row at all."""
    metric = MultilingualRetrieval(collection)
    if rank < 2:
        given(metric, scorer, rank, 2)
    return {name: value.item() for name, value in metric.compute().items()}
