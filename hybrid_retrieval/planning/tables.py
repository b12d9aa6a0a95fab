"""Plans as tables, and what must be said beside them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields

from hybrid_retrieval.planning.job import HEADROOM, JobPlan, Memory, gib
from hybrid_retrieval.reporting.tables import Column, Row, Table

WORK = (
    Column("Query tokens", 0),
    Column("Passage tokens", 0),
    Column("Padding %", 1),
    Column("Steps", 0),
    Column("Passes", 2),
    Column("GFLOP a batch", 1),
    Column("PFLOP in all", 3),
    Column("Gradient syncs", 0),
    Column("GB received", 1),
    Column("Hours about", 3),
)
MEMORY = (
    Column("Parameters M", 1),
    Column("Trained M", 1),
    *(Column(f"{field.name.capitalize()} GiB", 3) for field in fields(Memory)),
    Column("Total GiB", 2),
    Column("Device GiB", 1),
)
GIB = 2**30

Labelled = Sequence[tuple[str, JobPlan]]


def work_table(plans: Labelled) -> Table:
    """Jobs x what a step and the run take, and totals."""
    rows = [Row(label, _work(plan)) for label, plan in plans]
    if len(rows) > 1:
        summed = {"Steps", "PFLOP in all", "Gradient syncs", "GB received", "Hours about"}
        totals = [
            sum(float(row.values[place] or 0) for row in rows) if column.name in summed else None
            for place, column in enumerate(WORK)
        ]
        rows.append(Row(f"total of {len(plans)} jobs", totals, "mean"))
    return Table("Work (tokens: of a global batch)", "Job", WORK, rows)


def memory_table(plans: Labelled) -> Table:
    """Jobs x what the fullest device holds."""
    return Table("Memory of a device", "Job", MEMORY, [Row(label, _memory(plan)) for label, plan in plans])


def remarks(plans: Labelled) -> Iterator[str]:
    """Warnings, and what is an estimate."""
    device = plans[0][1].device
    for label, plan in plans:
        if not plan.fits:
            yield f"WARNING: {label}: {plan.advice}"
    yield (
        f"{device.name}: {device.single / 1e12:,.3g} TFLOP/s in float32, {device.half / 1e12:,.3g} in half precision, "
        f"{device.share:.0%} of it reached (assumed; plan.share), {gib(device.memory)}, {device.bandwidth / 1e9:,.0f} GB/s"
    )
    yield (
        "Counted: steps, parameters, weights, optimizer states, synchronisations. From a sample of batches: tokens, padding, "
        "FLOPs, activations. Estimates: gradients, scores, bytes received, hours (of training steps alone: no validation, "
        f"evaluation or loading). Temporaries are not counted: {HEADROOM:.0%} of a device's memory may be planned."
    )


def _work(plan: JobPlan) -> list[float]:
    return [
        plan.batch.query_tokens,
        plan.batch.passage_tokens,
        100 * plan.padding,
        plan.steps,
        plan.passes,
        plan.batch.all_flops / 1e9,
        plan.batch.all_flops * plan.batches / 1e15,
        plan.synchronisations,
        plan.sent / 1e9,
        plan.seconds / 3600,
    ]


def _memory(plan: JobPlan) -> list[float]:
    parts = [getattr(plan.memory, field.name) / GIB for field in fields(Memory)]
    counts = [plan.weights.total / 1e6, plan.weights.trainable / 1e6]
    return [*counts, *parts, plan.memory.total / GIB, plan.device.memory / GIB]
