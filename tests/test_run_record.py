"""Whether a directory may be written or gone on with, by its config and what else it holds."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from hybrid_retrieval.config import JobConfig
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.run_record import claimed, continued, remove_evaluation, run_state, write_config, write_metrics

Compose = Callable[..., JobConfig]


@pytest.mark.parametrize(
    ("key", "other"),
    [
        ("evaluation.perturb_seed", 3),
        ("evaluation.severity", [0.5]),
        ("loss.self_teaching", 0.5),
        ("dataset.augment.share", 0.2),
    ],
)
def test_a_key_that_is_newer_than_a_run_changes_nothing_by_its_default(
    key: str, other: object, job: Compose, tmp_path: Path
) -> None:
    write_config(tmp_path, job("resume=auto"), {})
    kept = yaml.safe_load((tmp_path / "config.yaml").read_text())
    *above, last = key.split(".")
    node = kept
    for part in above:
        node = node[part]
    del node[last]
    (tmp_path / "checksums.json").unlink()
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(kept))
    assert run_state(tmp_path, job("resume=auto")) == "unfinished"
    more = ["dataset.augment.names=[drop]"] if "augment" in key else []
    with pytest.raises(InputError, match=f"differs in .*{key}"):
        run_state(tmp_path, job("resume=auto", f"{key}={other}".replace(" ", ""), *more))


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


HOLD = """
import sys
from pathlib import Path
from hybrid_retrieval.run_record import claimed
with claimed(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_of_two_processes_one_has_a_run_directory_and_a_killed_one_has_none(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(InputError, match=rf"{tmp_path} is being written by process {holder.pid} on "), claimed(tmp_path):
            pass
        holder.kill()
    with claimed(tmp_path):
        pass


@pytest.mark.parametrize("strange", ["notes.txt", "runs/mine/config.yaml", "config.yaml"])
def test_a_folder_of_other_files_is_no_run_directory(tmp_path: Path, strange: str) -> None:
    """Hydra's own files, which come first, are not among them."""
    (tmp_path / ".hydra").mkdir()
    (tmp_path / "run.log").touch()
    with claimed(tmp_path / "new"):
        pass
    file = tmp_path / "new" / ".." / strange
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("mine: 1")
    with pytest.raises(InputError, match="is not a run directory and holds other files"), claimed(tmp_path):
        pass
    assert file.read_text() == "mine: 1"


def test_a_run_directory_stays_one(job: Compose, tmp_path: Path) -> None:
    """Killed before it had a config, and made before there were locks."""
    with claimed(tmp_path / "killed"):
        (tmp_path / "killed" / "audit.json").touch()
    (tmp_path / "old").mkdir()
    write_config(tmp_path / "old", job(), {})
    for name in ("killed", "old"):
        with claimed(tmp_path / name):
            pass


def test_what_an_evaluation_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    left = ["robustness.parquet", "robustness_per_query.parquet", "baselines/bm25/robustness_per_query.parquet"]
    left += ["baselines/bm25/metrics.json", "baselines/bm25/runs/x.trec", "runs/x.trec", "runs/x.qrels.tsv"]
    left += ["embeddings/x/corpus.de.npy", "embeddings/x/corpus.de.ids.txt", "embeddings/x/qrels.tsv"]
    kept = ["runs/mine/metrics.json", "runs/mine/checkpoints/last.ckpt", "baselines/README", "embeddings/x/mine.txt"]
    for name in (*left, *kept):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    remove_evaluation(tmp_path)
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()) == sorted(kept)
    assert not (tmp_path / "baselines" / "bm25").exists()
