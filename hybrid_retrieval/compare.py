"""``python -m hybrid_retrieval.compare SYSTEM SYSTEM [...]``: whether differences of finished runs are more than chance."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations, groupby
from pathlib import Path
from typing import Any

import numpy as np

from hybrid_retrieval.errors import InputError, choice
from hybrid_retrieval.evaluation.statistics.per_query import CommonQuestions, PerQuery
from hybrid_retrieval.evaluation.statistics.resampling import Floats
from hybrid_retrieval.evaluation.statistics.significance import holm, paired_difference, significance_clusters, system_mean
from hybrid_retrieval.reporting.pairwise import Difference, Ranked, ViewDifference
from hybrid_retrieval.reporting.run_directory import SETTINGS
from hybrid_retrieval.reporting.systems import System, find_systems

DESCRIPTION = """Compare the per-query values of two or more systems on the questions that all of them have.
A difference is the later system minus the earlier one; its interval and p respect that the translations of one question belong
together, and that seeds vary where a system has several."""
EPILOG = """SYSTEM is [NAME=]PATH[,PATH ...]: run directories, folders of them, or quoted patterns. With a NAME, all its runs
are seeds of one system; without, runs that differ in more than their seed are different systems."""

HEADLINES = ("map", "ndcg@10", "mrr@100", "mrr")
"""The measure that is compared where none is asked for: the first of these that the benchmark has."""
HIGHER_IS_BETTER = ("map", "mrr", "recall@", "ndcg@", "mrc", "peer")
LOWER_IS_BETTER = ("rank_distance",)
"""How the names of measures begin that rank systems; of others, such as a share or a gap, neither end is the good one."""
LEVEL = 0.05
QUESTIONS = "cluster bootstrap and randomisation over questions"
SEEDS_TOO = "random effects of seeds and questions"


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare what the command line names; the exit code is 2 where it cannot be compared."""
    parser = argparse.ArgumentParser("python -m hybrid_retrieval.compare", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("systems", metavar="SYSTEM", nargs="+", help="two or more, the baseline first")
    parser.add_argument("--benchmark", metavar="NAME", help="one benchmark (default: all that every system has)")
    parser.add_argument("--setting", choices=tuple(SETTINGS), help="one setting (default: all)")
    parser.add_argument("--measure", metavar="NAME[,NAME ...]", help="measures, or 'all' (default: mAP, or nDCG@10, or MRR)")
    parser.add_argument("--matrix", action="store_true", help="also the differences by query and corpus language")
    parser.add_argument("--out", metavar="FILE", type=Path, help="write everything as JSON")
    parser.add_argument("--replicates", metavar="N", type=int, default=10_000, help="of the resampling (default: 10000)")
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="of the resampling (default: 0)")
    chosen = parser.parse_args(arguments)
    try:
        compare(chosen)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


@dataclass(frozen=True)
class Resampling:
    """How often, and from which seed."""

    replicates: int
    seed: int


@dataclass(frozen=True)
class Question:
    """What is compared in one row: a benchmark, a setting, a measure, and the values of each system."""

    benchmark: str
    setting: str
    measure: str
    common: CommonQuestions
    values: dict[str, Floats]
    """By system: [seeds, questions, views]."""


def compare(chosen: argparse.Namespace) -> None:
    """Print the comparison, and write it where ``--out`` says.

    Raises:
        InputError: an argument is at fault, or the systems have no question in common.
    """
    if chosen.replicates < 1:
        raise InputError(f"--replicates={chosen.replicates}; expected 1 or more")
    systems = find_systems(chosen.systems)
    resampling = Resampling(chosen.replicates, chosen.seed)
    results = PerQuery.read([run.path for system in systems for run in system.runs])
    questions, notes = _questions(results, systems, chosen)
    differences = [one for part in _by_benchmark(questions) for one in _differences(part, resampling)]
    ranked = [place for one in questions for place in _ranking(one, differences, resampling)] if len(systems) > 2 else []
    notes = [*_single_runs(systems), *notes]
    _print(differences, ranked, notes, chosen.matrix)
    if chosen.out is not None:
        _write(chosen.out, systems, differences, ranked, notes, resampling)


def _questions(results: PerQuery, systems: Sequence[System], chosen: argparse.Namespace) -> tuple[list[Question], list[str]]:
    """All that can be compared, and what cannot."""
    scored = results.benchmarks()
    if chosen.benchmark:
        choice("--benchmark", chosen.benchmark, scored)
    questions, notes = [], []
    for benchmark in [chosen.benchmark] if chosen.benchmark else scored:
        if len(scored[benchmark]) < results.runs:
            notes.append(f"{benchmark}: not compared, for it is not scored by every run.")
            continue
        for measure in _measures(results, benchmark, chosen.measure):
            for setting in [chosen.setting] if chosen.setting else SETTINGS:
                common = results.common(benchmark, setting, measure)
                if common is None:
                    continue
                if common.left_out:
                    notes.append(
                        f"{benchmark}/{setting}/{measure}: {common.left_out:,} queries are not in every run and are left out."
                    )
                questions.append(Question(benchmark, setting, measure, common, _by_system(common.values, systems)))
    if not questions:
        names = ", ".join(system.name for system in systems)
        raise InputError(f"{names} have no query in common; expected runs that were scored on the same benchmark")
    return questions, notes


def _measures(results: PerQuery, benchmark: str, asked: str | None) -> list[str]:
    there = results.measures(benchmark)
    if asked == "all":
        return there
    if asked is None:
        return [name for name in HEADLINES if name in there][:1] or there[:1]
    for name in asked.split(","):
        choice("--measure", name, there)
    return asked.split(",")


