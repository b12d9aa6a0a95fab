"""Centroid distance: how far apart the languages lie in the space of the embeddings.

Per pair of languages, the Euclidean distance between the means of their embeddings, divided by the spread within languages
(the root of the mean squared distance of a text from its language's mean, languages weighing the same); per language, the mean
over the other languages; and the macro mean. 0 or more; 0 is no shift; two samples of one distribution, of n and m texts,
differ by about sqrt(1 / n + 1 / m). ``centroid_distance`` is of queries, ``centroid_distance_corpus`` of documents. It is the
shift that centring takes away (arXiv 2004.05160); where the texts of the languages are not translations, it holds what they
are about, too.
"""

from __future__ import annotations

import numpy as np

from hybrid_retrieval.evaluation.bias.evidence import Evidence, Finding
from hybrid_retrieval.evaluation.collection import Side
from hybrid_retrieval.evaluation.measures import Floats
from hybrid_retrieval.evaluation.scoring.scorer import CHECKED_AT_ONCE
from hybrid_retrieval.evaluation.scoring.vectors import Vectors


def centroid_distance(evidence: Evidence) -> Finding:
    """Distances of queries and of documents."""
    if evidence.embeddings is None:
        return Finding(notes=["centroid_distance: the scorer has no embeddings"])
    finding = Finding()
    sides = (("centroid_distance", evidence.collection.queries), ("centroid_distance_corpus", evidence.collection.corpus))
    for (key, side), vectors in zip(sides, evidence.embeddings, strict=True):
        means = _by_language(evidence.collection.languages, side, vectors)
        if means:
            finding.figures.extend(evidence.by_language(key, means))
        else:
            finding.notes.append(f"{key}: fewer than two languages, or no spread within them")
    return finding


def _by_language(languages: tuple[str, ...], side: Side, vectors: Vectors) -> dict[str, float]:
    """The mean distance of each language from the others; nothing where there is none."""
    there = np.unique(side.language).tolist()
    moments = [_moments(vectors, side.rows(index)) for index in there]
    spread = float(np.sqrt(np.mean([moment[1] for moment in moments])))
    if len(there) < 2 or not spread:
        return {}
    centres = np.stack([moment[0] for moment in moments])
    distance = np.linalg.norm(centres[:, None] - centres[None], axis=-1) / spread
    return {languages[index]: float(row.sum() / (len(there) - 1)) for index, row in zip(there, distance, strict=True)}


def _moments(vectors: Vectors, rows: slice) -> tuple[Floats, float]:
    """The mean of a range of rows, and their mean squared distance from it."""
    total, squares = np.zeros(vectors.shape[1]), 0.0
    for at in range(rows.start, rows.stop, CHECKED_AT_ONCE):
        part = vectors[at : min(at + CHECKED_AT_ONCE, rows.stop)].astype(np.float64)
        total += part.sum(0)
        squares += float(np.square(part).sum())
    mean = total / (rows.stop - rows.start)
    return mean, max(0.0, squares / (rows.stop - rows.start) - float(mean @ mean))
