"""Ranks of relevant documents by counting, without sorting.

The rank of a document is one more than the number of documents that beat it. A comparison of a block of scores with one
threshold a row is a pass over memory that the processor does at full speed, and every relevant document needs two of
them (better, and equal or better, to find ties); a sort of the row would cost many times that. Both ranks, in the pool
and among the documents of its own language, come from the same pass. A corpus of several blocks takes two: the scores of
the relevant documents are read first, from the same blocks, so that equal documents have equal scores. Where a query has many
relevant documents (every utterance of its intent, say), one sort of the row serves all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hybrid_retrieval.evaluation.collection import Ints, RetrievalCollection
from hybrid_retrieval.evaluation.scoring.scorer import Block, Scorer
from hybrid_retrieval.evaluation.scoring.sort_keys import key
from hybrid_retrieval.progress import track

BLOCK_SCORES = 1 << 20
"""Scores held at once: small enough to stay in the processor's cache between comparisons."""
BLOCK_DOCUMENTS = 1 << 14
"""Documents that are prepared together, once the corpus has more than twice as many."""
MANY = 64
"""Relevant documents of a query from which on its row is sorted."""


@dataclass(frozen=True)
class Ranks:
    """Of the judged documents, in the order of the collection's judgements.

    Attributes:
        pool: int64 [judgements], rank in the pooled corpus of all languages, from 1.
        language: int64 [judgements], rank among the documents of the document's own language, from 1.
        score: float32 [judgements].
    """

    pool: Ints
    language: Ints
    score: npt.NDArray[np.float32]


def document_blocks(documents: int) -> list[slice]:
    """The blocks of documents of a pass over the corpus."""
    if documents <= 2 * BLOCK_DOCUMENTS:
        return [slice(0, documents)]
    return [slice(start, min(start + BLOCK_DOCUMENTS, documents)) for start in range(0, documents, BLOCK_DOCUMENTS)]


def count_ranks(scorer: Scorer, collection: RetrievalCollection, label: str = "") -> Ranks:
    """The ranks of all judged documents; ties go by document id, descending, as in trec_eval.

    Args:
        label: of a progress bar; none without it.
    """
    blocks = document_blocks(len(collection.corpus))
    count = _Count(collection)
    if len(blocks) == 1:
        count.compare(scorer.against(blocks[0]), blocks[0], True, label)
        return Ranks(count.pool + 1, count.language + 1, count.score)
    for documents in track(blocks, f"{label} (scores)", len(blocks), show=bool(label)):
        count.read(scorer.against(documents), documents)
    for documents in track(blocks, label, len(blocks), show=bool(label)):
        count.compare(scorer.against(documents), documents)
    return Ranks(count.pool + 1, count.language + 1, count.score)


