"""What a job or a sweep will cost: ``python -m hybrid_retrieval.plan [-m] [the overrides of run] plan.device=h100_80gb``.

Nothing is trained and no weights are loaded: an encoder of any size is planned in little memory. The data is tokenised, as the
run would, since the lengths of its texts decide what a step costs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

from hybrid_retrieval.command import hydra_command
from hybrid_retrieval.config import construct, job_config, positive

if TYPE_CHECKING:
    from hybrid_retrieval.planning.job import JobPlan

LAUNCHING = ("hydra/launcher=", "hydra.launcher.")
"""Overrides that a plan leaves out: it is made here, in this process, wherever the sweep will run."""


@dataclass(frozen=True)
class PlanConfig:
    """The config group ``plan``."""

    device: str = "cpu"
    """What to plan for."""
    share: float | None = None
    """Of the device's matrix peak that training reaches."""
    batches: int = 8
    """Global batches of the run that are drawn as a sample."""

    def __post_init__(self) -> None:
        positive("plan.batches", self.batches)


@dataclass(frozen=True)
class Planned:
    """A job's overrides and its plan."""

    overrides: tuple[str, ...]
    plan: JobPlan


def main(composed: DictConfig, planned: list[Planned]) -> None:
    """Plan one job, and add it to those `planned`."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    with open_dict(composed):
        settings: Any = OmegaConf.to_container(composed.pop("plan"))
    config = construct(PlanConfig, settings, "plan")
    job = job_config(composed)

    from hybrid_retrieval.planning.devices import device
    from hybrid_retrieval.planning.job import plan_job

    hydra = HydraConfig.get()
    _remove_empty(Path(hydra.runtime.output_dir))
    overrides = tuple(item for item in hydra.overrides.task if not item.lstrip("+").startswith("plan."))
    plan = plan_job(job, device(config.device, config.share), config.batches)
    planned.append(Planned(overrides, plan))
    print(f"planned: {' '.join(overrides) or 'the default job'}", file=sys.stderr)


def show(planned: Sequence[Planned]) -> None:
    """Tables of all plans with totals, what does not fit, and what is an estimate."""
    if not planned:
        return
    from hybrid_retrieval.planning.tables import memory_table, remarks, work_table
    from hybrid_retrieval.reporting.tables import console, rich_table

    plans = list(zip(labels([one.overrides for one in planned]), (one.plan for one in planned), strict=True))
    for table in (work_table(plans), memory_table(plans)):
        console().print(rich_table(table))
    for line in remarks(plans):
        print(line)


def labels(jobs: Sequence[Sequence[str]]) -> list[str]:
    """What tells each job from the others."""
    shared = set(jobs[0]).intersection(*jobs[1:])
    return [" ".join(item for item in job if item not in shared) or "the job" for job in jobs]


def _remove_empty(directory: Path) -> None:
    """Hydra makes a directory for every job; a plan writes nothing there."""
    if directory.is_dir() and not any(directory.iterdir()):
        directory.rmdir()


def run() -> None:
    """The command."""
    planned: list[Planned] = []
    sys.argv[1:] = [item for item in sys.argv[1:] if not item.startswith(LAUNCHING)]
    try:
        hydra_command(lambda composed: main(composed, planned), "plan")
    finally:  # of a sweep with a bad job, the others are shown
        show(planned)


if __name__ == "__main__":
    run()
