"""Sharded training (`trainer=fsdp`): the gradients, weights and checkpoints of one device, and one reduction a step."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from tokenizers import Tokenizer
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from hybrid_retrieval.config import JobConfig
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.models.adapters import Lora, add_adapters
from hybrid_retrieval.models.checkpoint import read_checkpoint
from hybrid_retrieval.training.collate import PairBatch, TokenisedSet
from hybrid_retrieval.training.engine import Engine, sum_gradients
from hybrid_retrieval.training.fit import callbacks, prepare
from hybrid_retrieval.training.optimizers import AdamW, clip_gradients
from hybrid_retrieval.training.strategies import shard, sharded, whole
from tests.conftest import SMALL, Command
from tests.training.ragged import batch_of, gradients, info_nce, largest_difference, small_encoder
from tests.training.ranks import Ranks, counted
from tests.training.runs import assert_close_weights, assert_same_run, await_write, checkpoint, environment, finish, start

RANKS = 2
MANY, FEW = 160, 100_000
"""Chunk budgets: more chunks than ranks and not as many on each, and (of few pairs) one chunk for all ranks."""
REDUCTIONS = ("reduce_scatter_tensor", "reduce_scatter_single")
"""What torch's versions call it."""
COLLECTIVES = ("all_reduce", "all_gather", "all_gather_into_tensor", "all_gather_single", "broadcast", *REDUCTIONS)
LARGEST_NORM = 0.01
RECIPE = AdamW(lr=0.01, warmup=0.0, eps=1e-3)


@dataclass(frozen=True)
class Case:
    """An optimizer step of `batches` global batches."""

    budget: int = MANY
    cached: bool = False
    dropout: float = 0.0
    batches: int = 1
    loss: dict[str, Any] = field(default_factory=dict)
    recompute: bool = False
    lora: Lora | None = None

    def engine(self, tokenizer: Tokenizer) -> Engine:
        encoder = small_encoder(tokenizer, "tiny", self.dropout)
        if self.lora:
            add_adapters(encoder.backbone, self.lora)
        return Engine(encoder, info_nce(**self.loss), seed=5, cached=self.cached)

    def work(self, sets: list[TokenisedSet], rank: int = 0, ranks: int = 1) -> list[PairBatch]:
        pairs = 4 if self.budget == FEW else 16
        return [batch_of(sets, self.budget, step, rank, ranks, batch_size=pairs) for step in range(self.batches)]


CASES = {
    "plain": Case(),
    "cached": Case(cached=True),
    "few chunks": Case(budget=FEW),
    "few chunks cached": Case(budget=FEW, cached=True),
    "dropout": Case(dropout=0.1),
    "dropout cached": Case(dropout=0.1, cached=True),
    "dropout few chunks": Case(dropout=0.1, budget=FEW),
    "two batches": Case(dropout=0.1, batches=2),
    "two batches cached": Case(dropout=0.1, batches=2, cached=True, budget=FEW),
    "temperature": Case(loss={"directions": "both", "mask": "positive", "learn_temperature": True}, cached=True),
    "recomputed": Case(dropout=0.1, recompute=True),
    "lora": Case(dropout=0.1, lora=Lora(4, target_modules=["query", "value"]), cached=True),
    "lora bfloat16": Case(lora=Lora(4, target_modules=["query", "value"], frozen="bfloat16")),
}


@dataclass(frozen=True)
class Step:
    """What came of a case on a rank.

    Attributes:
        clipped, norm: the gradients after `clip_gradients`, and what it says their norm was.
        weights: after a step of the optimizer.
        calls: collectives, in order.
        chunks: of each batch.
    """

    loss: float
    gradients: dict[str, torch.Tensor]
    norm: float
    clipped: dict[str, torch.Tensor]
    weights: dict[str, torch.Tensor]
    calls: list[str]
    chunks: list[int]


def named(engine: Engine) -> dict[str, torch.nn.Parameter]:
    return {**dict(engine.encoder.named_parameters()), **dict(engine.loss.named_parameters())}


def full(value: torch.Tensor) -> torch.Tensor:
    return (value.full_tensor() if isinstance(value, DTensor) else value.to_dense()).detach().clone()


