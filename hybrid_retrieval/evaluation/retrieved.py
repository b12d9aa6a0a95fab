"""What was retrieved for a few questions, to be looked at: of each setting the worst, the best and a sample.

The sample goes by a hash of the question's id, so that all systems that were asked the same questions share it. A question is a
query in its language; kept are the best documents of the pool and of each language, and the relevant one that is ranked first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from hybrid_retrieval.data.stored_texts import take
from hybrid_retrieval.evaluation.collection import Ints, RetrievalCollection, Side, View
from hybrid_retrieval.evaluation.figures import RETRIEVED_SCHEMA
from hybrid_retrieval.evaluation.measures import NOT_FOUND, SETTINGS, Floats, measure
from hybrid_retrieval.evaluation.protocol import Evaluation
from hybrid_retrieval.evaluation.scoring.ranks import document_blocks, order_of, score_of, sort_key
from hybrid_retrieval.evaluation.scoring.scorer import Scorer
from hybrid_retrieval.hashing import text_hash
from hybrid_retrieval.progress import track

IN_POOL, IN_LANGUAGE = 5, 3
"""Documents that are kept of each question: of the pool, and of a language."""
LANGUAGES = 12
"""Corpus languages of a question beside its own; where there are more, the same ones for all systems."""
LONGEST = 500
"""Characters of a text that are kept."""

Chosen = dict[int, list[str]]
"""By row of a query, why it is looked at: ``worst``, ``best`` or ``sample``, and the setting."""


def retrieved(
    evaluation: Evaluation, count: int, rows: Sequence[int] | None = None, label: str = ""
) -> tuple[pa.Table, list[int]]:
    """What was retrieved for `count` questions of each setting, and their rows; of contrasts, which retrieve nothing, none.

    The scores of these queries are computed again, a block of documents at a time.

    Args:
        rows: of the queries that another system chose, to be shown beside it; by default they are chosen by this one's figures.
    """
    collection = evaluation.collection
    if not count or collection.contrasts is not None:
        return RETRIEVED_SCHEMA.empty_table(), []
    why = choose(evaluation, count) if rows is None else {row: [] for row in rows}
    lists = list(_lists(evaluation, sorted(why)))
    index = evaluation.index
    for scorer, mine in (
        (index.pool, [one for one in lists if one.view.corpus_language is None or index.language is None]),
        (index.language, [one for one in lists if one.view.corpus_language is not None and index.language is not None]),
    ):
        if scorer is not None and mine:
            _search(scorer, collection, mine, label)
    return _table(collection, lists, why), sorted(why)


def choose(evaluation: Evaluation, count: int) -> Chosen:
    """Questions of each setting by the mean of the headline measure: a third the worst, a third the best, the rest a sample.

    The languages of queries take turns; of equal questions the hash of the id says which.
    """
    queries, chosen = evaluation.collection.queries, Chosen()
    for setting, values in _means(evaluation).items():
        rows = np.flatnonzero(~np.isnan(values))
        mixed = np.array([text_hash(queries.ids[row]) for row in rows.tolist()], np.uint64).view(np.int64)
        third, mean = count // 3, values[rows]
        parts = (("worst", mean, third), ("best", -mean, third), ("sample", np.zeros(len(rows)), count - 2 * third))
        for part, by, wanted in parts:
            for row in rows[_in_turn(queries.language[rows], by, mixed)[:wanted]].tolist():
                chosen.setdefault(row, []).append(f"{part} {setting}")
    return chosen


def _in_turn(language: Ints, by: Floats, mixed: Ints) -> Ints:
    """An order in which the first of each language come first, then the second of each."""
    order = np.lexsort((mixed, by, language))
    starts = np.searchsorted(language[order], language[order])
    turn = np.empty(len(order), np.int64)
    turn[order] = np.arange(len(order)) - starts
    return np.lexsort((mixed, by, turn))


def _means(evaluation: Evaluation) -> dict[str, Floats]:
    """float64 [queries] by setting: the mean over corpus languages of the headline measure; nan where nothing is relevant."""
    name, found = headline(evaluation.collection), {}
    for setting in SETTINGS:
        sums, counts = np.zeros((2, len(evaluation.collection.queries)))
        for pair in evaluation.pairs:
            if pair.setting == setting:
                sums[pair.queries] += pair.values[name]
                counts[pair.queries] += 1
        if counts.any():
            found[setting] = np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
    return found


def headline(collection: RetrievalCollection) -> str:
    """The name of the measure that stands first in tables."""
    return min(map(measure, collection.measures), key=lambda one: one.order).name


@dataclass
class _List:
    """The best documents of a view for a query, as far as the corpus was read.

    Attributes:
        value: of the headline measure; None where no document is relevant.
        relevant: rows of documents.
        first: row and rank of the relevant document that is ranked first.
        keys: int64 [up to the depth], sort keys of the best, best first.
    """

    query: int
    view: View
    value: float | None
    relevant: Ints
    first: tuple[int, int] | None
    first_score: float = -np.inf
    keys: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))

    def see(self, scores: Tensor, start: int, order: Tensor) -> None:
        """Look at the query's scores of the documents from `start` on."""
        mine = slice(max(self.view.documents.start, start), min(self.view.documents.stop, start + len(scores)))
        if mine.start >= mine.stop:
            return
        keys = torch.cat([self.keys, sort_key(scores[mine.start - start : mine.stop - start], order[mine])])
        depth = IN_POOL if self.view.corpus_language is None else IN_LANGUAGE
        self.keys = keys.topk(min(depth, len(keys))).values
        if self.first and mine.start <= self.first[0] < mine.stop:
            self.first_score = float(scores[self.first[0] - start])