def _by_system(values: Floats, systems: Sequence[System]) -> dict[str, Floats]:
    ends = np.cumsum([len(system.runs) for system in systems])
    return dict(zip((system.name for system in systems), np.split(values, ends[:-1]), strict=True))


def _by_benchmark(questions: Sequence[Question]) -> Iterator[list[Question]]:
    for _, part in groupby(questions, lambda one: one.benchmark):
        yield list(part)


def _differences(questions: Sequence[Question], resampling: Resampling) -> list[Difference]:
    """Every later system minus every earlier one; corrected over the benchmark."""
    found = [
        _difference(question, baseline, system, resampling)
        for question in questions
        for baseline, system in combinations(question.values, 2)
    ]
    corrected = [replace(one, corrected=p) for one, p in zip(found, holm([one.p for one in found]).tolist(), strict=True)]
    return _with_corrected_views(corrected)


def _difference(question: Question, baseline: str, system: str, resampling: Resampling) -> Difference:
    ours, theirs = question.values[system], question.values[baseline]
    figures = paired_difference(ours, theirs, resampling.replicates, resampling.seed)
    columns = (figures.value, figures.low, figures.high, figures.p)
    *views, macro = zip(*(column.tolist() for column in columns), strict=True)
    value, low, high, p = macro
    return Difference(
        benchmark=question.benchmark,
        setting=question.setting,
        measure=question.measure,
        system=system,
        baseline=baseline,
        system_mean=_macro_mean(ours),
        baseline_mean=_macro_mean(theirs),
        difference=value,
        low=low,
        high=high,
        p=p,
        corrected=p,
        questions=ours.shape[1],
        method=QUESTIONS if len(ours) == len(theirs) == 1 else SEEDS_TOO,
        views=[ViewDifference(*pair, *part) for pair, part in zip(question.common.views, views, strict=True)],
    )


def _macro_mean(runs: Floats) -> float:
    return float(np.nanmean(runs, axis=1).mean())


def _with_corrected_views(differences: Sequence[Difference]) -> list[Difference]:
    """Holm over the language matrix: the views of all settings of one measure and pair of systems."""
    families: dict[tuple[str, str], list[float]] = {}
    for one in differences:
        families.setdefault((one.measure, one.pair), []).extend(view.p for view in one.views)
    corrected = {key: iter(holm(p).tolist()) for key, p in families.items()}
    return [
        replace(one, views=[replace(view, corrected=next(corrected[one.measure, one.pair])) for view in one.views])
        for one in differences
    ]


def _ranking(question: Question, differences: Sequence[Difference], resampling: Resampling) -> list[Ranked]:
    """The systems from the best to the worst, in clusters."""
    higher = question.measure.startswith(HIGHER_IS_BETTER)
    if not higher and not question.measure.startswith(LOWER_IS_BETTER):
        return []
    means = {name: system_mean(runs, resampling.replicates, resampling.seed) for name, runs in question.values.items()}
    order = sorted(means, key=lambda name: means[name][0], reverse=higher)
    where = (question.benchmark, question.setting, question.measure)
    significant = np.zeros((len(order), len(order)), bool)
    for one in differences:
        if (one.benchmark, one.setting, one.measure) == where:
            first, second = order.index(one.system), order.index(one.baseline)
            significant[first, second] = significant[second, first] = one.corrected < LEVEL
    return [
        Ranked(*where, number, order[place], *means[order[place]])
        for number, cluster in enumerate(significance_clusters(significant), start=1)
        for place in cluster
    ]


def _single_runs(systems: Sequence[System]) -> list[str]:
    """A warning where a system with several seeds meets one without."""
    single = [system.name for system in systems if len(system.runs) == 1]
    if not single or len(single) == len(systems):
        return []
    return [f"{', '.join(single)}: one run; how it varies with its seed is not in the intervals."]


def _print(differences: Sequence[Difference], ranked: Sequence[Ranked], notes: Sequence[str], matrix: bool) -> None:
    from hybrid_retrieval.reporting import pairwise
    from hybrid_retrieval.reporting.tables import console

    screen = console()
    for benchmark, part in groupby(differences, lambda one: one.benchmark):
        rows = list(part)
        screen.print(pairwise.difference_table(rows))
        places = [place for place in ranked if place.benchmark == benchmark]
        if places:
            screen.print(pairwise.ranking_table(places))
        if matrix:
            for family in _matrices(rows):
                screen.print(pairwise.matrix_table(family))
    for line in [pairwise.LEGEND, *sorted({one.method for one in differences}), *notes]:
        screen.print(line, markup=False, soft_wrap=True)


def _matrices(differences: Sequence[Difference]) -> list[list[Difference]]:
    """The settings of each measure and pair of systems."""
    families: dict[tuple[str, str], list[Difference]] = {}
    for one in differences:
        families.setdefault((one.measure, one.pair), []).append(one)
    return list(families.values())


def _write(
    path: Path,
    systems: Sequence[System],
    differences: Sequence[Difference],
    ranked: Sequence[Ranked],
    notes: Sequence[str],
    resampling: Resampling,
) -> None:
    from hybrid_retrieval.reporting.run_report import write_whole

    content = {
        "systems": [
            {
                "name": system.name,
                "runs": [str(run.path) for run in system.runs],
                "seeds": [run.config.get("seed") for run in system.runs],
            }
            for system in systems
        ],
        "resampling": asdict(resampling),
        "differences": [_plain(asdict(one)) for one in differences],
        "ranking": [_plain(asdict(place)) for place in ranked],
        "notes": list(notes),
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    except OSError as error:
        raise InputError(f"--out={path} cannot be written: {error.strerror}") from error
    print(f"wrote {path}")


def _plain(value: Any) -> Any:
    """JSON knows no NaN: the bounds of a single question are null."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


if __name__ == "__main__":
    sys.exit(main())
