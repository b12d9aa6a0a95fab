"""Result tables of a run and of several, each made once, wherever it is shown."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING

from hybrid_retrieval.evaluation.figures import SEEN
from hybrid_retrieval.evaluation.measures import BYTES, MICRO, PHENOMENON, POOLED, SETTINGS, TIES, Measure, measure
from hybrid_retrieval.reporting.contest import FLOOR, Contest
from hybrid_retrieval.reporting.labels import LabelledRun, conditions
from hybrid_retrieval.reporting.run_directory import RunDirectory
from hybrid_retrieval.reporting.seen import SHORT, footnote, marked
from hybrid_retrieval.reporting.table import Column, Row, Table, number, p_value

if TYPE_CHECKING:
    pass

MARGIN = "  ± (95%)"
ENDS = ("Lowest by language", "Highest by language")
COMPARED = (
    ("monolingual", "map"),
    ("crosslingual", "map"),
    ("multilingual", "map"),
    ("monolingual", "recall@1"),
    ("crosslingual", "recall@1"),
    ("multilingual", "recall@10"),
    ("multilingual", "rank_distance"),
)
"""The columns of a comparison on a benchmark that has mAP; on others it is every measure."""
SPEED = Column("Pairs/s", 0)


def column_of(one: Measure, setting: str | None = None) -> Column:
    """A measure's column; named with a setting where the measure has several."""
    prefix = f"{SETTINGS[setting]} " if setting and len(one.settings) > 1 else ""
    return Column(f"{prefix}{one.label}", one.digits, one.better)


def retrieval_measures(runs: Sequence[RunDirectory], benchmark: str) -> list[Measure]:
    """The measures that any of the runs has, without counts, means over all queries, and what has a table of its own."""
    every = {one for run in runs for one in run.figures.measures(benchmark) if one.better and not one.of_bias}
    return sorted((one for one in every if not one.stem.startswith((MICRO, PHENOMENON))), key=lambda one: one.order)


def run_table(run: RunDirectory, benchmark: str) -> Table:
    """Settings x measures of one run on one benchmark, and of its baselines under each setting; half an interval below each.

    Where there are languages that the encoder was never trained on, a mean without them stands below the first.
    """
    systems = {"": run} | {f" · {name}": one for name, one in run.baselines.items()}
    measures = retrieval_measures(list(systems.values()), benchmark)
    rows: list[Row] = []
    for setting, short in SETTINGS.items():
        for (suffix, one), (languages, over) in product(systems.items(), ((None, ""), (SEEN, f" · {SHORT}"))):
            found = [one.figures.get(benchmark, setting, column.name, languages) for column in measures]
            if any(found):
                rows.append(Row(f"{short}{suffix}{over}", [figure.value if figure else None for figure in found]))
                margins = [figure.margin if figure else None for figure in found]
                rows += [Row(MARGIN, margins, "margin")] if any(margins) else []
    never = {suffix.removeprefix(" · ") or run.title: one.figures.never_seen(benchmark) for suffix, one in systems.items()}
    notes = [
        *footnote({name: languages for name, languages in never.items() if languages}),
        *_by_chance({suffix.removeprefix(" · ") or run.title: one for suffix, one in systems.items()}, benchmark),
        *_ties(systems, benchmark),
        *_sizes(systems, benchmark),
    ]
    return Table(f"{benchmark} · {run.title}", "Setting", [column_of(one) for one in measures], rows, notes)


def _by_chance(systems: Mapping[str, RunDirectory], benchmark: str) -> list[str]:
    """The systems whose rank distance is worse than that of a random ranking; by its interval, where it has one."""
    worse, expected = [], 0.0
    for name, one in systems.items():
        found, chance = (one.figures.get(benchmark, *POOLED, f"rank_distance{end}") for end in ("", "_chance"))
        if name != FLOOR and found and chance and (found.value if found.low is None else found.low) > chance.value:
            worse.append(name)
            expected = chance.value
    return (
        [f"Rank distance of {', '.join(worse)}: above the {number(expected, 1)} expected of a random ranking."] if worse else []
    )


def _sizes(systems: Mapping[str, RunDirectory], benchmark: str) -> list[str]:
    """The bytes of an embedding, where it was asked for smaller ones."""
    found = {
        suffix.removeprefix(" · ") or "full": one.figures.value(benchmark, *POOLED, BYTES) for suffix, one in systems.items()
    }
    sizes = [f"{name} {value:,.0f}" for name, value in found.items() if value is not None]
    return [f"Bytes per passage: {', '.join(sizes)}."] if sizes else []


