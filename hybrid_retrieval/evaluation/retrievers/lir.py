"""Language information removal (LIR, arXiv 2109.04727): subtract the projection on a language's first singular vectors.

They are the right singular vectors of the matrix of the language's embeddings, not centred. The authors remove 1 or 2 of
mBERT's, estimated on 10,000 sentences of Wikipedia, encoded as questions, and use the same ones for questions and candidates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hybrid_retrieval import values
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.evaluation.measures import Floats
from hybrid_retrieval.evaluation.retrievers.post_hoc import Change, PostHoc
from hybrid_retrieval.values import Count


class Lir(PostHoc):
    """Each language loses its strongest directions."""

    name = "lir"

    def __init__(self, texts: Count = 10_000, rank: Count = 1) -> None:
        """
        Args:
            rank: directions of each language that are removed.
        """
        super().__init__(texts)
        values.check(Lir, {"rank": rank}, "retriever.lir")
        self.rank = rank

    def check(self, texts: Sequence[int], dimensions: int) -> None:
        least = min(*texts, dimensions)
        if self.rank > least:
            raise InputError(f"retriever.lir.rank={self.rank}: expected at most {least}, the fewest texts or the dimensions")

    def fit(self, parts: Mapping[int, Floats]) -> Change:
        self.check([len(part) for part in parts.values()], parts[0].shape[1])
        # [dimensions, rank], orthonormal: the last eigenvectors of the Gram matrix.
        basis = {language: np.linalg.eigh(part.T @ part)[1][:, -self.rank :] for language, part in parts.items()}
        return lambda rows, language: rows - (rows @ basis[language]) @ basis[language].T
