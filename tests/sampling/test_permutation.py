"""Laws of the computed permutations. Seeds are fixed and thresholds generous: a failure is a change of the code."""

import itertools
import math

import numpy as np
import pytest
from scipy.stats import chisquare

from hybrid_retrieval.hashing import mix
from hybrid_retrieval.sampling.permutation import LARGEST_SIZE, Grid, Orders, permute, uniform

CHANCE = 1e-4
LARGE = [99_999_989, 100_000_000, 2**27 + 1, 2**31 + 11, 5 * 10**9 + 7]
"""Pairs of a large set: a prime, a square, and sizes on either side of what 32 bits hold."""


def order(positions, size, *key):
    """One endless sequence."""
    return Orders(size, mix(*key)).items((), positions)


def one_epoch(size, key):
    return permute(np.arange(size), Grid.of(size), mix(key))


@pytest.mark.parametrize("size", [*range(1, 20), 63, 64, 65, 1000, 4096, 65_537, 1_000_003])
@pytest.mark.parametrize("key", [0, 1, 2**63 + 5])
def test_every_item_comes_once(size, key):
    assert np.array_equal(np.sort(one_epoch(size, key)), np.arange(size))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50, 1000])
def test_every_item_comes_once_in_words_of_64_bits(size):
    both = Orders(np.array([size, 2**33]), mix(4, np.arange(2)))
    epochs = both.items(np.zeros(5 * size, np.int64), np.arange(5 * size)).reshape(5, size)
    assert (np.sort(epochs, axis=1) == np.arange(size)).all()


def test_endless_positions_are_one_permutation_an_epoch_and_epochs_differ():
    size = 50
    epochs = order(np.arange(20 * size), size, 3).reshape(20, size)
    assert (np.sort(epochs, axis=1) == np.arange(size)).all()
    assert len({tuple(epoch) for epoch in epochs.tolist()}) == 20


def test_keys_give_different_orders():
    assert len({tuple(order(np.arange(30), 30, *key).tolist()) for key in itertools.product(range(4), repeat=3)}) == 64


def test_any_block_of_positions_gives_the_same_values():
    whole = order(np.arange(500), 70, 1, 2)
    assert np.array_equal(np.concatenate([order(np.arange(0, 133), 70, 1, 2), order(np.arange(133, 500), 70, 1, 2)]), whole)
    assert [int(order(np.array([position]), 70, 1, 2)[0]) for position in range(0, 500, 37)] == whole[::37].tolist()


@pytest.mark.parametrize("largest", [10**6, 2**31, LARGEST_SIZE])
def test_many_sequences_at_once_equal_one_at_a_time(largest):
    rng = np.random.default_rng(0)
    sizes = np.concatenate([np.arange(1, 40), rng.integers(1, largest, 60), [largest]])
    orders = Orders(sizes, mix(9, np.arange(len(sizes))))
    which = rng.integers(0, len(sizes), 2000)
    positions = rng.integers(0, 3 * sizes[which])
    together = orders.items(which, positions)
    assert ((together >= 0) & (together < sizes[which])).all()
    for sequence in range(len(sizes)):
        mine = which == sequence
        assert orders.items(sequence, positions[mine]).tolist() == together[mine].tolist()


@pytest.mark.parametrize("size", [2, 3, 4, 5, 6, 7, 13, 16, 17, 100])
def test_every_item_is_equally_likely_at_every_place(size):
    epochs = order(np.arange(30_000 * size), size, 12).reshape(-1, size)
    for place in (0, 1, size - 1):
        assert chisquare(np.bincount(epochs[:, place], minlength=size)).pvalue > CHANCE


def test_every_item_is_equally_likely_at_the_last_place_over_millions_of_epochs():
    """Where the network alone shows: on six items it favours some by a third of a per cent."""
    size = 6
    last = order(np.arange(6_000_000) * size + size - 1, size, 12)
    assert chisquare(np.bincount(last, minlength=size)).pvalue > CHANCE


@pytest.mark.parametrize("size", [2, 3, 4, 5, 6, 7, 8])
def test_whole_orders_of_few_items_are_nearly_equally_likely(size):
    trials = 200_000
    epochs = order(np.arange(trials * size), size, 5).reshape(-1, size)
    orders, counts = np.unique(epochs @ size ** np.arange(size), return_counts=True)
    expected = trials / math.factorial(size)
    squares = ((counts - expected) ** 2).sum() + (math.factorial(size) - len(orders)) * expected**2
    assert np.sqrt(max(0, squares / math.factorial(size) - expected)) / expected < 0.06


