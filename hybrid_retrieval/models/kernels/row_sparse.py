"""Gradients of embedding tables that hold only the rows that were looked up."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def row_gradient(rows: int, ids: Tensor, sources: Tensor, gradients: Tensor) -> Tensor:
    """The row-sparse gradient of a table of `rows` rows, each row once and in order.

    The gradient of a row is the sum of `gradients` over the places that looked it up: an embedding bag, with table rows as
    bags. Nothing of the table's size is made.

    Args:
        ids: int64 [places], the row that was looked up.
        sources: int64 [places], the row of `gradients` that belongs to each place.
        gradients: [n, dimensions].
    """
    ordered, order = torch.sort(ids, stable=True)
    touched, counts = torch.unique_consecutive(ordered, return_counts=True)
    values = nn.functional.embedding_bag(sources[order], gradients, counts.cumsum(0) - counts, mode="sum")
    shape = (rows, gradients.shape[1])
    return torch.sparse_coo_tensor(touched[None], values, shape, is_coalesced=True, check_invariants=False)


class _Lookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, ids: Tensor, padding: int) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.rows, ctx.padding = len(table), padding
        return nn.functional.embedding(ids, table)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        ids = ctx.saved_tensors[0].flatten()
        places = torch.arange(len(ids), device=ids.device)
        if ctx.padding >= 0:
            places = places[ids != ctx.padding]
        outgoing = gradients[0].reshape(-1, gradients[0].shape[-1])
        return row_gradient(ctx.rows, ids[places], places, outgoing), None, None


class _MeanOfRows(torch.autograd.Function):
    """Mean of table rows for each text, with a row-sparse gradient. No [tokens, dimensions] tensor is ever made."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, ids: Tensor, offsets: Tensor) -> Tensor:
        ctx.save_for_backward(ids, offsets)
        ctx.rows = len(table)
        return nn.functional.embedding_bag(ids, table, offsets[:-1], mode="mean")

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        ids, offsets = ctx.saved_tensors
        lengths = offsets[1:] - offsets[:-1]
        scaled = gradients[0] / lengths[:, None]
        text = torch.repeat_interleave(torch.arange(len(lengths), device=ids.device), lengths)
        return row_gradient(ctx.rows, ids, text, scaled), None, None


class RowSparseEmbedding(nn.Embedding):
    """`torch.nn.Embedding` with a row-sparse gradient; as there, the row of the padding has none.

    Attributes:
        lazy: update the rows of a step only, whose moments and decay stand still in between, not all rows as AdamW does.
    """

    lazy: bool = False

    def forward(self, values: Tensor) -> Tensor:
        padding = -1 if self.padding_idx is None else self.padding_idx
        return _Lookup.apply(self.weight, values, padding)  # type: ignore[no-any-return,no-untyped-call]

    def mean(self, ids: Tensor, offsets: Tensor) -> Tensor:
        """[texts, dimensions]: the mean of each text's rows, from ragged int64 ids; the padding counts."""
        return _MeanOfRows.apply(self.weight, ids, offsets)  # type: ignore[no-any-return,no-untyped-call]
