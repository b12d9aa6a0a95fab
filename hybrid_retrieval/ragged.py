"""Rows of different lengths in one array: values end to end, with the offsets at which rows start.

Token ids of texts, answers of queries, units of texts: whatever is a list of lists of numbers. All operations are a few
passes of NumPy over the values that they touch; a memory-mapped array of values stays on disk until rows are gathered.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Ragged:
    """Rows of numbers; as a sequence, a view of each.

    Attributes:
        values: [values], row after row.
        offsets: int64 [rows + 1], where each row starts in `values`, and last where they end; the first is 0.
    """

    values: npt.NDArray[Any]
    offsets: Ints

    @classmethod
    def of(cls, values: npt.NDArray[Any], lengths: Ints) -> Ragged:
        """From values end to end and int64 [rows] lengths."""
        return cls(values, np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]))

    @classmethod
    def from_lists(cls, rows: Sequence[Sequence[int]], dtype: npt.DTypeLike = np.int64) -> Ragged:
        """From one list a row."""
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        return cls.of(np.fromiter(itertools.chain.from_iterable(rows), dtype, int(lengths.sum())), lengths)

    @classmethod
    def join(cls, parts: Sequence[Ragged]) -> Ragged:
        """The rows of one or more parts, one part after another."""
        ends = itertools.accumulate(len(part.values) for part in parts)
        offsets = [part.offsets[1:] + (end - len(part.values)) for part, end in zip(parts, ends, strict=True)]
        return cls(np.concatenate([part.values for part in parts]), np.concatenate([[0], *offsets]))

    @classmethod
    def merge(cls, numbers: Sequence[Ints], parts: Sequence[Ragged]) -> Ragged:
        """The rows of several parts in an order of their own.

        Args:
            numbers: for each part, int64 [rows of the part], the number that each of its rows has in the result; over all
                parts every number from 0 occurs once.
        """
        if len(parts) == 1 and (np.diff(numbers[0]) == 1).all():
            return parts[0]
        every = np.concatenate(numbers)
        row_of = np.empty(len(every), np.int64)
        row_of[every] = np.arange(len(every))
        return cls.join(parts).gather(row_of)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> npt.NDArray[Any]:
        start, stop = self.offsets[row], self.offsets[row + 1]
        found: npt.NDArray[Any] = self.values[start:stop]
        return found

    def __iter__(self) -> Iterator[npt.NDArray[Any]]:
        return (self.values[start:stop] for start, stop in itertools.pairwise(self.offsets.tolist()))

    def tolist(self) -> list[list[int]]:
        """One list a row."""
        return [row.tolist() for row in self]

    @property
    def lengths(self) -> Ints:
        """int64 [rows]."""
        return np.diff(self.offsets)

    def lengths_of(self, rows: Ints) -> Ints:
        """int64 [rows]: the lengths of some rows."""
        return self.offsets[rows + 1] - self.offsets[rows]

    def rows(self) -> Ints:
        """int64 [values]: the row of each value."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def positions(self) -> Ints:
        """int64 [values]: the position of each value in its row."""
        return spans(np.zeros(len(self), np.int64), self.lengths)

    def gather(self, rows: Ints) -> Ragged:
        """Some rows in the order of `rows`, which may name one twice; the values are copied."""
        lengths = self.lengths_of(rows)
        return Ragged.of(self.values[spans(self.offsets[rows], lengths)], lengths)


def spans(starts: Ints, lengths: Ints) -> Ints:
    """The numbers start, start + 1, ..., start + length - 1 of every span, end to end: [5, 0], [2, 3] -> [5, 6, 0, 1, 2]."""
    ends = np.cumsum(lengths)
    return np.repeat(starts - (ends - lengths), lengths) + np.arange(ends[-1] if len(ends) else 0)
