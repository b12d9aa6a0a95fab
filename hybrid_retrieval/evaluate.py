"""Score a trained run, a published encoder or an endpoint: ``python -m hybrid_retrieval.evaluate checkpoint=RUN_DIR``."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from hybrid_retrieval import run_record
from hybrid_retrieval.command import asked_by_name, hydra_command
from hybrid_retrieval.config import EvaluationConfig, PathsConfig
from hybrid_retrieval.errors import InputError, choice, reading
from hybrid_retrieval.values import build, check_read, construct

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from hybrid_retrieval.models.encoder import Encoder

READ_AS_TRAINED = ("documents", "overlap", "dtype")
"""Keys of `evaluation` that are the run's own where the command line does not say otherwise: its figures come out again."""


@dataclass(frozen=True)
class EvaluateConfig:
    """Config of the command."""

    evaluation: EvaluationConfig
    paths: PathsConfig
    benchmark: dict[str, Any]
    dataset: dict[str, Any]
    retriever: dict[str, Any]
    model: dict[str, Any] | None = None
    checkpoint: str | None = None
    strict: bool = False
    resume: str = "never"


def main(composed: DictConfig) -> None:
    """One encoder, or retrievers alone, on the chosen benchmarks, into a directory of its own."""
    trained = _run_directory(composed)
    saved = run_record.read_config(trained) if trained else {}
    config = _checked(composed, trained, saved)
    if trained is None and not config.model and not config.retriever:
        raise InputError("nothing to score: give checkpoint=RUN_DIR, model=NAME or retriever=[bm25]")
    directory = Path(HydraConfig.get().runtime.output_dir)
    with run_record.claimed(directory):
        _check_unused(directory, config.resume)
        _evaluate(config, trained, saved, directory)


def _evaluate(config: EvaluateConfig, trained: Path | None, saved: Mapping[str, Any], directory: Path) -> None:
    """Load, score and report into a directory that is this process's."""
    from hybrid_retrieval import benchmarking
    from hybrid_retrieval.data.source import Source
    from hybrid_retrieval.reporting.run_report import report_run

    evaluation, paths = config.evaluation, config.paths
    retrievers = benchmarking.load_retrievers(config.retriever, evaluation)
    encoder = encoder_to_score(trained, config)
    benchmarks = benchmarking.load_benchmarks(config.benchmark, evaluation, paths, asked_by_name("benchmark"))
    learns = config.dataset and benchmarking.learn_from_text(retrievers)
    source = build(config.dataset, Source, "dataset", paths=paths) if learns else None
    benchmarking.check_retrievers(retrievers, benchmarks, evaluation, source, encoder)
    record = _record(config, trained, saved, encoder)
    facts: dict[str, Any] = {"benchmarks": {name: benchmark.provenance for name, benchmark in benchmarks.items()}}
    if (directory / run_record.METRICS).exists():
        run_record.check_same(directory, record, config)
        run_record.check_data(directory, facts)
        print(f"finished before: {directory}")
        return
    run_record.remove_evaluation(directory)
    run_record.record_config(directory, record)
    seen = None
    if trained:
        from hybrid_retrieval.models.checkpoint import checkpoint_path
        from hybrid_retrieval.training.augmentation import trained_and_tested
        from hybrid_retrieval.training.checkpoint import trained_on

        if known := trained_and_tested(saved.get("dataset"), evaluation):
            log.info("evaluation.perturb: the run was trained on %s: no test of what it never met", ", ".join(known))
        seen = trained_on(trained, saved.get("model"))
        facts["checkpoint"] = str(checkpoint_path(trained, evaluation.checkpoint))
    run_record.write_environment(directory, facts)
    figures = benchmarking.score_benchmarks(encoder, retrievers, benchmarks, evaluation, paths, directory, source, seen)
    run_record.write_metrics(directory, figures)
    report_run(directory)
    print(f"run directory: {directory}")


def _run_directory(composed: DictConfig) -> Path | None:
    """The run directory of ``checkpoint=``; None without one."""
    if composed.checkpoint is None:
        return None
    if composed.get("model"):
        raise InputError(f"checkpoint={composed.checkpoint} brings its own model: give checkpoint= or model=, not both")
    trained = Path(str(composed.checkpoint)).expanduser()
    if not (trained / run_record.CONFIG).exists():
        raise InputError(f"checkpoint={trained} is not a run directory: it holds no config.yaml")
    return trained


