"""A run directory: what is there of the config, the figures and the environment of one run."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.evaluation.figures import BASELINES, Figures
from hybrid_retrieval.files import read_recorded

CONFIG, METRICS = "config.yaml", "metrics.json"

TRACES = (METRICS, "environment.json", "batch_manifest.parquet", "telemetry.jsonl")
"""A folder with one of these is a run directory."""

TITLE_GROUPS = ("sampler", "model", "dataset")


@dataclass(frozen=True)
class RunDirectory:
    """The files that one run left behind; parts that are not there are empty.

    Attributes:
        path: the folder.
        figures: of the benchmarks, as in ``figures.parquet``.
        metrics: the flat figures of ``metrics.json``, those of training too.
        config: the resolved job config of ``config.yaml``.
        environment: versions, machine and data sources of ``environment.json``.
    """

    path: Path
    figures: Figures
    metrics: Mapping[str, float]
    config: Mapping[str, Any]
    environment: Mapping[str, Any]

    @classmethod
    def open(cls, path: Path) -> RunDirectory:
        """Read a run directory.

        Raises:
            InputError: `path` is not one, or a file of it cannot be read.
        """
        if not is_run(path):
            raise InputError(f"{path} is not a run directory; expected a folder with {' or '.join(TRACES)}")
        names = (METRICS, CONFIG, "environment.json")
        values = [read_recorded(path / name) if (path / name).exists() else {} for name in names]
        for key, value in values[0].items():
            if not isinstance(value, (int, float)):
                raise InputError(f"{path / METRICS}: {key}={value!r}; expected a number")
        return cls(path, Figures.read(path), *values)

    @property
    def benchmarks(self) -> tuple[str, ...]:
        """Benchmarks that have figures, in alphabetical order."""
        return self.figures.benchmarks

    @cached_property
    def baselines(self) -> dict[str, RunDirectory]:
        """Retrievers that were scored beside the run, by name."""
        return {path.name: RunDirectory.open(path) for path in sorted((self.path / BASELINES).glob("*")) if is_run(path)}

    @property
    def reported(self) -> tuple[str, ...]:
        """Benchmarks that the run or one of its baselines has figures for."""
        return tuple(sorted({name for one in (self, *self.baselines.values()) for name in one.benchmarks}))

    @property
    def choices(self) -> dict[str, str]:
        """Hydra's group choices."""
        recorded = self._group("choices")
        return {str(group): _text(name) for group, name in recorded.items() if not str(group).startswith("hydra/")}

    @property
    def title(self) -> str:
        """Sampler, model and data set, as far as they are known; else the folder's name."""
        known = [self.choices[group] for group in TITLE_GROUPS if group in self.choices]
        return " · ".join(known) or self.path.resolve().name

    def setting(self, group: str, key: str, kind: Any) -> Any:
        """A value of a config group; None where the config has none.

        Raises:
            InputError: it is not of the `kind` that is expected.
        """
        from hybrid_retrieval.values import check  # with Hydra, which not every reader of runs needs

        value = self._group(group).get(key)
        if value is not None:
            check({key: kind}, {key: value}, f"{self.path / CONFIG}: {group}")
        return value

    def _group(self, name: str) -> Mapping[str, Any]:
        found = self.config.get(name) or {}
        if not isinstance(found, dict):
            raise InputError(f"{self.path / CONFIG}: {name}={found!r}; expected a mapping")
        return found


def is_run(path: Path) -> bool:
    """Whether a folder holds a run."""
    return path.is_dir() and any((path / name).is_file() for name in TRACES)


def find_runs(path: Path) -> list[RunDirectory]:
    """The run directories at or below `path`, numbered folders in the order of their numbers.

    Raises:
        InputError: there is no such folder, or no run in it.
    """
    if not path.is_dir():
        raise InputError(f"{path} is not a folder; expected a run directory or a sweep directory")
    found = []
    for folder, below, _ in os.walk(path):
        if is_run(Path(folder)):
            found.append(Path(folder))
            below.clear()
        below[:] = [name for name in below if not name.startswith(".")]
    if not found:
        raise InputError(f"{path} holds no run directory; expected a folder with {' or '.join(TRACES)}")
    return [RunDirectory.open(folder) for folder in sorted(found, key=_natural)]


def _natural(path: Path) -> list[Any]:
    parts = re.split(r"([0-9]+(?:\.[0-9]+)?)", path.as_posix())
    return [float(part) if at % 2 else part for at, part in enumerate(parts)]


def _text(value: object) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "+".join(str(item) for item in value)
    return str(value)
