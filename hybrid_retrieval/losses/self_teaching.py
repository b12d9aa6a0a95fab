"""Self-teaching (arXiv 2204.00716): what a perturbed query learns from its clean self."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hybrid_retrieval.losses.candidates import NEVER, similarity
from hybrid_retrieval.losses.loss import EmbeddedPairs


def divergence(pairs: EmbeddedPairs, rows: slice, temperature: Tensor) -> Tensor:
    """[r]: KL(T_i || S_i) of each query i of `rows` that was perturbed, and 0 of every other.

    T_i is the softmax of the clean query's scores of all C passages over the temperature, which no gradient passes, and S_i
    that of the perturbed query's. What the loss contrasts is the clean query. A learned temperature is not to learn from it: it
    would make all distributions alike.
    """
    assert pairs.perturbed is not None
    assert pairs.is_perturbed is not None
    filling = pairs.of_passages.group < 0

    def distribution(queries: Tensor) -> Tensor:
        scores = similarity(queries[rows], pairs.passages) / temperature
        return scores.masked_fill(filling, NEVER).log_softmax(1)

    with torch.no_grad():
        clean = distribution(pairs.queries)
    found = nn.functional.kl_div(distribution(pairs.perturbed), clean, reduction="none", log_target=True).sum(1)
    return found.masked_fill(~pairs.is_perturbed[rows], 0)
