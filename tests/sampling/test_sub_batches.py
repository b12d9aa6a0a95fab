"""A global batch of sub-batches is the concatenation of the sampler's own smaller batches."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.sampling.batch import PairIndices
from hybrid_retrieval.sampling.sampler import Sampler
from hybrid_retrieval.values import build
from tests.sampling import brute_force

AVAILABLE = brute_force.build(brute_force.full(["aa", "bb", "cc"], 100)).available
NAMES = ["sampler.XX", "sampler.XY", "sampler.XXMono", "hybrid.Hybrid", "hybrid.HybridWithinBatch"]


def same(left: PairIndices, right: PairIndices) -> bool:
    return all(np.array_equal(getattr(left, field.name), getattr(right, field.name)) for field in dataclasses.fields(left))


@pytest.mark.parametrize("name", NAMES)
def test_a_global_batch_is_consecutive_smaller_ones(name: str) -> None:
    available = AVAILABLE
    target = {"_target_": f"hybrid_retrieval.sampling.{name}"}
    whole = build({**target, "batch_size": 24, "sub_batches": 3}, Sampler, "sampler").compose(available, 5, steps=40)
    parts = build({**target, "batch_size": 8}, Sampler, "sampler").compose(available, 5, steps=120)
    for step in (0, 1, 7, 39):
        expected = PairIndices.join([parts.batch(3 * step + number) for number in range(3)])
        assert len(expected) == 24
        assert same(whole.batch(step), expected)


def test_monolingual_sub_batches_have_one_language_each() -> None:
    node = {"_target_": "hybrid_retrieval.sampling.sampler.XXMono", "batch_size": 24, "sub_batches": 3}
    composer = build(node, Sampler, "sampler").compose(AVAILABLE, 1)
    several = 0
    for step in range(10):
        languages = composer.batch(step).query_language.reshape(3, 8)
        assert (languages == languages[:, :1]).all()
        several += len(set(languages[:, 0].tolist())) > 1
    assert several


def test_sizes_that_do_not_divide_are_refused() -> None:
    node = {"_target_": "hybrid_retrieval.sampling.sampler.XY", "batch_size": 100, "sub_batches": 8}
    with pytest.raises(InputError, match=r"sampler.batch_size=100 .* sampler.sub_batches=8; the nearest sizes are 96 or 104"):
        build(node, Sampler, "sampler")
