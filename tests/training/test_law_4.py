"""Law 4: N ranks give the loss and the gradients of one rank, with and without GradCache, with and without dropout.

Each number of ranks is one process group, started once, that goes through all cases.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
import torch.distributed as dist
from hybrid_retrieval.training.batches import PairBatch, TokenisedSet
from hybrid_retrieval.training.contrast import Engine
from hybrid_retrieval.training.gather import sum_gradients
from tokenizers import Tokenizer
from torch.multiprocessing.spawn import spawn

from hybrid_retrieval.models import chunks
from hybrid_retrieval.training import contrast
from tests.training.conftest import DIMENSIONS, batch_of, gradients, info_nce, largest_difference, small_encoder

MANY, FEW = 80, 100_000
"""Chunk budgets: more chunks than ranks, and one chunk for all ranks."""
BOTH = {"directions": "both", "mask": "positive", "learn_temperature": True}
PATIENCE = timedelta(seconds=120)


@dataclass(frozen=True)
class Case:
    """A step; `blocks`: similarities at once."""

    kind: str = "tiny"
    budget: int = MANY
    cached: bool = False
    dropout: float = 0.0
    loss: dict[str, Any] = field(default_factory=dict)
    sides: tuple[str, str] = ("query", "passage")
    blocks: int = contrast.BLOCK_SCORES

    def engine(self, tokenizer: Tokenizer) -> Engine:
        return Engine(small_encoder(tokenizer, self.kind, self.dropout), info_nce(**self.loss), seed=5, cached=self.cached)

    def batch(self, sets: list[TokenisedSet], rank: int = 0, ranks: int = 1) -> PairBatch:
        with patch.object(chunks, "CHUNK_COST", 10**6 if self.budget == FEW else 1):
            return batch_of(sets, self.budget, step=3, rank=rank, ranks=ranks, sides=self.sides)


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


def take(case: Case, engine: Engine, batch: PairBatch, calls: list[tuple[str, int]]) -> Step:
    """One step of a case on this rank."""
    contrast.BLOCK_SCORES = case.blocks
    calls.clear()
    torch.manual_seed(os.getpid())  # other random numbers do not matter
    figures = engine.step(batch)
    named = [*engine.encoder.named_parameters(), *engine.loss.named_parameters()]
    sum_gradients([value for _, value in named if value.requires_grad])
    sparse = {name for name, value in named if value.grad is not None and value.grad.is_sparse}
    return Step(float(figures.loss), float(figures.accuracy), gradients(engine), sparse, list(calls), len(batch.chunks))


def one_rank(rank: int, ranks: int, port: int, folder: Path) -> None:
    """Goes through all cases and writes what came of them."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=ranks, timeout=PATIENCE)
    calls: list[tuple[str, int]] = []
    for name in ("all_reduce", "all_gather", "all_gather_into_tensor", "reduce_scatter", "broadcast", "all_to_all"):
        setattr(dist, name, counted(getattr(dist, name), name, calls))
    work = torch.load(folder / f"{ranks}-{rank}.work", weights_only=False)
    steps = {name: take(CASES[name], engine, batch, calls) for name, (engine, batch) in work.items()}
    torch.save(steps, folder / f"{ranks}-{rank}.done")
    dist.barrier()
    # Not through destructors: a gloo thread that still drops its work wants the interpreter's lock, which the main thread
    # holds while it joins that thread.
    os._exit(0)


def counted(collective: Callable[..., Any], name: str, calls: list[tuple[str, int]]) -> Callable[..., Any]:
    """The collective, which also writes down that it was called."""

    def call(*arguments: Any, **settings: Any) -> Any:
        sent = arguments[1] if name.startswith("all_gather") else arguments[0]
        calls.append((name, sent.numel()))
        return collective(*arguments, **settings)

    return call


@pytest.fixture(scope="module")
def alone(ragged: list[TokenisedSet], tokenizer: Tokenizer) -> Iterator[dict[str, Step]]:
    """What one rank makes of the cases."""
    whole = contrast.BLOCK_SCORES
    yield {name: take(case, case.engine(tokenizer), case.batch(ragged), []) for name, case in CASES.items()}
    contrast.BLOCK_SCORES = whole


@pytest.fixture(scope="module", params=[2, 4], ids=lambda ranks: f"{ranks} ranks")
def together(
    request: pytest.FixtureRequest,
    ragged: list[TokenisedSet],
    tokenizer: Tokenizer,
    tmp_path_factory: pytest.TempPathFactory,
) -> list[dict[str, Step]]:
    """What each of several ranks makes of them."""
    ranks, folder = request.param, tmp_path_factory.mktemp("ranks")
    for rank in range(ranks):
        work = {name: (case.engine(tokenizer), case.batch(ragged, rank, ranks)) for name, case in CASES.items()}
        torch.save(work, folder / f"{ranks}-{rank}.work")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spawn(one_rank, (ranks, port, folder), nprocs=ranks)  # type: ignore[no-untyped-call]
    return [torch.load(folder / f"{ranks}-{rank}.done", weights_only=False) for rank in range(ranks)]


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
            same |= {one for one in losses if one.startswith("transformer") and "both" not in one + name}
        assert {one for one, other in losses.items() if other == loss} <= same


def test_gradients_are_synchronised_once_a_step(together: list[dict[str, Step]], alone: dict[str, Step]) -> None:
    """As many collectives for any number of chunks, and every parameter's gradient in one of them."""
    for steps in together:
        for step in steps.values():
            dense = sum(value.numel() for key, value in step.gradients.items() if key not in step.sparse)
            reduced = [size for kind, size in step.calls if kind == "all_reduce"]
            assert reduced[0] == 48 * DIMENSIONS  # gradients of embeddings
            # Whether a parameter has a gradient, and of what kind; then the gradients.
            last = [len(step.gradients), *([dense] if dense else [])]
            assert reduced[-len(last) :] == last
            assert sum(reduced[1 : -len(last)]) < 20  # figures to log
            gathered = [kind for kind, _ in step.calls if kind != "all_reduce"]
            assert gathered == ["all_gather"] * (1 + 3 * len(step.sparse))
        shapes = [[kind for kind, _ in steps[name].calls] for name in ("transformer", "transformer few chunks cached")]
        assert shapes[0] == shapes[1]
    assert alone["transformer"].chunks > 10 > alone["transformer few chunks"].chunks == 1
