"""The chunk plan: every text once, the budget kept, little padding, the same for any number of devices."""

from __future__ import annotations

import numpy as np
import pytest

from hybrid_retrieval.models.chunks import CHUNK_COST, plan, shares

Lengths = np.ndarray


def lengths_of(kind: str, count: int = 300) -> Lengths:
    random = np.random.default_rng(7)
    return {
        "mixed": random.integers(1, 250, count),
        "alike": np.full(count, 40),
        "skewed": np.minimum(random.geometric(0.05, count), 256),
        "one long": np.array([5000, *random.integers(1, 60, count - 1)]),
        "one": np.array([17]),
        "ones": np.ones(count, np.int64),
    }[kind].astype(np.int64)


KINDS = ["mixed", "alike", "skewed", "one long", "one", "ones"]


def padded(chunks: list[np.ndarray], lengths: Lengths) -> np.ndarray:
    return np.array([len(chunk) * lengths[chunk].max() for chunk in chunks])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("budget", [1, 50, 1000, 8192, 10**9])
def test_every_text_is_in_one_chunk_and_chunks_keep_to_the_budget(kind: str, budget: int) -> None:
    lengths = lengths_of(kind)
    chunks = plan(lengths, budget)
    assert np.array_equal(np.sort(np.concatenate(chunks)), np.arange(len(lengths)))
    assert all(len(chunk) for chunk in chunks)
    for chunk, size in zip(chunks, padded(chunks, lengths), strict=True):
        assert size <= budget or len(chunk) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_longest_first_and_similar_lengths_together(kind: str) -> None:
    lengths = lengths_of(kind)
    chunks = plan(lengths, 1000)
    assert (np.diff(lengths[np.concatenate(chunks)]) <= 0).all()


def least_cost(ordered: Lengths, budget: int) -> float:
    """Padded tokens and the cost of chunks, by trying every cut."""
    best = np.zeros(len(ordered) + 1)
    for end in range(1, len(ordered) + 1):
        sizes = np.arange(end, 0, -1) * ordered[:end]
        allowed = sizes <= budget
        allowed[end - 1] = True
        best[end] = (best[:end] + sizes + CHUNK_COST * budget)[allowed].min()
    return float(best[-1])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("budget", [600, 8192, 10**9])
def test_padding_and_the_number_of_chunks_are_near_the_least_there_can_be(kind: str, budget: int) -> None:
    lengths = lengths_of(kind, 500)
    chunks = plan(lengths, budget)
    cost = padded(chunks, lengths).sum() + CHUNK_COST * budget * len(chunks)
    # A text much longer than the others makes the grain of the lengths coarse.
    assert cost <= (1.25 if kind == "one long" else 1.05) * least_cost(np.sort(lengths)[::-1], budget)


def test_no_texts_are_no_chunks() -> None:
    assert plan(np.empty(0, np.int64), 100) == []
    assert shares([], np.empty(0, np.int64), 2) == [[], []]


def test_texts_of_one_length_stay_in_order() -> None:
    assert np.concatenate(plan(np.full(50, 3), 30)).tolist() == list(range(50))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ranks", [1, 2, 4, 7])
def test_devices_share_all_chunks_and_about_evenly(kind: str, ranks: int) -> None:
    lengths = lengths_of(kind)
    chunks = plan(lengths, 400)
    taken = shares(chunks, lengths, ranks)
    assert len(taken) == ranks
    assert sorted(number for numbers in taken for number in numbers) == list(range(len(chunks)))
    assert all(numbers == sorted(numbers) for numbers in taken)
    sizes = padded(chunks, lengths)
    loads = [int(sizes[numbers].sum()) for numbers in taken]
    assert max(loads) - min(loads) <= sizes.max()
