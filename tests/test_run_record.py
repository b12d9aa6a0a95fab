"""Whether a directory may be written or gone on with, by its config and what else it holds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hybrid_retrieval.config import JobConfig
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.run_record import continued, run_state, write_config, write_metrics

Compose = Callable[..., JobConfig]


def test_a_directory_is_new_then_unfinished_then_finished(job: Compose, tmp_path: Path) -> None:
    mine = job("resume=auto")
    assert run_state(tmp_path / "nowhere", mine) == "new"
    assert run_state(tmp_path, mine) == "new"
    (tmp_path / "checkpoints").mkdir()
    assert run_state(tmp_path, mine) == "new"
    write_config(tmp_path, mine, {"sampler": "hybrid"})
    assert run_state(tmp_path, mine) == "unfinished"
    write_metrics(tmp_path, {"train/steps": 12})
    assert run_state(tmp_path, mine) == "finished"


def test_a_run_is_not_written_over(job: Compose, tmp_path: Path) -> None:
    write_config(tmp_path, job(), {})
    with pytest.raises(InputError, match=r"holds a run already.*resume=auto"):
        run_state(tmp_path, job())


@pytest.mark.parametrize(
    "same",
    [
        *("trainer.enable_progress_bar=true", "trainer.log_every_n_steps=7", "+trainer.profiler=simple", "trainer.devices=2"),
        *("training.checkpoint_every=7", "training.workers=2", "logger=[csv,wandb]", "paths.runs=elsewhere", "name=other"),
    ],
)
def test_what_changes_no_weight_may_change(job: Compose, tmp_path: Path, same: str) -> None:
    write_config(tmp_path, job(), {})
    assert run_state(tmp_path, job(same, "resume=auto")) == "unfinished"


@pytest.mark.parametrize(
    "changed",
    [
        *("seed=2", "optimizer.lr=0.5", "trainer.max_steps=13", "sampler.alpha=0.4", "sampler.batch_size=32"),
        *("callbacks.early_stopping.patience=3", "trainer.val_check_interval=3", "trainer.precision=bf16-mixed"),
        *("model.dimensions=8", "training.grad_cache=true", "training.chunk_tokens=99"),
        *(
            "dataset.items=301",
            "dataset.languages=[s0,s1]",
            "loss.temperature=0.3",
            "evaluation.checkpoint=last",
            "strict=true",
        ),
    ],
)
def test_what_changes_the_run_is_refused_by_name(job: Compose, tmp_path: Path, changed: str) -> None:
    write_config(tmp_path, job(), {})
    with pytest.raises(InputError) as refused:
        run_state(tmp_path, job(changed, "resume=auto"))
    named = str(refused.value).rpartition("differs in ")[2].split(", ")
    assert changed.split("=")[0] in named
    assert {name.rpartition(".")[2] for name in named} == {changed.split("=")[0].rpartition(".")[2]}


def test_what_was_settled_is_taken_over_and_what_is_asked_for_is_not(job: Compose, tmp_path: Path) -> None:
    open_ = job("resume=auto")
    assert continued(tmp_path, open_) == open_
    write_config(tmp_path, job("training.chunk_tokens=1000", "trainer.precision=bf16-mixed"), {})
    again = continued(tmp_path, open_)
    assert (again.training.chunk_tokens, again.trainer["precision"]) == (1000, "bf16-mixed")
    assert run_state(tmp_path, again) == "unfinished"
    other = continued(tmp_path, job("resume=auto", "training.chunk_tokens=900"))
    with pytest.raises(InputError, match=r"differs in training\.chunk_tokens$"):
        run_state(tmp_path, other)


def test_all_keys_that_differ_are_named(job: Compose, tmp_path: Path) -> None:
    write_config(tmp_path, job(), {})
    with pytest.raises(InputError, match=r"differs in optimizer\.lr, seed$"):
        run_state(tmp_path, job("seed=2", "optimizer.lr=0.5", "resume=auto"))