class _Count:
    """How many documents beat each judged one, block by block."""

    def __init__(self, collection: RetrievalCollection) -> None:
        self.collection = collection
        self.of_document = collection.corpus.language[collection.document]
        self.asked = np.unique(collection.query)
        self.segments = [collection.corpus.rows(index) for index in range(len(collection.languages))]
        self.pool, self.language = (np.zeros(len(collection.query), np.int64) for _ in range(2))
        self.score = np.full(len(collection.query), -np.inf, np.float32)

    def rows(self, asked: Ints, width: int) -> Iterator[tuple[int, int]]:
        """Ranges of queries that hold those of `asked`, each of a block of scores of this width."""
        height = max(1, BLOCK_SCORES // max(1, width))
        for at in range(0, len(asked), height):
            rows = asked[at : at + height]
            first, last = int(rows[0]), int(rows[-1]) + 1
            # Where few of the queries are judged, each gets a block of its own.
            sparse = last - first > 2 * height
            yield from ((row, row + 1) for row in rows.tolist()) if sparse else [(first, last)]

    def read(self, block: Block, documents: slice) -> None:
        """Note the scores of the judged documents in a block."""
        inside = (self.collection.document >= documents.start) & (self.collection.document < documents.stop)
        # As in `compare`: the same ranges of queries, so that a score is the same number in both passes.
        for start, stop in self.rows(self.asked, documents.stop - documents.start):
            left, right = np.searchsorted(self.collection.query, [start, stop])
            if inside[left:right].any():
                self._note(block(start, stop), start, left + np.flatnonzero(inside[left:right]), documents)

    def _note(self, scores: Tensor, start: int, part: Ints, documents: slice) -> None:
        rows, columns = self.collection.query[part] - start, self.collection.document[part] - documents.start
        self.score[part] = scores[on(scores, rows), on(scores, columns)].cpu().numpy()

    def compare(self, block: Block, documents: slice, first: bool = False, label: str = "") -> None:
        """Add those of a block that beat the judged documents; their scores are read here where it is the `first` pass."""
        ranges = list(self.rows(self.asked, documents.stop - documents.start))
        for start, stop in track(ranges, label, len(ranges), show=bool(label)):
            left, right = np.searchsorted(self.collection.query, [start, stop])
            scores = block(start, stop)
            if first:
                self._note(scores, start, np.arange(left, right), documents)
            if first and right - left > MANY * len(scores):
                self._sort(scores, start, np.arange(left, right))
                continue
            for index in np.unique(self.of_document[left:right]).tolist():
                part = left + np.flatnonzero(self.of_document[left:right] == index)
                # A row of scores is copied for each judged document: not for all of many at once.
                at_once = max(1, 4 * BLOCK_SCORES // scores.shape[1])
                for at in range(0, len(part), at_once):
                    self._add(scores, start, part[at : at + at_once], documents, self.segments[index])

    def _sort(self, scores: Tensor, start: int, part: Ints) -> None:
        """All documents of the collection are in `scores`."""
        rows, columns = self.collection.query[part] - start, self.collection.document[part]
        keys = key(scores, on(scores, self.collection.tie_order))
        self.pool[part] = places(keys)[rows, columns]
        for index, segment in enumerate(self.segments):
            mine = self.of_document[part] == index
            if mine.any():
                self.language[part[mine]] = places(keys[:, segment])[rows[mine], columns[mine] - segment.start]

    def _add(self, scores: Tensor, start: int, part: Ints, documents: slice, segment: slice) -> None:
        """For judged documents of one language, whose documents are `segment`."""
        rows = self.collection.query[part] - start
        whole = len(rows) == len(scores) and bool((rows == np.arange(len(scores))).all())
        scores = scores if whole else scores[on(scores, rows)]
        width = scores.shape[1]
        own = slice(*(min(max(at - documents.start, 0), width) for at in (segment.start, segment.stop)))
        threshold = on(scores, self.score[part])[:, None]
        beaten_by = torch.empty_like(scores)
        torch.gt(scores, threshold, out=beaten_by)
        above = beaten_by.sum(1)
        self.pool[part] += above.long().cpu().numpy()
        self.language[part] += beaten_by[:, own].sum(1).long().cpu().numpy()
        torch.ge(scores, threshold, out=beaten_by)
        judged = on(scores, self.collection.document[part])
        here = (judged >= documents.start) & (judged < documents.stop)
        tied = torch.nonzero(beaten_by.sum(1) > above + here).squeeze(1)
        if len(tied):
            order = on(scores, self.collection.tie_order)
            earlier = order[documents] > order[judged[tied]][:, None]
            ahead = (scores[tied] == threshold[tied]) & earlier
            rows = part[tied.cpu().numpy()]
            self.pool[rows] += ahead.sum(1).cpu().numpy()
            self.language[rows] += ahead[:, own].sum(1).cpu().numpy()


def places(keys: Tensor) -> Ints:
    """int64 of the shape of `keys`: how many keys of the row are larger."""
    order = torch.argsort(keys, dim=1, descending=True)
    found = torch.empty_like(order)
    found.scatter_(1, order, torch.arange(keys.shape[1], device=keys.device).expand_as(order))
    return found.cpu().numpy()


def on(scores: Tensor, values: npt.NDArray[np.generic]) -> Tensor:
    """An array as a tensor where the scores are."""
    return torch.from_numpy(values).to(scores.device)
