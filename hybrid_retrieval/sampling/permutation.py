"""Keyed permutations of 0..n-1 that are computed, not stored: a Feistel network with cycle-walking.

The permuted value of any position is a few integer operations, in blocks, so that an order over 100 million pairs takes
no memory and no time to set up. (Black and Rogaway, "Ciphers with Arbitrary Finite Domains", 2002.) On five or six
items, where a Feistel network is weakest, every item is equally likely at every place and whole orders are equally likely
to within 7% (standard deviation; 25% and more with six rounds and without the rotation).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]

ROUNDS = 8
_ONE, _TWO = np.uint64(1), np.uint64(2)
_GOLDEN = 0x9E3779B97F4A7C15


def mix(*parts: int | Words | Ints) -> Words:
    """A 64-bit hash of integers or arrays of them (broadcast together); splitmix64 over each part in turn."""
    state: Words = np.zeros((), np.uint64)
    for part in parts:
        state = _scramble(state ^ np.asarray(part).astype(np.uint64))
    return state


def _scramble(words: Words) -> Words:
    """One step of splitmix64 from the state `words`."""
    with np.errstate(over="ignore"):
        words = words + np.uint64(_GOLDEN)
        words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return words ^ (words >> np.uint64(31))


def uniform(*parts: int | Words | Ints) -> npt.NDArray[np.float64]:
    """Numbers in [0, 1) as a function of integers."""
    return (mix(*parts) >> np.uint64(11)).astype(np.float64) / 2.0**53


def permute(positions: Ints, size: int | Ints, key: int | Words) -> Ints:
    """The image of each of `positions` (0..size-1) under the permutation of its size and key (one, or one for each)."""
    sizes = np.broadcast_to(np.asarray(size).astype(np.uint64), positions.shape)
    keys = np.broadcast_to(mix(key), positions.shape)
    bits: Words = np.maximum(2, np.frexp((sizes - _ONE).astype(np.float64))[1]).astype(np.uint64)
    # The rotation makes every item equally likely at every place, however small the network.
    values = _feistel((positions.astype(np.uint64) + keys % sizes) % sizes, keys, bits)
    outside = np.flatnonzero(values >= sizes)
    while len(outside):
        values[outside] = _feistel(values[outside], keys[outside], bits[outside])
        outside = outside[values[outside] >= sizes[outside]]
    return values.astype(np.int64)


def _feistel(values: Words, keys: Words, bits: Words) -> Words:
    """One pass over words of `bits` bits; the halves trade widths every round, and rounds are even."""
    narrow: Words = bits // _TWO
    wide: Words = bits - narrow
    narrow_mask: Words = (_ONE << narrow) - _ONE
    wide_mask: Words = (_ONE << wide) - _ONE
    for number in range(ROUNDS):
        if number % 2 == 0:
            right_bits, right_mask, left_mask = narrow, narrow_mask, wide_mask
        else:
            right_bits, right_mask, left_mask = wide, wide_mask, narrow_mask
        right: Words = values & right_mask
        round_key = keys ^ np.uint64(number << 56)
        left: Words = (values >> right_bits) ^ (_scramble(round_key ^ right) & left_mask)
        values = left | (right << (bits - right_bits))
    return values


def epoch_order(positions: Ints, size: int | Ints, *key: int | Ints | Words) -> Ints:
    """Item at each of endless `positions`: every run of `size` positions is one permutation, a new one each epoch."""
    return permute(positions % size, size, mix(*key, positions // size))
