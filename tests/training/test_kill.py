"""Laws 1 and 6: training that is ended at any point and gone on with from its last checkpoint is the training never ended.

Here in one process: what ends training is an exception that nothing handles, and leaves on the disk what a kill would leave.
`tests/training/test_resume.py` kills real processes.
"""

from __future__ import annotations

import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from hybrid_retrieval.errors import Terminated
from hybrid_retrieval.models.checkpoint import read_checkpoint
from hybrid_retrieval.training.exact import WholeFiles
from tests.training.runs import (
    DROPOUT,
    STATIC,
    STOPS_EARLY,
    TO_THE_END,
    Compose,
    Killed,
    assert_equal,
    assert_same_training,
    checkpoint,
    curve,
    decided,
    ending,
    logged,
    train,
)

ADAPTIVE = ["sampler.schedule.kind=adaptive", *(f"+sampler.schedule.{key}" for key in ("delay=3", "margin=0", "change=0.25"))]
EVERYTHING = [
    *DROPOUT,
    *ADAPTIVE,
    *(
        "callbacks=[best,early_stopping,ema]",
        "callbacks.ema.decay=0.8",
        "trainer.accumulate_grad_batches=2",
        "training.grad_cache=true",
    ),
    *("trainer.max_steps=40", "trainer.val_check_interval=10", "training.checkpoint_every=5"),
]
"""Validation every 5 steps of two batches each."""


CASES = {
    "static, early stopping": ([*STATIC, *STOPS_EARLY], 5),
    "transformer with dropout": ([*DROPOUT, *TO_THE_END], 10),
    "adaptive ratio, averages, accumulation, GradCache": (EVERYTHING, 5),
}
STATIC_CASE, DROPOUT_CASE, EVERY_CASE = CASES


