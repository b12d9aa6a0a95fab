"""Whitening (arXiv 2103.15316): subtract the language's mean, and divide by the root of the covariance within languages.

The covariance is shared by the languages, which weigh the same: with a matrix for each, cosines across languages would compare
different axes, and small samples would not determine it. Directions in which the text has no variance are removed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.evaluation.measures import Floats
from hybrid_retrieval.evaluation.retrievers.post_hoc import Change, PostHoc

LEAST_VARIANCE = 1e-7
"""Part of the largest variance below which a direction is removed."""


class Whiten(PostHoc):
    """Every language's mean becomes zero, and the covariance within languages the identity."""

    name = "whiten"

    def check(self, texts: Sequence[int], dimensions: int) -> None:
        needed = dimensions + len(texts)
        if sum(texts) < needed:
            raise InputError(f"retriever.whiten: {sum(texts)} texts are too few for {dimensions} dimensions; expected {needed}")

    def fit(self, parts: Mapping[int, Floats]) -> Change:
        self.check([len(part) for part in parts.values()], parts[0].shape[1])
        mean = {language: part.mean(0) for language, part in parts.items()}
        # [dimensions, dimensions]
        covariance = np.mean([np.cov(part.T, bias=True) for part in parts.values()], axis=0)
        variance, axes = np.linalg.eigh(covariance)
        kept = variance > LEAST_VARIANCE * variance[-1]
        matrix = (axes[:, kept] / np.sqrt(variance[kept])) @ axes[:, kept].T
        return lambda rows, language: (rows - mean[language]) @ matrix
