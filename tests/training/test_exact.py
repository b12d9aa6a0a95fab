"""The one door: which Trainer arguments pass, what becomes of them, and that Lightning's own behaviour is what was replaced."""

from __future__ import annotations

import errno
import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning
import pytest
import torch

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.training import fit
from hybrid_retrieval.training.exact import WholeFiles, check_trainer, trainer_arguments
from hybrid_retrieval.training.strategies import Replicas, Shards
from tests.command_output import assert_one_line
from tests.conftest import SMALL, Command
from tests.training.runs import (
    DROPOUT,
    STATIC,
    TO_THE_END,
    Compose,
    Killed,
    assert_equal,
    assert_same_training,
    checkpoint,
    curve,
    ending,
    train,
    weights,
)

RIGHT = {"max_steps": 10}


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        ({"max_step": 1}, ["trainer.max_step", "did you mean 'max_steps'"]),
        ({"plugins": []}, ["trainer.plugins=[]", "this package's"]),
        ({"logger": True}, ["trainer.logger=True", "choose logger=NAME"]),
        ({"callbacks": []}, ["trainer.callbacks=[]", "choose callbacks=NAME"]),
        ({"check_val_every_n_epoch": 2}, ["trainer.check_val_every_n_epoch=2", "trainer.val_check_interval"]),
        ({"default_root_dir": "x"}, ["trainer.default_root_dir=x", "hydra.run.dir"]),
        ({"gradient_clip_algorithm": "value"}, ["trainer.gradient_clip_algorithm=value", "global norm"]),
        ({"sync_batchnorm": True}, ["trainer.sync_batchnorm=True"]),
        ({"max_steps": -1}, ["trainer.max_steps=-1"]),
        ({"max_steps": "many"}, ["trainer.max_steps='many'", "expected int"]),
        ({"accumulate_grad_batches": "two"}, ["trainer.accumulate_grad_batches='two'", "expected int"]),
        ({"max_epochs": 2}, ["trainer.max_epochs=2", "trainer.max_steps"]),
        ({"val_check_interval": 0.5}, ["trainer.val_check_interval=0.5", "number of batches"]),
        ({"val_check_interval": "00:00:15:00"}, ["trainer.val_check_interval=00:00:15:00", "number of batches"]),
        ({"strategy": "deepspeed"}, ["trainer.strategy=deepspeed", "law 4", "ddp, fsdp"]),
        ({"strategy": "ddp_find_unused_parameters_true"}, ["trainer.strategy=ddp_find", "law 4"]),
        ({"precision": "16-true"}, ["trainer.precision='16-true'", "32-true"]),
        ({"strategy": "fsdp", "precision": "16-mixed"}, ["trainer.precision=16-mixed", "bf16-mixed"]),
        ({"accelerator": "tpu"}, ["trainer.accelerator='tpu'", "gpu"]),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_would_break_a_law_is_refused_in_one_line_that_says_what_to_use(values: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(InputError) as refused:
        check_trainer({**RIGHT, **values})
    assert "\n" not in str(refused.value)
    for part in parts:
        assert part in str(refused.value)


@pytest.mark.parametrize(("strategy", "expected"), [("ddp", Replicas), ("auto", Replicas), ("fsdp", Shards)])
def test_stock_strategies_become_this_packages_own(strategy: str, expected: type) -> None:
    several = trainer_arguments({**RIGHT, "strategy": strategy}, 2)
    assert type(several["strategy"]) is expected
    assert several["use_distributed_sampler"] is False
    assert trainer_arguments({**RIGHT, "strategy": strategy}, 1)["strategy"] == "auto"


@pytest.mark.parametrize("name", sorted(set(lightning.Trainer.__init__.__annotations__) - {"return"}))
def test_every_argument_of_lightnings_trainer_is_passed_on_refused_or_ours(name: str) -> None:
    """Nothing is dropped without a word: a value comes through, or `exact` sets or refuses the argument."""
    ours = {"strategy", "deterministic", "accelerator", "precision", "max_steps", "val_check_interval"}
    for value in (True, 7, "text"):
        values = RIGHT if name in ours else {**RIGHT, name: value}
        try:
            check_trainer(values)
            come_through = name in ours or trainer_arguments(values, 1)[name] == value
        except InputError as refused:
            come_through = "cannot be set: " in str(refused) or "wrong type" in str(refused)
        assert come_through


def test_other_arguments_do_what_lightning_says(in_process: Command, job: Compose, tmp_path: Path) -> None:
    settings = ["trainer.detect_anomaly=true", "trainer.limit_train_batches=7", "trainer.max_time=00:01:00:00"]
    figures = train(job(*STATIC, *(f"++{one}" for one in settings), "+trainer.profiler=simple"), tmp_path)
    assert figures["steps"] == 7
    assert checkpoint(tmp_path)["global_step"] == 7
    refused = in_process("run", "trainer.barebones=true", "dataset=synthetic", "benchmark=held_out", "hydra.run.dir=run")
    assert_one_line(refused, "trainer.barebones=True cannot be set", "debug=profile")
    refused = in_process("run", *SMALL, "trainer.profiler=simpel", "hydra.run.dir=run")
    assert_one_line(refused, "trainer: ", "profiler", "simple")


@pytest.mark.parametrize("limit", [30, 0.5])
def test_limited_batches_are_the_runs_and_not_what_is_left_of_it(job: Compose, tmp_path: Path, limit: float) -> None:
    settings = [*STATIC, *TO_THE_END, f"++trainer.limit_train_batches={limit}"]
    train(job(*settings), tmp_path / "whole")
    for step in (9, 20):
        with pytest.raises(Killed):
            train(ending(job(*settings), "on_train_batch_end", step), tmp_path / "parts")
    assert train(job(*settings), tmp_path / "parts")["steps"] == (30 if limit == 30 else 32)
    assert_same_training(tmp_path / "whole", tmp_path / "parts")
    train(job(*settings), tmp_path / "parts")
    assert_same_training(tmp_path / "whole", tmp_path / "parts")


def test_a_sanity_check_leaves_no_trace(job: Compose, tmp_path: Path) -> None:
    """Embeddings of before training are no part of the first validation."""
    for number in (0, 2):
        train(job(*STATIC, f"++trainer.num_sanity_val_steps={number}"), tmp_path / str(number))
    assert_same_training(tmp_path / "0", tmp_path / "2")


def test_null_validates_once_at_the_end(job: Compose, tmp_path: Path) -> None:
    train(job(*STATIC, "trainer.val_check_interval=null"), tmp_path)
    assert list(curve(tmp_path, "val/loss")) == [11]


def test_accumulated_batches_are_one_step_of_their_mean(job: Compose, tmp_path: Path) -> None:
    """Half as many steps as batches; a step's gradient is the mean of its batches', clipped by its global norm afterwards."""
    settings = [*DROPOUT, "model.dropout=0", "trainer.max_steps=1", "trainer.gradient_clip_val=0.01"]
    found = {}
    for batches in (1, 2):
        prepared = fit.prepare(job(*settings, f"trainer.accumulate_grad_batches={batches}"))
        parts = [prepared.data.collate(step, prepared.data.train_batches.batch(step)) for step in range(batches)]
        engine = prepared.module.engine
        for part in parts:
            forward = engine.forward(part)
            engine.backward(forward, forward.loss / batches)
        gradients = [value.grad.to_dense() for value in prepared.module.parameters() if value.grad is not None]
        norm = float(torch.cat([gradient.flatten() for gradient in gradients]).norm())
        train(job(*settings, f"trainer.accumulate_grad_batches={batches}"), tmp_path / str(batches))
        assert curve(tmp_path / str(batches), "train/gradient_norm") == {0: pytest.approx(norm, rel=1e-4)}
        found[batches] = weights(tmp_path / str(batches))
    assert norm > 0.01
    assert any(not torch.equal(value, found[2][name]) for name, value in found[1].items())


def test_without_clipping_nothing_is_clipped(job: Compose, tmp_path: Path) -> None:
    for value in ("0", "1000", "null"):
        train(job(*STATIC, f"trainer.gradient_clip_val={value}"), tmp_path / value)
        assert bool(curve(tmp_path / value, "train/gradient_norm")) == (value == "1000")
    for value in ("0", "null"):
        assert_equal(weights(tmp_path / value), weights(tmp_path / "1000"))


@pytest.mark.parametrize(("gibibytes", "tokens"), [(4, 4096), (23.7, 8192), (39.5, 16384), (139.8, 65536)])
def test_a_gpu_takes_chunks_by_its_memory(monkeypatch: pytest.MonkeyPatch, gibibytes: float, tokens: int) -> None:
    card = SimpleNamespace(total_memory=int(gibibytes * 2**30))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: card)
    assert fit.chunk_tokens(torch.device("cuda")) == tokens


