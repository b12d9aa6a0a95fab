"""InfoNCE equals its formula written as a loop, and no candidate that answers a query is ever its negative (law 3)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.losses.infonce import InfoNCE
from hybrid_retrieval.losses.masks import PassageIds, QueryIds, answering

PAIRS, HARD, DIMENSIONS = 7, 2, 5


def random_ids(seed: int, pairs: int = PAIRS, hard: int = HARD) -> tuple[QueryIds, PassageIds]:
    """Ids as a batch has them, drawn from few values so that all kinds of coincidence happen.

    Two pairs may share a question, a passage group (translations), a passage text (duplicates) or an answer; hard negatives
    may be answers of other queries; some places of hard negatives are filling.
    """
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, 9, pairs)
    more = np.where(rng.random((pairs, 2)) < 0.3, rng.integers(0, 9, (pairs, 2)), -1)
    keys = 100 + rng.integers(0, 12, pairs * (1 + hard))
    query_keys = 200 + rng.integers(0, 10, pairs)
    negatives = np.where(rng.random(pairs * hard) < 0.3, -1, rng.integers(0, 15, pairs * hard))
    as_tensor = torch.from_numpy
    of_queries = QueryIds(as_tensor(query_keys), as_tensor(np.concatenate([groups[:, None], more], 1)), as_tensor(keys[:pairs]))
    of_passages = PassageIds(
        as_tensor(np.concatenate([groups, negatives])),
        as_tensor(keys),
        as_tensor(np.concatenate([query_keys, np.full(pairs * hard, -1)])),
    )
    return of_queries, of_passages


def vectors(seed: int, count: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return nn.functional.normalize(torch.randn(count, DIMENSIONS, dtype=torch.float64, generator=generator), dim=-1)


def is_answer(queries: QueryIds, passages: PassageIds, i: int, j: int) -> bool:
    """Law 3, in words: a translation or another answer (by group), a duplicate text, or it came with the same question."""
    return (
        (passages.group[j].item() >= 0 and passages.group[j].item() in queries.answers[i].tolist())
        or passages.key[j].item() == queries.answer_key[i].item()
        or passages.query_key[j].item() == queries.key[i].item()
    )


def loop(scores: list[list[float]], answers: Any, empty: list[bool], mode: str) -> list[float]:
    """The formula, candidate by candidate."""
    losses = []
    for i, row in enumerate(scores):
        candidates = [j for j in range(len(row)) if not empty[j]]
        known = {j for j in candidates if answers(i, j)} | {i}
        negatives = [j for j in candidates if j != i and (mode == "keep" or j not in known)]
        positives = sorted(known) if mode == "positive" else [i]
        total = sum(math.exp(row[j]) for j in negatives)
        losses.append(-sum(math.log(math.exp(row[p]) / (math.exp(row[p]) + total)) for p in positives) / len(positives))
    return losses


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("mode", ["ignore", "positive", "keep"])
def test_both_directions_equal_the_formula(mode: str, seed: int) -> None:
    of_queries, of_passages = random_ids(seed)
    queries, passages = vectors(seed, PAIRS), vectors(seed + 100, PAIRS * (1 + HARD))
    loss = InfoNCE(temperature=0.2, mask=mode, directions="both", hard_negatives=HARD).double()
    loss.log_temperature.data.fill_(math.log(0.2))
    own = torch.arange(PAIRS)
    scores = (queries @ passages.T / 0.2).tolist()
    expected = loop(scores, lambda i, j: is_answer(of_queries, of_passages, i, j), (of_passages.group < 0).tolist(), mode)
    found = loss(queries, passages, of_queries, of_passages, own)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-10, atol=1e-10)

    mine = PassageIds(of_passages.group[:PAIRS], of_passages.key[:PAIRS], of_passages.query_key[:PAIRS])
    scores = (passages[:PAIRS] @ queries.T / 0.2).tolist()
    expected = loop(scores, lambda i, j: is_answer(of_queries, mine, j, i), [False] * PAIRS, mode)
    found = loss.reverse(passages[:PAIRS], queries, of_queries, mine, own)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-10, atol=1e-10)


def test_own_passages_may_lie_anywhere_among_the_candidates() -> None:
    """As after gathering: the pairs of rank 1 have their own passages behind those of rank 0."""
    of_queries, of_passages = random_ids(3, hard=0)
    queries, passages = vectors(1, PAIRS), vectors(2, PAIRS)
    loss = InfoNCE(temperature=0.3)
    whole = loss(queries, passages, of_queries, of_passages, torch.arange(PAIRS))
    part = QueryIds(of_queries.key[4:], of_queries.answers[4:], of_queries.answer_key[4:])
    torch.testing.assert_close(loss(queries[4:], passages, part, of_passages, torch.arange(4, PAIRS)), whole[4:])


@pytest.mark.parametrize("seed", range(20))
def test_no_answer_is_a_negative_and_every_other_candidate_is_one(seed: int) -> None:
    of_queries, of_passages = random_ids(seed)
    known = answering(of_queries, of_passages)
    loss = InfoNCE(temperature=0.2, mask="ignore")
    own = torch.arange(PAIRS)
    queries, passages = vectors(seed, PAIRS), vectors(seed + 100, PAIRS * (1 + HARD))
    before = loss(queries, passages, of_queries, of_passages, own)
    for j in range(len(passages)):
        moved = passages.clone()
        moved[j] = vectors(seed + 1000 + j, 1)[0]
        changed = loss(queries, moved, of_queries, of_passages, own) != before
        for i in range(PAIRS):
            assert bool(known[i, j]) == is_answer(of_queries, of_passages, i, j)
            is_negative = of_passages.group[j] >= 0 and not is_answer(of_queries, of_passages, i, j)
            assert bool(changed[i]) == (i == j or bool(is_negative))


def distinct_ids(count: int) -> tuple[QueryIds, PassageIds]:
    number = torch.arange(count)
    return QueryIds(number, number[:, None], 100 + number), PassageIds(number, 100 + number, number)


def test_keep_is_cross_entropy_over_the_batch_whatever_the_ids() -> None:
    of_queries, of_passages = random_ids(5, hard=0)
    queries, passages = vectors(1, PAIRS), vectors(2, PAIRS)
    found = InfoNCE(temperature=0.05, mask="keep")(queries, passages, of_queries, of_passages, torch.arange(PAIRS))
    expected = nn.functional.cross_entropy(queries @ passages.T / 0.05, torch.arange(PAIRS), reduction="none")
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    masked = InfoNCE(temperature=0.05, mask="ignore")(queries, passages, of_queries, of_passages, torch.arange(PAIRS))
    assert (masked <= found + 1e-9).all()
    assert (masked < found - 1e-6).any()


@pytest.mark.parametrize("mask", ["keep", "ignore", "positive"])
def test_without_coincidences_it_is_sentence_transformers_loss(mask: str) -> None:
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    class Given(nn.Module):
        def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
            return features

    queries, passages = vectors(1, 9).float(), vectors(2, 27).float()
    theirs = MultipleNegativesRankingLoss(Given(), scale=20.0)  # type: ignore[arg-type]
    parts = [queries, *passages.split(9)]
    expected = theirs([{"sentence_embedding": part} for part in parts], torch.empty(0))
    of_queries, of_passages = distinct_ids(9)
    more = torch.arange(1000, 1018)
    of_passages = PassageIds(
        torch.cat([of_passages.group, more]),
        torch.cat([of_passages.key, more]),
        torch.cat([of_passages.query_key, torch.full((18,), -1)]),
    )
    found = InfoNCE(temperature=1 / 20, mask=mask)(queries, passages, of_queries, of_passages, torch.arange(9))
    torch.testing.assert_close(found.mean(), expected)


@pytest.mark.parametrize("mode", ["ignore", "positive", "keep"])
def test_a_query_without_negatives_has_no_loss_and_finite_gradients(mode: str) -> None:
    """All pairs of the batch are translations of one pair, at the sharpest temperature; the rest is filling."""
    same = torch.zeros(4, dtype=torch.int64)
    of_queries = QueryIds(same, same[:, None], same)
    group = torch.cat([same, torch.full((4,), -1)])
    of_passages = PassageIds(group, torch.zeros(8, dtype=torch.int64), torch.cat([same, torch.full((4,), -1)]))
    queries = vectors(1, 4).float().requires_grad_()
    passages = vectors(2, 8).float().requires_grad_()
    loss = InfoNCE(temperature=0.01, learn_temperature=True, mask=mode, directions="both", hard_negatives=1)
    forward = loss(queries, passages, of_queries, of_passages, torch.arange(4))
    mine = PassageIds(of_passages.group[:4], of_passages.key[:4], of_passages.query_key[:4])
    backward = loss.reverse(passages[:4], queries, of_queries, mine, torch.arange(4))
    (forward + backward).sum().backward()
    for gradient in (queries.grad, passages.grad, loss.log_temperature.grad):
        assert gradient is not None
        assert torch.isfinite(gradient).all()
    assert passages.grad is not None
    assert (passages.grad[4:] == 0).all()
    if mode != "keep":
        assert (forward == 0).all()
        assert (backward == 0).all()


def test_a_learned_temperature_has_the_gradient_of_the_formula() -> None:
    of_queries, of_passages = random_ids(4)
    queries, passages = vectors(3, PAIRS), vectors(4, PAIRS * (1 + HARD))

    def value(log_temperature: float) -> float:
        loss = InfoNCE(temperature=0.2).double()
        loss.log_temperature.data.fill_(log_temperature)
        return float(loss(queries, passages, of_queries, of_passages, torch.arange(PAIRS)).mean().detach())

    loss = InfoNCE(temperature=0.2, learn_temperature=True).double()
    loss.log_temperature.data.fill_(math.log(0.2))
    loss(queries, passages, of_queries, of_passages, torch.arange(PAIRS)).mean().backward()
    step = 1e-5
    slope = (value(math.log(0.2) + step) - value(math.log(0.2) - step)) / (2 * step)
    assert loss.log_temperature.grad is not None
    assert float(loss.log_temperature.grad) == pytest.approx(slope, rel=1e-6)
    assert not InfoNCE(temperature=0.2).log_temperature.requires_grad


def test_a_learned_temperature_stops_at_its_bound_and_can_leave_it() -> None:
    loss = InfoNCE(temperature=0.02, learn_temperature=True)
    loss.log_temperature.data.fill_(math.log(0.001))
    assert float(loss.temperature.detach()) == pytest.approx(0.01)
    of_queries, of_passages = distinct_ids(6)
    loss(vectors(1, 6), vectors(2, 6), of_queries, of_passages, torch.arange(6)).mean().backward()
    assert loss.log_temperature.grad is not None
    assert float(loss.log_temperature.grad) != 0


def test_a_fixed_temperature_is_used_as_it_is_given() -> None:
    assert float(InfoNCE(temperature=0.004).temperature) == pytest.approx(0.004)
    assert float(InfoNCE(temperature=1.0).temperature) == 1.0
    with pytest.raises(InputError, match=r"loss\.temperature=0\.004 is learned"):
        InfoNCE(temperature=0.004, learn_temperature=True)


def test_scores_are_float32_under_autocast() -> None:
    of_queries, of_passages = distinct_ids(30)
    queries, passages = vectors(1, 30).float(), vectors(2, 30).float()
    loss = InfoNCE(temperature=0.02)
    plain = loss(queries, passages, of_queries, of_passages, torch.arange(30))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = loss(queries, passages, of_queries, of_passages, torch.arange(30))
    torch.testing.assert_close(mixed, plain)
    half = queries.bfloat16(), passages.bfloat16()
    found = loss(*half, of_queries, of_passages, torch.arange(30))
    expected = loss(half[0].float(), half[1].float(), of_queries, of_passages, torch.arange(30))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"temperature": 0.0}, r"loss\.temperature=0\.0"),
        ({"mask": "ignored"}, r"loss\.mask='ignored'.*'ignore'"),
        ({"directions": "all"}, r"loss\.directions='all'"),
        ({"hard_negatives": -1}, r"loss\.hard_negatives=-1"),
    ],
)
def test_bad_values_are_refused_by_name(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        InfoNCE(**values)
