"""InfoNCE equals its formula written as a loop, and no candidate that answers a query is ever its negative (law 3)."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.losses.candidates import answering
from hybrid_retrieval.losses.infonce import InfoNCE
from hybrid_retrieval.losses.loss import EmbeddedPairs, PassageIds, QueryIds
from tests.losses.oracles import ALL, HARD, PAIRS, both_loops, distinct_ids, exact, is_answer, random_pairs, vectors

MODES = ["ignore", "positive", "keep"]
POOLS = ["all", "same_language", "other_languages"]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("mode", MODES)
def test_both_directions_equal_the_formula(mode: str, pool: str, seed: int) -> None:
    pairs = random_pairs(seed)
    forth, back = both_loops(pairs, 0.2, mode, pool)
    one = exact(InfoNCE(mask=mode, pool=pool, hard_negatives=HARD), 0.2)
    torch.testing.assert_close(one(pairs, ALL).loss, forth, rtol=1e-10, atol=1e-10)
    both = exact(InfoNCE(mask=mode, pool=pool, hard_negatives=HARD, directions="both"), 0.2)
    torch.testing.assert_close(both(pairs, ALL).loss, (forth + back) / 2, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("pool", POOLS)
def test_a_pool_changes_the_loss_and_pools_part_the_negatives(pool: str) -> None:
    """exp of the loss less one is the sum over negatives: that over all is that over both halves."""
    pairs = random_pairs(3)
    sums = {name: exact(InfoNCE(pool=name), 0.5)(pairs, ALL).loss.exp() - 1 for name in POOLS}
    torch.testing.assert_close(sums["all"], sums["same_language"] + sums["other_languages"])
    assert (sums[pool] > 0).any()
    assert pool == "all" or (sums[pool] < sums["all"] - 1e-6).any()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("seed", range(4))
def test_a_hit_is_no_negative_nearer_than_the_own_passage(seed: int, mode: str) -> None:
    pairs = random_pairs(seed)
    scores = pairs.queries @ pairs.passages.T
    for i, hit in enumerate(InfoNCE(mask=mode)(pairs, ALL).hit.tolist()):
        negatives = [
            j
            for j in range(len(pairs.passages))
            if j != i and pairs.of_passages.group[j] >= 0 and (mode == "keep" or not is_answer(pairs, i, j))
        ]
        assert hit == all(scores[i, i] >= scores[i, j] for j in negatives)


@pytest.mark.parametrize("seed", range(20))
def test_no_answer_is_a_negative_and_every_other_candidate_is_one(seed: int) -> None:
    pairs = random_pairs(seed)
    known = answering(pairs.of_queries, pairs.of_passages)
    loss = InfoNCE(temperature=0.2, mask="ignore")
    before = loss(pairs, ALL).loss
    for j in range(len(pairs.passages)):
        moved = pairs.passages.clone()
        moved[j] = vectors(seed + 1000 + j, 1)[0]
        changed = loss(replace(pairs, passages=moved), ALL).loss != before
        for i in range(PAIRS):
            assert bool(known[i, j]) == is_answer(pairs, i, j)
            is_negative = pairs.of_passages.group[j] >= 0 and not is_answer(pairs, i, j)
            assert bool(changed[i]) == (i == j or bool(is_negative))


def test_keep_is_cross_entropy_over_the_batch_whatever_the_ids() -> None:
    pairs = random_pairs(5, hard=0)
    found = InfoNCE(temperature=0.05, mask="keep")(pairs, ALL).loss
    expected = nn.functional.cross_entropy(pairs.queries @ pairs.passages.T / 0.05, torch.arange(PAIRS), reduction="none")
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    masked = InfoNCE(temperature=0.05, mask="ignore")(pairs, ALL).loss
    assert (masked <= found + 1e-9).all()
    assert (masked < found - 1e-6).any()


@pytest.mark.parametrize("mask", MODES)
def test_without_coincidences_it_is_sentence_transformers_loss(mask: str) -> None:
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    class Given(nn.Module):
        def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
            return features

    queries, passages = vectors(1, 9).float(), vectors(2, 27).float()
    theirs = MultipleNegativesRankingLoss(Given(), scale=20.0)  # type: ignore[arg-type]
    parts = [queries, *passages.split(9)]
    expected = theirs([{"sentence_embedding": part} for part in parts], torch.empty(0))
    of_queries, own = distinct_ids(9)
    more, nothing = torch.arange(1000, 1018), torch.full((18,), -1)
    columns = zip((own.group, own.key, own.query_key, own.language), (more, more, nothing, torch.zeros(18)), strict=True)
    of_passages = PassageIds(*(torch.cat([first, second.long()]) for first, second in columns))
    found = InfoNCE(temperature=1 / 20, mask=mask)(EmbeddedPairs(queries, passages, of_queries, of_passages), slice(0, 9))
    torch.testing.assert_close(found.loss.mean(), expected)


@pytest.mark.parametrize("mode", MODES)
def test_a_query_without_negatives_has_no_loss_and_finite_gradients(mode: str) -> None:
    """All pairs of the batch are translations of one pair, at the sharpest temperature; the rest is filling."""
    same, filling = torch.zeros(4, dtype=torch.int64), torch.full((4,), -1)
    both = torch.zeros(8, dtype=torch.int64)
    of_queries = QueryIds(same, same[:, None], same, same)
    of_passages = PassageIds(torch.cat([same, filling]), both, torch.cat([same, filling]), both)
    queries = vectors(1, 4).float().requires_grad_()
    passages = vectors(2, 8).float().requires_grad_()
    loss = InfoNCE(temperature=0.01, learn_temperature=True, mask=mode, directions="both", hard_negatives=1)
    found = loss(EmbeddedPairs(queries, passages, of_queries, of_passages), slice(0, 4)).loss
    found.sum().backward()
    for gradient in (queries.grad, passages.grad, loss.log_temperature.grad):
        assert gradient is not None
        assert torch.isfinite(gradient).all()
    assert passages.grad is not None
    assert (passages.grad[4:] == 0).all()
    assert mode == "keep" or (found == 0).all()


def test_a_learned_temperature_has_the_gradient_of_the_formula() -> None:
    pairs = random_pairs(4)

    def value(log_temperature: float) -> float:
        loss = exact(InfoNCE(), math.exp(log_temperature))
        return float(loss(pairs, ALL).loss.mean().detach())

    loss = exact(InfoNCE(temperature=0.2, learn_temperature=True), 0.2)
    loss(pairs, ALL).loss.mean().backward()
    step = 1e-5
    slope = (value(math.log(0.2) + step) - value(math.log(0.2) - step)) / (2 * step)
    assert loss.log_temperature.grad is not None
    assert float(loss.log_temperature.grad) == pytest.approx(slope, rel=1e-6)
    assert not InfoNCE(temperature=0.2).log_temperature.requires_grad


def test_a_learned_temperature_stops_at_its_bound_and_can_leave_it() -> None:
    loss = InfoNCE(temperature=0.02, learn_temperature=True)
    loss.log_temperature.data.fill_(math.log(0.001))
    assert float(loss.figures()["temperature"]) == float(loss.divisor.detach()) == pytest.approx(0.01)
    loss(EmbeddedPairs(vectors(1, 6), vectors(2, 6), *distinct_ids(6)), slice(0, 6)).loss.mean().backward()
    assert loss.log_temperature.grad is not None
    assert float(loss.log_temperature.grad) != 0


def test_a_fixed_temperature_is_used_as_it_is_given() -> None:
    assert float(InfoNCE(temperature=0.004).divisor) == pytest.approx(0.004)
    assert float(InfoNCE(temperature=1.0).divisor) == 1.0
    with pytest.raises(InputError, match=r"loss\.temperature=0\.004 is learned"):
        InfoNCE(temperature=0.004, learn_temperature=True)


def test_scores_are_float32_under_autocast() -> None:
    pairs = EmbeddedPairs(vectors(1, 30).float(), vectors(2, 30).float(), *distinct_ids(30))
    loss, rows = InfoNCE(temperature=0.02), slice(0, 30)
    plain = loss(pairs, rows).loss
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = loss(pairs, rows).loss
    torch.testing.assert_close(mixed, plain)
    half = replace(pairs, queries=pairs.queries.bfloat16(), passages=pairs.passages.bfloat16())
    found = loss(half, rows).loss
    expected = loss(replace(half, queries=half.queries.float(), passages=half.passages.float()), rows).loss
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"temperature": 0.0}, r"loss\.temperature=0\.0"),
        ({"mask": "ignored"}, r"loss\.mask='ignored'.*'ignore'"),
        ({"pool": "same_lang"}, r"loss\.pool='same_lang'.*'same_language'"),
        ({"directions": "all"}, r"loss\.directions='all'"),
        ({"hard_negatives": -1}, r"loss\.hard_negatives=-1"),
        ({"margin": -0.1}, r"loss\.margin=-0\.1"),
    ],
)
def test_bad_values_are_refused_by_name(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        InfoNCE(**values)
