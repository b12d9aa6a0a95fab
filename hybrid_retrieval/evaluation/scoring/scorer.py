"""The Scorer protocol: blocks of scores of queries against documents.

A scorer is asked for a block of documents first, which it may prepare (convert, pack, cut out of an index), and then for
queries against it, so that a corpus that does not fit in memory is read once a pass.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.evaluation.collection import Ints
from hybrid_retrieval.evaluation.scoring.vectors import Vectors, as_float32, release
from hybrid_retrieval.ragged import spans

PACKED_BYTES = 1 << 30
"""Largest corpus, in bytes, that is kept in oneDNN's form too; of a larger one, only a block is at a time."""
CHECKED_AT_ONCE = 1 << 16
"""Rows whose embeddings are checked together."""

Block = Callable[[int, int], Tensor]
"""From (start, stop), rows of queries, to float32 [stop - start, documents of the block]; higher is better."""


class Scorer(Protocol):
    """Anything that scores queries against a corpus."""

    def against(self, documents: slice) -> Block:
        """Scores against the documents start .. stop - 1 of the corpus."""


class PairScorer(Scorer, Protocol):
    """A scorer that can also be asked for single pairs."""

    def pairs(self, queries: Ints, documents: Ints) -> Tensor:
        """float32 [pairs]: the score of each query with the document beside it; documents ascend."""


@dataclass(frozen=True)
class DenseScorer:
    """Dot products, in float32, of embeddings [queries, dimensions] and [documents, dimensions].

    On a CPU, documents are multiplied in oneDNN's own form, about twice as fast as a plain product on two cores; a corpus
    that is small enough is kept in it.

    Attributes:
        device: where scores are computed, and stay.
        packed_bytes: of the largest corpus that is kept in oneDNN's form.

    Raises:
        InputError: an embedding is not finite.
    """

    queries: Vectors
    corpus: Vectors
    device: str = "cpu"
    packed_bytes: int = PACKED_BYTES

    def __post_init__(self) -> None:
        for name, matrix in (("query", self.queries), ("corpus", self.corpus)):
            bad = 0
            for at in range(0, len(matrix), CHECKED_AT_ONCE):
                bad += int((~np.isfinite(matrix[at : at + CHECKED_AT_ONCE]).all(1)).sum())
                release(matrix, slice(at, min(at + CHECKED_AT_ONCE, len(matrix))))
            if bad:
                raise InputError(f"{bad} of {len(matrix)} {name} embeddings are not finite")

    def asking(self, queries: Vectors) -> DenseScorer:
        """The same corpus, as far as it is prepared, for other queries, which are finite."""
        other = copy.copy(self)
        object.__setattr__(other, "queries", queries)
        return other

    def against(self, documents: slice) -> Block:
        whole = documents == slice(0, len(self.corpus)) and self.corpus.nbytes <= self.packed_bytes
        packed = self._packed if whole else self._read(documents)

        def block(start: int, stop: int) -> Tensor:
            queries = as_float32(self.queries[start:stop])
            if packed.is_mkldnn:
                return nn.functional.linear(queries.to_mkldnn(), packed).to_dense()
            return queries.to(self.device) @ packed.T

        return block

    def rough(self, documents: slice) -> tuple[Block, float]:
        """Scores in bfloat16, and a bound of their error for a query of length 1."""
        corpus = as_float32(self.corpus[documents])
        release(self.corpus, documents)
        # Both factors and the product are rounded (2^-9 each), and so is every partial sum, in float32.
        unit = 2**-9
        bound = 3 * unit * (1 + unit) ** 2 + self.corpus.shape[1] * 2**-23
        rounded = corpus.bfloat16()

        def block(start: int, stop: int) -> Tensor:
            return nn.functional.linear(as_float32(self.queries[start:stop]).bfloat16(), rounded)

        return block, bound * float(torch.linalg.vector_norm(corpus, dim=1).max())

    def pairs(self, queries: Ints, documents: Ints) -> Tensor:
        """float32 [pairs]: the score of each query with the document beside it; documents ascend."""
        corpus = as_float32(self.corpus[documents])
        if len(documents):
            release(self.corpus, slice(int(documents[0]), int(documents[-1]) + 1))
        return (as_float32(self.queries[queries]) * corpus).sum(1)

    def _read(self, documents: slice) -> Tensor:
        packed = pack(self.corpus[documents], self.device)
        release(self.corpus, documents)
        return packed

    @cached_property
    def _packed(self) -> Tensor:
        return pack(self.corpus, self.device)


