"""Monolingual, cross-lingual and multilingual views of the ranks of one pass.

Mo.: macro mean over languages with query and corpus in that language. Cr.: macro mean over ordered pairs of different
languages. Mul.: the pooled corpus, every translation of the answer relevant; mean over query languages.
(arXiv 2408.10536, section 4.)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from hybrid_retrieval.evaluation.collection import Ints, RetrievalCollection
from hybrid_retrieval.evaluation.measures import MEASURES, Floats, Measure, Relevant
from hybrid_retrieval.evaluation.scoring.ranks import Ranks

SETTINGS = ("monolingual", "crosslingual", "multilingual")


@dataclass(frozen=True)
class Slice:
    """The queries of one language against one corpus.

    Attributes:
        corpus_language: index, or None for the pool.
        queries: int64 [queries], rows of the collection that have a relevant document there.
        left_out: queries of the language without one.
        values: per query, by measure.
    """

    setting: str
    query_language: int
    corpus_language: int | None
    queries: Ints
    left_out: int
    values: dict[str, Floats]


def slices(collection: RetrievalCollection, ranks: Ranks) -> Iterator[Slice]:
    """The pooled view of every language that has queries, and its view of every language that has documents."""
    query_language = collection.queries.language[collection.query]
    corpus_language = collection.corpus.language[collection.document]
    count = len(collection.languages)
    chosen = {name: MEASURES[name] for name in collection.measures}
    total = np.bincount(collection.queries.language, minlength=count)
    documents = np.bincount(collection.corpus.language, minlength=count)
    for asked in np.flatnonzero(total).tolist():
        mine = query_language == asked
        for answered in np.flatnonzero(documents).tolist():
            part = np.flatnonzero(mine & (corpus_language == answered))
            setting = "monolingual" if asked == answered else "crosslingual"
            yield _slice(collection, ranks.language, part, setting, asked, answered, int(total[asked]), chosen)
        yield _slice(collection, ranks.pool, np.flatnonzero(mine), "multilingual", asked, None, int(total[asked]), chosen)


def _slice(
    collection: RetrievalCollection,
    rank: Ints,
    part: Ints,
    setting: str,
    asked: int,
    answered: int | None,
    total: int,
    measures: dict[str, Measure],
) -> Slice:
    relevant, queries = Relevant.grouped(collection.query[part], rank[part], collection.grade[part])
    values = {name: measure(relevant) for name, measure in measures.items()}
    return Slice(setting, asked, answered, queries, total - len(queries), values)


def aggregate(collection: RetrievalCollection, views: list[Slice]) -> dict[str, float]:
    """Flat figures: ``<name>/<setting>/<measure>`` (macro mean) and ``.../<language or pair>``.

    A view without a judged query has no figure and no part in the mean; its queries are counted as left out.
    """
    figures: dict[str, float] = {}
    for setting in SETTINGS:
        every = [view for view in views if view.setting == setting]
        chosen = [view for view in every if len(view.queries)]
        if not chosen:
            continue
        prefix = f"{collection.name}/{setting}"
        for measure in chosen[0].values:
            means = {view_name(collection, view): float(view.values[measure].mean()) for view in chosen}
            figures[f"{prefix}/{measure}"] = float(np.mean(list(means.values())))
            figures |= {f"{prefix}/{measure}/{name}": value for name, value in means.items()}
        figures[f"{prefix}/queries"] = float(sum(len(view.queries) for view in chosen))
        figures[f"{prefix}/left_out"] = float(sum(view.left_out for view in every))
    return figures


def view_name(collection: RetrievalCollection, view: Slice) -> str:
    """The language, or ``query-corpus``."""
    asked = collection.languages[view.query_language]
    if view.setting == "crosslingual" and view.corpus_language is not None:
        return f"{asked}-{collection.languages[view.corpus_language]}"
    return asked
