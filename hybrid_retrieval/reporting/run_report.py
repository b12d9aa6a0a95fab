"""The report of one run: its tables in the terminal, its figures, and ``report.html``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.evaluation.figures import PER_QUERY
from hybrid_retrieval.evaluation.measures import CONTRASTS, SETTINGS
from hybrid_retrieval.reporting import charts, heatmap
from hybrid_retrieval.reporting.batch_composition import BatchComposition
from hybrid_retrieval.reporting.browser import browser_section
from hybrid_retrieval.reporting.distributions import rank_distance_figure, share_figure
from hybrid_retrieval.reporting.page import Chart, Section, write_page
from hybrid_retrieval.reporting.pairs_table import pairs_tables
from hybrid_retrieval.reporting.paper import PLAIN, Paper
from hybrid_retrieval.reporting.per_query import check_values
from hybrid_retrieval.reporting.robustness import robustness_matrix, robustness_tables, severity_figure
from hybrid_retrieval.reporting.run_directory import RunDirectory
from hybrid_retrieval.reporting.seen import MARK
from hybrid_retrieval.reporting.table import console, show
from hybrid_retrieval.reporting.tables import bias_tables, phenomenon_tables, pivot_tables, run_table
from hybrid_retrieval.reporting.training_curves import Curves, in_words, read_curves, telemetry_figure, training_figure

PROVENANCE = {"data": "training data", "benchmarks": "benchmarks"}
"""Keys of environment.json that say where text came from."""

SENTENCES = {"monolingual": "query and corpus in one language", "crosslingual": "in two", "multilingual": "the pooled corpora"}


def report_run(run_dir: Path, paper: Paper = PLAIN) -> None:
    """Write ``figures/`` and ``report.html`` of a run directory and print its tables.

    Args:
        paper: in which formats, and in which order of languages.

    Raises:
        InputError: `run_dir` is not a run directory, there is nothing in it to show, or its values per query are gone.
    """
    run = RunDirectory.open(run_dir)
    if (run.path / PER_QUERY).is_file():
        check_values(run.path / PER_QUERY)
    curves, composition = read_curves(run.path), BatchComposition.read(run.path)
    drawn = {name: charts.specification(one) for name, one in draw_run(run, curves, composition, paper.order).items()}
    paper.draw(drawn, run.path / "figures")
    if not run.metrics and not drawn:
        traces = "a batch_manifest.parquet or telemetry.jsonl"
        raise InputError(f"{run_dir} has neither figures in metrics.json nor {traces} to show")
    known = {
        "seed": run.config.get("seed"),
        "steps": run.setting("trainer", "max_steps", int),
        "folder": run.path.resolve().name,
    }
    under = " · ".join(f"{name} {value}" for name, value in known.items() if value is not None)
    write_page(run.path / "report.html", run.title, under, list(_sections(run, drawn, curves, composition)))
    out = console()
    for benchmark in run.reported:
        tables = [run_table(run, benchmark), *pivot_tables(run, benchmark), *phenomenon_tables(run, benchmark)]
        tables += [*bias_tables(run, benchmark, by_language=False), *robustness_tables(run, benchmark, whole=False)]
        paper.tabulate(tables, benchmark, run.path / "tables")
        show(out, *tables)
    if not run.reported:
        out.print(f"{run.title}: no benchmark figures; the pictures are in {run.path / 'report.html'}", markup=False)


def draw_run(run: RunDirectory, curves: Curves, composition: BatchComposition | None, order: str = "name") -> dict[str, Any]:
    """What can be drawn of a run, by the names of the files in its ``figures/``; matrices in an `order` of languages."""
    matrices = {f"{name}_map": _map_figure(run, name) for name in run.benchmarks}
    curves_shown: dict[str, Any] = {}
    for name in run.benchmarks:
        matrices |= {f"{name}_robustness": robustness_matrix(run, name)}
        systems = {run.title: run, **run.baselines}
        curves_shown |= {
            f"{name}_severity": severity_figure(run, name),
            f"{name}_rank_distance": rank_distance_figure(systems, name),
            f"{name}_share": share_figure(systems, name),
        }
    matrices["batch_composition"] = composition and composition.draw(constant_alpha(run))
    curves_shown["training"] = training_figure(curves)
    accumulate = run.setting("trainer", "accumulate_grad_batches", int) or 1
    curves_shown["telemetry"] = telemetry_figure(curves, composition, accumulate)
    drawn = {name: heatmap.with_order(figure, order) for name, figure in matrices.items() if figure is not None}
    return drawn | {name: figure for name, figure in curves_shown.items() if figure is not None}


def constant_alpha(run: RunDirectory) -> float | None:
    """The sampler's ratio, where it has one that no schedule moves."""
    moves = (run.setting("sampler", "schedule", dict) or {}).get("kind", "constant") != "constant"
    return None if moves else run.setting("sampler", "alpha", float)


