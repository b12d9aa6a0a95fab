"""The dashboard of a W&B project: its workspace, and a report for each sweep, as specifications.

A panel is asked for by the names of what it shows, and is there where runs log them: none is empty.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import wandb_workspaces.reports.v2 as reports
import wandb_workspaces.workspaces as workspaces
from wandb_workspaces import expr

from hybrid_retrieval.evaluation.measures import SETTINGS, measure
from hybrid_retrieval.reporting.logged import BATCHES

STEP = "trainer/global_step"
"""What W&B's axis of a run is called by Lightning."""
SAMPLER = "choices.sampler"
WIDE, SQUARE = (24, 10), (8, 8)
GRID = 24
"""Columns of a report's panels."""


@dataclass(frozen=True)
class Panel:
    """Names of what is shown, and how."""

    names: Sequence[str]
    make: Callable[..., Any]
    size: tuple[int, int] = SQUARE


@dataclass(frozen=True)
class Section:
    """Panels under a title, and a sentence for a report's readers."""

    title: str
    about: str
    panels: Sequence[Panel]


def sections(keys: Collection[str]) -> list[Section]:
    """All sections of which `keys`, the names that runs log, fill a panel; of which they fill some, with these."""
    drawn = sorted({key.split("/")[0] for key in keys if key.count("/") == 2 and key.split("/")[1] in SETTINGS})
    benchmarks = [name for name in drawn if name != "val"]
    wanted = [
        Section("Pareto", "Monolingual against cross-lingual retrieval: a point is a run.", _pareto(benchmarks)),
        Section("Validation by step", "Mean of the runs of a sampler, and their range.", _validation()),
        Section("Results by sampler", "Mean of the runs of a sampler.", _results(benchmarks)),
        Section(
            "Rank distance", "How far apart the pool ranks the translations of a passage; less is fairer.", _bias(benchmarks)
        ),
        Section("Language pairs", "Query language by passage language, and every language by itself.", _languages(benchmarks)),
        Section("Batch composition", "What the batches held.", _batches()),
        Section("Streams", "Losses and accuracy of the two streams, and the cosine of their gradients.", _streams()),
        Section("Throughput", "How fast, and in how much memory.", _throughput()),
    ]
    there = [Section(one.title, one.about, [panel for panel in one.panels if {*panel.names} <= {*keys}]) for one in wanted]
    return [one for one in there if one.panels]


def _pareto(benchmarks: Sequence[str]) -> list[Panel]:
    return [_against(name, ("monolingual", "map"), ("crosslingual", "map")) for name in benchmarks]


def _bias(benchmarks: Sequence[str]) -> list[Panel]:
    distance = ("multilingual", "rank_distance")
    bars = [_bars(name, *distance) for name in benchmarks]
    return [*bars, *(_against(name, ("multilingual", "map"), distance) for name in benchmarks)]


def _results(benchmarks: Sequence[str]) -> list[Panel]:
    return [_bars(name, setting, "map") for name in benchmarks for setting in SETTINGS]


def _validation() -> list[Panel]:
    by_setting = [_curve(f"{short} mAP", [f"val/{setting}/map"], by_sampler=True) for setting, short in SETTINGS.items()]
    return [
        *by_setting,
        _curve("Loss", ["val/loss"], by_sampler=True),
        _curve("Accuracy@1", ["val/accuracy@1"], by_sampler=True),
    ]


def _languages(benchmarks: Sequence[str]) -> list[Panel]:
    shown = []
    for name in benchmarks:
        shown += [_pictures(f"figures/{name}_map")]
        shown += [_table(f"{kind}/{name}") for kind in ("pairs", "languages", "results")]
    return shown


def _batches() -> list[Panel]:
    share = [_curve("Monolingual share of the pairs", ["train/monolingual_pair_share"]), _curve("Alpha", ["train/alpha"])]
    return [*share, _pictures("figures/batch_composition"), _table(BATCHES)]


def _streams() -> list[Panel]:
    both = [
        _curve(title, [f"train/{name}/{stream}"])
        for title, name, stream in (
            ("Loss, monolingual", "loss", "monolingual"),
            ("Loss, cross-lingual", "loss", "crosslingual"),
            ("Accuracy@1, monolingual", "accuracy@1", "monolingual"),
            ("Accuracy@1, cross-lingual", "accuracy@1", "crosslingual"),
        )
    ]
    return [_curve("Loss", ["train/loss"]), *both, _curve("Cosine of the gradients", ["train/gradient_cosine"])]


