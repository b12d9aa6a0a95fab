"""Encode each text once, score once, and derive every setting and measure."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hybrid_retrieval.evaluation.collection import RetrievalCollection, Side
from hybrid_retrieval.evaluation.ranks import count_ranks
from hybrid_retrieval.evaluation.scorer import DenseScorer, Scorer
from hybrid_retrieval.evaluation.settings import Slice, aggregate, slices
from hybrid_retrieval.models.encoder import Encoder, Role

log = logging.getLogger(__name__)

ROLE_NAMES: dict[Role, str] = {"query": "queries", "passage": "corpus"}


@dataclass(frozen=True)
class Evaluation:
    """The figures of one benchmark, and what they came from."""

    collection: RetrievalCollection
    scorer: Scorer
    views: list[Slice]
    metrics: dict[str, float]

    def per_query(self) -> pa.Table:
        """One row for each query and corpus: benchmark, setting, languages, query id, and a column a measure."""
        names = sorted({name for view in self.views for name in view.values})
        ids = np.array(self.collection.queries.ids, dtype=object)
        columns: dict[str, list[object]] = {
            name: [] for name in ("benchmark", "setting", "query_language", "corpus_language", "query_id", *names)
        }
        for view in self.views:
            count = len(view.queries)
            corpus = None if view.corpus_language is None else self.collection.languages[view.corpus_language]
            columns["benchmark"] += [self.collection.name] * count
            columns["setting"] += [view.setting] * count
            columns["query_language"] += [self.collection.languages[view.query_language]] * count
            columns["corpus_language"] += [corpus] * count
            columns["query_id"] += ids[view.queries].tolist()
            for name in names:
                columns[name] += view.values[name].tolist() if name in view.values else [None] * count
        texts = ("benchmark", "setting", "query_language", "corpus_language", "query_id")
        return pa.table(
            {name: pa.array(values, pa.string() if name in texts else pa.float64()) for name, values in columns.items()}
        )


def evaluate(encoder: Encoder, collection: RetrievalCollection, label: str = "") -> Evaluation:
    """Encode the collection, language by language, and score it; with a `label`, progress and lost text are shown."""
    queries = _encode(encoder, collection, collection.queries, "query", label)
    corpus = _encode(encoder, collection, collection.corpus, "passage", label)
    return score(collection, DenseScorer(queries, corpus), label)


def _encode(encoder: Encoder, collection: RetrievalCollection, side: Side, role: Role, label: str) -> npt.NDArray[np.float32]:
    """float32 [rows, dimensions]. Each language is a call of its own, so that what is lost is said of each."""
    parts = []
    for index, language in enumerate(collection.languages):
        texts = side.texts[side.rows(index)]
        if len(texts):
            parts.append(encoder.encode(texts, role, f"{label} {language} {ROLE_NAMES[role]}" if label else ""))
    return np.concatenate(parts)


def score(collection: RetrievalCollection, scorer: Scorer, label: str = "") -> Evaluation:
    """All settings and measures of a collection under a scorer."""
    ranks = count_ranks(scorer, collection, f"{label}: ranking" if label else "")
    views = list(slices(collection, ranks))
    left_out = sum(view.left_out for view in views if view.setting != "multilingual")
    if left_out and label:
        log.info("%s: %d queries have no relevant document in a target corpus and are left out of that pair", label, left_out)
    return Evaluation(collection, scorer, views, aggregate(collection, views))
