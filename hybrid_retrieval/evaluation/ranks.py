"""Ranks of relevant documents by counting, without sorting.

The rank of a document is one more than the number of documents that beat it. A comparison of a block of scores with one
threshold a row is a pass over memory that the processor does at full speed, and every relevant document needs two of
them (better, and equal or better, to find ties); a sort of the row would cost many times that. Both ranks, in the pool
and among the documents of its own language, come from the same pass.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hybrid_retrieval.evaluation.collection import Ints, RetrievalCollection
from hybrid_retrieval.evaluation.scorer import Scorer
from hybrid_retrieval.progress import track

BLOCK_SCORES = 1 << 20
"""Scores held at once: small enough to stay in the processor's cache between comparisons."""
EXACT_COUNT = 1 << 24
"""float32 counts are exact up to here."""


@dataclass(frozen=True)
class Ranks:
    """Ranks of the judged documents, in the order of the collection's judgements.

    Attributes:
        pool: int64 [judgements], rank in the pooled corpus of all languages, from 1.
        language: int64 [judgements], rank among the documents of the document's own language, from 1.
    """

    pool: Ints
    language: Ints


def count_ranks(scorer: Scorer, collection: RetrievalCollection, label: str = "") -> Ranks:
    """The ranks of all judged documents; ties go by document id, descending, as in trec_eval.

    Args:
        label: of a progress bar; none without it.
    """
    documents = len(collection.corpus)
    if documents >= EXACT_COUNT:
        raise ValueError(f"{documents} documents are more than the {EXACT_COUNT} that float32 counts exactly")
    segments = [collection.corpus.rows(index) for index in range(len(collection.languages))]
    tie_order = torch.from_numpy(collection.tie_order())
    pool = np.empty(len(collection.query), np.int64)
    language = np.empty(len(collection.query), np.int64)
    of_document = collection.corpus.language[collection.document]
    height = max(1, BLOCK_SCORES // max(1, documents))
    asked = np.unique(collection.query)
    starts = range(0, len(asked), height)
    for at in track(starts, label, len(starts), show=bool(label)):
        rows = asked[at : at + height]
        first, last = int(rows[0]), int(rows[-1]) + 1
        # Where few of the queries are judged, each gets a block of its own.
        sparse = last - first > 2 * height
        blocks = [(row, row + 1) for row in rows.tolist()] if sparse else [(first, last)]
        for start, stop in blocks:
            left, right = np.searchsorted(collection.query, [start, stop])
            scores = scorer.scores(start, stop)
            for index in np.unique(of_document[left:right]).tolist():
                part = left + np.flatnonzero(of_document[left:right] == index)
                pool[part], language[part] = _count(
                    scores, collection.query[part] - start, collection.document[part], segments[index], tie_order
                )
    return Ranks(pool, language)


def _count(scores: Tensor, rows: Ints, documents: Ints, segment: slice, tie_order: Tensor) -> tuple[Ints, Ints]:
    """Ranks of one document in each of `rows`, among all and among those of `segment`."""
    whole = len(rows) == len(scores) and bool((rows == np.arange(len(scores))).all())
    scores = scores if whole else scores[torch.from_numpy(rows)]
    own = torch.from_numpy(documents)[:, None]
    threshold = scores.gather(1, own)
    beaten_by = torch.empty_like(scores)
    torch.gt(scores, threshold, out=beaten_by)
    pool, language = beaten_by.sum(1) + 1, beaten_by[:, segment].sum(1) + 1
    torch.ge(scores, threshold, out=beaten_by)
    tied = torch.nonzero(beaten_by.sum(1) > pool).squeeze(1)
    if len(tied):
        first = (scores[tied] == threshold[tied]) & (tie_order > tie_order[own[tied]])
        pool[tied] += first.sum(1)
        language[tied] += first[:, segment].sum(1)
    return pool.long().numpy(), language.long().numpy()