@pytest.mark.parametrize(
    ("how", "case"),
    [
        ("kill", STATIC_CASE),
        pytest.param("terminate", STATIC_CASE, marks=pytest.mark.slow),
        ("kill", EVERY_CASE),
        pytest.param("terminate", DROPOUT_CASE, marks=pytest.mark.slow),
        pytest.param("kill", DROPOUT_CASE, marks=pytest.mark.slow),
        pytest.param("terminate", EVERY_CASE, marks=pytest.mark.slow),
    ],
)
def test_ended_again_and_again_equals_never_ended_bit_for_bit(job: Compose, tmp_path: Path, how: str, case: str) -> None:
    settings, every = CASES[case]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(job(*settings), whole)
    stop = checkpoint(whole)["global_step"]
    middle = stop // every // 2 * every
    after_batch, after_validation, before_step = "on_train_batch_end", "on_validation_end", "on_train_batch_start"
    started = []
    for hook, step in (
        *((after_batch, 3), (after_batch, every), (after_validation, middle), (before_step, middle)),
        *((after_batch, middle + 3), (after_validation, stop // every * every - every), (after_batch, stop)),
    ):
        with pytest.raises((Killed, Terminated)):
            train(ending(job(*settings), hook, step, how), parts)
        if (parts / "checkpoints" / "last.ckpt").exists():
            started.append(checkpoint(parts)["global_step"])
        if how == "terminate":
            assert started[-1] in (step, step + 1)
    figures = train(job(*settings), parts)
    assert figures["start_step"] == started[-1] > started[0] > 0
    assert_same_training(whole, parts)


def test_the_best_is_chosen_and_patience_counted_as_by_hand(job: Compose, tmp_path: Path) -> None:
    """Against the logged curve: Lightning's own callbacks, stopped where the measure fell twice in a row."""
    figures = train(job(*STATIC, *STOPS_EARLY), tmp_path)
    scores = list(curve(tmp_path, "val/crosslingual/map").values())
    best = max(range(len(scores)), key=lambda index: (scores[index], -index))
    assert len(scores) == best + 1 + 2 > 3
    assert checkpoint(tmp_path)["global_step"] == 5 * len(scores) < 200
    assert checkpoint(tmp_path, "best")["global_step"] == 5 * (best + 1)
    states = decided(checkpoint(tmp_path))
    assert float(states["EarlyStopping"]["best_score"]) == pytest.approx(scores[best])
    assert states["EarlyStopping"]["wait_count"] == 2
    assert figures["best_score"] == pytest.approx(scores[best])


@pytest.mark.parametrize("settings", [STOPS_EARLY, TO_THE_END], ids=["stopped early", "at the end"])
def test_a_trained_run_is_trained_no_further(job: Compose, tmp_path: Path, settings: list[str]) -> None:
    """What is killed while it is scored goes on with scoring."""
    train(job(*STATIC, *settings), tmp_path)
    before, rows = checkpoint(tmp_path), logged(tmp_path)
    figures = train(job(*STATIC, *settings), tmp_path)
    after = checkpoint(tmp_path)
    assert figures["steps"] == after["global_step"] == before["global_step"]
    assert_equal(after["state_dict"], before["state_dict"])
    assert_equal(decided(after), decided(before))
    assert logged(tmp_path) == rows


def test_sigterm_while_the_last_step_is_taken_is_not_forgotten(job: Compose, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Terminated):
        train(ending(job(), "on_train_batch_end", 12, "terminate"), tmp_path)
    assert checkpoint(tmp_path)["global_step"] == 12
    assert signal.getsignal(signal.SIGTERM) is before


def test_validation_has_no_influence_on_training(job: Compose, tmp_path: Path) -> None:
    settings = [*DROPOUT, "trainer.max_steps=12"]
    for name, more in (
        ("often", ["trainer.val_check_interval=3"]),
        ("once", ["trainer.val_check_interval=12"]),
        ("never", ["training.validation_batches=0", "training.validation_queries=0"]),
    ):
        train(job(*settings, *more), tmp_path / name)
    for name in ("once", "never"):
        assert_equal(checkpoint(tmp_path / name)["state_dict"], checkpoint(tmp_path / "often")["state_dict"])


def test_checkpoints_come_at_the_stated_steps_best_before_last(
    job: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[tuple[str, int]] = []
    original = WholeFiles.save_checkpoint

    def save(self: WholeFiles, content: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        written.append((Path(path).stem, content["global_step"]))
        original(self, content, path, storage_options)

    monkeypatch.setattr(WholeFiles, "save_checkpoint", save)
    train(job("trainer.max_steps=14", "training.checkpoint_every=4", "trainer.val_check_interval=8"), tmp_path)
    assert written == [("last", 4), ("best", 8), ("last", 8), ("last", 12), ("last", 14)]
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt", "checksums.json"}


def test_checkpoints_hold_plain_types(job: Compose, tmp_path: Path) -> None:
    train(job(), tmp_path)

    def plain(value: Any) -> bool:
        if isinstance(value, dict):
            return all(plain(key) and plain(item) for key, item in value.items())
        if isinstance(value, (list, tuple)):
            return all(map(plain, value))
        return value is None or type(value) in (bool, int, float, str, torch.Tensor)

    for which in ("best", "last"):
        content = torch.load(tmp_path / "checkpoints" / f"{which}.ckpt", weights_only=True)
        for key, value in content.items():
            assert plain(dict(value) if hasattr(value, "items") else value), key


def test_a_write_that_is_broken_off_leaves_the_checkpoint_of_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "last.ckpt"
    content = {"global_step": 1, "state_dict": {}, "hyper_parameters": {}}
    WholeFiles().save_checkpoint(content, path)

    def broken(content: Any, part: Any) -> None:
        part.write(b"half")
        raise Killed

    monkeypatch.setattr(torch, "save", broken)
    with pytest.raises(Killed):
        WholeFiles().save_checkpoint({**content, "global_step": 2}, path)
    assert sorted(found.name for found in tmp_path.iterdir()) == ["checksums.json", "last.ckpt"]
    assert read_checkpoint(path) == content


def test_an_adaptive_ratio_goes_on_from_the_journal_in_the_checkpoint(job: Compose, tmp_path: Path) -> None:
    settings = [*STATIC, *ADAPTIVE, "trainer.max_steps=40", "trainer.val_check_interval=5", "training.checkpoint_every=5"]
    train(job(*settings), tmp_path / "whole")
    for step in (12, 27):
        with pytest.raises(Killed):
            train(ending(job(*settings), "on_train_batch_end", step), tmp_path / "parts")
    train(job(*settings), tmp_path / "parts")
    assert_same_training(tmp_path / "whole", tmp_path / "parts")
    journals = [checkpoint(tmp_path / name)["HybridDataModule"]["journal"] for name in ("whole", "parts")]
    assert journals[0] == journals[1]
    assert len({decision["alpha"] for decision in journals[0]}) > 1


@pytest.mark.slow
def test_loader_processes_change_nothing_on_resume(job: Compose, tmp_path: Path) -> None:
    settings = [*STATIC, *TO_THE_END]
    train(job(*settings), tmp_path / "whole")
    with pytest.raises(Terminated):
        train(ending(job(*settings), "on_train_batch_end", 30, "terminate"), tmp_path / "parts")
    train(job(*settings, "training.workers=2"), tmp_path / "parts")
    assert_same_training(tmp_path / "whole", tmp_path / "parts")


def test_a_run_directory_that_was_moved_goes_on_and_leaves_its_copy_alone(job: Compose, tmp_path: Path) -> None:
    """Lightning's own checkpoint callback would forget the best figure, and delete the best checkpoint of the copy."""
    settings = [*STATIC, *STOPS_EARLY]
    train(job(*settings), tmp_path / "whole")
    stop = checkpoint(tmp_path / "whole")["global_step"]
    with pytest.raises(Killed):
        train(ending(job(*settings), "on_train_batch_end", stop), tmp_path / "here")
    kept = (tmp_path / "here" / "checkpoints" / "best.ckpt").read_bytes()
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    train(job(*settings), tmp_path / "there")
    assert_same_training(tmp_path / "whole", tmp_path / "there")
    assert (tmp_path / "here" / "checkpoints" / "best.ckpt").read_bytes() == kept
