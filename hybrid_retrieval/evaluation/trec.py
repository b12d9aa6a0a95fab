"""TREC runs and judgements, and embeddings, as files that other tools read."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from hybrid_retrieval.evaluation.collection import RetrievalCollection
from hybrid_retrieval.evaluation.scoring.search import Top
from hybrid_retrieval.evaluation.scoring.vectors import Vectors


def write_qrels(path: Path, collection: RetrievalCollection) -> None:
    """Judgements over the pool: ``query 0 document grade``, ids as ``<language>:<id>``."""
    queries = collection.full_ids(collection.queries, collection.query)
    documents = collection.full_ids(collection.corpus, collection.document)
    with path.open("w", encoding="utf-8") as file:
        for query, document, grade in zip(queries, documents, collection.grade, strict=True):
            file.write(f"{query}\t0\t{document}\t{grade}\n")


def write_run(path: Path, collection: RetrievalCollection, top: Top, tag: str) -> None:
    """The documents that were found for every query: ``query Q0 document rank score tag``.

    Scores have nine digits: float32 survives.
    """
    queries = collection.full_ids(collection.queries)
    with path.open("w", encoding="utf-8") as file:
        for query, rows, values in zip(queries, top.documents, top.scores.tolist(), strict=True):
            found = rows[: sum(value > -math.inf for value in values)]
            names = collection.full_ids(collection.corpus, found)
            file.writelines(
                f"{query} Q0 {document} {rank} {value:.9g} {tag}\n"
                for rank, (document, value) in enumerate(zip(names, values, strict=False), 1)
            )


def write_embeddings(directory: Path, collection: RetrievalCollection, queries: Vectors, corpus: Vectors) -> None:
    """``{queries,corpus}.<language>.npy`` with their ids, and ``qrels.tsv``; the dot product is the score."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, side, matrix in (("queries", collection.queries, queries), ("corpus", collection.corpus, corpus)):
        ids = collection.full_ids(side)
        for index, language in enumerate(collection.languages):
            rows = side.rows(index)
            if rows.start == rows.stop:
                continue
            np.save(directory / f"{name}.{language}.npy", matrix[rows].astype(np.float32, copy=False))
            (directory / f"{name}.{language}.ids.txt").write_text("".join(f"{id_}\n" for id_ in ids[rows]), encoding="utf-8")
    write_qrels(directory / "qrels.tsv", collection)