def _checked(composed: DictConfig, trained: Path | None, saved: Mapping[str, Any]) -> EvaluateConfig:
    """The config with its types checked, and with what it takes from that of a trained run."""
    if not composed.dataset and (dataset := saved.get("dataset")):
        from hybrid_retrieval.data.source import Source

        check_read(dataset, Source, f"{(trained or Path()) / run_record.CONFIG}: dataset")
        composed.dataset = dataset
    plain = cast(dict[str, Any], OmegaConf.to_container(composed, resolve=True))
    plain["evaluation"] = _as_trained(construct(EvaluationConfig, plain["evaluation"], "evaluation"), saved)
    plain["paths"] = construct(PathsConfig, plain["paths"], "paths")
    return construct(EvaluateConfig, {"retriever": {}, **plain}, "")


def _as_trained(evaluation: EvaluationConfig, saved: Mapping[str, Any]) -> EvaluationConfig:
    """The run's own settings for reading texts (`READ_AS_TRAINED`)."""
    given = {override.lstrip("+").partition("=")[0] for override in HydraConfig.get().overrides.task}
    before = saved.get("evaluation")
    before = before if isinstance(before, dict) else {}
    changed = {
        key: before[key]
        for key in READ_AS_TRAINED
        if key in before and before[key] != getattr(evaluation, key) and f"evaluation.{key}" not in given
    }
    if changed:
        log.info("as in the run: %s", ", ".join(f"evaluation.{key}={value}" for key, value in changed.items()))
    with reading(f"checkpoint=: {run_record.CONFIG}", whole=True):
        return construct(EvaluationConfig, {**asdict(evaluation), **changed}, "evaluation")


def _check_unused(directory: Path, resume: str) -> None:
    """Refuse a directory that holds results, unless they may be passed over, or a training run."""
    choice("resume", resume, ["never", "auto"])
    if (directory / run_record.METRICS).exists():
        if resume == "never":
            raise InputError(
                f"{directory} holds results already: choose another hydra.run.dir, or pass them over by resume=auto"
            )
    elif (directory / "checkpoints").exists():
        raise InputError(f"{directory} holds a training run that is not finished: choose another hydra.run.dir")


def encoder_to_score(trained: Path | None, config: EvaluateConfig) -> Encoder | None:
    """The encoder to score, where it is best used; None for retrievers alone."""
    from torch import nn

    from hybrid_retrieval.models.checkpoint import load_encoder, scoring_device

    if trained is not None:
        return load_encoder(trained, config.evaluation.checkpoint, config.strict)
    if not config.model:
        return None
    encoder = published_encoder(config.model, config.paths, config.strict)
    if isinstance(encoder, nn.Module):
        return encoder.to(scoring_device())
    devices = config.evaluation.devices
    if devices > 1:
        raise InputError(f"evaluation.devices={devices}: an endpoint is asked by one process; model.concurrency=N asks more")
    return encoder


def published_encoder(node: Mapping[str, Any], paths: PathsConfig, strict: bool) -> Encoder:
    """A published encoder, or an endpoint, as a config of the group ``model`` names it.

    Raises:
        InputError: it has no weights before it is trained.
    """
    from hybrid_retrieval.models.encoder import Encoder, Model
    from hybrid_retrieval.models.published import PublishedModel

    model = build(node, (Model, Encoder), "model", paths=paths)
    if isinstance(model, Model) and not isinstance(model, PublishedModel):
        raise InputError("this model= has no weights before it is trained; choose a published one, or checkpoint=RUN_DIR")
    encoder = model.load() if isinstance(model, PublishedModel) else model
    encoder.strict = strict
    return cast("Encoder", encoder)


def _record(config: EvaluateConfig, trained: Path | None, saved: Mapping[str, Any], encoder: object) -> dict[str, Any]:
    """``config.yaml``: that of a trained run, with what was chosen here, and a digest of the encoder."""
    from hybrid_retrieval.benchmarking import identity

    if trained:
        what: dict[str, Any] = {"checkpoint": str(trained.resolve())}
    else:
        choices = {"model": HydraConfig.get().runtime.choices.get("model") or "baselines"}
        what = {"model": _with_whole_paths(config.model), "choices": choices}
    here = {
        "benchmark": config.benchmark,
        "retriever": config.retriever,
        "dataset": config.dataset,
        "strict": config.strict,
        "paths": asdict(config.paths),
        "evaluation": asdict(config.evaluation),
        "weights": identity(encoder),
    }
    return {**saved, **here, **what}


def _with_whole_paths(node: Any) -> Any:
    """A model's config, in which local directories can be found from everywhere."""
    if isinstance(node, list):
        return [_with_whole_paths(one) for one in node]
    if not isinstance(node, dict):
        return node
    return {
        key: str(Path(value).expanduser().resolve()) if key == "path" and isinstance(value, str) else _with_whole_paths(value)
        for key, value in node.items()
    }


if __name__ == "__main__":
    hydra_command(main, "evaluate")