def _throughput() -> list[Panel]:
    names = {"Pairs a second": "pairs_per_second", "Tokens a second": "tokens_per_second", "Share of padding": "padding_share"}
    return [_curve(title, [f"train/{name}"]) for title, name in {**names, "Memory, GiB": "memory_gib"}.items()]


def _against(benchmark: str, x: tuple[str, str], y: tuple[str, str]) -> Panel:
    names = [f"{benchmark}/{setting}/{name}" for setting, name in (x, y)]

    def make(**more: Any) -> Any:
        axes = [reports.SummaryMetric(name) for name in names]
        return reports.ScatterPlot(title=f"{benchmark}: {_label(*x)} and {_label(*y)}", x=axes[0], y=axes[1], **more)

    return Panel(names, make)


def _bars(benchmark: str, setting: str, name: str) -> Panel:
    key = f"{benchmark}/{setting}/{name}"

    def make(**more: Any) -> Any:
        return reports.BarPlot(
            title=f"{benchmark}: {_label(setting, name)}",
            metrics=[key],
            groupby=reports.Config(SAMPLER),
            groupby_aggfunc="mean",
            groupby_rangefunc="minmax",
            **more,
        )

    return Panel([key], make)


def _curve(title: str, names: Sequence[str], by_sampler: bool = False) -> Panel:
    grouped = {"groupby": reports.Config(SAMPLER), "groupby_aggfunc": "mean", "groupby_rangefunc": "minmax"}

    def make(**more: Any) -> Any:
        return reports.LinePlot(title=title, x=STEP, y=list(names), title_x="step", **(grouped if by_sampler else {}), **more)

    return Panel(names, make)


def _pictures(name: str) -> Panel:
    return Panel([name], lambda **more: reports.MediaBrowser(media_keys=[name], num_columns=2, **more), WIDE)


def _table(name: str) -> Panel:
    return Panel([name], lambda **more: reports.WeavePanelSummaryTable(table_name=name, **more), WIDE)


def _label(setting: str, name: str) -> str:
    one = measure(name)
    return f"{SETTINGS[setting]} {one.label}" if len(one.settings) > 1 else one.label


def workspace(project: str, entity: str, keys: Collection[str]) -> Any:
    """The project's workspace: `sections` over all runs, the first ones open."""
    shown = [
        workspaces.Section(one.title, [panel.make() for panel in one.panels], is_open=number < 3)
        for number, one in enumerate(sections(keys))
    ]
    settings = workspaces.WorkspaceSettings(x_axis=STEP, max_runs=50)
    return workspaces.Workspace(entity, project, "Hybrid batches", shown, settings)


def sweep_report(project: str, entity: str, keys: Collection[str], sweep: str) -> Any:
    """A report on the runs of one sweep, by sampler."""
    blocks: list[Any] = [reports.TableOfContents()]
    of_sweep = expr.And(expr.Metric("Group") == sweep)
    for one in sections(keys):
        runs = reports.Runset(name=sweep, filters=of_sweep, groupby=[f"config.{SAMPLER}"])  # of the report's own project
        panels = [panel.make(layout=reports.Layout(*place)) for panel, place in _places(one.panels)]
        blocks += [reports.H2(one.title), reports.P(one.about), reports.PanelGrid(runsets=[runs], panels=panels)]
    about = f"The runs of the group {sweep}."
    return reports.Report(project, entity, title=f"Sweep {sweep}"[:128], description=about, blocks=blocks, width="fluid")


def _places(panels: Sequence[Panel]) -> Iterator[tuple[Panel, tuple[int, int, int, int]]]:
    """Each panel with its x, y, width and height: from left to right, in rows."""
    x = y = height = 0
    for panel in panels:
        if x + panel.size[0] > GRID:
            x, y, height = 0, y + height, 0
        yield panel, (x, y, *panel.size)
        x, height = x + panel.size[0], max(height, panel.size[1])


def specification(one: Any) -> dict[str, Any]:
    """What W&B is sent for a workspace or a report."""
    found: dict[str, Any] = json.loads(one._to_model().model_dump_json(by_alias=True, exclude_none=True))
    return found
