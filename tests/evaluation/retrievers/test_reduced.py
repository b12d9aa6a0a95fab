"""Embeddings at less cost are those of brute force and of sentence-transformers, out of one encoding."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from hybrid_retrieval.cache import Cache
from hybrid_retrieval.evaluation.protocol import evaluate
from hybrid_retrieval.evaluation.retrievers.dense import Dense
from hybrid_retrieval.evaluation.retrievers.reduced import Truncated, reductions
from hybrid_retrieval.evaluation.scoring.embeddings import EmbeddingStore

DIMENSIONS = 20


class Counting:
    """A random direction for a text, or several times as long; notes what it was asked."""

    def __init__(self, unit: bool = True) -> None:
        self.unit, self.seen = unit, Counter()

    def fingerprint(self, role):
        return "counting"

    def encode(self, texts, role, label=""):
        self.seen.update((text, role) for text in texts)
        rows = np.stack([np.random.default_rng([*text.encode()]).standard_normal(DIMENSIONS) for text in texts])
        rows[:, 0] += 0.5  # so that signs and ranges are not even
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True) if self.unit else 3 * rows).astype(np.float32)


NAMES = ("dimensions_7", "dimensions_20", "int8", "binary")


def expected(name: str, queries: np.ndarray, corpus: np.ndarray, unit: bool) -> np.ndarray:
    """Scores [queries, documents], float64, by sentence-transformers' quantisation."""
    quantization = pytest.importorskip("sentence_transformers.util.quantization")
    if name.startswith("dimensions"):
        count = int(name.partition("_")[2])
        sides = [side[:, :count].astype(np.float64) for side in (queries, corpus)]
        sides = [side / np.linalg.norm(side, axis=1, keepdims=True) if unit else side for side in sides]
        return sides[0] @ sides[1].T
    if name == "int8":
        ranges = np.vstack([corpus.min(0), corpus.max(0)])
        codes = quantization.quantize_embeddings(corpus, "int8")
        return queries.astype(np.float64) @ quantization._dequantize_embeddings(codes, "int8", ranges).T
    bits = np.unpackbits(quantization.quantize_embeddings(corpus, "ubinary"), axis=-1)[:, :DIMENSIONS]
    return queries.astype(np.float64) @ bits.T


@pytest.mark.parametrize("unit", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_scores_and_measures_are_those_of_brute_force(make_collection, name: str, unit: bool) -> None:
    collection = make_collection(2)
    encoder = Counting(unit)
    retriever = reductions([7, 20], ["int8", "binary"])[name]
    retriever.dense = Dense(encoder)
    result = evaluate(retriever, collection)
    queries, corpus = (encoder.encode(list(side.texts), "") for side in (collection.queries, collection.corpus))
    scores = expected(name, queries, corpus, unit)
    found = result.index.pool.against(slice(0, len(corpus)))(0, len(queries)).numpy()
    np.testing.assert_allclose(found, scores, atol=1e-4)
    first = {}
    for row in np.unique(collection.query).tolist():
        relevant = collection.document[collection.query == row]
        order = np.lexsort((-collection.tie_order, -scores[row].round(9)))  # documents with the same bits tie
        first[row] = 1 / (1 + np.flatnonzero(np.isin(order, relevant))[0])
    by_language = [
        np.mean([value for row, value in first.items() if collection.queries.language[row] == language])
        for language in np.unique(collection.queries.language[list(first)])
    ]
    assert result.metrics["random/multilingual/mrr"] == pytest.approx(np.mean(by_language), abs=1e-9)


def test_a_text_without_an_embedding_does_not_keep_the_others_from_unit_length() -> None:
    rows = Counting().encode("abcd", "passage")
    rows[1] = 0
    change, _ = Truncated(7).changes(rows, rows)
    np.testing.assert_allclose(np.linalg.norm(change(rows), axis=1), [1, 0, 1, 1], atol=1e-6)


def test_nothing_is_encoded_again(make_collection, tmp_path: Path) -> None:
    collection = make_collection(3)
    encoder = Counting()
    dense = Dense(encoder, EmbeddingStore(Cache(tmp_path)))
    evaluate(dense, collection)
    before = dict(encoder.seen)
    for retriever in reductions([7, 20], ["int8", "binary"]).values():
        retriever.dense = dense
        evaluate(retriever, collection)
    assert encoder.seen == before


def test_bytes_are_those_of_what_is_stored() -> None:
    corpus = np.zeros((3, DIMENSIONS), np.float16)
    sizes = {name: one.bytes_per_passage(corpus) for name, one in reductions([7], ["int8", "binary"]).items()}
    assert sizes == {"dimensions_7": 14, "int8": 20, "binary": 3}