def take(case: Case, engine: Engine, batches: list[PairBatch]) -> Step:
    """A step of a case on this rank, with all that a training step does."""
    if case.recompute:  # its hooks do not travel to other processes
        engine.encoder.backbone.model.activation_checkpointing_enable({"use_reentrant": False})  # type: ignore[operator, union-attr]
    parameters = named(engine)
    optimizer, _ = RECIPE.configure(torch.nn.ModuleDict({"encoder": engine.encoder, "loss": engine.loss}), 10)
    torch.manual_seed(os.getpid())  # other random numbers do not matter
    with counted(COLLECTIVES) as calls:
        losses = [float(engine.step(batch, last=batch is batches[-1]).loss) for batch in batches]
        sum_gradients([value for value in parameters.values() if value.requires_grad])
    found = {name: full(value.grad) for name, value in parameters.items() if value.grad is not None}
    norm = float(clip_gradients(parameters.values(), LARGEST_NORM))
    clipped = {name: full(value.grad) for name, value in parameters.items() if value.grad is not None}
    optimizer.step()
    after = {name: full(value) for name, value in parameters.items()}
    names = [name for name, _ in calls]
    return Step(sum(losses), found, norm, clipped, after, names, [len(batch.chunks) for batch in batches])


def in_shards(rank: int, work: dict[str, tuple[Engine, list[PairBatch]]]) -> Outcome:
    """What comes of all cases on a rank, and what its share is."""
    steps = {}
    for name, (engine, batches) in work.items():
        shard(engine.encoder, "cpu")
        steps[name] = take(CASES[name], engine, batches)
    engine, _ = work["plain"]
    return steps, put_together_and_taken_apart(engine), shared_out(engine)


def put_together_and_taken_apart(engine: Engine) -> dict[str, bool]:
    """Of every parameter, whether the share that this rank takes of the whole is the share it has."""
    parameters = dict(engine.encoder.named_parameters())
    everything: list[Any] = [whole(parameters)]
    dist.broadcast_object_list(everything, 0)
    same = {}
    for name, parameter in parameters.items():
        again = sharded({"moment": everything[0][name].detach(), "step": torch.ones(())}, parameter)
        assert not isinstance(again["step"], DTensor)
        same[name] = torch.equal(again["moment"].to_local(), parameter.to_local())  # type: ignore[attr-defined]
    return same


def shared_out(engine: Engine) -> tuple[int, int]:
    """Elements that this rank keeps, and of all."""
    every = list(engine.encoder.parameters())
    return sum(one.to_local().numel() for one in every), sum(one.numel() for one in every)  # type: ignore[attr-defined]


Outcome = tuple[dict[str, Step], dict[str, bool], tuple[int, int]]


FAST = ("plain", "few chunks cached", "dropout cached", "two batches", "lora")
NAMES = [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in CASES]


@pytest.fixture(scope="module")
def cases(request: pytest.FixtureRequest) -> dict[str, Case]:
    """Those that a test asks for; the slow ones are left out with their tests."""
    asked = {item.callspec.params.get("name") for item in request.session.items if hasattr(item, "callspec")}
    return {name: case for name, case in CASES.items() if name in asked or name == "plain"}


@pytest.fixture(scope="module")
def alone(cases: dict[str, Case], ragged: list[TokenisedSet], tokenizer: Tokenizer) -> dict[str, Step]:
    """What one rank with whole weights makes of the cases."""
    return {name: take(case, case.engine(tokenizer), case.work(ragged)) for name, case in cases.items()}


@pytest.fixture(scope="module")
def together(cases: dict[str, Case], ragged: list[TokenisedSet], tokenizer: Tokenizer, two_ranks: Ranks) -> list[Outcome]:
    """What each of two ranks with shares makes of them."""
    work = [
        {name: (case.engine(tokenizer), case.work(ragged, rank, RANKS)) for name, case in cases.items()}
        for rank in range(RANKS)
    ]
    return two_ranks(in_shards, [(mine,) for mine in work])


