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
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hybrid_retrieval.evaluation.collection import Ints, RetrievalCollection
from hybrid_retrieval.evaluation.measures import NOT_FOUND
from hybrid_retrieval.evaluation.scoring.scorer import Scorer
from hybrid_retrieval.progress import track

BLOCK_SCORES = 1 << 20
"""Scores held at once: small enough to stay in the processor's cache between comparisons."""
BLOCK_DOCUMENTS = 1 << 14
"""Documents that are prepared together, once the corpus has more than twice as many."""
MANY = 64
"""Relevant documents of a query from which on its row is sorted."""
LOW = 32
"""Bits of a sort key below those of the score."""


@dataclass(frozen=True)
class Ties:
    """How judged documents are tied, among the documents of a corpus.

    Attributes:
        better: int64 [judgements], documents with a higher score.
        tied: int64 [judgements], other documents with the same score; of a document that is not found, those not found.
    """

    better: Ints
    tied: Ints

    @property
    def shared(self) -> npt.NDArray[np.float64]:
        """Ranks [judgements]; equal scores have the mean of the ranks that they fill, and so have documents not found."""
        return np.asarray(self.better + 1 + self.tied / 2, np.float64)

    def opposite(self, rank: Ints) -> Ints:
        """The ranks in the opposite order of ties."""
        return np.where(rank == NOT_FOUND, NOT_FOUND, 2 * (self.better + 1) + self.tied - rank)


@dataclass(frozen=True)
class Ranks:
    """Ranks of the judged documents, in the order of the collection's judgements.

    Attributes:
        pool: int64 [judgements], rank in the pooled corpus of all languages, from 1; `NOT_FOUND` of a score of minus infinity.
            Where there is no pool (`RetrievalCollection.asked`): among the documents that the query is asked of, as `language`.
        language: int64 [judgements], rank among the documents of the document's own language, likewise.
        score: float32 [judgements].
        pool_ties, language_ties: the documents of equal scores.
    """

    pool: Ints
    language: Ints
    score: npt.NDArray[np.float32]
    pool_ties: Ties
    language_ties: Ties

    def opposite(self) -> Ranks:
        """The same in the opposite order of ties."""
        pool, language = self.pool_ties.opposite(self.pool), self.language_ties.opposite(self.language)
        return replace(self, pool=pool, language=language)


def document_blocks(documents: int, at_once: int = BLOCK_DOCUMENTS) -> list[slice]:
    """The blocks of documents of a pass over the corpus."""
    if documents <= 2 * at_once:
        return [slice(0, documents)]
    return [slice(start, min(start + at_once, documents)) for start in range(0, documents, at_once)]


def count_ranks(
    scorer: Scorer,
    collection: RetrievalCollection,
    label: str = "",
    block_documents: int = BLOCK_DOCUMENTS,
    block_scores: int = BLOCK_SCORES,
    many: int = MANY,
) -> Ranks:
    """The ranks of all judged documents; ties go by document id, descending, as in trec_eval.

    Args:
        label: of a progress bar; none without it.
        block_documents, block_scores, many: see the constants of this file; the ranks do not depend on them.
    """
    count = _Count(collection, block_scores)
    if collection.asked is not None:
        for queries, documents in track(collection.asked, label, len(collection.asked), show=bool(label)):
            block = scorer.against(documents)
            for start, stop, judged in count.ranges(documents.stop - documents.start, queries):
                scores, inside = block(start, stop), collection.among(judged, documents)
                count.note(scores, start, inside, documents)
                count.compare(scores, start, inside, documents)
        return count.ranks()
    blocks = document_blocks(len(collection.corpus), block_documents)
    if len(blocks) == 1:
        whole = blocks[0]
        block = scorer.against(whole)
        ranges = list(count.ranges(whole.stop))
        for start, stop, judged in track(ranges, label, len(ranges), show=bool(label)):
            scores = block(start, stop)
            count.note(scores, start, judged, whole)
            if len(judged) > many * len(scores):
                count.sort(scores, start, judged)
            else:
                count.compare(scores, start, judged, whole)
        return count.ranks()
    for documents in track(blocks, f"{label} (scores)", len(blocks), show=bool(label)):
        block = scorer.against(documents)
        # The same ranges of queries as below, so that a score is the same number in both passes.
        for start, stop, judged in count.ranges(documents.stop - documents.start):
            inside = collection.among(judged, documents)
            if len(inside):
                count.note(block(start, stop), start, inside, documents)
    for documents in track(blocks, label, len(blocks), show=bool(label)):
        block = scorer.against(documents)
        for start, stop, judged in count.ranges(documents.stop - documents.start):
            count.compare(block(start, stop), start, judged, documents)
    return count.ranks()


