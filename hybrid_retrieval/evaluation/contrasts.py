"""Contrasts: whether a query scores the better of two passages above the worse one, by what is wrong with that.

A contrast is 1 where it does and -1 where it does not, a tie among these, so that a mean is (concordant - discordant) /
(concordant + discordant): the Kendall-like score of WMT22's challenge sets and of ACES (arXiv 2210.15615).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from hybrid_retrieval.evaluation.collection import Contrasts, Ints, RetrievalCollection, Side
from hybrid_retrieval.evaluation.language_pairs import LanguagePair
from hybrid_retrieval.evaluation.measures import CONTRASTS, PHENOMENON
from hybrid_retrieval.evaluation.retrievers.retriever import Index
from hybrid_retrieval.evaluation.scoring.scorer import PairScorer

AT_ONCE = 1 << 14
"""Pairs that are scored together."""


def by_contrast(
    collection: RetrievalCollection, contrasts: Contrasts, index: Index
) -> tuple[RetrievalCollection, list[LanguagePair]]:
    """The collection with a query a contrast, and each of these in its languages, with its value."""
    scorer = index.language or index.pool
    better, worse = (_scores(scorer, contrasts.query, rows) for rows in (contrasts.better, contrasts.worse))
    values = np.where(better > worse, 1.0, -1.0)
    rows, none = contrasts.query.tolist(), np.empty(0, np.int64)
    language = collection.queries.language[contrasts.query]
    scored = replace(
        collection,
        queries=Side([collection.queries.texts[row] for row in rows], contrasts.ids, language),
        cluster=[collection.clusters[row] for row in rows],
        query=none,
        document=none,
        grade=none,
        contrasts=None,
    )
    both = np.stack([language, collection.corpus.language[contrasts.better]], 1)
    pairs = []
    for asked, answered in np.unique(both, axis=0).tolist():
        mine = np.flatnonzero((both == (asked, answered)).all(1))
        names = collection.languages[asked], collection.languages[answered]
        pairs.append(LanguagePair(*names, mine, 0, {CONTRASTS: values[mine]}))
    return scored, pairs


def by_phenomenon(contrasts: Contrasts, pairs: Sequence[LanguagePair]) -> list[LanguagePair]:
    """The pairs with a measure more for each phenomenon, defined for its contrasts alone."""
    names, number = np.unique(np.array(contrasts.phenomenon), return_inverse=True)
    return [
        replace(
            pair,
            values=pair.values
            | {
                f"{PHENOMENON}{name}": np.where(number[pair.queries] == at, pair.values[CONTRASTS], np.nan)
                for at, name in enumerate(names.tolist())
            },
        )
        for pair in pairs
    ]


def _scores(scorer: PairScorer, queries: Ints, documents: Ints) -> npt.NDArray[np.float32]:
    order = np.argsort(documents, kind="stable")
    found = np.empty(len(documents), np.float32)
    for at in range(0, len(order), AT_ONCE):
        part = order[at : at + AT_ONCE]
        found[part] = scorer.pairs(queries[part], documents[part]).cpu().numpy()
    return found
