"""Law 4: N ranks give the loss and the gradients of one rank, with and without GradCache, with and without dropout."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer

from hybrid_retrieval.training.collate import PairBatch, TokenisedSet
from hybrid_retrieval.training.engine import BLOCK_SCORES, Engine, sum_gradients
from tests.training.ragged import DIMENSIONS, batch_of, gradients, info_nce, largest_difference, of_data, small_encoder
from tests.training.ranks import Ranks, counted

MANY, FEW = 80, 100_000
"""Chunk budgets: more chunks than ranks, and (of few pairs) one chunk for all ranks."""
COLLECTIVES = ("all_reduce", "all_gather", "all_gather_into_tensor", "reduce_scatter", "broadcast", "all_to_all")
BOTH = {"directions": "both", "mask": "positive", "learn_temperature": True}


@dataclass(frozen=True)
class Case:
    """A step; `blocks`: similarities at once."""

    kind: str = "tiny"
    budget: int = MANY
    cached: bool = False
    dropout: float = 0.0
    loss: dict[str, Any] = field(default_factory=dict)
    sides: tuple[str, str] = ("query", "passage")
    blocks: int = BLOCK_SCORES

    def engine(self, tokenizer: Tokenizer) -> Engine:
        encoder = small_encoder(tokenizer, self.kind, self.dropout)
        loss = of_data(**self.loss) if "weight" in self.loss else info_nce(**self.loss)
        return Engine(encoder, loss, seed=5, cached=self.cached, block_scores=self.blocks)

    def batch(self, sets: list[TokenisedSet], rank: int = 0, ranks: int = 1) -> PairBatch:
        return batch_of(sets, self.budget, 3, rank, ranks, sides=self.sides, batch_size=self.pairs)

    @property
    def pairs(self) -> int:
        return 4 if self.budget == FEW else 16


CASES = {
    "static": Case("static", 0),
    "static cached": Case("static", 0, cached=True),
    "static both ways": Case("static", 0, loss=BOTH, blocks=100),
    "static two passages": Case("static", 0, loss={"pool": "other_languages"}, sides=("passage", "passage")),
    "transformer": Case(),
    "transformer cached": Case(cached=True),
    "transformer few chunks": Case(budget=FEW),
    "transformer few chunks cached": Case(budget=FEW, cached=True),
    "transformer both ways": Case(loss={**BOTH, "hard_negatives": 1}, cached=True, blocks=100),
    "transformer scores": Case(loss={"weight": 0.7}, blocks=100),
    "transformer scores cached": Case(loss={"weight": 0.7}, cached=True, blocks=100),
    "dropout": Case(dropout=0.1),
    "dropout cached": Case(dropout=0.1, cached=True),
    "dropout few chunks": Case(dropout=0.1, budget=FEW),
    "dropout few chunks cached": Case(dropout=0.1, budget=FEW, cached=True),
    "dropout both ways cached": Case(dropout=0.1, loss={**BOTH, "dimensions": [4, 16]}, cached=True),
}


@dataclass(frozen=True)
class Step:
    """What came of a case on a rank.

    Attributes:
        sparse: parameters whose gradient is row-sparse.
        calls: collectives, in order, with the elements that each sends.
    """

    loss: float
    accuracy: float
    gradients: dict[str, torch.Tensor]
    sparse: set[str]
    calls: list[tuple[str, int]]
    chunks: int


def take(rank: int, work: dict[str, tuple[Engine, PairBatch]]) -> dict[str, Step]:
    """One step of each case on this rank."""
    found = {}
    for case, (engine, batch) in work.items():
        torch.manual_seed(os.getpid())  # other random numbers do not matter
        with counted(COLLECTIVES) as calls:
            figures = engine.step(batch)
            named = [*engine.encoder.named_parameters(), *engine.loss.named_parameters()]
            sum_gradients([value for _, value in named if value.requires_grad])
        sparse = {name for name, value in named if value.grad is not None and value.grad.is_sparse}
        outcome = float(figures.loss), float(figures.accuracy), gradients(engine), sparse
        found[case] = Step(*outcome, calls, len(batch.chunks))
    return found


@pytest.fixture(scope="module")
def alone(ragged: list[TokenisedSet], tokenizer: Tokenizer) -> dict[str, Step]:
    """What one rank makes of the cases."""
    return take(0, {name: (case.engine(tokenizer), case.batch(ragged)) for name, case in CASES.items()})


@pytest.fixture(scope="module", params=["two_ranks", pytest.param("four_ranks", marks=pytest.mark.slow)])
def together(request: pytest.FixtureRequest, ragged: list[TokenisedSet], tokenizer: Tokenizer) -> list[dict[str, Step]]:
    """What each of several ranks makes of them."""
    ranks: Ranks = request.getfixturevalue(request.param)
    work = [
        {name: (case.engine(tokenizer), case.batch(ragged, rank, ranks.count)) for name, case in CASES.items()}
        for rank in range(ranks.count)
    ]
    return ranks(take, [(mine,) for mine in work])


@pytest.mark.parametrize("name", CASES)
def test_several_ranks_equal_one(alone: dict[str, Step], together: list[dict[str, Step]], name: str) -> None:
    expected = alone[name]
    for found in (steps[name] for steps in together):
        assert found.loss == pytest.approx(expected.loss, rel=1e-6)
        assert found.accuracy == pytest.approx(expected.accuracy, abs=1e-6)
        assert found.sparse == expected.sparse
        assert largest_difference(found.gradients, expected.gradients) < 1e-5
    chunks = [steps[name].chunks for steps in together]
    if CASES[name].budget:
        assert sum(chunks) == expected.chunks
        assert chunks.count(0) == (len(together) - 1 if CASES[name].budget == FEW else 0)
    assert len(expected.sparse) == 1


def test_the_cases_differ(alone: dict[str, Step]) -> None:
    """Dropout, chunks and settings of the loss do something."""
    losses = {name: round(step.loss, 4) for name, step in alone.items()}
    for name, loss in losses.items():
        same = {name, name.removesuffix(" cached"), f"{name} cached"}
        if "dropout" not in name:  # without it, chunks are exact
            same |= {one for one in losses if one.startswith("transformer") and not re.search("both|scores", one + name)}
        assert {one for one, other in losses.items() if other == loss} <= same


def test_gradients_are_synchronised_once_a_step(together: list[dict[str, Step]], alone: dict[str, Step]) -> None:
    """As many collectives for any number of chunks, and every parameter's gradient in one of them."""
    for steps in together:
        for name, step in steps.items():
            dense = sum(value.numel() for key, value in step.gradients.items() if key not in step.sparse)
            reduced = [size for kind, size in step.calls if kind == "all_reduce"]
            assert reduced[0] == 3 * CASES[name].pairs * DIMENSIONS  # gradients of embeddings
            # Whether a parameter has a gradient, and of what kind; then the gradients.
            last = [len(step.gradients), *([dense] if dense else [])]
            assert reduced[-len(last) :] == last
            assert sum(reduced[1 : -len(last)]) < 20  # figures to log
            gathered = [kind for kind, _ in step.calls if kind != "all_reduce"]
            assert gathered == ["all_gather"] * (1 + 3 * len(step.sparse))
        shapes = [[kind for kind, _ in steps[name].calls] for name in ("transformer", "transformer few chunks cached")]
        assert shapes[0] == shapes[1]
    assert alone["transformer"].chunks > 10 > alone["transformer few chunks"].chunks == 1
