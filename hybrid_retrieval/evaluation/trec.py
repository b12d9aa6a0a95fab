"""TREC runs and judgements, and embeddings, as files that other tools read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from hybrid_retrieval.evaluation.collection import RetrievalCollection
from hybrid_retrieval.evaluation.scorer import DenseScorer, Scorer
from hybrid_retrieval.progress import track

BLOCK = 64


def write_qrels(path: Path, collection: RetrievalCollection) -> None:
    """Judgements over the pool: ``query 0 document grade``, ids as ``<language>:<id>``."""
    queries, documents = collection.full_ids(collection.queries), collection.full_ids(collection.corpus)
    with path.open("w", encoding="utf-8") as file:
        for query, document, grade in zip(collection.query, collection.document, collection.grade, strict=True):
            file.write(f"{queries[query]}\t0\t{documents[document]}\t{grade}\n")


def write_run(path: Path, collection: RetrievalCollection, scorer: Scorer, depth: int, tag: str) -> None:
    """The first `depth` documents of the pool for every query: ``query Q0 document rank score tag``.

    Ties are in trec_eval's order, so that its ranks are ours. Scores have nine digits: float32 survives.
    """
    queries, documents = collection.full_ids(collection.queries), collection.full_ids(collection.corpus)
    order = np.argsort(-collection.tie_order())
    by_tie = torch.from_numpy(order)
    with path.open("w", encoding="utf-8") as file:
        for start in track(range(0, len(queries), BLOCK), f"{collection.name}: writing run"):
            scores = scorer.scores(start, min(start + BLOCK, len(queries)))[:, by_tie]
            best = torch.sort(scores, dim=1, descending=True, stable=True).indices[:, :depth]
            for row, (columns, values) in enumerate(zip(best.tolist(), scores.gather(1, best).tolist(), strict=True)):
                lines = (
                    f"{queries[start + row]} Q0 {documents[order[column]]} {rank} {value:.9g} {tag}\n"
                    for rank, (column, value) in enumerate(zip(columns, values, strict=True), 1)
                )
                file.writelines(lines)


def write_embeddings(directory: Path, collection: RetrievalCollection, scorer: DenseScorer) -> None:
    """``{queries,corpus}.<language>.npy`` with their ids, and ``qrels.tsv``; the dot product is the score."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, side, matrix in (("queries", collection.queries, scorer.queries), ("corpus", collection.corpus, scorer.corpus)):
        ids = collection.full_ids(side)
        for index, language in enumerate(collection.languages):
            rows = side.rows(index)
            if rows.start == rows.stop:
                continue
            np.save(directory / f"{name}.{language}.npy", matrix[rows])
            (directory / f"{name}.{language}.ids.txt").write_text("".join(f"{id_}\n" for id_ in ids[rows]), encoding="utf-8")
    write_qrels(directory / "qrels.tsv", collection)
