"""The commands as a user meets them: contracts of the run directory, bad input, help, resume."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml

import hybrid_retrieval
from hybrid_retrieval.__main__ import COMMANDS
from hybrid_retrieval.files import record_text
from tests.command_output import assert_one_line, last_line
from tests.conftest import SMALL, Command, command_environment
from tests.forks import Forks
from tests.training.runs import assert_close_weights


@pytest.fixture(scope="module")
def trained(forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small finished run with everything kept."""
    folder = tmp_path_factory.mktemp("trained")
    arguments = [*SMALL, "evaluation.save_runs=true", "evaluation.save_embeddings=true", "hydra.run.dir=run"]
    done = forks.run("hybrid_retrieval.run", *arguments, folder=folder)
    assert done.returncode == 0, done.stderr
    assert last_line(done.stdout) == f"run directory: {folder / 'run'}"
    assert "Mo." in done.stdout
    return folder / "run"


def test_a_run_directory_holds_every_file_of_the_contract(trained: Path) -> None:
    for name in (
        "config.yaml",
        "metrics.json",
        "per_query.parquet",
        "retrieved.parquet",
        "batch_manifest.parquet",
        "environment.json",
        "report.html",
    ):
        assert (trained / name).stat().st_size > 0, name
    assert (trained / "checkpoints" / "best.ckpt").exists()
    assert list((trained / "figures").glob("*.png"))
    assert (trained / "runs" / "held_out.trec").exists()
    environment = json.loads((trained / "environment.json").read_text())
    assert environment["world_size"] == 1
    assert environment["start_step"] == 0
    assert environment["data"][0]["name"] == "synthetic"
    config = yaml.safe_load((trained / "config.yaml").read_text())
    assert config["sampler"]["batch_size"] == 16  # resolved: no interpolation is left
    assert "${" not in (trained / "config.yaml").read_text()


def test_metrics_are_flat_numbers_that_follow_from_the_per_query_values(trained: Path) -> None:
    metrics = json.loads((trained / "metrics.json").read_text())
    assert all(isinstance(value, (int, float)) for value in metrics.values())
    rows = pq.read_table(trained / "per_query.parquet").to_pylist()
    pair = [row["map"] for row in rows if (row["query_language"], row["corpus_language"]) == ("s1", "s0")]
    assert metrics["held_out/crosslingual/map/s1-s0"] == pytest.approx(np.mean(pair))
    own = {
        language: [row["map"] for row in rows if row["setting"] == "monolingual" and row["query_language"] == language]
        for language in ("s0", "s1", "s2", "s3")
    }
    assert metrics["held_out/monolingual/map"] == pytest.approx(np.mean([np.mean(values) for values in own.values()]))
    assert metrics["train/pairs_per_second"] > 0


def test_embeddings_give_the_scores_of_the_run(trained: Path) -> None:
    folder = trained / "embeddings" / "held_out"
    queries, corpus = np.load(folder / "queries.s0.npy"), np.load(folder / "corpus.s2.npy")
    names = [(folder / f"{side}.txt").read_text().split() for side in ("queries.s0.ids", "corpus.s2.ids")]
    assert queries.dtype == np.float32
    assert len(names[0]) == len(queries)
    wanted = {name: dict(zip(names[1], row, strict=True)) for name, row in zip(names[0], queries @ corpus.T, strict=True)}
    seen = 0
    for line in (trained / "runs" / "held_out.trec").read_text().splitlines():
        query, _, document, _, score, _ = line.split()
        if query in wanted and document in wanted[query]:
            assert float(score) == pytest.approx(float(wanted[query][document]), abs=1e-5)
            seen += 1
    assert seen == queries.shape[0] * corpus.shape[0]


def test_the_manifest_counts_what_was_trained_on(trained: Path) -> None:
    rows = pq.read_table(trained / "batch_manifest.parquet").to_pylist()
    steps = [[row for row in rows if row["step"] == step] for step in range(12)]
    assert [sum(row["pairs"] for row in step) for step in steps] == [16] * 12
    kinds = [{row["query_language"] == row["passage_language"] for row in step} for step in steps]
    assert all(len(kind) == 1 for kind in kinds)
    assert kinds.count({True}) == 6  # alpha = 0.5, exact


def test_evaluate_scores_a_trained_run_again(trained: Path, command: Command, tmp_path: Path) -> None:
    done = command("evaluate", f"checkpoint={trained}", "benchmark=held_out", "hydra.run.dir=again")
    assert done.returncode == 0, done.stderr
    assert last_line(done.stdout) == f"run directory: {tmp_path / 'again'}"
    first = json.loads((trained / "metrics.json").read_text())
    second = json.loads((tmp_path / "again" / "metrics.json").read_text())
    assert second == {name: value for name, value in first.items() if name.startswith("held_out/")}