def fast_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 faster than float32."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def pack(vectors: Vectors, device: str = "cpu") -> Tensor:
    """float32 on a device; on a CPU in oneDNN's own form, where there is oneDNN."""
    plain = as_float32(vectors).to(device)
    fits = device == "cpu" and len(plain) and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return plain.to_mkldnn() if fits else plain


@dataclass(frozen=True)
class Checked:
    """Any scorer's scores as float32 numbers: other types are rounded, so that a document ties with itself.

    Raises:
        InputError: a score is no number.
    """

    scorer: PairScorer

    def against(self, documents: slice) -> Block:
        inner = self.scorer.against(documents)
        return lambda start, stop: _numbers(inner(start, stop), start, stop - 1)

    def pairs(self, queries: Ints, documents: Ints) -> Tensor:
        return _numbers(self.scorer.pairs(queries, documents), int(queries.min(initial=0)), int(queries.max(initial=0)))


def _numbers(scores: Tensor, first: int, last: int) -> Tensor:
    if bad := int(scores.isnan().sum()):
        raise InputError(f"{bad} of {scores.numel()} scores are not a number, of queries {first} to {last}")
    return scores.float()


@dataclass(frozen=True)
class ChunkMax:
    """A document scores as the best of its chunks (max pooling over a long document).

    Attributes:
        chunks: scores the chunks of all documents, one after another.
        offsets: int64 [documents + 1], where each document's chunks start; every document has one.
    """

    chunks: PairScorer
    offsets: Ints

    def against(self, documents: slice) -> Block:
        offsets = self.offsets[documents.start : documents.stop + 1]
        inner = self.chunks.against(slice(int(offsets[0]), int(offsets[-1])))
        starts = offsets[:-1] - offsets[0]
        return lambda start, stop: torch.from_numpy(np.maximum.reduceat(inner(start, stop).cpu().numpy(), starts, axis=1))

    def pairs(self, queries: Ints, documents: Ints) -> Tensor:
        sizes = np.diff(self.offsets)[documents]
        scores = self.chunks.pairs(np.repeat(queries, sizes), spans(self.offsets[documents], sizes))
        best = scores.new_full((len(documents),), -torch.inf)
        owner = torch.from_numpy(np.repeat(np.arange(len(documents)), sizes)).to(scores.device)
        return best.scatter_reduce(0, owner, scores, "amax")


@dataclass(frozen=True)
class Excluding:
    """A scorer under which some queries do not find some documents: their score is the least there is.

    Attributes:
        hidden: int64 [pairs, 2], (query, document), sorted.
    """

    scorer: PairScorer
    hidden: Ints

    def against(self, documents: slice) -> Block:
        inner = self.scorer.against(documents)
        inside = (self.hidden[:, 1] >= documents.start) & (self.hidden[:, 1] < documents.stop)
        pairs = self.hidden[inside]

        def block(start: int, stop: int) -> Tensor:
            scores = inner(start, stop)
            first, last = np.searchsorted(pairs[:, 0], [start, stop])
            rows, columns = pairs[first:last, 0] - start, pairs[first:last, 1] - documents.start
            scores[torch.from_numpy(rows).to(scores.device), torch.from_numpy(columns).to(scores.device)] = -torch.inf
            return scores

        return block

    def pairs(self, queries: Ints, documents: Ints) -> Tensor:
        width = int(max(documents.max(initial=0), self.hidden[:, 1].max(initial=0))) + 1
        hidden = np.isin(queries * width + documents, self.hidden[:, 0] * width + self.hidden[:, 1])
        scores = self.scorer.pairs(queries, documents)
        return scores.masked_fill(torch.from_numpy(hidden).to(scores.device), -torch.inf)
