"""Hydra's callback that compares the jobs of a sweep when it ends.

Every command of the package imports this, `--cfg job` too: nothing heavy at the top.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig


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