def _map_figure(run: RunDirectory, benchmark: str) -> Any:
    drawn = heatmap.measured([run], benchmark)
    if drawn is None:
        return None
    languages = heatmap.languages_of([run], benchmark, drawn.name)
    values = heatmap.pair_matrix(run, benchmark, languages, drawn.name)
    never = run.figures.never_seen(benchmark)
    legend = f"framed: monolingual{f'; {MARK}: never in the training text' if never else ''}"
    found = {key: run.figures.value(benchmark, *key) for key in heatmap.headline_keys(drawn)}
    headline = heatmap.headline({key: value for key, value in found.items() if value is not None})
    title = (f"{benchmark} · {run.title}", f"{headline} ({legend})")
    return heatmap.language_pairs(values, languages, heatmap.Scale.of(drawn.label, [values]), title, never)


def _sections(
    run: RunDirectory, drawn: Mapping[str, Any], curves: Curves, composition: BatchComposition | None
) -> Iterator[Section]:

    def shown(captions: Mapping[str, str], size: str = "full") -> list[Chart]:
        return [Chart(name, drawn[name], caption, size) for name, caption in captions.items() if name in drawn]

    systems = {run.title: run, **run.baselines}
    for name in run.reported:
        tables = [run_table(run, name), *pivot_tables(run, name), *phenomenon_tables(run, name)]
        tables += bias_tables(run, name, by_language=True)
        first = heatmap.measured([run], name)
        pairs = shown({f"{name}_map": f"{name}: {first.label if first else ''} by language pair"}, "plain")
        spread = {
            f"{name}_rank_distance": "How far apart the relevant documents of a query lie in the pooled list",
            f"{name}_share": "Whose documents fill the top of the pooled list",
        }
        by_pair = list(pairs_tables({one: [of] for one, of in systems.items()}, name))
        yield Section(name, tables, [_counts(run, name)], charts=[*pairs, *shown(spread)], folded=by_pair)
        noisy = robustness_tables(run, name, whole=True)
        if noisy:
            lost = {f"{name}_robustness": "What each language loses", f"{name}_severity": "What is lost by severity"}
            yield Section(f"{name}: perturbed queries", noisy, charts=shown(lost, "full"))
    if questions := browser_section(systems):
        yield questions
    measured = {
        key.removeprefix("train/"): f"{value:,.6g}"
        for key, value in run.metrics.items()
        if key.startswith("train/") and not key.startswith("train/batches/")
    }
    streams = "The two streams: losses, accuracy, the cosine of their gradients, and their share of the pairs"
    training = Section(
        "Training",
        charts=shown({"training": "Loss and validation figures by step", "telemetry": streams}),
        facts=measured | in_words(curves),
    )
    if training.charts or training.facts:
        yield training
    if composition is not None:
        caption = {"batch_composition": "Pairs drawn by query and passage language, and the monolingual share"}
        yield Section("Batches", charts=shown(caption), facts=composition.summary())
    sources = {text: run.environment[key] for key, text in PROVENANCE.items() if run.environment.get(key)}
    machine = {key: value for key, value in run.environment.items() if key not in PROVENANCE}
    for title, facts in (("Data", sources), ("Environment", machine)):
        if facts:
            yield Section(title, facts=facts)
    config = run.path / "config.yaml"
    if config.is_file():
        yield Section("Config", files={"config.yaml": config.read_text(encoding="utf-8")})


def _counts(run: RunDirectory, benchmark: str) -> str:

    asked = next(one for one in (run, *run.baselines.values()) if benchmark in one.benchmarks)
    counted = []
    for setting, short in SETTINGS.items():
        queries, left_out = (asked.figures.value(benchmark, setting, name) for name in ("queries", "left_out"))
        if queries is not None:
            without = f" queries, {left_out:,.0f} left out without a relevant text" if left_out is not None else " queries"
            what = " contrasts" if asked.figures.get(benchmark, setting, CONTRASTS) else without
            counted.append(f"{short} ({SENTENCES[setting]}): {queries:,.0f}{what}")
    return ". ".join(counted)