def _ties(systems: Mapping[str, RunDirectory], benchmark: str) -> list[str]:
    """The figures that hang on the order of equal scores; nothing where there are none."""
    found = []
    for suffix, system in systems.items():
        for one in system.figures:
            if one.benchmark == benchmark and one.measure.name.startswith(TIES):
                part = f"{number(100 * one.value, 0, bounds=(1.0,))}%"  # more than 1, or it is not there
                moved = f"{SETTINGS[one.setting]} {measure(one.measure.name.removeprefix(TIES)).label}"
                found.append(f"{part} of {moved}{suffix.replace(' · ', ' of ')}")
    return [f"By the order of equal scores alone, which is trec_eval's, moves: {', '.join(found)}."] if found else []


def bias_tables(run: RunDirectory, benchmark: str, by_language: bool) -> list[Table]:
    """The measures of language bias in the pooled setting, of a run and of its baselines that have more than the rank distance.

    Args:
        by_language: a column for every language; else the least and the largest of them.
    """
    every = {"": run, **{f" of {name}": one for name, one in run.baselines.items()}}
    found = [_bias_table(one, benchmark, name, by_language) for name, one in every.items()]
    return [table for table in found if table]


def _bias_table(run: RunDirectory, benchmark: str, name: str, by_language: bool) -> Table | None:
    measures = [one for one in run.figures.measures(benchmark) if one.of_bias or one.headline]
    if not any(one.of_bias for one in measures):
        return None
    found = {one: run.figures.by_languages(benchmark, "multilingual", one.name) for one in measures}
    languages = sorted({language for by_language in found.values() for language in by_language})
    rows = []
    for one, figures in found.items():
        whole = run.figures.get(benchmark, "multilingual", one.name)
        values = {language: figure.value for language, figure in figures.items()}
        ends = [min(values.values(), default=None), max(values.values(), default=None)]
        shown = [whole.value if whole else None, *(map(values.get, languages) if by_language else ends)]
        if one.probability:
            shown = [None if value is None else p_value(value) for value in shown]
        rows.append(Row(one.label, [shown[0], whole.margin if whole else None, *shown[1:]], digits=one.digits))
    never = run.figures.never_seen(benchmark)
    names = [marked(language, never) for language in languages] if by_language else ENDS
    notes = footnote({run.title: never}, means=False) if by_language else []
    columns = [Column("All"), Column("±"), *map(Column, names)]
    return Table(f"{benchmark} · language bias{name}", "Measure", columns, rows, notes)


def pivot(runs: Sequence[RunDirectory], benchmark: str) -> str | None:
    """The language that is on one side of all that a benchmark asks, as English is in translation retrieval, or None."""
    asked = {(one.query_language, one.corpus_language) for run in runs for one in run.figures if one.benchmark == benchmark}
    pairs = [{one, other} for one, other in asked if one is not None]
    shared = set.intersection(*pairs) if pairs else set()
    return (
        max((one for one in shared if one), default=None) if all(len(pair) > 1 and None not in pair for pair in pairs) else None
    )


def pivot_tables(run: RunDirectory, benchmark: str) -> list[Table]:
    """Where all pairs share a language: the headline of each other language from and to it, of a run and of its baselines."""
    every = {"": run, **{f" of {name}": one for name, one in run.baselines.items()}}
    return [_pivot_table(one, benchmark, centre, name) for name, one in every.items() if (centre := pivot([one], benchmark))]


def _pivot_table(run: RunDirectory, benchmark: str, centre: str, name: str) -> Table:
    head = retrieval_measures([run], benchmark)[0]
    found = run.figures.by_languages(benchmark, "crosslingual", head.name)
    never = run.figures.never_seen(benchmark)
    rows = []
    for language in sorted({one for pair in found.values() for one in (pair.query_language, pair.corpus_language) if one}):
        both = [found.get(f"{language}-{centre}"), found.get(f"{centre}-{language}")]
        values = [value for one in both for value in (one.value if one else None, one.margin if one else None)]
        rows += [Row(marked(language, never), values)] if any(both) else []
    columns = [Column(f"to {centre}", head.digits), Column("±"), Column(f"from {centre}", head.digits), Column("± ")]
    notes = footnote({run.title: never}, means=False)
    return Table(f"{benchmark} · {head.label} from and to {centre}{name}", "Language", columns, rows, notes)


