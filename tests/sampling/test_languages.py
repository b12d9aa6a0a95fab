"""How often options are drawn: exact shares, cycle by cycle, whatever the calls."""

import numpy as np
import pytest

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.sampling.languages import GRAIN, Choice, cycle_counts, largest_remainder, probabilities

SHARES = {
    "one": [1.0],
    "one of three": [0, 1.0, 0],
    "equal": [0.25, 0.25, 0.25, 0.25],
    "equal with a gap": [0.5, 0, 0.5],
    "one twice": [0.25, 0.5, 0.25],
    "ratio": [1 / 12, 6 / 12, 2 / 12, 3 / 12],
    "no ratio": [0.123456789, 0.3, 0.576543211],
}


@pytest.fixture(params=SHARES.values(), ids=SHARES)
def shares(request):
    return np.array(request.param)


def test_uniform_weights_skip_empty_options():
    assert probabilities([10, 0, 1000], "uniform").tolist() == [0.5, 0, 0.5]


def test_size_weights_are_proportional():
    assert probabilities([10, 0, 30], "size").tolist() == [0.25, 0, 0.75]


def test_temperature_one_is_size_and_a_high_one_is_nearly_uniform():
    sizes = [10, 0, 1000]
    assert probabilities(sizes, 1).tolist() == probabilities(sizes, "size").tolist()
    assert np.allclose(probabilities(sizes, 2), np.array([10**0.5, 0, 1000**0.5]) / (10**0.5 + 1000**0.5))
    assert np.allclose(probabilities(sizes, 1e9), probabilities(sizes, "uniform"))


@pytest.mark.parametrize("how", ["unifrom", 0.5, 0, -1, True, float("nan"), None])
def test_an_unknown_weighting_names_its_key_and_value(how):
    with pytest.raises(InputError, match=r"sampler\.language_choice=.*" + str(how)):
        probabilities([1, 2], how)


def test_a_cycle_is_the_shortest_with_the_exact_shares():
    assert cycle_counts(np.array(SHARES["equal with a gap"])).tolist() == [1, 0, 1]
    assert cycle_counts(np.array(SHARES["ratio"])).tolist() == [1, 6, 2, 3]
    assert cycle_counts(np.full(156, 1 / 156)).tolist() == [1] * 156
    counts = cycle_counts(np.array(SHARES["no ratio"]))
    assert counts.sum() == GRAIN
    assert np.abs(counts - np.array(SHARES["no ratio"]) * GRAIN).max() < 1


def test_largest_remainder_sums_to_the_total_and_drops_no_option():
    rng = np.random.default_rng(0)
    for _ in range(50):
        shares = rng.dirichlet(np.full(9, 10))
        counts = largest_remainder(shares, 1000)
        assert counts.sum() == 1000
        assert np.abs(counts - shares * 1000).max() < 1
    assert largest_remainder(np.array([1 - 1e-9, 1e-9, 0]), 100).tolist() == [100, 1, 0]


def test_every_cycle_has_the_exact_counts(shares):
    choice = Choice(shares, 7)
    for cycle in range(3):
        options, _ = choice.draw(cycle * choice.cycle, choice.cycle)
        assert np.bincount(options, minlength=len(shares)).tolist() == choice.counts.tolist()
    assert np.abs(choice.counts / choice.cycle - shares).max() < 1 / GRAIN


def test_turns_equal_the_count_of_earlier_draws(shares):
    choice = Choice(shares, 7)
    options, turns = choice.draw(0, 300)
    seen = [0] * len(shares)
    for option, turn in zip(options.tolist(), turns.tolist(), strict=True):
        assert turn == seen[option]
        seen[option] += 1


def test_any_split_of_a_range_gives_the_same_sequence(shares):
    whole = np.stack(Choice(shares, 7).draw(0, 400))
    rng = np.random.default_rng(1)
    choice = Choice(shares, 7)
    for _ in range(100):
        start, stop = np.sort(rng.integers(0, 401, 2)).tolist()
        assert np.array_equal(np.stack(choice.draw(start, stop - start)), whole[:, start:stop])


def test_a_long_cycle_goes_on_across_its_end():
    shares = np.array(SHARES["no ratio"])
    across = np.stack(Choice(shares, 7).draw(GRAIN - 50, 100))
    choice = Choice(shares, 7)
    parts = [np.stack(choice.draw(start, 25)) for start in (GRAIN + 25, GRAIN - 50, GRAIN, GRAIN - 25)]
    assert np.array_equal(across, np.concatenate([parts[1], parts[3], parts[2], parts[0]], axis=1))


def test_keys_and_cycles_are_shuffled_differently():
    shares = np.full(8, 1 / 8)
    cycles = {tuple(Choice(shares, key).draw(8 * cycle, 8)[0].tolist()) for key in range(10) for cycle in range(10)}
    assert len(cycles) > 90
