"""Train, evaluate, report: ``python -m hybrid_retrieval.run sampler=hybrid model=static``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from hybrid_retrieval.command import asked_by_name, hydra_command, stop
from hybrid_retrieval.config import JobConfig, job_config
from hybrid_retrieval.errors import InputError, Terminated


def main(composed: DictConfig) -> float | None:
    """One job, from its composed config to its run directory; the best value of ``trainer.monitor``, if any was validated."""
    hydra = HydraConfig.get()
    choices = {group: name for group, name in hydra.runtime.choices.items() if not group.startswith("hydra/") and name}
    run_dir, sweep = Path(hydra.runtime.output_dir), Path(hydra.sweep.dir) if hydra.mode == RunMode.MULTIRUN else None
    job = job_config(composed)
    searches = sweep is not None and check_search(hydra.sweeper, job.trainer.monitor)
    try:
        best = run(
            job,
            run_dir,
            {group: str(name) for group, name in choices.items()},
            asked_by_name("benchmark"),
            sweep.name if sweep else None,
        )
    except Terminated:
        place = f"hydra.sweep.dir={sweep}" if sweep else f"hydra.run.dir={run_dir}"
        stop(f"terminated; the same command with resume=auto {place} goes on from the last checkpoint", 143)
    if searches and best is None:
        raise InputError(
            "nothing was validated for hydra/sweeper to go by: dataset.validation_share and trainer.validation_batches "
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
            f"hydra.sweeper.direction={asked}, but trainer.monitor={monitor} needs hydra.sweeper.direction={right}"
        )
    return True


def run(
    job: JobConfig, run_dir: Path, choices: dict[str, str], benchmarks_by_name: bool, sweep: str | None = None
) -> float | None:
    """Train the job's encoder into `run_dir`, score it, and report.

    Args:
        sweep: the name of the sweep that the job belongs to.

    Returns:
        The best value of ``trainer.monitor``; None where nothing was validated.

    Raises:
        InputError: anything about the job that cannot work; before training wherever that can be known.
    """
    from hybrid_retrieval import run_record

    if job.trainer.nodes > 1 and _follows(job, run_dir):
        return None
    job = run_record.settled(run_dir, job)
    state = run_record.run_state(run_dir, job)
    if state == "finished":
        print("the run is finished already: nothing to do")
        close(run_dir)
        before: dict[str, float] = json.loads((run_dir / run_record.METRICS).read_text(encoding="utf-8"))
        return before.get("train/best_score")

    from hybrid_retrieval import benchmarking
    from hybrid_retrieval.audit import audit
    from hybrid_retrieval.training import fit, settle
    from hybrid_retrieval.training.checkpoint import load_encoder
    from hybrid_retrieval.training.loggers import RunLoggers

    job = replace(job, trainer=settle.settled(job.trainer))
    run_dir.mkdir(parents=True, exist_ok=True)
    loggers = RunLoggers(job, run_dir)
    prepared = fit.prepare(job)
    benchmarks = benchmarking.load_benchmarks(job.benchmark, job.evaluation, job.paths, benchmarks_by_name)
    benchmarking.check(benchmarks, job.evaluation, prepared.source, encoder=True)
    if job.strict:
        benchmarking.check_texts(prepared.module.encoder, benchmarks)
    collections = {name: benchmark.collection for name, benchmark in benchmarks.items()}
    sets = [weighted.pairs for weighted in prepared.source.sets()]
    if state == "unfinished" and (run_dir / audit.SUMMARY).exists():
        overlap = audit.audited(run_dir)
    else:
        overlap = audit.audit(job.audit, sets, collections, run_dir, int(job.loss.get("hard_negatives", 0)))
    last = run_dir / "checkpoints" / "last.ckpt"
    start_from = last if state == "unfinished" and last.exists() else None
    if start_from:
        fit.check_checkpoint(start_from, prepared.module)
    run_record.write_config(run_dir, job, choices)
    fit.save_model_config(prepared, run_dir)
    run_record.write_environment(
        run_dir,
        {
            "world_size": job.trainer.world_size,
            "start_step": fit.start_step(start_from) if start_from else 0,
            "data": prepared.source.provenance(),
            "benchmarks": {name: benchmark.provenance for name, benchmark in benchmarks.items()},
        },
    )
    with loggers.opened(choices, sweep):
        figures = fit.fit(job, run_dir, prepared, start_from)
        encoder = load_encoder(run_dir, job.evaluation.checkpoint, job.strict, job.trainer.accelerator, job.trainer.linear)
        metrics = benchmarking.score_benchmarks(encoder, benchmarks, job.evaluation, job.paths, run_dir, prepared.source)
        run_record.write_metrics(run_dir, metrics | overlap | {f"train/{name}": value for name, value in figures.items()})
        close(run_dir)
        loggers.record()
    return figures.get("best_score")


def _follows(job: JobConfig, run_dir: Path) -> bool:
    """Whether this is not the first of several nodes. Then it trains as that one says, and writes nothing."""
    from hybrid_retrieval import run_record
    from hybrid_retrieval.training import fit
    from hybrid_retrieval.training.nodes import rendezvous

    if rendezvous(job.trainer.nodes).node == 0:
        return False
    if not (job.resume == "auto" and (run_dir / run_record.METRICS).exists()):
        fit.follow(job, run_dir)
    return True


def close(run_dir: Path) -> None:
    """The report, the table, and where everything is."""
    from hybrid_retrieval.reporting import report_run

    report_run(run_dir)
    print(f"run directory: {run_dir}")


if __name__ == "__main__":
    hydra_command(main, "config")
