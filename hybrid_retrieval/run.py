"""Train, evaluate, report: ``python -m hybrid_retrieval.run sampler=hybrid model=static``."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from hybrid_retrieval.command import asked_by_name, hydra_command, stop
from hybrid_retrieval.config import JobConfig, job_config
from hybrid_retrieval.errors import DivergenceError, InputError, Terminated

if TYPE_CHECKING:
    from hybrid_retrieval.benchmarking import LoadedBenchmark

log = logging.getLogger(__name__)


def main(composed: DictConfig) -> float | None:
    """One job, from its composed config to its run directory; the best value of ``training.monitor``, if any was validated."""
    hydra = HydraConfig.get()
    choices = {group: str(name) for group, name in hydra.runtime.choices.items() if not group.startswith("hydra/") and name}
    run_dir, sweep = Path(hydra.runtime.output_dir), Path(hydra.sweep.dir) if hydra.mode == RunMode.MULTIRUN else None
    job = job_config(composed)
    searches = sweep is not None and check_search(hydra.sweeper, job.training.monitor)
    try:
        best = launch(job, run_dir, choices, asked_by_name("benchmark"), sweep.name if sweep else None)
    except Terminated as end:
        place = f"hydra.sweep.dir={sweep}" if sweep else f"hydra.run.dir={run_dir}"
        stop(f"{end.what}; the same command with resume=auto {place} goes on from the last checkpoint", int(str(end.code)))
    if searches and best is None:
        raise InputError(
            "nothing was validated for hydra/sweeper to go by: dataset.validation_share and training.validation_batches "
            "must be above 0"
        )
    return best


def check_search(sweeper: Mapping[str, Any], monitor: str) -> bool:
    """Whether the sweeper searches for the best value of `monitor`; one that would look for the worst is refused."""
    direction = sweeper.get("direction")
    if direction is None:
        return False
    asked, right = str(getattr(direction, "name", direction)), "minimize" if monitor == "val/loss" else "maximize"
    if asked != right:
        raise InputError(
            f"hydra.sweeper.direction={asked}, but training.monitor={monitor} needs hydra.sweeper.direction={right}"
        )
    return True


def launch(
    job: JobConfig, run_dir: Path, choices: Mapping[str, str], benchmarks_by_name: bool, sweep: str | None = None
) -> float | None:
    """Run the job in this process, as one of the ranks that torchrun or Slurm started, or in a process for each device.

    Returns:
        The best value of ``training.monitor``; None where nothing was validated, or on a rank that is not the first.
    """
    from hybrid_retrieval import run_record
    from hybrid_retrieval.training import fit, ranks

    job = fit.settled(run_record.continued(run_dir, job))
    check_config(job)
    joined = ranks.joined_ranks(job.devices, job.nodes)
    if joined is not None:
        os.environ |= joined
        job = _as_started(job)
    arguments = (job, run_dir, choices, benchmarks_by_name, sweep)
    if joined is not None:
        return run_rank(*arguments)
    if job.world_size == 1:
        with run_record.claimed(run_dir):
            return run(*arguments)
    ranks.start_ranks(run_rank, arguments, job.devices, job.nodes)
    return _best_score(run_dir)


def check_config(job: JobConfig) -> None:
    """Refuse what any group of the config says wrongly, before anything is read, written or started."""
    from hybrid_retrieval import benchmarking
    from hybrid_retrieval.training import fit

    fit.configured(job)
    benchmarking.configured(job.benchmark, job.evaluation, job.paths)
    benchmarking.load_retrievers(job.retriever, job.evaluation)


def _best_score(run_dir: Path) -> float | None:
    """The best value of ``training.monitor`` of a finished run."""
    from hybrid_retrieval.reporting.run_directory import RunDirectory, is_run

    return RunDirectory.open(run_dir).metrics.get("train/best_score") if is_run(run_dir) else None


def _as_started(job: JobConfig) -> JobConfig:
    """`job` with as many devices and nodes as torchrun or Slurm has started processes for.

    Raises:
        InputError: the config asks for other numbers.
    """
    world, local = (int(os.environ.get(name, "1")) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    if job.world_size not in (1, world):
        raise InputError(f"trainer.devices={job.devices} x trainer.num_nodes={job.nodes}, but {world} processes were started")
    if job.world_size == world:
        return job
    return replace(job, trainer={**job.trainer, "devices": local, "num_nodes": world // local})


def run_rank(
    job: JobConfig, run_dir: Path, choices: Mapping[str, str], benchmarks_by_name: bool, sweep: str | None
) -> float | None:
    """One rank of a run on several devices; the first one's run directory and decisions are everybody's."""
    from hybrid_retrieval import run_record
    from hybrid_retrieval.training import ranks

    first = ranks.join_group(job.trainer.get("devices", 1), str(job.trainer.get("accelerator", "auto"))) == 0
    if first:
        with run_record.claimed(run_dir):
            ranks.agreed((job, run_dir, run_record.state_of(run_dir)))
            return run(job, run_dir, choices, benchmarks_by_name, sweep)
    theirs, their_dir, state = ranks.agreed(None)
    if run_dir.resolve() != their_dir.resolve():
        _remove_hydras(run_dir)
    if state == "finished":
        return None
    logging.getLogger("hybrid_retrieval").setLevel(logging.WARNING)
    quiet = replace(theirs, paths=job.paths, logger={}, trainer={**theirs.trainer, "enable_progress_bar": False})
    return run(quiet, their_dir, choices, benchmarks_by_name, sweep, first=False)


def _remove_hydras(directory: Path) -> None:
    """Hydra makes a directory for every process; only the first rank's is the run's."""
    (directory / "run.log").unlink(missing_ok=True)
    if directory.is_dir() and not any(directory.iterdir()):
        directory.rmdir()


def run(
    job: JobConfig,
    run_dir: Path,
    choices: Mapping[str, str],
    benchmarks_by_name: bool,
    sweep: str | None = None,
    first: bool = True,
) -> float | None:
    """Train the job's encoder into `run_dir`, score it, and report.

    Args:
        sweep: the name of the sweep that the job belongs to.
        first: of several ranks, the one that writes; the others only train.

    Returns:
        The best value of ``training.monitor``; None where nothing was validated.

    Raises:
        InputError: anything about the job that cannot work; before training wherever that can be known.
    """
    from lightning.pytorch.loggers import Logger

    from hybrid_retrieval import benchmarking, run_record
    from hybrid_retrieval.audit import audit
    from hybrid_retrieval.models.checkpoint import load_encoder, read_checkpoint
    from hybrid_retrieval.training import fit, ranks
    from hybrid_retrieval.training import loggers as to
    from hybrid_retrieval.training.callbacks import Publish
    from hybrid_retrieval.training.checkpoint import check_checkpoint, trained_on

    state = run_record.run_state(run_dir, job) if first else run_record.state_of(run_dir)
    if state == "finished":
        benchmarks = benchmarking.load_benchmarks(job.benchmark, job.evaluation, job.paths, benchmarks_by_name)
        run_record.check_data(run_dir, {"data": fit.configured(job).source.provenance(), "benchmarks": _origins(benchmarks)})
        print("the run is finished already: nothing to do")
        close(run_dir)
        return _best_score(run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    prepared = fit.prepare(job)
    last = run_dir / "checkpoints" / "last.ckpt"
    start_from = last if state == "unfinished" and last.exists() else None
    facts: dict[str, Any] = {"data": prepared.source.provenance()}
    if state == "unfinished":
        run_record.check_data(run_dir, facts)
    start = check_checkpoint(start_from, prepared.module.encoder, job.trainer["max_steps"]) if start_from else 0
    chosen = fit.callbacks(job, run_dir, prepared.data)
    keepers = [name for name, node in job.logger.items() if to.asks_for_model(name, node)]
    loggers = {name: fit.instantiated(to.settled(name, node), f"logger.{name}", Logger) for name, node in job.logger.items()}
    if not first:
        fit.fit(job, run_dir, prepared, start_from, chosen, [])
        ranks.leave_group()
        return None
    benchmarks = benchmarking.load_benchmarks(job.benchmark, job.evaluation, job.paths, benchmarks_by_name)
    facts["benchmarks"] = _origins(benchmarks)
    if state == "unfinished":
        run_record.check_data(run_dir, facts)
    retrievers = benchmarking.load_retrievers(job.retriever, job.evaluation)
    benchmarking.check_retrievers(retrievers, benchmarks, job.evaluation, prepared.source, prepared.module.encoder)
    if job.strict:
        benchmarking.check_texts(prepared.module.encoder, benchmarks)
    collections = {name: benchmark.collection for name, benchmark in benchmarks.items()}
    if state == "unfinished" and (run_dir / audit.SUMMARY).exists():
        overlap = audit.audited(run_dir)
    else:
        loss = prepared.module.loss
        overlap = audit.audit(job.audit, prepared.source.sets(), collections, run_dir, loss.hard_negatives if loss else 0)
    # The directory is a run's only then: where a logger cannot start, the same command may be given again.
    with to.opened(loggers, {**asdict(job), "choices": dict(choices), "sweep": sweep}):
        run_record.write_environment(run_dir, {"world_size": job.world_size, "start_step": start, **facts})
        run_record.write_config(run_dir, job, choices)  # the last of the two: from here on the run may be gone on with
        try:
            figures = fit.fit(job, run_dir, prepared, start_from, chosen, list(loggers.values()))
        except DivergenceError as error:
            kept = f"{last} is of step {read_checkpoint(last)['global_step']}" if last.exists() else "no checkpoint was written"
            for logger in loggers.values():
                to.send_alert(logger, "The loss is not finite", f"{error}; {kept}")
            raise InputError(f"{error}; {kept}; lower optimizer.lr={job.optimizer.get('lr')}") from error
        ranks.leave_group()  # the others do not wait for the evaluation
        encoder = load_encoder(run_dir, job.evaluation.checkpoint, job.strict, str(job.trainer.get("accelerator", "auto")))
        metrics = benchmarking.score_benchmarks(
            encoder,
            retrievers,
            benchmarks,
            job.evaluation,
            job.paths,
            run_dir,
            prepared.source,
            trained_on(run_dir, job.model),
        )
        run_record.write_metrics(run_dir, metrics | overlap | {f"train/{name}": value for name, value in figures.items()})
        keep([loggers[name] for name in keepers], run_dir, list(to.inputs(facts, job.model)))
        close(run_dir)
        Publish(run_dir).results(list(loggers.values()))
    return figures.get("best_score")


def _origins(benchmarks: Mapping[str, LoadedBenchmark]) -> dict[str, Any]:
    return {name: benchmark.provenance for name, benchmark in benchmarks.items()}


def keep(loggers: Sequence[Any], run_dir: Path, made_from: Sequence[tuple[str, str, dict[str, Any]]]) -> None:
    """Give loggers the files of a finished run, and its encoder in the form that others load."""
    from hybrid_retrieval.export import export
    from hybrid_retrieval.training.loggers import send_run

    if not loggers:
        return
    with tempfile.TemporaryDirectory() as folder:
        model: Path | None = Path(folder) / "model"
        try:
            with redirect_stdout(None):
                export(run_dir, Path(folder) / "model", name=run_dir.resolve().name)
        except InputError as error:
            log.warning("the encoder is not among the files that loggers keep: %s", error)
            model = None
        send_run(loggers, run_dir, model, made_from)


def close(run_dir: Path) -> None:
    """The report, the table, and where everything is."""
    from hybrid_retrieval.reporting.run_report import report_run

    report_run(run_dir)
    print(f"run directory: {run_dir}")


if __name__ == "__main__":
    hydra_command(main, "config")
