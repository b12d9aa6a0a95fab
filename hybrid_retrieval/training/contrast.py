"""The loss of a batch that may be spread over ranks: each rank scores its own pairs against everybody's (law 4)."""

from __future__ import annotations

from dataclasses import fields

import torch
from torch import Tensor

from hybrid_retrieval.losses.infonce import InfoNCE
from hybrid_retrieval.losses.masks import PassageIds, QueryIds
from hybrid_retrieval.models.encoder import BiEncoder, Tokens
from hybrid_retrieval.training.batches import PairBatch
from hybrid_retrieval.training.gather import gather, gather_ids, world


def contrastive_loss(encoder: BiEncoder, loss: InfoNCE, batch: PairBatch, across_ranks: bool = True) -> tuple[Tensor, Tensor]:
    """Mean loss over this rank's pairs, and the share of its queries that rank their own passage first."""
    count, of_passages = len(batch.queries), batch.of_passages
    queries, passages = encoder(Tokens.join([batch.queries, batch.passages])).split([count, len(batch.passages)])
    rank, ranks = world() if across_ranks else (0, 1)
    own = torch.arange(count, device=queries.device)
    candidates, of_candidates = passages, of_passages
    if ranks > 1:
        candidates = gather(passages)
        of_candidates = PassageIds(*(gather_ids(getattr(of_passages, field.name)) for field in fields(PassageIds)))
    first = own + rank * len(passages)
    losses = loss(queries, candidates, batch.of_queries, of_candidates, first)
    if loss.directions == "both":
        asked, of_asked = queries, batch.of_queries
        if ranks > 1:
            asked = gather(queries)
            of_asked = QueryIds(*(gather_ids(getattr(of_asked, field.name)) for field in fields(QueryIds)))
        mine = PassageIds(*(getattr(of_passages, field.name)[:count] for field in fields(PassageIds)))
        losses = (losses + loss.reverse(passages[:count], asked, of_asked, mine, own + rank * count)) / 2
    with torch.no_grad():
        best = (queries @ candidates.T).masked_fill(of_candidates.group < 0, -torch.inf).argmax(1)
    return losses.mean(), (best == first).float().mean()
