"""Monolingual, cross-lingual and multilingual retrieval as a torchmetrics metric, for any LightningModule.

In a module's steps, with any rows in any order on any rank::

    self.metric.update(embeddings, rows, "query")
    self.metric.update(embeddings, rows, "passage")
    self.log_dict(self.metric.compute())  # equals `hybrid_retrieval.evaluation.protocol.evaluate`
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import rank_zero_warn

from hybrid_retrieval.evaluation.collection import Ints, RetrievalCollection, Side
from hybrid_retrieval.evaluation.protocol import Wanted, score
from hybrid_retrieval.evaluation.retrievers.retriever import Index
from hybrid_retrieval.evaluation.scoring.scorer import DenseScorer
from hybrid_retrieval.evaluation.scoring.vectors import Vectors
from hybrid_retrieval.models.encoder import Role


class MultilingualRetrieval(Metric):
    """The figures of a collection, from embeddings of its texts whose dot product is the score.

    Every device holds the rows that it was given (4 bytes a dimension) until `compute`, when all of them get all rows and
    score the whole collection, so that the figures do not depend on the number of devices. A row that comes twice, as from a
    sampler that pads, counts once. If some rows did not come (a few batches of a sanity check), the rest is scored as a
    collection of its own, with a warning.
    """

    full_state_update = False
    is_differentiable = False

    def __init__(self, collection: RetrievalCollection, bias: Sequence[str] = ("rank_distance",), **settings: Any) -> None:
        """
        Args:
            bias: names of `hybrid_retrieval.evaluation.bias.suite`, beside the collection's measures.
            settings: those of every torchmetrics metric, such as ``compute_on_cpu`` and ``process_group``.
        """
        super().__init__(**settings)
        self.collection, self.bias = collection, tuple(bias)
        # torchmetrics gives a rank without a row an empty float vector to gather, so that every state is a float vector:
        # embeddings row after row, and the bits of row numbers.
        for role in ("query", "passage"):
            self.add_state(f"{role}_embeddings", [], dist_reduce_fx="cat")
            self.add_state(f"{role}_rows", [], dist_reduce_fx="cat")

    def update(self, embeddings: Tensor, rows: Tensor, side: Role) -> None:
        """Add embeddings [texts, dimensions] of the texts in these rows of the collection, int64 [texts].

        Raises:
            ValueError: there are not as many rows as embeddings.
        """
        if embeddings.shape[:1] != rows.shape:
            raise ValueError(f"{len(embeddings)} {side} embeddings came with {len(rows)} rows; expected one row an embedding")
        getattr(self, f"{side}_embeddings").append(embeddings.detach().float().flatten())
        getattr(self, f"{side}_rows").append(rows.int().to(embeddings.device).view(torch.float32))

    def compute(self) -> dict[str, Tensor]:
        """Macro means by ``<setting>/<measure>``, float32 scalars: ``monolingual/map``, ``multilingual/rank_distance``."""
        query_rows, queries = self._received("query")
        document_rows, documents = self._received("passage")
        collection = self.collection
        sizes = len(collection.queries), len(collection.corpus)
        if (len(query_rows), len(document_rows)) != sizes:
            rank_zero_warn(
                f"{collection.name}: figures are of {len(query_rows)} of {sizes[0]} queries "
                f"and {len(document_rows)} of {sizes[1]} documents"
            )
            collection = part(collection, query_rows, document_rows)
        if not len(collection.query):
            return {}
        index = Index(DenseScorer(queries, documents, str(self.device)), embeddings=(queries, documents))
        means = [one for one in score(collection, index, wanted=Wanted(self.bias)).figures if one.languages is None]
        return {f"{one.setting}/{one.measure.name}": torch.tensor(one.value, device=self.device) for one in means}

    def _received(self, side: Role) -> tuple[Ints, Vectors]:
        """The rows that came, ascending, and float32 [rows, dimensions]."""
        rows, embeddings = (_joined(getattr(self, f"{side}_{name}")) for name in ("rows", "embeddings"))
        found, first = np.unique(rows.cpu().view(torch.int32).numpy(), return_index=True)
        return found.astype(np.int64), embeddings.cpu().numpy().reshape(len(rows), -1 if len(rows) else 0)[first]


def _joined(state: Tensor | list[Tensor]) -> Tensor:
    """A state as one vector: a list before it is synchronised, a tensor afterwards."""
    if isinstance(state, Tensor):
        return state
    return torch.cat(state) if state else torch.empty(0)


def part(collection: RetrievalCollection, queries: Ints, documents: Ints) -> RetrievalCollection:
    """The collection of these rows, which ascend, and of the judgements between them."""

    def chosen(side: Side, rows: Ints) -> tuple[Side, Ints]:
        """The rows, and int64 [rows of the whole]: the new number of each, or -1."""
        number = np.full(len(side), -1)
        number[rows] = np.arange(len(rows))
        texts, ids = ([column[row] for row in rows.tolist()] for column in (side.texts, side.ids))
        return Side(texts, ids, side.language[rows]), number

    def moved(before: slice, rows: Ints) -> slice:
        """The new numbers of a range of rows."""
        first, last = np.searchsorted(rows, [before.start, before.stop])
        return slice(int(first), int(last))

    asked, query = chosen(collection.queries, queries)
    pool, document = chosen(collection.corpus, documents)
    judged = (query[collection.query] >= 0) & (document[collection.document] >= 0)
    only = None
    if collection.asked is not None:
        pairs = [(moved(of, queries), moved(among, documents)) for of, among in collection.asked]
        only = tuple((of, among) for of, among in pairs if of.start < of.stop and among.start < among.stop)
    excluded = np.stack([query[collection.excluded[:, 0]], document[collection.excluded[:, 1]]], 1)
    return replace(
        collection,
        queries=asked,
        corpus=pool,
        query=query[collection.query[judged]],
        document=document[collection.document[judged]],
        grade=collection.grade[judged],
        excluded=excluded[(excluded >= 0).all(1)],
        asked=only,
        labels=collection.labels and (collection.labels[0][queries], collection.labels[1][documents]),
        contrasts=collection.contrasts and collection.contrasts.renumbered(query, document),
    )