def test_evaluate_refuses_what_is_not_a_run_and_a_checkpoint_of_another_model(
    trained: Path, in_process: Command, tmp_path: Path
) -> None:
    done = in_process("evaluate", "checkpoint=nowhere", "benchmark=held_out")
    assert_one_line(done, "checkpoint=nowhere is not a run directory")
    other = tmp_path / "other"
    subprocess.run(["cp", "-r", str(trained), str(other)], check=True)
    content = torch.load(other / "checkpoints" / "best.ckpt", weights_only=True)
    (other / "checkpoints" / "checksums.json").unlink()
    content["hyper_parameters"]["encoder"]["architecture"] = {"vocabulary": 10, "dimensions": 4}
    torch.save(content, other / "checkpoints" / "best.ckpt")
    assert_one_line(in_process("evaluate", f"checkpoint={other}", "benchmark=held_out"), "holds no encoder", "only 10 rows")
    (other / "checkpoints" / "best.ckpt").write_bytes(b"PK damaged")
    assert_one_line(in_process("evaluate", f"checkpoint={other}", "benchmark=held_out"), "not a readable checkpoint")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["sampler.alhpa=0.3"], ["sampler.alhpa", "'alpha'"]),
        (["sampler=hybird"], ["sampler=hybird", "'hybrid'"]),
        (["smapler=hybrid"], ["smapler", "'sampler'"]),
        (["+sampler.alfa=1"], ["sampler.alfa", "'alpha'"]),
        (["+trainer.step=1"], ["trainer.step"]),
        (["sampler.alpha=1.5"], ["sampler.alpha=1.5", "0..1"]),
        (["sampler.alpha=much"], ["sampler.alpha='much'", "float"]),
        (["sampler.ratio_mode=exakt"], ["sampler.ratio_mode", "'exact'"]),
        (["loss.mask=keeep"], ["loss.mask", "'keep'"]),
        (["sampler=x_y", "dataset.languages=[s0]"], ["cross-lingual"]),
        (["dataset.languages=[s0,s99]"], ["dataset.languages", "'s99'", "lacks"]),
        (["sampler.batch_size=4000"], ["sampler.batch_size=4000"]),
        (["sampler.batch_size=15", "trainer.devices=2"], ["sampler.batch_size=15", "devices=2", "14 or 16"]),
        (["trainer.max_steps=0"], ["trainer.max_steps=0"]),
        (["training.monitor=val/lss"], ["training.monitor", "'val/loss'"]),
        (["training.validation_batches=0"], ["training.monitor=val/loss", "training.validation_batches"]),
        (["trainer.strategy=deepspeed"], ["trainer.strategy=deepspeed", "law 4"]),
        (["+callbacks.x._target_=lightning.Trainer"], ["callbacks.x._target_='lightning.Trainer'", "Callback"]),
        (["callbacks=[best,learning_rat]"], ["callbacks=learning_rat", "'learning_rate'"]),
        (["callbacks.early_stopping.mode=up", "callbacks.early_stopping.patience=2"], ["callbacks.early_stopping", "up"]),
        (["paths.cache=/dev/null/cache"], ["paths.cache=/dev/null/cache", "cannot be written"]),
        (["dataset=beir_parallel"], ["dataset.path"]),
        (["dataset=beir_parallel", "dataset.path=nowhere"], ["dataset.path=nowhere"]),
        (["model=xlmr"], ["model.path="]),
        (["model=xlmr", "model.path=nowhere"], ["model.path=nowhere", "config.json"]),
        (["benchmark=xquad_s"], ["benchmark=xquad_s", "'xquad_r'"]),
        (["resume=maybe"], ["resume='maybe'"]),
        (["benchmark=[held_out,foo]"], ["benchmark=foo", "held_out"]),
        (["logger=[csv,wandbb]"], ["logger=wandbb", "'wandb'"]),
        (["benchmark=null"], ["cannot be composed"]),
        (["seed=-1"], ["seed=-1"]),
        (["optimizer.lr=nan"], ["optimizer.lr=nan"]),
        (["loss.temperature=inf"], ["loss.temperature=inf"]),
        (["loss.temperature=1e-300"], ["loss.temperature=1e-300", "0.001..100", "0.01 to 0.1 is usual"]),
        (["loss=distill_scores", "loss.teacher_temperature=0"], ["loss.teacher_temperature=0", "0.001..100"]),
        (["model.vocabulary=300"], ["model.vocabulary=300: this text needs ", " or more, for its characters"]),
        (["optimizer.betas=[0.9]"], ["optimizer.betas"]),
        (["trainer.accelerator=mps"], ["trainer.accelerator=mps"]),
        (["trainer.precision=bf16-true"], ["trainer.precision", "'bf16-mixed'"]),
        (["dataset.test_share=1"], ["dataset.test_share"]),
        (["training.monitor=val/crosslingual/map", "dataset.languages=[s0]", "sampler=x_x"], ["training.monitor"]),
        (["loss.hard_negatives=2"], ["loss.hard_negatives=2", "has 0"]),
        (["strict=true", "model.max_passage_length=8"], ["strict=true", "length"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) and value and "=" in value[0] else "",
)
def test_bad_input_is_one_line_and_exit_code_2_before_any_training(
    in_process: Command, tmp_path: Path, arguments: list[str], parts: list[str]
) -> None:
    small = [item for item in SMALL if not (item.startswith("dataset") and any(a.startswith("dataset=") for a in arguments))]
    if any(a.startswith("model=xlmr") for a in arguments):
        small = [item for item in small if not item.startswith("model.")]
    done = in_process("run", *small, "hydra.run.dir=run", *arguments)
    assert_one_line(done, *parts)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_full_errors_on_request(command: Command) -> None:
    done = command("run", *SMALL, "sampler.alpha=2", HYDRA_FULL_ERROR="1")
    assert "Traceback" in done.stderr
    assert "sampler.alpha=2" in done.stderr


