"""``python -m hybrid_retrieval.compare SYSTEM SYSTEM [...]``: whether differences of finished runs are more than chance."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from hybrid_retrieval.errors import InputError, outlive_readers
from hybrid_retrieval.evaluation.measures import SETTINGS, Floats, measure
from hybrid_retrieval.evaluation.statistics.significance import holm, paired_difference, significance_clusters, system_mean
from hybrid_retrieval.files import write_text
from hybrid_retrieval.reporting.comparable import Asked, Question, find_questions
from hybrid_retrieval.reporting.contest import LEVEL, LEVELS, QUESTIONS, SEEDS_TOO
from hybrid_retrieval.reporting.pairwise import (
    LEGEND,
    Difference,
    Ranked,
    difference_table,
    drop_line,
    matrix_table,
    ranking_table,
)
from hybrid_retrieval.reporting.systems import System, find_systems
from hybrid_retrieval.reporting.table import Table, console, p_value, show

DESCRIPTION = """Compare the per-query values of two or more systems on the questions that all of them have.
A difference is the new system minus the reference, which is named first; its interval and p respect that the translations of
one question belong together, and that seeds vary where a system has several."""
REPLICATES = 10_000
SHUT = 3
"""The exit code where a gate names a drop."""
EPILOG = """SYSTEM is [NAME=]PATH[,PATH ...]: run directories, folders of them, or quoted patterns. With a NAME, all its runs
are seeds of one system; without, runs that differ in more than their seed are different systems."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare what the command line names; the exit code is 2 where it cannot be compared, 3 where a gate is shut."""
    parser = argparse.ArgumentParser("hybrid-retrieval compare", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("systems", metavar="SYSTEM", nargs="+", help="two or more, the reference first")
    parser.add_argument("--benchmark", metavar="NAME", help="one benchmark (default: all that every system has)")
    parser.add_argument("--setting", choices=tuple(SETTINGS), help="one setting (default: all)")
    parser.add_argument("--measure", metavar="NAME[,NAME ...]", help="measures, or 'all' (default: mAP, or nDCG@10, or MRR)")
    parser.add_argument(
        "--perturbed", metavar="NAME@SEVERITY[,...]", help="what perturbed queries change, or 'all' that were asked"
    )
    parser.add_argument("--matrix", action="store_true", help="also the differences by query and corpus language")
    parser.add_argument(
        "--gate", action="store_true", help="exit with 3 where the second of two systems is worse than the first"
    )
    parser.add_argument("--out", metavar="FILE", type=Path, help="write everything as JSON")
    parser.add_argument("--replicates", metavar="N", type=int, help="of the resampling (default: 10000; of a gate, enough)")
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="of the resampling (default: 0)")
    chosen = parser.parse_args(arguments)
    try:
        return compare(chosen)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def compare(chosen: argparse.Namespace) -> int:
    """Print the comparison, and write it where ``--out`` says; 3 where ``--gate`` is shut, else 0.

    Raises:
        InputError: an argument is at fault, or the systems have no question in common.
    """
    if chosen.replicates is not None and chosen.replicates < 1:
        raise InputError(f"--replicates={chosen.replicates}; expected 1 or more")
    for name, most in (("replicates", 1_000_000), ("seed", 2**32 - 1)):
        if not 0 <= (getattr(chosen, name) or 0) <= most:
            raise InputError(f"--{name}={getattr(chosen, name)} is outside 0..{most}")
    systems = find_systems(chosen.systems)
    if chosen.gate and len(systems) != 2:
        raise InputError(f"--gate compares two systems, got {len(systems)}: {', '.join(system.name for system in systems)}")
    asked = Asked(chosen.benchmark, chosen.setting, chosen.measure, chosen.perturbed, chosen.gate)
    questions, notes = find_questions(systems, asked)
    gated = [one for one in questions if not one.seen and measure(one.measure).better] if chosen.gate else []
    tests = sum(len(one.common.pairs) + 1 for one in gated)
    enough = max(REPLICATES, round(2 * tests / LEVEL))
    resampling = {"replicates": chosen.replicates or enough, "seed": chosen.seed}
    if tests / (resampling["replicates"] + 1) >= LEVEL:
        raise InputError(f"--replicates={chosen.replicates} are too few for the {tests} tests of --gate; expected {enough}")
    found = [
        difference
        for question in questions
        for baseline, system in combinations(question.values, 2)
        for difference in _differences(question, baseline, system, resampling)
    ]
    whole = _corrected([one for one in found if one.query_language is None], lambda one: one.benchmark)
    pairs = [one for one in found if one.query_language is not None]
    largest = max(Counter(one.benchmark for one in whole).values(), default=0)
    if not chosen.gate and (least := largest / (resampling["replicates"] + 1)) >= LEVEL:
        enough = round(2 * largest / LEVEL)
        notes.append(f"{largest} tests: no corrected p is below {p_value(least)}; --replicates={enough} tells smaller ones.")
    matrix = _corrected(pairs, lambda one: (one.benchmark, one.measure, one.perturbed, one.systems))
    several = [question for question in questions if not question.seen] if len(systems) > 2 else []
    ranked = [place for one in several for place in _ranking(one, whole, resampling)]
    single = [one.name for one in systems if len(one.runs) == 1 and one.runs[0].config.get("seed") is not None]  # not BM25
    cells = max(Counter((one.benchmark, one.measure, one.perturbed, one.systems) for one in pairs).values(), default=0)
    if chosen.matrix and (least := cells / (resampling["replicates"] + 1)) >= LEVELS[-1]:
        enough = round(2 * cells / LEVELS[-1])
        notes.append(
            f"{cells} language pairs: no corrected p is below {p_value(least)}; --replicates={enough} tells smaller ones."
        )
    if single and len(single) < len(systems):
        notes.insert(0, f"{', '.join(single)}: one run; how it varies with its seed is not in the intervals.")
    for one, other in combinations(systems, 2):
        if same := one.same_run(other):
            notes.insert(0, f"{one.name} and {other.name} are the same run, {same}.")
    gate = Gate.of(found) if chosen.gate else None
    screen = console()
    show(screen, *_tables(whole, ranked, matrix if chosen.matrix else [], systems))
    for line in [LEGEND, *sorted({one.method for one in whole}), *notes, *(gate.said() if gate else [])]:
        screen.print(line, markup=False, soft_wrap=True)
    if chosen.out is not None:
        _write(
            chosen.out,
            {
                "systems": [_origin(system) for system in systems],
                "resampling": resampling,
                "differences": [asdict(one) for one in whole],
                "matrix": [asdict(one) for one in matrix],
                "ranking": [asdict(place) for place in ranked],
                "notes": notes,
                **({"gate": {"drops": [asdict(one) for one in gate.drops], "tests": len(gate.tried)}} if gate else {}),
            },
        )
    return SHUT if gate and gate.drops else 0


