"""Laws 1 and 6: training that is ended at any point and gone on with from its last checkpoint is the training never ended.

Here in one process: what ends training is an exception that nothing handles, and leaves on the disk what a kill would leave.
`tests/training/test_resume.py` kills real processes.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer

from hybrid_retrieval.config import JobConfig
from hybrid_retrieval.errors import Terminated
from hybrid_retrieval.training import fit
from hybrid_retrieval.training.callbacks import Checkpoints, Recorder
from hybrid_retrieval.training.checkpoint import WholeFiles, read_checkpoint
from tests.training.conftest import curves

Compose = Callable[..., JobConfig]

STATIC = ["model=static", "model.vocabulary=800"]
DROPOUT = ["model=tiny", "model.hidden=16", "model.layers=1", "model.vocabulary=800", "model.dropout=0.2", "optimizer.lr=0.01"]
STOPS_EARLY = [
    *("trainer.max_steps=200", "trainer.validate_every=5", "trainer.checkpoint_every=5"),
    *("trainer.patience=2", "trainer.monitor=val/crosslingual/map"),
    *("optimizer.lr=3", "optimizer.schedule=constant", "optimizer.warmup=0", "optimizer.weight_decay=0"),
]
"""A rate so high that the measure soon falls twice in a row: the best step is not the first that is validated."""
TO_THE_END = ["trainer.max_steps=64", "trainer.validate_every=10", "trainer.checkpoint_every=7"]


class Killed(BaseException):
    pass


@contextmanager
def ended(monkeypatch: pytest.MonkeyPatch, hook: tuple[type, str], step: int, end: Callable[[], None]) -> Iterator[None]:
    """Call `end` after a callback's hook, when `step` steps are done."""
    owner, name = hook
    original = getattr(owner, name)

    def patched(self: Any, trainer: Trainer, module: LightningModule, *rest: Any) -> None:
        original(self, trainer, module, *rest)
        if trainer.global_step == step:
            end()

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, patched)
        yield


def kill() -> None:
    raise Killed


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


AFTER_BATCH = (Recorder, "on_train_batch_end")
AFTER_VALIDATION = (Checkpoints, "on_validation_end")
AFTER_START = (Checkpoints, "on_train_batch_start")


def train(job: JobConfig, run_dir: Path) -> None:
    """Train from the last checkpoint in `run_dir`, where there is one."""
    last = run_dir / "checkpoints" / "last.ckpt"
    fit.fit(job, run_dir, fit.prepare(job), last if last.exists() else None)


def checkpoint(run_dir: Path, which: str = "last") -> dict[str, Any]:
    return read_checkpoint(run_dir / "checkpoints" / f"{which}.ckpt")


def assert_same_run(left: Path, right: Path) -> None:
    """Weights, optimizer, decisions, curves and manifest; all but the time that it took."""
    for which in ("last", "best"):
        one, two = checkpoint(left, which), checkpoint(right, which)
        assert one["global_step"] == two["global_step"]
        assert one["callbacks"]["Checkpoints"] == two["callbacks"]["Checkpoints"]
        for part in ("state_dict", "optimizer_states", "lr_schedulers"):
            assert_equal(one[part], two[part])
    assert curves(left) == curves(right)
    tables = [pq.read_table(run / "batch_manifest.parquet") for run in (left, right)]
    assert tables[0].equals(tables[1])


def assert_equal(left: Any, right: Any) -> None:
    assert type(left) is type(right)
    if isinstance(left, torch.Tensor):
        assert torch.equal(left, right)
    elif isinstance(left, dict):
        assert left.keys() == right.keys()
        for key in left:
            assert_equal(left[key], right[key])
    elif isinstance(left, (list, tuple)):
        assert len(left) == len(right)
        for one, two in zip(left, right, strict=True):
            assert_equal(one, two)
    else:
        assert left == right