def test_what_depends_on_the_machine_is_settled_and_what_is_asked_for_is_kept(job: Compose) -> None:
    open_ = fit.settled(job("trainer.devices=auto"))
    assert (open_.trainer["devices"], open_.trainer["precision"], open_.training.chunk_tokens) == (1, "32-true", 2048)
    asked = job("training.chunk_tokens=123", "trainer.precision=bf16-mixed")
    assert fit.settled(asked) == asked
    assert fit.settled(open_) == open_


@pytest.mark.parametrize(
    ("fast", "precision", "said"), [(False, "bf16-mixed", 1), (True, "bf16-mixed", 0), (False, "32-true", 0)]
)
def test_a_processor_that_is_slow_at_a_precision_is_warned_of(
    job: Compose, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fast: bool, precision: str, said: int
) -> None:
    monkeypatch.setattr(fit, "fast_bfloat16", lambda: fast)
    fit.check_devices(job(f"trainer.precision={precision}", "trainer.accelerator=cpu"))
    assert sum("trainer.precision=bf16-mixed may be ten times as slow" in one for one in caplog.messages) == said


@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("room", [10, 100_000])  # torch tells a late fault from a first one
def test_whole_files_leave_nothing_behind_and_say_what_failed(
    fault: int, room: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(io.BytesIO):
        def write(self, part: Any) -> int:
            if self.tell() + len(part) > room:
                raise OSError(fault, "no more")
            return super().write(part)

    monkeypatch.setattr(Path, "open", lambda path, mode: path.touch() or Full())
    with pytest.raises(OSError, match="no more") as failed:
        WholeFiles().save_checkpoint({"weights": torch.zeros(1000, 1000)}, tmp_path / "last.ckpt")
    assert (failed.value.errno, failed.value.filename) == (fault, str(tmp_path / "last.ckpt"))
    assert not list(tmp_path.iterdir())


def test_an_error_that_is_not_of_the_disk_is_not_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="pickle") as failed:
        WholeFiles().save_checkpoint({"written": lambda: None}, tmp_path / "last.ckpt")
    assert not isinstance(failed.value, OSError)
    assert not list(tmp_path.iterdir())


