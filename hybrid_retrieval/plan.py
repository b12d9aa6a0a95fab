"""The cost of a job or sweep before it runs: ``python -m hybrid_retrieval.plan [-m] [overrides of run] plan.device=h100_80gb``.

Nothing is trained and no weights are loaded. The data is tokenised, since the lengths of its texts decide what a step costs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

from hybrid_retrieval.command import hydra_command
from hybrid_retrieval.config import job_config
from hybrid_retrieval.errors import choice
from hybrid_retrieval.values import Count, Part, check, construct

if TYPE_CHECKING:
    from hybrid_retrieval.planning import Plan

LAUNCHING = ("hydra/launcher=", "hydra.launcher.")
"""Overrides that a plan leaves out: it is made here, in this process, wherever the sweep will run."""
SUMMED = ("Steps", "PFLOP in all", "Gradient syncs", "GB received", "Hours about")
DIGITS = {"Padding %": 1, "Passes": 2, "GFLOP a batch": 1, "PFLOP in all": 3, "GB received": 1, "Hours about": 3}
DIGITS |= {"Parameters M": 1, "Trained M": 1, "Total GiB": 2, "Device GiB": 1}


@dataclass(frozen=True)
class PlanConfig:
    """The config group ``plan``, explained in ``conf/plan.yaml``."""

    device: str = "cpu"
    share: Part | None = None
    batches: Count = 8

    def __post_init__(self) -> None:
        check(type(self), vars(self), "plan")


def main(composed: DictConfig, planned: dict[tuple[str, ...], Plan]) -> None:
    """Plan one job, and add it to those `planned`, by its overrides."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    with open_dict(composed):
        settings: Any = OmegaConf.to_container(composed.pop("plan"))
    config = construct(PlanConfig, settings, "plan")
    job = job_config(composed)

    from hybrid_retrieval.planning import CARDS, plan_job, this_machine

    choice("plan.device", config.device, ["cpu", *CARDS])
    device = CARDS.get(config.device) or this_machine()
    hydra = HydraConfig.get()
    with suppress(OSError):
        Path(hydra.runtime.output_dir).rmdir()  # which Hydra makes for every job
    overrides = tuple(item for item in hydra.overrides.task if not item.lstrip("+").startswith("plan."))
    planned[overrides] = plan_job(job, replace(device, reached=config.share or device.reached), config.batches)
    print(f"planned: {' '.join(overrides) or 'the default job'}", file=sys.stderr)


def show(planned: dict[tuple[str, ...], Plan]) -> None:
    """Tables of all plans with totals, what does not fit, and what is an estimate."""
    from hybrid_retrieval.planning import HEADROOM
    from hybrid_retrieval.reporting import table
    from hybrid_retrieval.reporting.table import Column, Row, Table, console

    plans = dict(zip(labels(list(planned)), planned.values(), strict=True))
    device = next(iter(plans.values())).device
    for title, kind in (("Work (tokens: of a global batch)", "work"), ("Memory of a device", "memory")):
        figures = {label: getattr(plan, kind) for label, plan in plans.items()}
        names = list(next(iter(figures.values())))
        rows = [Row(label, list(found.values())) for label, found in figures.items()]
        if kind == "work" and len(rows) > 1:
            sums = [sum(found[name] for found in figures.values()) if name in SUMMED else None for name in names]
            rows.append(Row(f"total of {len(plans)} jobs", sums, "mean"))
        columns = [Column(name, DIGITS.get(name, 3 if "GiB" in name else 0)) for name in names]
        table.show(console(), Table(title, "Job", columns, rows))
    for label, plan in plans.items():
        if plan.advice:
            print(f"WARNING: {label}: {plan.advice}")
    print(
        f"{device.name}: {device.single / 1e12:,.3g} TFLOP/s in float32, {device.half / 1e12:,.3g} in half precision, "
        f"{device.reached:.0%} of it reached (assumed; plan.share), {HEADROOM:.0%} of {device.memory / 2**30:.1f} GiB planned\n"
        "Counted: parameters, weights, optimizer states, synchronisations. From a sample of batches: tokens, padding, FLOPs, "
        "activations. Estimates: gradients, scores, bytes received, hours (of products and exchanges in training alone)"
    )


def labels(jobs: Sequence[Sequence[str]]) -> list[str]:
    """The overrides that tell each job from the others."""
    shared = set(jobs[0]).intersection(*jobs[1:])
    return [" ".join(item for item in job if item not in shared) or "the job" for job in jobs]


def run() -> None:
    """The command."""
    planned: dict[tuple[str, ...], Plan] = {}
    sys.argv[1:] = [item for item in sys.argv[1:] if not item.startswith(LAUNCHING)]
    try:
        hydra_command(lambda composed: main(composed, planned), "plan")
    finally:  # of a sweep with a bad job, the others are shown
        if planned:
            show(planned)


if __name__ == "__main__":
    run()
