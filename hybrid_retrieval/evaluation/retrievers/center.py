"""Centring (Libovický et al., arXiv 2004.05160): subtract the mean of the language's embeddings."""

from __future__ import annotations

from collections.abc import Mapping

from hybrid_retrieval.evaluation.measures import Floats
from hybrid_retrieval.evaluation.retrievers.post_hoc import Change, PostHoc


class Center(PostHoc):
    """Every language's mean becomes zero."""

    name = "center"

    def fit(self, parts: Mapping[int, Floats]) -> Change:
        mean = {language: part.mean(0) for language, part in parts.items()}
        return lambda rows, language: rows - mean[language]
