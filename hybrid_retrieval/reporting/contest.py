"""What stands out in a table: what a test separates from the rest, and no value that is worse than random vectors'."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.evaluation.measures import measure
from hybrid_retrieval.evaluation.statistics.resampling import panel_means
from hybrid_retrieval.evaluation.statistics.significance import holm, macro_p_values, significance_clusters, system_mean
from hybrid_retrieval.reporting.run_directory import RunDirectory

if TYPE_CHECKING:
    from hybrid_retrieval.reporting.per_query import PerQuery

LEVELS = (0.05, 0.01, 0.001)
LEVEL = LEVELS[0]
REPLICATES = 10_000
BOOTSTRAP = 1000
"""Replicates behind the intervals of systems of one run."""
QUESTIONS = "cluster bootstrap and randomisation over clusters of questions"
SEEDS_TOO = "random effects of seeds and clusters of questions"
FLOOR = "random"
"""The retriever that whatever stands out has to be better than."""

Key = tuple[str, str]
"""A setting and a measure."""


@dataclass(frozen=True)
class Contest:
    """The systems that stand out by setting and measure, and the line that says why, or why none does.

    Attributes:
        intervals: bounds of each system's mean over the questions that all have.
        clusters: the significance cluster of each system, 1 the best.
    """

    best: Mapping[Key, Sequence[str]] = field(default_factory=dict)
    notes: Sequence[str] = ()
    intervals: Mapping[Key, Mapping[str, tuple[float, float]]] = field(default_factory=dict)
    clusters: Mapping[Key, Mapping[str, int]] = field(default_factory=dict)

    @classmethod
    def of(cls, systems: Mapping[str, Sequence[RunDirectory]], benchmark: str, keys: Sequence[Key]) -> Contest:
        """Compare systems, the runs of each being its seeds, by their values per query.

        What stands out of a column is the first of its significance clusters, where there is a second one: systems that are
        better than all others, after Holm's correction over all pairs and columns.
        """
        from hybrid_retrieval.reporting.per_query import PerQuery

        known = {name: runs for name, runs in systems.items() if name != FLOOR}
        if len(known) < 2:
            return cls()
        try:
            results = PerQuery.read([run.path for runs in known.values() for run in runs], benchmark)
            ordered, p, intervals = _tested(results, known, benchmark, keys)
        except InputError as error:
            return cls(notes=[f"Nothing is in bold, for nothing could be tested: {error}."])
        if not ordered:
            return cls(notes=["Nothing is in bold, for nothing could be tested: the runs have no query in common."])
        significant = iter((holm(p) < LEVEL).tolist())
        found: dict[Key, Sequence[str]] = {}
        clusters: dict[Key, dict[str, int]] = {}
        for key, names in ordered.items():
            apart = np.zeros((len(names), len(names)), bool)
            for one, other in combinations(range(len(names)), 2):
                apart[one, other] = apart[other, one] = next(significant)
            first, *rest = every = significance_clusters(apart)
            clusters[key] = {names[place]: number for number, places in enumerate(every, 1) for place in places}
            found[key] = [names[place] for place in first if rest and _above_floor(systems, names[place], benchmark, key)]
        method = SEEDS_TOO if any(len(runs) > 1 for runs in known.values()) else QUESTIONS.rpartition("and ")[2]
        by = f"(p < .05 by {method}, Holm-corrected over the table)"
        floor = f", and than {FLOOR} vectors" if FLOOR in systems else ""
        said = f"Bold: better than all the rest of its column{floor} {by}." if any(found.values()) else None
        said = said or f"Nothing is in bold: nothing is told apart as better than all the rest of its column{floor} {by}."
        return cls(found, [said], intervals, clusters)


def _tested(
    results: PerQuery, systems: Mapping[str, Sequence[RunDirectory]], benchmark: str, keys: Sequence[Key]
) -> tuple[dict[Key, list[str]], list[float], dict[Key, dict[str, tuple[float, float]]]]:
    """By key, the systems from the best to the worst; the p of each pair of them, key after key; and the systems' intervals."""
    ends = np.cumsum([len(runs) for runs in systems.values()])[:-1]
    pairs = math.comb(len(systems), 2)
    replicates = max(REPLICATES, round(2 * pairs * len(keys) / LEVEL))  # so that a corrected p can lie below the level
    ordered: dict[Key, list[str]] = {}
    p: list[float] = []
    intervals: dict[Key, dict[str, tuple[float, float]]] = {}
    measured = results.measures(benchmark)
    for setting, name in keys:
        better = measure(name).better
        common = results.common(benchmark, setting, name) if better and name in measured else None
        if common is None:
            continue
        values = dict(zip(systems, np.split(common.values, ends), strict=True))
        means = {system: statistics.fmean(panel_means(panel)[-1] for panel in runs) for system, runs in values.items()}
        order = sorted(means, key=means.__getitem__, reverse=better == "higher")
        ordered[setting, name] = order
        found = {system: system_mean(runs, BOOTSTRAP, 0, common.clusters)[1:] for system, runs in values.items()}
        intervals[setting, name] = {system: both for system, both in found.items() if np.isfinite(both).all()}
        compared = [(values[one], values[other]) for one, other in combinations(order, 2)]
        p += macro_p_values(compared, replicates, 0, common.clusters)
    return ordered, p, intervals


def _above_floor(systems: Mapping[str, Sequence[RunDirectory]], name: str, benchmark: str, key: Key) -> bool:
    """Whether a system is better than random vectors, or, where they were not scored, than what is expected of them."""

    def mean(system: str, suffix: str = "") -> float | None:
        found = [run.figures.value(benchmark, key[0], f"{key[1]}{suffix}") for run in systems.get(system, ())]
        known = [value for value in found if value is not None]
        return statistics.fmean(known) if known else None

    mine, floor = mean(name), mean(FLOOR) if FLOOR in systems else mean(name, "_chance")
    if mine is None or floor is None:
        return floor is None
    return mine > floor if measure(key[1]).better == "higher" else mine < floor
