"""The Scorer protocol: blocks of scores of queries against the whole corpus."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from hybrid_retrieval.errors import InputError

PACKED_BYTES = 1 << 30
"""Largest corpus, in bytes of embeddings, that is kept twice."""


class Scorer(Protocol):
    """Anything that scores queries against a corpus; higher is better."""

    def scores(self, start: int, stop: int) -> Tensor:
        """float32 [stop - start, documents]: queries start .. stop - 1 against every document."""


@dataclass(frozen=True)
class DenseScorer:
    """Dot products of embeddings, float32 [queries, dimensions] and [documents, dimensions].

    The corpus is kept in oneDNN's own form beside, where it is small enough: about twice as fast as a plain product on
    two cores.
    """

    queries: npt.NDArray[np.float32]
    corpus: npt.NDArray[np.float32]

    def __post_init__(self) -> None:
        for name, matrix in (("query", self.queries), ("corpus", self.corpus)):
            bad = ~np.isfinite(matrix).all(1)
            if bad.any():
                raise InputError(f"{int(bad.sum())} of {len(matrix)} {name} embeddings are not finite")

    def scores(self, start: int, stop: int) -> Tensor:
        queries = torch.from_numpy(self.queries[start:stop])
        if self._packed is None:
            return queries @ torch.from_numpy(self.corpus).T
        return nn.functional.linear(queries.to_mkldnn(), self._packed).to_dense()

    @cached_property
    def _packed(self) -> Tensor | None:
        fits = 0 < self.corpus.nbytes <= PACKED_BYTES and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        return torch.from_numpy(self.corpus).to_mkldnn() if fits else None
