"""Approximate search by faiss (``evaluation.search=ivf`` or ``hnsw``), for who wants it; measured against exact search.

Inner products of the embeddings as stored. IVF: as many lists as four roots of the corpus, a sixteenth of them probed,
or as many as hold twice the depth; HNSW: 32 links,
128 candidates or twice the depth. Figures of an evaluation stay exact; it is the written runs that come from here.
"""

from __future__ import annotations

import logging
import math
from typing import Any

import numpy as np

from hybrid_retrieval.errors import InputError, choice
from hybrid_retrieval.evaluation.collection import Ints
from hybrid_retrieval.evaluation.scoring.scorer import DenseScorer
from hybrid_retrieval.evaluation.scoring.search import Top, search
from hybrid_retrieval.evaluation.scoring.vectors import Vectors, release
from hybrid_retrieval.progress import track

log = logging.getLogger(__name__)

KINDS = ("ivf", "hnsw")
ADDED_AT_ONCE = 1 << 16
TRAINED_ON = 64
"""Vectors a list that IVF's lists are found from."""
CHECKED = 200
"""Queries whose lists are compared with exact search."""


def faiss_search(kind: str, queries: Vectors, corpus: Vectors, depth: int, label: str = "") -> Top:
    """The best documents of each query that faiss finds; fewer than `depth` leave row -1 with a score of minus infinity.

    Raises:
        InputError: faiss is not installed.
    """
    depth = min(depth, len(corpus))
    index = build(kind, corpus, depth, label)
    scores, documents = index.search(np.ascontiguousarray(queries, np.float32), depth)
    scores[documents < 0] = -np.inf
    return Top(documents.astype(np.int64), scores)


def library(kind: str) -> Any:
    """Faiss.

    Raises:
        InputError: it is not installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise InputError(f"evaluation.search={kind} needs faiss: pip install 'hybrid-retrieval[faiss]'") from error
    return faiss


def build(kind: str, corpus: Vectors, depth: int, label: str = "") -> Any:
    """A faiss index over the corpus, for lists of this depth."""
    choice("evaluation.search", kind, KINDS)
    faiss = library(kind)
    rows, dimensions = corpus.shape
    index: Any
    if kind == "hnsw":
        index = faiss.IndexHNSWFlat(dimensions, 32, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efSearch = max(128, 2 * depth)
    else:
        lists = max(1, min(4 * math.isqrt(rows), rows // 39))
        quantizer = faiss.IndexFlatIP(dimensions)
        index = faiss.IndexIVFFlat(quantizer, dimensions, lists, faiss.METRIC_INNER_PRODUCT)
        chosen = np.sort(np.random.default_rng(0).permutation(rows)[: TRAINED_ON * lists])
        index.train(np.ascontiguousarray(corpus[chosen], np.float32))
        index.nprobe = min(lists, max(1, lists // 16, math.ceil(2 * depth * lists / rows)))
    for start in track(range(0, rows, ADDED_AT_ONCE), f"{label}: {kind} index" if label else "", show=bool(label)):
        part = slice(start, min(start + ADDED_AT_ONCE, rows))
        index.add(np.ascontiguousarray(corpus[part], np.float32))
        release(corpus, part)
    return index


def recall_of(found: Top, queries: Vectors, corpus: Vectors, tie_order: Ints | None = None) -> float:
    """The share of the exact lists of some queries that was found, at the depth of `found`."""
    rows = np.linspace(0, len(queries) - 1, min(CHECKED, len(queries))).astype(np.int64)
    exact = search(DenseScorer(np.asarray(queries[rows]), corpus), len(rows), len(corpus), found.documents.shape[1], tie_order)
    shares = [np.isin(one, other).mean() for one, other in zip(exact.documents, found.documents[rows], strict=True)]
    return float(np.mean(shares))
