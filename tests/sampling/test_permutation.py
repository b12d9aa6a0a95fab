"""Laws of the computed permutations. Seeds are fixed and thresholds generous: a failure is a change of the code."""

import itertools
from collections import Counter

import numpy as np
import pytest
from scipy.stats import chisquare

from hybrid_retrieval.sampling.permutation import epoch_order, mix, permute, uniform

CHANCE = 1e-4


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 8, 9, 63, 64, 65, 1000, 4096, 65_537])
@pytest.mark.parametrize("key", [0, 1, 2**63 + 5])
def test_every_item_comes_once(size, key):
    assert sorted(permute(np.arange(size), size, key).tolist()) == list(range(size))


def test_endless_positions_are_one_permutation_an_epoch_and_epochs_differ():
    size = 50
    epochs = epoch_order(np.arange(20 * size), size, 3).reshape(20, size)
    assert (np.sort(epochs, axis=1) == np.arange(size)).all()
    assert len({tuple(epoch) for epoch in epochs.tolist()}) == 20


def test_keys_give_different_orders():
    assert len({tuple(epoch_order(np.arange(30), 30, *key).tolist()) for key in itertools.product(range(4), repeat=3)}) == 64


def test_any_block_of_positions_gives_the_same_values():
    whole = epoch_order(np.arange(500), 70, 1, 2)
    assert np.array_equal(
        np.concatenate([epoch_order(np.arange(0, 133), 70, 1, 2), epoch_order(np.arange(133, 500), 70, 1, 2)]), whole
    )
    assert [int(epoch_order(np.array([position]), 70, 1, 2)[0]) for position in range(0, 500, 37)] == whole[::37].tolist()


def test_sizes_and_keys_for_each_element_equal_scalar_calls():
    rng = np.random.default_rng(0)
    sizes = np.concatenate([np.arange(1, 40), rng.integers(1, 10**12, 60)])
    positions = rng.integers(0, sizes)
    keys = rng.integers(0, 2**63, len(sizes)).astype(np.uint64)
    one_by_one = [
        int(permute(np.array([position]), int(size), key)[0])
        for position, size, key in zip(positions, sizes, keys, strict=True)
    ]
    together = permute(positions, sizes, keys)
    assert together.tolist() == one_by_one
    assert ((together >= 0) & (together < sizes)).all()


@pytest.mark.parametrize("size", [2, 3, 4, 5, 6, 7, 13, 16, 17, 100])
def test_every_item_is_equally_likely_at_every_place(size):
    epochs = epoch_order(np.arange(10_000 * size), size, 11).reshape(-1, size)
    for place in (0, 1, size - 1):
        assert chisquare(np.bincount(epochs[:, place], minlength=size)).pvalue > CHANCE


@pytest.mark.parametrize("size", [3, 4, 5, 6])
def test_whole_orders_of_few_items_are_nearly_equally_likely(size):
    trials = 200_000
    epochs = epoch_order(np.arange(trials * size), size, 5).reshape(-1, size)
    seen = Counter(map(tuple, epochs.tolist()))
    counts = np.array([seen[order] for order in itertools.permutations(range(size))])
    expected = trials / len(counts)
    assert np.sqrt(max(0, counts.var() - expected)) / expected < 0.09


@pytest.mark.parametrize("size", [5000, 4096, 100_003])
def test_neighbours_do_not_go_together(size):
    order = permute(np.arange(size), size, 1).astype(float)
    for lag in (1, 2, 3, 64):
        assert abs(np.corrcoef(order[:-lag], order[lag:])[0, 1]) < 5 / np.sqrt(size)
    steps = np.diff(order) % size
    assert chisquare(np.bincount((steps * 20 // size).astype(int), minlength=20)).pvalue > CHANCE


def test_epochs_and_neighbouring_keys_do_not_go_together():
    size = 5000
    orders = [permute(np.arange(size), size, key).astype(float) for key in range(8)]
    orders += list(epoch_order(np.arange(8 * size), size, 0).reshape(8, size).astype(float))
    off_diagonal = np.corrcoef(orders)[~np.eye(16, dtype=bool)]
    assert np.abs(off_diagonal).max() < 5 / np.sqrt(size)


def test_mix_depends_on_every_part_and_its_place():
    hashes = [int(mix(*parts)) for count in (1, 2, 3) for parts in itertools.product(range(6), repeat=count)]
    assert len(set(hashes)) == len(hashes)


def test_mix_takes_negative_and_large_integers():
    assert int(mix(-1)) == int(mix(2**64 - 1)) != int(mix(1))


def test_uniform_numbers_fill_the_unit_interval():
    draws = uniform(4, np.arange(100_000))
    assert 0 <= draws.min() < draws.max() < 1
    assert chisquare(np.histogram(draws, bins=50, range=(0, 1))[0]).pvalue > CHANCE
