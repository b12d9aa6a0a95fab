"""Score a trained run, a published encoder or an endpoint: ``python -m hybrid_retrieval.evaluate checkpoint=RUN_DIR``."""

from __future__ import annotations

import logging
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import yaml
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from hybrid_retrieval import run_record
from hybrid_retrieval.command import asked_by_name, hydra_command
from hybrid_retrieval.config import EvaluationConfig, PathsConfig, build, construct
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.files import write_text

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from hybrid_retrieval.models.encoder import Encoder


def main(composed: DictConfig) -> None:
    """One encoder, or baselines alone, on the chosen benchmarks, into a directory of its own."""
    trained = _run_directory(composed)
    saved = run_record.read_config(trained) if trained else {}
    if not composed.dataset:
        composed.dataset = saved.get("dataset", {})
    plain: Any = {"model": None, **cast(dict[str, Any], OmegaConf.to_container(composed, resolve=True))}
    paths = construct(PathsConfig, plain["paths"], "paths")
    evaluation = as_trained(construct(EvaluationConfig, plain["evaluation"], "evaluation"), saved)
    if not isinstance(plain["strict"], bool):
        raise InputError(f"strict={plain['strict']!r} has the wrong type; expected true or false")
    if trained is None and not plain["model"] and not evaluation.baselines:
        raise InputError("nothing to score: give checkpoint=RUN_DIR, model=NAME or evaluation.baselines=[bm25]")

    from hybrid_retrieval import benchmarking
    from hybrid_retrieval.reporting import report_run

    hydra = HydraConfig.get()
    directory = Path(hydra.runtime.output_dir)
    if (directory / run_record.METRICS).exists():
        raise InputError(f"{directory} holds results already: choose another hydra.run.dir")
    if (directory / "checkpoints").exists():
        raise InputError(f"{directory} holds a training run that is not finished: choose another hydra.run.dir")
    for left in ("baselines", "runs", "embeddings"):  # of an evaluation that was killed, maybe with other settings
        shutil.rmtree(directory / left, ignore_errors=True)
    encoder = load(trained, plain, evaluation, paths)
    benchmarks = benchmarking.load_benchmarks(plain["benchmark"], evaluation, paths, asked_by_name("benchmark"))
    what = {"checkpoint": str(trained.resolve())} if trained else {"model": plain["model"]}
    chosen = {} if trained else {"choices": {"model": str(hydra.runtime.choices.get("model") or "baselines")}}
    record = {
        **saved,
        **chosen,
        **{key: plain[key] for key in ("benchmark", "paths")},
        "evaluation": asdict(evaluation),
        **what,
    }
    write_text(directory / run_record.CONFIG, yaml.safe_dump(record, sort_keys=False, allow_unicode=True))
    facts: dict[str, Any] = {"benchmarks": {name: benchmark.provenance for name, benchmark in benchmarks.items()}}
    if trained:
        from hybrid_retrieval.training.checkpoint import checkpoint_path

        facts["checkpoint"] = str(checkpoint_path(trained, evaluation.checkpoint))
    run_record.write_environment(directory, facts)
    source = build(plain["dataset"], "dataset", paths=paths) if plain["dataset"] and evaluation.debias else None
    run_record.write_metrics(
        directory, benchmarking.score_benchmarks(encoder, benchmarks, evaluation, paths, directory, source)
    )
    report_run(directory)
    print(f"run directory: {directory}")


def as_trained(evaluation: EvaluationConfig, saved: dict[str, Any]) -> EvaluationConfig:
    """How the run itself read texts, where the command line does not say otherwise: its figures come out again."""
    given = {override.lstrip("+").partition("=")[0] for override in HydraConfig.get().overrides.task}
    before = saved.get("evaluation") or {}
    changed = {
        key: before[key]
        for key in ("documents", "overlap", "dtype")
        if key in before and before[key] != getattr(evaluation, key) and f"evaluation.{key}" not in given
    }
    if changed:
        log.info("as in the run: %s", ", ".join(f"evaluation.{key}={value}" for key, value in changed.items()))
    return replace(evaluation, **changed)


def _run_directory(composed: DictConfig) -> Path | None:
    """What ``checkpoint=`` names; None where nothing does."""
    if composed.checkpoint is None:
        return None
    if composed.get("model"):
        raise InputError(f"checkpoint={composed.checkpoint} brings its own model: give checkpoint= or model=, not both")
    trained = Path(str(composed.checkpoint)).expanduser()
    if not (trained / "config.yaml").exists():
        raise InputError(f"checkpoint={trained} is not a run directory: it holds no config.yaml")
    return trained


def load(trained: Path | None, plain: dict[str, Any], evaluation: EvaluationConfig, paths: PathsConfig) -> Encoder | None:
    """The encoder to score, where it is best used; None for baselines alone."""
    from torch import nn

    from hybrid_retrieval import benchmarking
    from hybrid_retrieval.training.checkpoint import load_encoder, scoring_device

    if trained is not None:
        return load_encoder(trained, evaluation.checkpoint, plain["strict"])
    if not plain["model"]:
        return None
    encoder = benchmarking.load_model(plain["model"], paths, plain["strict"])
    if isinstance(encoder, nn.Module):
        return encoder.to(scoring_device())
    if evaluation.devices > 1:
        raise InputError(
            f"evaluation.devices={evaluation.devices}: an endpoint is asked by one process; model.concurrency=N asks more"
        )
    return encoder


if __name__ == "__main__":
    hydra_command(main, "evaluate")