def test_validation_batches_are_the_same_whatever_the_sampler(job: Compose) -> None:
    """Half of them monolingual; another seed draws others."""
    found = []
    for choice in ("sampler=x_x_mono", "sampler=x_y", "sampler=hybrid_within_batch", "sampler.batch_size=8", "seed=2"):
        drawn = fit.prepare(job(*STATIC, choice)).data.validation_pairs
        assert drawn is not None
        batches = [drawn.batch(number) for number in range(8)]
        monolingual = [(one.query_language == one.passage_language).mean() for one in batches]
        assert sorted(monolingual) == [0] * 4 + [1] * 4
        found.append([(one.edge.tolist(), one.query_language.tolist(), one.passage_language.tolist()) for one in batches])
    assert found[0] == found[1] == found[2] == found[3] != found[4]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_that_diverges_ends_at_once_and_keeps_a_good_checkpoint(command: Command, tmp_path: Path, workers: int) -> None:
    """With loader processes too."""
    to = ["trainer.max_steps=400", "training.checkpoint_every=1", "optimizer.warmup=0", "optimizer.lr=1e37"]
    done = command("run", *SMALL, *STATIC, *to, f"training.workers={workers}", "hydra.run.dir=run")
    assert_one_line(done, "training has diverged", "last.ckpt is of step", "lower optimizer.lr=1e+37")
    assert len((tmp_path / "run" / "telemetry.jsonl").read_text().splitlines()) < 20
    weights_of = checkpoint(tmp_path / "run")["state_dict"].values()
    assert all(bool(torch.isfinite(value).all()) for value in weights_of if value.is_floating_point())