@pytest.mark.parametrize(
    "settings", [[*STATIC, *STOPS_EARLY], [*DROPOUT, *TO_THE_END]], ids=["static, early stopping", "transformer with dropout"]
)
@pytest.mark.parametrize("end", [kill, terminate])
def test_ended_again_and_again_equals_never_ended_bit_for_bit(
    job: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: list[str], end: Callable[[], None]
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(job(*settings), whole)
    every, stop = job(*settings).trainer.validate_every, checkpoint(whole)["global_step"]
    middle = stop // every // 2 * every
    started: list[int] = []
    with monkeypatch.context() as patch:
        patch.setattr(fit, "start_step", lambda path: started.append(int(read_checkpoint(path)["global_step"])) or started[-1])
        for hook, step in (
            *((AFTER_BATCH, 3), (AFTER_BATCH, every), (AFTER_VALIDATION, middle), (AFTER_START, middle)),
            *((AFTER_BATCH, middle + 3), (AFTER_VALIDATION, stop // every * every - every), (AFTER_BATCH, stop)),
        ):
            with ended(monkeypatch, hook, step, end), pytest.raises((Killed, Terminated)):
                train(job(*settings), parts)
            if end is terminate:
                assert checkpoint(parts)["global_step"] in (step, step + 1)
        train(job(*settings), parts)
    assert len(started) >= 3
    assert min(started) > 0
    assert_same_run(whole, parts)


def test_the_early_stop_that_the_others_go_by_is_one(job: Compose, tmp_path: Path) -> None:
    train(job(*STATIC, *STOPS_EARLY), tmp_path)
    decided = checkpoint(tmp_path)["callbacks"]["Checkpoints"]
    assert checkpoint(tmp_path)["global_step"] == decided["best_step"] + 2 * 5 < 200
    assert checkpoint(tmp_path, "best")["global_step"] == decided["best_step"] > 5


@pytest.mark.parametrize("settings", [STOPS_EARLY, TO_THE_END], ids=["stopped early", "at the end"])
def test_a_trained_run_is_trained_no_further(job: Compose, tmp_path: Path, settings: list[str]) -> None:
    """What is killed while it is scored goes on with scoring."""
    train(job(*STATIC, *settings), tmp_path)
    before, curves = checkpoint(tmp_path), (tmp_path / "metrics.csv").read_text()
    (tmp_path / fit.FIGURES).unlink()
    train(job(*STATIC, *settings), tmp_path)
    after = checkpoint(tmp_path)
    assert after["global_step"] == before["global_step"]
    assert_equal(after["state_dict"], before["state_dict"])
    assert after["callbacks"]["Checkpoints"] == before["callbacks"]["Checkpoints"]
    assert (tmp_path / "metrics.csv").read_text() == curves
    assert (tmp_path / fit.FIGURES).exists()


def test_sigterm_while_the_last_step_is_taken_is_not_forgotten(
    job: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with ended(monkeypatch, AFTER_BATCH, 12, terminate), pytest.raises(Terminated):
        train(job(), tmp_path)
    assert checkpoint(tmp_path)["global_step"] == 12
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_best_is_chosen_and_patience_counted_as_by_hand(job: Compose, tmp_path: Path) -> None:
    """Against the curve in ``metrics.csv``."""
    import csv

    train(job(*STATIC, *STOPS_EARLY), tmp_path)
    with (tmp_path / "metrics.csv").open() as file:
        curve = [float(row["val/crosslingual/map"]) for row in csv.DictReader(file) if row.get("val/crosslingual/map")]
    best = max(range(len(curve)), key=lambda index: (curve[index], -index))
    assert len(curve) == best + 1 + 2
    assert checkpoint(tmp_path, "best")["global_step"] == 5 * (best + 1)
    assert checkpoint(tmp_path)["callbacks"]["Checkpoints"]["best_score"] == pytest.approx(curve[best])


def test_validation_has_no_influence_on_training(job: Compose, tmp_path: Path) -> None:
    settings = [*DROPOUT, "trainer.max_steps=12"]
    for name, more in (
        ("often", ["trainer.validate_every=3"]),
        ("once", ["trainer.validate_every=12"]),
        ("never", ["trainer.validation_batches=0"]),
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
    train(job("trainer.max_steps=14", "trainer.checkpoint_every=4", "trainer.validate_every=8"), tmp_path)
    assert written == [("last", 4), ("best", 8), ("last", 8), ("last", 12), ("last", 14)]
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}


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
            assert plain(dict(value) if key == "state_dict" else value), key


def test_a_write_that_is_broken_off_leaves_the_checkpoint_of_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "last.ckpt"
    WholeFiles().save_checkpoint({"global_step": 1}, path)

    def broken(content: Any, part: Path) -> None:
        part.write_bytes(b"half")
        raise Killed

    monkeypatch.setattr(torch, "save", broken)
    with pytest.raises(Killed):
        WholeFiles().save_checkpoint({"global_step": 2}, path)
    assert [found.name for found in tmp_path.iterdir()] == ["last.ckpt"]
    assert read_checkpoint(path) == {"global_step": 1}


def test_an_adaptive_ratio_goes_on_from_the_journal_in_the_checkpoint(
    job: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = [f"+sampler.schedule.{key}" for key in ("delay=3", "margin=0", "change=0.25")]
    adaptive = ["sampler.schedule.kind=adaptive", *hidden]
    settings = [*STATIC, *adaptive, "trainer.max_steps=40", "trainer.validate_every=5", "trainer.checkpoint_every=5"]
    train(job(*settings), tmp_path / "whole")
    for step in (12, 27):
        with ended(monkeypatch, AFTER_BATCH, step, kill), pytest.raises(Killed):
            train(job(*settings), tmp_path / "parts")
    train(job(*settings), tmp_path / "parts")
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    journals = [checkpoint(tmp_path / name)["PairsDataModule"]["journal"] for name in ("whole", "parts")]
    assert journals[0] == journals[1]
    assert len({decision["alpha"] for decision in journals[0]}) > 1


def test_loader_processes_change_nothing_on_resume(job: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = [*STATIC, *TO_THE_END]
    train(job(*settings), tmp_path / "whole")
    with ended(monkeypatch, AFTER_BATCH, 30, terminate), pytest.raises(Terminated):
        train(job(*settings), tmp_path / "parts")
    train(job(*settings, "trainer.workers=2"), tmp_path / "parts")
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize(
    ("monitor", "before", "score", "better"),
    [
        *(("val/loss", 2.0, 1.0, True), ("val/loss", 2.0, 2.0, False), ("val/loss", 2.0, 3.0, False)),
        *(("val/crosslingual/map", 0.2, 0.1, False), ("val/crosslingual/map", 0.2, 0.2, False)),
        *(("val/crosslingual/map", 0.2, 0.3, True), ("val/loss", float("nan"), 9.0, True)),
        *(("val/loss", 2.0, float("nan"), False), ("val/loss", float("nan"), float("inf"), False)),
    ],
)
def test_only_a_strictly_better_finite_score_is_better(
    job: Compose, tmp_path: Path, monitor: str, before: float, score: float, better: bool
) -> None:
    judge = Checkpoints(tmp_path, job(f"trainer.monitor={monitor}").trainer, validates=True)
    judge.best_score = before
    assert judge._is_better(score) is better