@dataclass(frozen=True)
class Gate:
    """A release's differences from its base: of macro means and of every language pair, corrected as one family.

    Attributes:
        tried: of all measures that have a good end, with p after Holm over all of them: a release that is no worse is stopped
            in one case of twenty at most, however many benchmarks, measures and languages there are.
    """

    tried: list[Difference]

    @classmethod
    def of(cls, differences: Sequence[Difference]) -> Gate:
        """Of all differences of two systems.

        Raises:
            InputError: no measure says which end is the good one.
        """
        tried = [one for one in differences if not one.seen and measure(one.measure).better]
        if not tried:
            names = ", ".join(sorted({one.measure for one in differences}))
            raise InputError(f"--gate needs a measure with a good end, such as map; got {names}")
        return cls(_corrected(tried, lambda _: None))

    @property
    def drops(self) -> list[Difference]:
        """Those for the worse that are significant."""
        return [one for one in self.tried if _gain(one) < 0 and one.corrected < LEVEL]

    def said(self) -> Iterator[str]:
        """A line for each drop, or one that says that there is none."""
        base, system = self.tried[0].baseline, self.tried[0].system
        family = f"{len(self.tried)} tests, Holm-corrected together"
        if all(one.difference == 0 and one.low == one.high == 0 for one in self.tried):
            yield f"gate: open; {system} and {base} are equal on every question ({family})"
        elif not self.drops:
            yield f"gate: open; {system} is nowhere significantly worse than {base} ({family})"
        else:
            yield f"gate: shut; {system} is significantly worse than {base} in {len(self.drops)} of {family}:"
            yield from (f"  {drop_line(one)}" for one in self.drops)
        if blind := sum(2.0 ** (1 - one.questions) * len(self.tried) >= LEVEL for one in self.tried):
            yield f"gate: {blind} of the tests have too few questions for any drop to be significant"


