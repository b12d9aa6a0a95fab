"""The systems that are compared, each one run or several seeds of one, named on the command line."""

from __future__ import annotations

import glob
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.reporting.labels import conditions, label_runs
from hybrid_retrieval.reporting.run_directory import RunDirectory, find_runs

NAMED = re.compile(r"([^=/]+)=(.+)")


@dataclass(frozen=True)
class System:
    """A system and its runs, which differ in their seed only."""

    name: str
    runs: tuple[RunDirectory, ...]

    def same_run(self, other: System) -> Path | None:
        """A run that is of both."""
        mine, theirs = ({run.path.resolve(): run.path for run in one.runs} for one in (self, other))
        return next((path for place, path in mine.items() if place in theirs), None)


def find_systems(arguments: Sequence[str]) -> list[System]:
    """The systems that arguments ``[NAME=]PATH[,PATH ...]`` name.

    A path is a run directory, a folder of them, or a pattern such as ``runs/hybrid-*``. All runs of an argument with a name are
    seeds of that system. Without a name, runs that differ in more than their seed are different systems.

    Raises:
        InputError: a path holds no run, two runs of a system have the same seed, or there are fewer than two systems.
    """
    groups: list[tuple[str | None, list[RunDirectory]]] = []
    for argument in arguments:
        named = None if Path(argument).exists() else NAMED.fullmatch(argument)
        paths = _paths(named[2] if named else argument)
        runs = list({run.path.resolve(): run for path in paths for run in find_runs(path)}.values())
        if named:
            groups.append((named[1], runs))
        else:
            groups += [(None, [one.run for one in alike]) for alike in conditions(label_runs(runs)).values()]
    names = iter(_names([runs for name, runs in groups if name is None]))
    systems = [System(name or next(names), tuple(runs)) for name, runs in groups]
    _check(systems)
    return systems


def _paths(text: str) -> list[Path]:
    """One path, or several between commas, patterns spelt out."""
    if Path(text).exists():
        return [Path(text)]
    found: list[Path] = []
    for part in text.split(","):
        matches = [Path(part)] if Path(part).exists() else sorted(map(Path, glob.glob(part)))  # noqa: PTH207 (may be absolute)
        if not matches:
            raise InputError(f"{part} is not there; expected a run directory, a folder of runs, or a pattern that fits some")
        found += [path for path in matches if path.is_dir()] or matches
    return found


def _names(groups: Sequence[list[RunDirectory]]) -> list[str]:
    """Names that tell the groups apart; where only the seed does, with the seed; where nothing does, with the folder."""
    labelled = iter(label_runs([run for runs in groups for run in runs]))
    together = [[next(labelled) for _ in runs] for runs in groups]
    names = [group[0].without_seed or group[0].run.title for group in together]
    repeated = {name for name, count in Counter(names).items() if count > 1}
    return [group[0].label if name in repeated else name for name, group in zip(names, together, strict=True)]


def _check(systems: Sequence[System]) -> None:
    if len(systems) < 2:
        name = systems[0].name if systems else "none"
        raise InputError(f"one system to compare ({name}); expected two or more: [NAME=]PATH[,PATH ...] of each")
    repeated = [name for name, count in Counter(system.name for system in systems).items() if count > 1]
    if repeated:
        raise InputError(f"two systems are called {repeated[0]}; name them: NAME=PATH")
    for system in systems:
        seeds = [run.config.get("seed") for run in system.runs]
        again = [seed for seed, count in Counter(seeds).items() if count > 1]
        if again:
            places = [str(run.path) for run, seed in zip(system.runs, seeds, strict=True) if seed == again[0]]
            said = "no seed in config.yaml" if again[0] is None else f"the same seed={again[0]}"
            raise InputError(f"{system.name}: {' and '.join(places[:2])} have {said}; expected seeds of one system")