class _Count:
    """Counts the documents that beat each judged one, block by block. Judgements are named by their number, int64 [some]."""

    def __init__(self, collection: RetrievalCollection, block_scores: int) -> None:
        self.collection, self.block_scores = collection, block_scores
        self.of_document = collection.corpus.language[collection.document]
        self.asked = np.unique(collection.query)
        self.segments = [collection.corpus.rows(index) for index in range(len(collection.languages))]
        # [in the pool and in the own language, judgements]: documents that score more, others that score the same, and those
        # of them that come first.
        self.better, self.tied, self.first = (np.zeros((2, len(collection.query)), np.int64) for _ in range(3))
        self.score = np.full(len(collection.query), -np.inf, np.float32)

    def ranks(self) -> Ranks:
        """From the counts."""
        lost = np.isneginf(self.score)
        pool, language = np.where(lost, NOT_FOUND, self.better + self.first + 1)
        # What a query must not find does not fill a rank either.
        hidden = np.bincount(self.collection.excluded[:, 0], minlength=len(self.collection.queries))
        tied = np.where(lost, np.maximum(self.tied - hidden[self.collection.query], 0), self.tied)
        of_pool, of_language = (Ties(*both) for both in zip(self.better, tied, strict=True))
        return Ranks(pool, language, self.score, of_pool, of_language)

    def ranges(self, width: int, queries: slice | None = None) -> Iterator[tuple[int, int, Ints]]:
        """Ranges of queries (start, stop), each of a block of scores of this width, and the judgements of each."""
        height = max(1, self.block_scores // max(1, width))
        asked = (
            self.asked if queries is None else self.asked[slice(*np.searchsorted(self.asked, [queries.start, queries.stop]))]
        )
        for at in range(0, len(asked), height):
            rows = asked[at : at + height]
            first, last = int(rows[0]), int(rows[-1]) + 1
            # Where few of the queries are judged, each gets a block of its own.
            sparse = last - first > 2 * height
            for start, stop in ((row, row + 1) for row in rows.tolist()) if sparse else [(first, last)]:
                yield start, stop, np.arange(*np.searchsorted(self.collection.query, [start, stop]))

    def note(self, scores: Tensor, start: int, judged: Ints, documents: slice) -> None:
        """Keep the scores of judged documents, out of those of the queries from `start` on and of a block of documents."""
        rows, columns = self.collection.query[judged] - start, self.collection.document[judged] - documents.start
        self.score[judged] = scores[on(scores, rows), on(scores, columns)].cpu().numpy()

    def compare(self, scores: Tensor, start: int, judged: Ints, documents: slice) -> None:
        """Add the documents of a block that beat judged ones, whose scores are noted: two passes a judgement."""
        for index in np.unique(self.of_document[judged]).tolist():
            part = judged[self.of_document[judged] == index]
            # A row of scores is copied for each judged document: not for all of many at once.
            at_once = max(1, 4 * self.block_scores // scores.shape[1])
            for at in range(0, len(part), at_once):
                self._add(scores, start, part[at : at + at_once], documents, self.segments[index])

    def sort(self, scores: Tensor, start: int, judged: Ints) -> None:
        """Count for all judgements of the queries at once; `scores` [queries, all documents]."""
        rows, columns = self.collection.query[judged] - start, self.collection.document[judged]
        keys = sort_key(scores, on(scores, self.collection.tie_order))
        wanted = keys[on(scores, rows), on(scores, columns)].cpu().numpy()
        parts = [(0, slice(0, scores.shape[1]), np.ones(len(judged), bool))]
        parts += [(1, segment, self.of_document[judged] == index) for index, segment in enumerate(self.segments)]
        for at, documents, mine in parts:
            if mine.any():
                counts = _counted(ascending(keys[:, documents]), rows[mine], wanted[mine])
                self.better[at, judged[mine]], self.tied[at, judged[mine]], self.first[at, judged[mine]] = counts

    def _add(self, scores: Tensor, start: int, judged: Ints, documents: slice, segment: slice) -> None:
        """For judged documents of one language, whose documents are `segment`."""
        rows = self.collection.query[judged] - start
        whole = len(rows) == len(scores) and bool((rows == np.arange(len(scores))).all())
        scores = scores if whole else scores[on(scores, rows)]  # [judged, documents of the block]
        width = scores.shape[1]
        own = slice(*(min(max(at - documents.start, 0), width) for at in (segment.start, segment.stop)))
        threshold = on(scores, self.score[judged])[:, None]
        beaten_by = torch.empty_like(scores)  # in the scores' own type: sums of it are several times as fast as of bool
        torch.gt(scores, threshold, out=beaten_by)
        above = beaten_by.sum(1)
        self.better[0, judged] += above.long().cpu().numpy()
        self.better[1, judged] += beaten_by[:, own].sum(1).long().cpu().numpy()
        torch.ge(scores, threshold, out=beaten_by)
        document = on(scores, self.collection.document[judged])
        here = (document >= documents.start) & (document < documents.stop)
        tied = torch.nonzero(beaten_by.sum(1) > above + here).squeeze(1)
        if len(tied):
            order = on(scores, self.collection.tie_order)
            equal = scores[tied] == threshold[tied]
            first = equal & (order[documents] > order[document[tied]][:, None])
            rows = judged[tied.cpu().numpy()]
            for at, part in enumerate((slice(None), own)):
                self.tied[at, rows] += (equal[:, part].sum(1) - here[tied].long()).cpu().numpy()
                self.first[at, rows] += first[:, part].sum(1).cpu().numpy()


def _counted(ordered: Ints, rows: Ints, keys: Ints) -> Ints:
    """int64 [3, keys]: scores of its row above that of each key, others that equal it, and how many of these come first.

    Args:
        ordered: int64 [rows, documents], sort keys, ascending.
        rows: int64 [keys], ascending; each key is in its row.
    """
    found = np.empty((3, len(keys)), np.int64)
    lowest = keys >> LOW << LOW
    documents = ordered.shape[1]
    for row in np.unique(rows).tolist():
        mine = slice(*np.searchsorted(rows, [row, row + 1]))
        below, up_to = (np.searchsorted(ordered[row], key) for key in (lowest[mine], lowest[mine] + (1 << LOW)))
        behind = np.searchsorted(ordered[row], keys[mine])
        found[:, mine] = documents - up_to, up_to - below - 1, up_to - 1 - behind
    return found


def ascending(keys: Tensor) -> Ints:
    """The keys of each row in order. On a processor NumPy sorts them several times as fast as torch."""
    return np.sort(keys.numpy(), axis=1) if keys.device.type == "cpu" else keys.sort(1).values.cpu().numpy()


def on(scores: Tensor, values: npt.NDArray[np.generic]) -> Tensor:
    """An array as a tensor where the scores are."""
    return torch.from_numpy(values).to(scores.device)


def sort_key(scores: Tensor, order: Tensor) -> Tensor:
    """int64 that sort by score, then by place in the order of ties (0 .. 2^32 - 1): a sort of integers is a ranking."""
    bits = (scores + 0.0).view(torch.int32).long()  # + 0: there is one zero
    high = torch.where(bits >= 0, bits, -(bits & 0x7FFFFFFF))
    return (high << LOW) | order


def score_of(keys: Tensor) -> Tensor:
    """The float32 score of a sort key."""
    high = keys >> LOW
    bits = torch.where(high >= 0, high, -high | (1 << 31))
    return torch.where(bits > 0x7FFFFFFF, bits - (1 << 32), bits).int().view(torch.float32)


def order_of(keys: Tensor) -> Tensor:
    """The place in the order of ties of a sort key."""
    return keys & ((1 << LOW) - 1)
