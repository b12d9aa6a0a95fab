"""Embeddings as arrays: in memory, memory-mapped, or several of those end to end."""

from __future__ import annotations

import mmap
import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

JOINED_BYTES = 1 << 30
"""Embeddings of several languages are joined in memory up to this size."""

Vectors = npt.NDArray[Any]
"""float32 or float16 [rows, dimensions], in memory or memory-mapped."""


def as_float32(vectors: Vectors) -> Tensor:
    """Without a copy where they are float32; otherwise converted by torch, on all cores."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")  # nothing is written
        return torch.from_numpy(np.ascontiguousarray(vectors)).float()


def release(vectors: Vectors | Joined, rows: slice) -> None:
    """Let go of the pages of memory-mapped rows that were read, so that memory does not grow with what was looked at."""
    if isinstance(vectors, Joined):
        for part, start in zip(vectors.parts, vectors.starts.tolist(), strict=False):
            release(part, slice(max(rows.start - start, 0), max(min(rows.stop - start, len(part)), 0)))
        return
    mapped = getattr(vectors, "_mmap", None)
    if mapped is None or rows.stop <= rows.start:
        return
    base = np.frombuffer(mapped, np.uint8).ctypes.data
    page = mmap.PAGESIZE
    first, last = (vectors[at : at + 1].ctypes.data - base for at in (rows.start, rows.stop - 1))
    start, stop = -(-first // page) * page, (last + vectors.strides[0]) // page * page
    if stop > start:
        mapped.madvise(mmap.MADV_DONTNEED, start, stop - start)


def join(parts: Sequence[Vectors]) -> Vectors:
    """Rows of several, one after another; in memory where they are not too many."""
    return parts[0] if len(parts) == 1 and parts[0].nbytes > JOINED_BYTES else Joined(parts).in_memory()


class LazyRows(ABC):
    """[rows, dimensions] that are read or computed when they are asked for, by a slice or by row numbers."""

    def __init__(self, rows: int, dimensions: int, dtype: npt.DTypeLike = np.float32) -> None:
        self.shape, self.dtype = (rows, dimensions), np.dtype(dtype)
        self.nbytes = rows * dimensions * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    @abstractmethod
    def __getitem__(self, rows: slice | npt.NDArray[np.int64]) -> npt.NDArray[Any]: ...

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.asarray(self[:], dtype)

    def in_memory(self, limit: int = JOINED_BYTES) -> Vectors:
        """All rows as an array, where that has no more bytes than the limit."""
        return self[:] if self.nbytes <= limit else cast(Vectors, self)


class Joined(LazyRows):
    """Memory-mapped arrays end to end: slices are read when they are asked for."""

    def __init__(self, parts: Sequence[Vectors]) -> None:
        super().__init__(sum(len(part) for part in parts), parts[0].shape[1], parts[0].dtype)
        self.parts = parts
        self.starts = np.concatenate([[0], np.cumsum([len(part) for part in parts])])

    def __getitem__(self, rows: slice | npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        if isinstance(rows, slice):
            start, stop, _ = rows.indices(len(self))
            inside = zip(self.parts, self.starts.tolist(), strict=False)
            return np.concatenate([part[max(start - at, 0) : max(stop - at, 0)] for part, at in inside])
        found = np.empty((len(rows), self.shape[1]), self.dtype)
        part = np.searchsorted(self.starts, rows, "right") - 1
        for number in np.unique(part).tolist():
            found[part == number] = self.parts[number][rows[part == number] - self.starts[number]]
        return found
