"""The Scorer protocol: blocks of scores of queries against the whole corpus."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hybrid_retrieval.errors import InputError


class Scorer(Protocol):
    """Anything that scores queries against a corpus; higher is better."""

    def scores(self, start: int, stop: int) -> Tensor:
        """float32 [stop - start, documents]: queries start .. stop - 1 against every document."""


@dataclass(frozen=True)
class DenseScorer:
    """Dot products of embeddings, float32 [queries, dimensions] and [documents, dimensions]."""

    queries: npt.NDArray[np.float32]
    corpus: npt.NDArray[np.float32]

    def __post_init__(self) -> None:
        for name, matrix in (("query", self.queries), ("corpus", self.corpus)):
            bad = ~np.isfinite(matrix).all(1)
            if bad.any():
                raise InputError(f"{int(bad.sum())} of {len(matrix)} {name} embeddings are not finite")

    def scores(self, start: int, stop: int) -> Tensor:
        return torch.from_numpy(self.queries[start:stop]) @ torch.from_numpy(self.corpus).T