@pytest.mark.parametrize("size", [9, 12, 15, 16, 17, 20, 23])
def test_pairs_of_items_are_equally_likely_at_pairs_of_places(size):
    epochs = order(np.arange(40_000 * size), size, 2).reshape(-1, size)
    for one, other in ((0, 1), (0, size // 2), (1, size - 1), (3, 7)):
        pairs = np.bincount(epochs[:, one] * size + epochs[:, other], minlength=size**2).reshape(size, size)
        assert chisquare(pairs[~np.eye(size, dtype=bool)]).pvalue > CHANCE


@pytest.mark.parametrize("size", [5000, 4096, 100_003])
def test_neighbours_do_not_go_together(size):
    values = one_epoch(size, 1).astype(float)
    for lag in (1, 2, 3, 64, math.isqrt(size), math.isqrt(size) + 1):
        assert abs(np.corrcoef(values[:-lag], values[lag:])[0, 1]) < 5 / np.sqrt(size)
    steps = np.diff(values) % size
    assert chisquare(np.bincount((steps * 20 // size).astype(int), minlength=20)).pvalue > CHANCE


@pytest.mark.parametrize(("size", "start"), [(size, 31_415_926 * (place % 2)) for place, size in enumerate(LARGE)])
def test_a_stretch_of_a_large_order_looks_random(size, start):
    """The items of consecutive positions: evenly spread, high and low digits, and alone, in pairs and at a distance."""
    values = order(np.arange(start, start + 300_000), size, 6)
    assert len(np.unique(values)) == len(values)
    assert chisquare(np.bincount(values * 100 // size, minlength=100)).pvalue > CHANCE
    columns = int(Grid.of(size).columns)
    for divisor in (2, 3, 64, columns):
        counts = np.bincount(values % divisor % 97)
        sizes = np.bincount(np.arange(divisor) % 97)
        assert chisquare(counts, sizes / sizes.sum() * len(values)).pvalue > CHANCE
    tens = values * 10 // size
    for lag in (1, 2, 8, 9, 72, 100, 1024, columns - 1, columns, columns + 1, 65_536):
        together = np.bincount(tens[:-lag] * 10 + tens[lag:], minlength=100)
        assert chisquare(together).pvalue > CHANCE
        assert chisquare(np.bincount((values[lag:] - values[:-lag]) % size * 50 // size, minlength=50)).pvalue > CHANCE
        assert abs(np.corrcoef(values[:-lag], values[lag:])[0, 1]) < 5 / np.sqrt(len(values))
    ranked = np.sort(values)
    gaps = np.diff(ranked) / (size / len(values))
    assert abs((gaps > 1).mean() - np.exp(-1)) < 0.01  # those of points thrown at random


def test_epochs_and_neighbouring_keys_do_not_go_together():
    size = 5000
    orders = [one_epoch(size, key).astype(float) for key in range(8)]
    orders += list(order(np.arange(8 * size), size, 0).reshape(8, size).astype(float))
    off_diagonal = np.corrcoef(orders)[~np.eye(16, dtype=bool)]
    assert np.abs(off_diagonal).max() < 5 / np.sqrt(size)


def test_epochs_of_a_large_order_do_not_go_together():
    size, count = 100_000_007, 200_000
    first, second = (order(np.arange(epoch * size, epoch * size + count), size, 0) for epoch in (0, 1))
    tens = [part * 10 // size for part in (first, second)]
    assert chisquare(np.bincount(tens[0] * 10 + tens[1], minlength=100)).pvalue > CHANCE
    assert len(np.intersect1d(first, second)) < 2 * count**2 / size


@pytest.mark.parametrize("size", [1, 2, 3, 4, 72, 99, 10**8, 10**8 + 1, 2**31, LARGEST_SIZE])
def test_a_grid_holds_its_size_and_little_more(size):
    grid = Grid.of(size)
    places = int(grid.rows) * int(grid.columns)
    assert size <= places
    assert places - size <= max(int(grid.columns), 13)


def test_mix_depends_on_every_part_and_its_place():
    hashes = [int(mix(*parts)) for count in (1, 2, 3) for parts in itertools.product(range(6), repeat=count)]
    assert len(set(hashes)) == len(hashes)


def test_mix_takes_negative_and_large_integers():
    assert int(mix(-1)) == int(mix(2**64 - 1)) != int(mix(1))


def test_uniform_numbers_fill_the_unit_interval():
    draws = uniform(4, np.arange(100_000))
    assert 0 <= draws.min() < draws.max() < 1
    assert chisquare(np.histogram(draws, bins=50, range=(0, 1))[0]).pvalue > CHANCE
