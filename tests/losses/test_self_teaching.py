"""Self-teaching by hand: a perturbed query learns the distribution of its clean self, which does not move."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from hybrid_retrieval.losses.infonce import InfoNCE
from hybrid_retrieval.losses.loss import EmbeddedPairs
from tests.losses.oracles import ALL, DIMENSIONS, PAIRS, random_pairs, vectors

NOISY = [0, 2, 3, 6]
WEIGHT, TEMPERATURE = 0.7, 0.2


def info_nce(**settings: Any) -> InfoNCE:
    loss = InfoNCE(**{"temperature": TEMPERATURE, "self_teaching": WEIGHT, **settings})
    loss.bind(DIMENSIONS, ["aa", "bb", "cc"])
    return loss.double()


def with_noise(seed: int = 3) -> EmbeddedPairs:
    """A batch of which some queries came perturbed too."""
    known = torch.zeros(PAIRS, dtype=torch.bool).index_fill(0, torch.tensor(NOISY), True)
    return replace(random_pairs(seed), perturbed=vectors(9, PAIRS) * known[:, None], is_perturbed=known)


def leaves(pairs: EmbeddedPairs) -> tuple[EmbeddedPairs, list[Tensor]]:
    assert pairs.perturbed is not None
    found = [one.clone().requires_grad_() for one in (pairs.queries, pairs.passages, pairs.perturbed)]
    return replace(pairs, queries=found[0], passages=found[1], perturbed=found[2]), found


def by_hand(pairs: EmbeddedPairs) -> Tensor:
    """The sum over perturbed queries of KL(clean || perturbed), over the passages that are no filling."""
    assert pairs.perturbed is not None
    total = torch.zeros((), dtype=torch.float64)
    there = [j for j in range(len(pairs.passages)) if pairs.of_passages.group[j] >= 0]
    for i in NOISY:
        clean = torch.stack([pairs.queries[i].detach() @ pairs.passages[j].detach() for j in there]) / TEMPERATURE
        noisy = torch.stack([pairs.perturbed[i] @ pairs.passages[j] for j in there]) / TEMPERATURE
        p, q = clean.exp() / clean.exp().sum(), noisy.exp() / noisy.exp().sum()
        total = total + sum(p[n] * (p[n] / q[n]).log() for n in range(len(there)))
    return total


def test_value_and_gradients_are_those_of_the_definition() -> None:
    pairs, wanted = leaves(with_noise())
    scored = info_nce()(pairs, ALL)
    contrast = info_nce(self_teaching=0.0)(pairs, ALL).loss.sum()
    (of_contrast,) = torch.autograd.grad(contrast, wanted[:1], retain_graph=True)
    expected = contrast + WEIGHT * by_hand(pairs)
    torch.testing.assert_close(scored.loss.sum(), expected)
    found = torch.autograd.grad(scored.loss.sum(), wanted)
    torch.testing.assert_close(found, torch.autograd.grad(expected, wanted))
    assert torch.equal(found[0], of_contrast), "the clean query only teaches"
    clean = [at for at in range(PAIRS) if at not in NOISY]
    assert not found[2][clean].any()
    assert found[2][NOISY].abs().sum(1).min() > 1e-4
    assert (scored.figures["self_teaching"] > 0).tolist() == [at in NOISY for at in range(PAIRS)]
    torch.testing.assert_close(scored.figures["self_teaching"].sum(), by_hand(pairs).detach())


@pytest.mark.parametrize("dimensions", [None, {2: 1.0, DIMENSIONS: 0.5}], ids=["whole", "matryoshka"])
def test_blocks_of_queries_sum_to_the_whole(dimensions: Any) -> None:
    loss = info_nce(dimensions=dimensions, learn_temperature=True)
    pairs, wanted = leaves(with_noise())
    parameters = [*wanted, loss.log_temperature]
    whole = torch.autograd.grad(loss(pairs, ALL).loss.sum(), parameters)
    cuts = [slice(a, b) for a, b in itertools.pairwise([0, 1, 3, 7])]
    parts = [torch.autograd.grad(loss(pairs, rows).loss.sum(), parameters) for rows in cuts]
    torch.testing.assert_close(tuple(map(sum, zip(*parts, strict=True))), whole)
    alone = info_nce(dimensions=dimensions, learn_temperature=True, self_teaching=0.0)
    contrast = torch.autograd.grad(alone(pairs, ALL).loss.sum(), alone.log_temperature)[0]
    torch.testing.assert_close(whole[-1], contrast), "a learned temperature learns from the contrast alone"


def test_a_query_that_is_as_it_was_teaches_nothing_and_without_noise_nothing_changes() -> None:
    same = replace(with_noise(), perturbed=with_noise().queries)
    scored = info_nce()(same, ALL)
    torch.testing.assert_close(scored.figures["self_teaching"], torch.zeros(PAIRS, dtype=torch.float64))
    plain = random_pairs(3)
    assert torch.equal(info_nce()(plain, ALL).loss, info_nce(self_teaching=0.0)(plain, ALL).loss)