def test_a_bad_job_of_a_sweep_costs_only_itself(command: Command, tmp_path: Path) -> None:
    done = command("run", "-m", *SMALL, "sampler.alpha=0.5,7", "hydra.sweep.dir=bad")
    assert_one_line(done, "sampler.alpha=7")
    assert (tmp_path / "bad" / "0" / "metrics.json").exists()


def test_help_and_config_import_nothing_heavy(command: Command) -> None:
    for argument in ("--help", "--cfg=job"):
        done = command("run", *argument.split("="), PYTHONPROFILEIMPORTTIME="1")
        assert done.returncode == 0
        imported = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
        assert "hydra" in imported
        assert not imported & {"torch", "lightning", "transformers", "altair", "pyarrow", "numpy"}
    shown = command("run", "--help").stdout
    for group in ("dataset", "sampler", "model", "loss", "optimizer", "trainer", "benchmark", "logger"):
        assert re.search(rf"^\s+{group}\s", shown, re.MULTILINE), group


@pytest.mark.slow
def test_the_named_study_is_the_sweep(command: Command) -> None:
    done = command(
        "run", "+experiment=hybrid_vs_baselines", "-m", *SMALL[:-1], "trainer.accelerator=cpu", "hydra.sweep.dir=study"
    )
    assert done.returncode == 0, done.stderr
    jobs = sorted(Path(line.split(": ")[1]).name for line in done.stdout.splitlines() if line.startswith("run directory: "))
    assert jobs == ["0", "1", "2"]


def test_evaluate_reads_texts_as_the_run_did_and_leaves_an_unfinished_run_alone(
    trained: Path, in_process: Command, command: Command, tmp_path: Path
) -> None:
    run = tmp_path / "chunked"
    subprocess.run(["cp", "-r", str(trained), str(run)], check=True)
    config = (run / "config.yaml").read_text()
    assert "documents: whole" in config
    record_text(run / "config.yaml", config.replace("documents: whole", "documents: chunks").replace("float16", "float32"))
    done = command("evaluate", f"checkpoint={run}", "benchmark=held_out", "evaluation.dtype=float16", "hydra.run.dir=again")
    assert done.returncode == 0, done.stderr
    assert "as in the run: evaluation.documents=chunks" in done.stderr
    assert "documents: chunks" in (tmp_path / "again" / "config.yaml").read_text()
    assert "dtype: float16" in (tmp_path / "again" / "config.yaml").read_text()
    (run / "metrics.json").unlink()
    done = in_process("evaluate", f"checkpoint={run}", "benchmark=held_out", f"hydra.run.dir={run}")
    assert_one_line(done, "holds a training run that is not finished")
    assert (run / "checkpoints").exists()


def test_what_a_retriever_lacks_is_said_before_anything_is_encoded(trained: Path, in_process: Command, tmp_path: Path) -> None:
    common = ["benchmark=held_out", f"hydra.run.dir={tmp_path / 'd'}"]
    run = f"checkpoint={trained}"
    done = in_process("evaluate", run, *common, "retriever=lir", "evaluation.documents=chunks")
    assert_one_line(done, "retriever=lir needs an embedding a document")
    done = in_process("evaluate", *common, "dataset=synthetic", "retriever=[random,center]")
    assert_one_line(done, "retriever=center works on an encoder's embeddings")
    assert not (tmp_path / "d" / "per_query.parquet").exists()


def test_every_command_is_behind_the_front_door(trained: Path, forks: Forks, cache: Path, tmp_path: Path) -> None:
    def ask(*arguments: str) -> subprocess.CompletedProcess[str]:
        return forks.run("hybrid_retrieval", *arguments, folder=tmp_path)

    commands = {path.stem for path in Path(hybrid_retrieval.__file__).parent.glob("*.py") if "__main__" in path.read_text()}
    assert set(COMMANDS) == commands - {"__main__"}
    listed = ask().stdout
    assert all(name in listed for name in COMMANDS)
    assert_one_line(ask("evalute"), "did you mean 'evaluate'?")
    assert_one_line(ask("evaluate", "checkpoint=absent"), "checkpoint=absent")
    line = [sys.executable, "-m", "hybrid_retrieval", "run", *SMALL, "trainer.devices=2", "hydra.run.dir=run"]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, env=command_environment(cache))
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "environment.json").read_text())["world_size"] == 2
    assert_close_weights(trained, tmp_path / "run")
    manifests = [(run / "batch_manifest.parquet").read_bytes() for run in (trained, tmp_path / "run")]
    assert manifests[0] == manifests[1]
