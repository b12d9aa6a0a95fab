"""Hydra's callbacks for a sweep: which job of how many begins, and how its jobs compare when it ends.

Every command of the package imports this, `--cfg job` too: nothing heavy at the top.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

log = logging.getLogger(__name__)


class CountJobs(Callback):
    """``hydra.callbacks.count._target_: hybrid_retrieval.reporting.sweep.CountJobs``: a line when a job begins."""

    def __init__(self) -> None:
        self.jobs: int | None = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Count the jobs, where that can be known."""
        self.jobs = count_jobs(config.hydra.sweeper, config.hydra.overrides.task)

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Say which job of the sweep this is; nothing of a single one."""
        hydra = config.hydra
        if hydra.mode == RunMode.MULTIRUN:
            of = f" of {self.jobs}" if self.jobs else ""
            log.info("job %d%s: %s", hydra.job.num + 1, of, " ".join(hydra.overrides.task))


def count_jobs(sweeper: DictConfig, overrides: Sequence[str]) -> int | None:
    """How many jobs a sweeper will start; None where only Hydra can know, as of a ``glob``."""
    if "n_trials" in sweeper:
        return int(sweeper.n_trials)
    given = [*(f"{key}={value}" for key, value in (sweeper.get("params") or {}).items()), *overrides]
    try:
        batches = BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(given), None)
    except (HydraException, AssertionError, AttributeError):
        return None
    return sum(map(len, batches))


class CompareSweep(Callback):
    """``hydra.callbacks.compare._target_: hybrid_retrieval.reporting.sweep.CompareSweep``."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Write the comparison into the sweep directory, if two jobs or more were scored there.

        A failure is told in one line and changes nothing about how the sweep ends.
        """
        try:
            compare_sweep(Path(config.hydra.sweep.dir))
        except Exception as error:
            directory = config.hydra.sweep.dir
            message = " ".join(str(error).split())
            hint = f"to try again: python -m hybrid_retrieval.report {directory}"
            print(f"the jobs of the sweep were not compared: {type(error).__name__}: {message} ({hint})", file=sys.stderr)


def compare_sweep(directory: Path) -> None:
    """Compare the runs of a sweep directory; one job alone is nothing to compare."""
    from hybrid_retrieval.reporting.comparison import compare
    from hybrid_retrieval.reporting.run_directory import find_runs, is_run

    if sum(is_run(job) for job in directory.glob("*")) < 2:
        return
    runs = find_runs(directory)
    if sum(bool(run.benchmarks) for run in runs) >= 2:
        compare(runs, directory)
    else:
        print(f"the jobs of the sweep were not compared: fewer than two have benchmark figures in {directory}", file=sys.stderr)
