"""What finished runs can be compared in: benchmarks, settings and measures, and what perturbed queries change in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hybrid_retrieval.errors import InputError, choice
from hybrid_retrieval.evaluation.degradation import PERTURBATIONS, conditions
from hybrid_retrieval.evaluation.measures import SETTINGS, Floats
from hybrid_retrieval.reporting.per_query import CommonQuestions, PerQuery
from hybrid_retrieval.reporting.run_directory import RunDirectory
from hybrid_retrieval.reporting.systems import System


@dataclass(frozen=True)
class Asked:
    """What a comparison is to be of.

    Attributes:
        benchmark, setting: None: all.
        measure: names between commas, or ``all``; None: the first of each benchmark.
        perturbed: likewise names of `Degradation.condition`, of which the changes are compared, in percent of each run's clean
            mean; None: the values of clean queries.
        gate: whether nothing that one of the runs lacks may be passed over.
    """

    benchmark: str | None = None
    setting: str | None = None
    measure: str | None = None
    perturbed: str | None = None
    gate: bool = False


@dataclass(frozen=True)
class Question:
    """The subject of one row: a benchmark, a setting, a measure, and the values of each system.

    Attributes:
        values: by system, float64 [seeds, questions, pairs].
        seen: whether it leaves out the languages that an encoder was never trained on.
        perturbed: a perturbation and its severity, where the values are what it changes, in percent.
    """

    benchmark: str
    setting: str
    measure: str
    common: CommonQuestions
    values: dict[str, Floats]
    seen: bool = False
    perturbed: str | None = None


def find_questions(systems: Sequence[System], asked: Asked) -> tuple[list[Question], list[str]]:
    """All that can be compared, and what cannot.

    Raises:
        InputError: nothing can.
    """
    paths = [run.path for system in systems for run in system.runs]
    questions, notes = [], []
    for perturbed in _conditions(asked.perturbed, systems) if asked.perturbed else [None]:
        results = PerQuery.read(paths, asked.benchmark if perturbed else None, perturbed)
        found = _questions_of(results, systems, asked, perturbed)
        questions += found[0]
        notes += [note for note in found[1] if note not in notes]
    if not questions:
        names = ", ".join(system.name for system in systems)
        if asked.perturbed:
            raise InputError(f"{names} have no perturbed query in common; expected a benchmark that all were perturbed on")
        raise InputError(f"{names} have no query in common; expected runs that were scored on the same benchmark")
    return questions, notes


def _conditions(asked: str, systems: Sequence[System]) -> list[str]:
    """The perturbations that are asked for, as all runs have them.

    Raises:
        InputError: a run has none, or other texts of the same queries.
    """
    runs = [run for system in systems for run in system.runs]
    first, *others = (conditions(run.path) for run in runs)
    seeds = sorted({str((run.config.get("evaluation") or {}).get("perturb_seed")) for run in runs})
    if len(seeds) > 1:
        raise InputError(f"--perturbed: the runs were asked other texts: evaluation.perturb_seed={', '.join(seeds)}")
    lexica = {name: of for run in runs for name, of in _lexica(run).items()}
    for run in runs:
        if other := [name for name, of in _lexica(run).items() if of != lexica[name]]:
            raise InputError(
                f"--perturbed: {other[0]} of {run.path} is by another lexicon; evaluate the runs with the same data"
            )
    common = [one for one in first if all(one in other for other in others)]
    if asked == "all":
        return common
    for one in asked.split(","):
        choice("--perturbed", one, common)
    return list(dict.fromkeys(asked.split(",")))


def _lexica(run: RunDirectory) -> dict[str, list[str]]:
    """By perturbation, the fingerprints of the sets that it read."""
    every = [of.get(PERTURBATIONS) or {} for of in (run.environment.get("benchmarks") or {}).values()]
    return {name: [one["fingerprint"] for one in sets] for of in every for name, sets in of.items()}


def _questions_of(
    results: PerQuery, systems: Sequence[System], asked: Asked, perturbed: str | None
) -> tuple[list[Question], list[str]]:
    scored = results.benchmarks()
    if asked.benchmark and (perturbed is None or asked.benchmark in scored):
        choice("--benchmark", asked.benchmark, scored)
    elif asked.benchmark:
        return [], [f"{asked.benchmark}: {perturbed} changes none of its queries."]
    under = f", {perturbed}" if perturbed else ""
    names = [system.name for system in systems]
    ends = np.cumsum([len(system.runs) for system in systems])[:-1]
    questions, notes = [], []
    for benchmark in [asked.benchmark] if asked.benchmark else scored:
        if scored[benchmark] < results.runs:
            if asked.gate:
                raise InputError(f"--gate: {benchmark} is not scored by every run; score it, or choose with --benchmark=NAME")
            notes.append(f"{benchmark}{under}: not compared, for it is not scored by every run.")
            continue
        never = {language for system in systems for run in system.runs for language in run.figures.never_seen(benchmark)}
        for name in _measures(results, benchmark, asked.measure):
            for setting in [asked.setting] if asked.setting else SETTINGS:
                if asked.gate and (pairs := results.lacking(benchmark, setting, name)):
                    where = f"{benchmark}/{setting}/{name} of {', '.join(pairs)}"
                    raise InputError(f"--gate: {where} is not in every run; score it, or choose what is with --setting=NAME")
                common = results.common(benchmark, setting, name)
                if common is None:
                    continue
                if common.left_out:
                    where = f"{benchmark}/{setting}/{name}{under}"
                    notes.append(f"{where}: {common.left_out:,} queries are not in every run and are left out.")
                for part in filter(None, [common, common.without(never) if never else None]):
                    values = dict(zip(names, np.split(part.values, ends), strict=True))
                    questions.append(Question(benchmark, setting, name, part, values, part is not common, perturbed))
    return questions, notes


def _measures(results: PerQuery, benchmark: str, asked: str | None) -> list[str]:
    there = results.measures(benchmark)
    if asked in (None, "all"):
        return there if asked else there[:1]
    for name in asked.split(","):
        choice("--measure", name, there)
    return asked.split(",")