def phenomenon_tables(run: RunDirectory, benchmark: str) -> list[Table]:
    """Of contrasts, the figures of each kind of damage, of a run and of its baselines."""
    every = {"": run, **{f" of {name}": one for name, one in run.baselines.items()}}
    found = (_phenomenon_table(one, benchmark, name) for name, one in every.items())
    return [table for table in found if table.rows]


def _phenomenon_table(run: RunDirectory, benchmark: str, name: str) -> Table:
    kinds = [one for one in run.figures.measures(benchmark) if one.stem.startswith(PHENOMENON)]
    settings = [short for short in SETTINGS if any(run.figures.get(benchmark, short, one.name) for one in kinds)]
    rows = []
    for one in kinds:
        found = [run.figures.get(benchmark, setting, one.name) for setting in settings]
        shown = [value for figure in found for value in ((figure.value, figure.margin) if figure else (None, None))]
        rows.append(Row(one.heading, shown))
    columns = [Column(text, 3) for at, one in enumerate(settings) for text in (f"{SETTINGS[one]} Kendall", f"±{' ' * at}")]
    return Table(f"{benchmark} · by phenomenon{name}", f"Phenomenon{name}", columns, rows)


def comparison_table(labelled: Sequence[LabelledRun], benchmark: str) -> Table:
    """Runs x figures on one benchmark; where runs differ only in their seed, their mean and standard deviation too.

    Baselines, which are the same whatever the run, come last. What a test separates from the rest stands out: of conditions,
    which are tried by all their seeds together, and of baselines.
    """
    scored = [one for one in labelled if benchmark in one.run.benchmarks]
    groups = {name: [one.run for one in runs] for name, runs in conditions(scored).items()}
    every_baseline = {name: one for labelled in reversed(labelled) for name, one in labelled.run.baselines.items()}
    baselines = {name: [one] for name, one in every_baseline.items() if benchmark in one.benchmarks and name not in groups}
    systems = groups | baselines
    everything = [run for runs in systems.values() for run in runs]
    measures = retrieval_measures(everything, benchmark)
    every = [(setting, one.name) for one in measures for setting in one.settings]
    wanted = COMPARED if measure("map") in measures else every
    keys = [key for key in wanted if any(run.figures.get(benchmark, *key) for run in everything)]
    contest = Contest.of(systems, benchmark, keys)

    def compared(run: RunDirectory, languages: str | None = None) -> list[float | None]:
        speed = None if languages else run.metrics.get("train/pairs_per_second")
        return [*(run.figures.value(benchmark, *key, languages) for key in keys), speed]

    def of_seeds(name: str, of: Callable[[list[float]], float], languages: str | None = None) -> list[float | None]:
        columns = zip(*(compared(run, languages) for run in systems[name]), strict=True)
        return [None if None in column else of([one for one in column if one is not None]) for column in columns]

    def of_system(name: str, label: str, kind: str, section: str = "") -> list[Row]:
        best = frozenset(index for index, key in enumerate(keys) if name in contest.best.get(key, ()))
        seen = of_seeds(name, statistics.fmean, SEEN)
        intervals = {index: of[name] for index, key in enumerate(keys) if name in (of := contest.intervals.get(key, {}))}
        clusters = {index: places[name] for index, key in enumerate(keys) if name in (places := contest.clusters.get(key, {}))}
        values = of_seeds(name, statistics.fmean)
        found = [Row(label, values, kind, section, best=best, intervals=intervals, clusters=clusters)]
        return [*found, Row(f"{name} · {SHORT}", seen, "seen", section)] if any(one is not None for one in seen) else found

    rows: list[Row] = []
    alone = {id(runs[0]): name for name, runs in groups.items() if len(runs) == 1}
    for one in scored:
        name = alone.get(id(one.run))
        rows += of_system(name, one.label, "run") if name else [Row(one.label, compared(one.run), "seed")]
    for name, runs in groups.items():
        if (count := len(runs)) > 1:
            rows += of_system(name, f"{name}: mean (n={count})", "mean", "mean")
            rows.append(Row(f"{name}: sd (n={count})", of_seeds(name, statistics.stdev), "sd", "mean"))
    for name in baselines:
        rows += of_system(name, name, "baseline", "baseline")
    columns_shown = [*(column_of(measure(name), setting) for setting, name in keys), SPEED]
    never = {name: runs[0].figures.never_seen(benchmark) for name, runs in systems.items()}
    return Table(benchmark, "Run", columns_shown, rows, [*footnote(never), *contest.notes])