def _lists(evaluation: Evaluation, rows: Sequence[int]) -> Iterator[_List]:
    collection, name = evaluation.collection, headline(evaluation.collection)
    ranks = evaluation.ranks
    values = {
        (pair.query_language, pair.corpus_language): dict(zip(pair.queries.tolist(), pair.values[name].tolist(), strict=True))
        for pair in evaluation.pairs
    }
    for row in rows:
        views = [view for view in collection.views if view.queries.start <= row < view.queries.stop]
        views.sort(key=lambda view: (view.setting == "crosslingual", text_hash(view.corpus_language or "")))
        others = sum(view.setting == "crosslingual" for view in views)
        for view in views[: len(views) - max(0, others - LANGUAGES)]:
            first, last = np.searchsorted(collection.query, [row, row + 1])
            judged = collection.among(np.arange(first, last, dtype=np.int64), view.documents)
            rank = (ranks.pool if view.corpus_language is None else ranks.language)[judged]
            best = int(rank.argmin()) if len(rank) else None
            document = collection.document[judged]
            found = None if best is None else (int(document[best]), int(rank[best]))
            yield _List(row, view, values[view.query_language, view.corpus_language].get(row), document, found)


def _search(scorer: Scorer, collection: RetrievalCollection, lists: Sequence[_List], label: str) -> None:
    """Fill the lists."""
    order = torch.from_numpy(collection.tie_order)
    of_query: dict[int, list[_List]] = {}
    for one in lists:
        of_query.setdefault(one.query, []).append(one)
    blocks = document_blocks(len(collection.corpus))
    for documents in track(blocks, label, len(blocks), show=bool(label)):
        block = scorer.against(documents)
        for row, mine in of_query.items():
            scores = block(row, row + 1)[0].cpu()
            for one in mine:
                one.see(scores, documents.start, order)


def _table(collection: RetrievalCollection, lists: Sequence[_List], why: Mapping[int, list[str]]) -> pa.Table:
    """`RETRIEVED_SCHEMA`: a row a document of a list."""
    document_at = np.empty_like(collection.tie_order)
    document_at[collection.tie_order] = np.arange(len(document_at))
    name = headline(collection)
    hits: list[tuple[_List, int, int | None, float | None]] = []
    for one in lists:
        keys = one.keys[score_of(one.keys) > -torch.inf]
        found = zip(document_at[order_of(keys).numpy()].tolist(), score_of(keys).tolist(), strict=True)
        mine = {document: (rank, score) for rank, (document, score) in enumerate(found, 1)}
        hits += [(one, document, rank, score) for document, (rank, score) in mine.items()]
        if one.first and one.first[0] not in mine:
            lost = one.first[1] == NOT_FOUND
            hits.append((one, one.first[0], *((None, None) if lost else (one.first[1], one.first_score))))
    queries, documents = ([hit[0].query for hit in hits], [hit[1] for hit in hits])
    columns = {
        "benchmark": [collection.name] * len(hits),
        "query_language": [one.view.query_language for one, *_ in hits],
        "query_id": [collection.queries.ids[row] for row in queries],
        "query": _texts(collection.queries, queries),
        "chosen": [why[row] for row in queries],
        "corpus_language": [one.view.corpus_language for one, *_ in hits],
        "measure": [name] * len(hits),
        "value": [one.value for one, *_ in hits],
        "rank": [hit[2] for hit in hits],
        "passage_language": [collection.languages[collection.corpus.language[row]] for row in documents],
        "passage_id": [collection.corpus.ids[row] for row in documents],
        "passage": _texts(collection.corpus, documents),
        "score": [hit[3] for hit in hits],
        "relevant": [bool(np.isin(document, one.relevant)) for one, document, *_ in hits],
    }
    return pa.table({field.name: pa.array(columns[field.name], field.type) for field in RETRIEVED_SCHEMA}, RETRIEVED_SCHEMA)


def _texts(side: Side, rows: Sequence[int]) -> list[str]:
    """The texts of rows, each read once, cut where they are long."""
    wanted = np.unique(np.array(rows, np.int64))
    texts = dict(zip(wanted.tolist(), take(side.texts, wanted), strict=True))
    return [text if len(text := texts[row]) <= LONGEST else f"{text[:LONGEST]} …" for row in rows]
