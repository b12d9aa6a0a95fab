"""Keyed permutations of 0..n-1 that are computed, not stored: a Feistel network on a grid, with cycle-walking.

The permuted value of any position is a few integer operations, in blocks, so that an order over 100 million pairs takes
no memory and no time to set up. (Black and Rogaway, "Ciphers with Arbitrary Finite Domains", 2002.) The network's halves
are the row and the column of a grid of about sqrt(n) x sqrt(n) places, not two halves of a word: at most one value in
sqrt(n) lies outside 0..n-1 and has to walk on. On a few items, where a Feistel network is weakest, every item is equally
likely at every place and whole orders are equally likely to within a few per cent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hybrid_retrieval.hashing import Words, mix

Ints = npt.NDArray[np.int64]
Halves = npt.NDArray[Any]
"""Of uint32 or uint64, whichever the largest size needs."""

MULTIPLIERS = (
    0x9E3779B185EBCA87,
    0xC2B2AE3D27D4EB4F,
    0x165667B19E3779F9,
    0xD6E8FEB86659FD93,
    0xA0761D6478BD642F,
    0xE7037ED1A0B428DB,
    0x8EBC6AF09C88C6E3,
    0x589965CC75374CC3,
)
"""Odd, one a round; 32-bit networks use the lower halves."""
FINAL = 0x94D049BB133111EB
LARGEST_SIZE = 2**40
LEAST_SIDE = 4
"""Of a grid for three items or more: on smaller ones some whole orders come half as often again as others."""
_SMALL = 2**31
"""Up to this size, sums and products of halves fit into 32 bits."""


def uniform(*parts: int | Words | Ints) -> npt.NDArray[np.float64]:
    """Numbers in [0, 1) as a function of integers."""
    return (mix(*parts) >> np.uint64(11)).astype(np.float64) / 2.0**53


@dataclass(frozen=True)
class Grid:
    """Sizes 1..`LARGEST_SIZE`, and for each the rows and columns of a nearly square grid with few places more."""

    size: Halves
    rows: Halves
    columns: Halves

    @classmethod
    def of(cls, sizes: Ints | int) -> Grid:
        """The grids of one or of several sizes."""
        size = np.asarray(sizes, dtype=np.int64)
        columns = np.ceil(np.sqrt(size)).astype(np.int64)
        columns = np.where(size > 2, np.maximum(columns, LEAST_SIDE), columns)
        rows = np.where(size > 2, np.maximum(-(-size // columns), LEAST_SIDE), 1)
        word = np.uint32 if size.max(initial=1) <= _SMALL else np.uint64
        return cls(size.astype(word), rows.astype(word), columns.astype(word))

    def __getitem__(self, which: Any) -> Grid:
        return Grid(self.size[which], self.rows[which], self.columns[which])

    def spread(self, shape: tuple[int, ...], which: Any) -> Grid:
        """The grids of some elements of an array of `shape`, which this one is broadcast to."""
        return Grid(*(np.broadcast_to(part, shape)[which] for part in (self.size, self.rows, self.columns)))


def permute(positions: Ints, grid: Grid, keys: Words) -> Ints:
    """The image of each of `positions` (0..size-1) under the permutation of its size and key.

    Args:
        positions: broadcast together with `grid` and `keys`; the result has that shape.
        keys: hashes, as `mix` makes them.
    """
    # The rotation makes every item equally likely at every place, however small the network.
    turned = ((keys >> np.uint64(40)) * grid.size.astype(np.uint64)) >> np.uint64(24)
    values = positions.astype(grid.size.dtype) + turned.astype(grid.size.dtype)
    values = _network(np.minimum(values, values - grid.size), grid, keys)
    outside = np.nonzero(values >= grid.size)
    while len(outside[0]):
        parts = grid.spread(values.shape, outside)
        walked = _network(values[outside], parts, np.broadcast_to(keys, values.shape)[outside])
        values[outside] = walked
        left = walked >= parts.size
        outside = tuple(index[left] for index in outside)
    return values.astype(np.int64)


def _network(values: Halves, grid: Grid, keys: Words) -> Halves:
    """One pass over the grid's places: by turns, a hash of the column moves the row and a hash of the row the column."""
    word = grid.size.dtype.type
    half = word(16 if word is np.uint32 else 32)
    mask = (1 << 2 * int(half)) - 1
    key_parts = (keys.astype(word), (keys >> np.uint64(32)).astype(word) if word is np.uint32 else ~keys)
    row = values // grid.columns
    column = values - row * grid.columns
    hashed, reduced = np.empty_like(values), np.empty_like(values)
    with np.errstate(over="ignore"):
        for number, multiplier in enumerate(MULTIPLIERS):
            moved, fixed, extent = (row, column, grid.rows) if number % 2 == 0 else (column, row, grid.columns)
            np.bitwise_xor(fixed, key_parts[number // 2 % 2], out=hashed)
            np.multiply(hashed, word(multiplier & mask), out=hashed)
            np.right_shift(hashed, half - word(1), out=reduced)
            np.bitwise_xor(hashed, reduced, out=hashed)
            np.multiply(hashed, word(FINAL & mask), out=hashed)
            np.right_shift(hashed, half, out=hashed)
            np.multiply(hashed, extent, out=hashed)
            np.right_shift(hashed, half, out=hashed)
            # (moved + hashed) modulo the extent: an unsigned difference below zero is larger than the sum.
            np.add(moved, hashed, out=moved)
            np.subtract(moved, extent, out=reduced)
            np.minimum(moved, reduced, out=moved)
    row *= grid.columns
    row += column
    return row


class Orders:
    """Endless sequences of items: every run of `size` positions of one is a permutation, a new one each epoch."""

    def __init__(self, sizes: Ints | int, keys: Words) -> None:
        """
        Args:
            sizes: how many items there are, for one sequence or for several.
            keys: what each sequence is a function of, hashed.
        """
        self.sizes: Ints = np.asarray(sizes, dtype=np.int64)
        self.keys = keys
        self._grids = Grid.of(self.sizes)

    def items(self, which: Any, positions: Ints) -> Ints:
        """The item at each of `positions` of the sequences `which` (an index array, or () for the only one)."""
        sizes = self.sizes[which]
        epochs = positions // sizes
        return permute(positions - epochs * sizes, self._grids[which], mix(self.keys[which] ^ epochs.astype(np.uint64)))