def _gain(one: Difference) -> float:
    return one.difference if measure(one.measure).better == "higher" else -one.difference


def _differences(question: Question, baseline: str, system: str, resampling: dict[str, int]) -> Iterator[Difference]:
    """`system` minus `baseline`, of each language pair, and last the macro mean; over the languages seen, this alone."""
    ours, theirs = question.values[system], question.values[baseline]
    moved = paired_difference(ours, theirs, **resampling, clusters=question.common.clusters)
    method = QUESTIONS if len(ours) == len(theirs) == 1 else SEEDS_TOO
    languages = [*question.common.pairs, (None, None)]
    asked = [*np.isfinite(ours[0]).sum(axis=0).tolist(), ours.shape[1]]
    columns = (_means(theirs), _means(ours), moved.value, moved.low, moved.high, moved.p)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    where = (question.benchmark, question.setting, question.measure, baseline, system)
    for pair, (mean, other, value, low, high, p), count in zip(languages, rows, asked, strict=True):
        if pair == (None, None) or not question.seen:
            found = Difference(*where, *pair, mean, other, value, low, high, p, count, method)
            yield replace(found, seen=question.seen, perturbed=question.perturbed)


def _means(runs: Floats) -> Floats:
    """float64 [pairs + 1]: the mean of each language pair, and last the macro mean."""
    means = np.nanmean(runs, axis=1).mean(axis=0)
    return np.append(means, means.mean())


def _corrected(differences: Sequence[Difference], family: Callable[[Difference], Hashable]) -> list[Difference]:
    """The same, with p after Holm's correction over each family."""
    families: dict[Hashable, list[float]] = {}
    for one in differences:
        families.setdefault(family(one), []).append(one.p)
    corrected = {key: iter(holm(p).tolist()) for key, p in families.items()}
    return [replace(one, corrected=next(corrected[family(one)])) for one in differences]


def _ranking(question: Question, differences: Sequence[Difference], resampling: dict[str, int]) -> list[Ranked]:
    """The systems from the best to the worst, in clusters; none by a measure of which neither end is the good one."""
    better = measure(question.measure).better
    if better is None:
        return []
    clusters = question.common.clusters
    means = {name: system_mean(runs, **resampling, clusters=clusters) for name, runs in question.values.items()}
    order = sorted(means, key=lambda name: means[name][0], reverse=better == "higher")
    where = (question.benchmark, question.setting, question.measure)
    significant = np.zeros((len(order), len(order)), bool)
    for one in differences:
        if (one.benchmark, one.setting, one.measure, one.perturbed) == (*where, question.perturbed) and not one.seen:
            first, second = order.index(one.system), order.index(one.baseline)
            significant[first, second] = significant[second, first] = one.corrected < LEVEL
    return [
        Ranked(*where, cluster, order[place], *means[order[place]], question.perturbed)
        for cluster, places in enumerate(significance_clusters(significant), start=1)
        for place in places
    ]


def _tables(
    differences: Sequence[Difference], ranked: Sequence[Ranked], matrix: Sequence[Difference], systems: Sequence[System]
) -> Iterator[Table]:
    for benchmark in dict.fromkeys(one.benchmark for one in differences):
        never = {system.name: system.runs[0].figures.never_seen(benchmark) for system in systems}
        yield difference_table([one for one in differences if one.benchmark == benchmark], never)
        places = [place for place in ranked if place.benchmark == benchmark]
        if places:
            yield ranking_table(places)
        pairs = [one for one in matrix if one.benchmark == benchmark]
        for key in dict.fromkeys((one.measure, one.perturbed, one.baseline, one.system) for one in pairs):
            mine = [one for one in pairs if (one.measure, one.perturbed, one.baseline, one.system) == key]
            yield matrix_table(mine, {name: never[name] for name in key[2:]})


def _origin(system: System) -> dict[str, Any]:
    seeds = [run.config.get("seed") for run in system.runs]
    return {"name": system.name, "runs": [str(run.path) for run in system.runs], "seeds": seeds}


def _write(path: Path, content: dict[str, Any]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(_plain(content), indent=1, ensure_ascii=False) + "\n")
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
    outlive_readers()
    sys.exit(main())