@pytest.mark.parametrize("name", NAMES)
def test_shares_give_the_step_of_whole_weights(alone: dict[str, Step], together: list[Outcome], name: str) -> None:
    """Law 4, and what follows from the gradients: their norm, clipping and the update."""
    expected = alone[name]
    for found in (steps[name] for steps, _, _ in together):
        assert found.loss == pytest.approx(expected.loss, rel=1e-6)
        assert largest_difference(found.gradients, expected.gradients) < 1e-5
        assert found.norm == pytest.approx(expected.norm, rel=1e-5)
        assert expected.norm > 10 * LARGEST_NORM
        for one, other in ((found.clipped, expected.clipped), (found.weights, expected.weights)):
            for key, value in other.items():
                torch.testing.assert_close(one[key], value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_a_step_reduces_gradients_once_for_each_layer_and_for_the_rest(together: list[Outcome], name: str) -> None:
    """However many chunks and batches it has; and all ranks make the same calls, or they would wait for each other."""
    calls = [steps[name].calls for steps, _, _ in together]
    assert calls[0] == calls[1]
    assert sum(map(calls[0].count, REDUCTIONS)) == (2 if CASES[name].lora else 2 + 1)
    passed = [steps[name].chunks for steps, _, _ in together]
    assert (0 in passed[1]) == (CASES[name].budget == FEW)


def test_some_rank_has_fewer_chunks_than_another(together: list[Outcome]) -> None:
    """Or no pass would be idle."""
    counts = [steps["plain"].chunks[0] for steps, _, _ in together]
    assert max(counts) > min(counts) > 0


def test_each_rank_keeps_its_share_and_finds_it_again(together: list[Outcome]) -> None:
    kept = [sizes[0] for _, _, sizes in together]
    assert sum(kept) == together[0][2][1]
    assert max(kept) < 0.55 * sum(kept)
    for _, same, _ in together:
        assert same
        assert all(same.values())


def test_whole_weights_take_no_part(tokenizer: Tokenizer, ragged: list[TokenisedSet]) -> None:
    """Without sharding, `last` says nothing and no pass is idle."""
    case = CASES["plain"]
    found = []
    for last in (True, False):
        engine = case.engine(tokenizer)
        assert not isinstance(engine.encoder, FSDPModule)
        engine.step(case.work(ragged)[0], last=last)
        found.append(gradients(engine))
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["model=static"], "trainer.strategy=fsdp .* StaticBackbone"),
        (["model=tiny", "model.token_embeddings=sparse"], "model.token_embeddings=dense"),
        (["model=tiny", "trainer.precision=16-mixed"], "trainer.precision=16-mixed"),
    ],
)
def test_what_cannot_be_sharded_is_refused_in_one_line(job: Callable[..., JobConfig], settings: list[str], words: str) -> None:
    with pytest.raises(InputError, match=words) as refused:
        prepare(job("trainer=fsdp", *settings))
    assert "\n" not in str(refused.value)


def test_an_average_of_sharded_weights_is_refused(job: Callable[..., JobConfig], tmp_path: Path) -> None:
    config = job("trainer=fsdp", "model=tiny", "callbacks=[best,ema]")
    with pytest.raises(InputError, match=r"callbacks\.ema needs whole weights"):
        callbacks(config, tmp_path, prepare(config).data)


TINY = [
    *SMALL,
    *("model=tiny", "model.hidden=16", "model.layers=2", "model.vocabulary=800", "model.dropout=0.2"),
    *("optimizer.lr=0.01", "optimizer.eps=1e-3", "training.chunk_tokens=200", "training.grad_cache=true"),
]
FSDP = ["trainer=fsdp", *TINY, "trainer.devices=2"]


@pytest.mark.slow
def test_a_run_ends_as_on_one_device_and_is_scored(command: Command, tmp_path: Path) -> None:
    for name, settings in (("one", TINY), ("two", FSDP)):
        done = command("run", *settings, "trainer.accumulate_grad_batches=2", f"hydra.run.dir={name}")
        assert done.returncode == 0, done.stderr
    for which in ("last", "best"):
        assert_close_weights(tmp_path / "one", tmp_path / "two", which)
    metrics = [json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("one", "two")]
    assert metrics[1]["held_out/multilingual/map"] == pytest.approx(metrics[0]["held_out/multilingual/map"], abs=0.02)
    moments = [checkpoint(tmp_path / name)["optimizer_states"][0] for name in ("one", "two")]
    assert moments[0]["param_groups"] == moments[1]["param_groups"]
    for number, state in moments[0]["state"].items():
        assert {name: value.shape for name, value in state.items() if name != "row_steps"} == {
            name: value.shape for name, value in moments[1]["state"][number].items()
        }


@pytest.mark.slow
def test_a_run_that_was_ended_goes_on_bit_for_bit(command: Command, cache: Path, tmp_path: Path) -> None:
    settings = [*FSDP, "trainer.max_steps=60", "training.checkpoint_every=10", "trainer.val_check_interval=20", "resume=auto"]
    last = tmp_path / "ended" / "checkpoints" / "last.ckpt"
    process = start(cache, tmp_path, *settings, "hydra.run.dir=ended")
    await_write(last, process)
    process.terminate()
    assert finish(process)[0] == 143
    step = read_checkpoint(last)["global_step"]
    assert 10 <= step < 60
    for run in ("whole", "ended"):
        done = command("run", *settings, f"hydra.run.dir={run}")
        assert done.returncode == 0, done.stderr
    assert environment(tmp_path / "ended")["start_step"] == step
    assert_same_run(tmp_path / "whole", tmp_path / "ended")
