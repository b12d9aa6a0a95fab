"""A run directory: what is there of the config, the figures and the environment of one run."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.evaluation.figures import BASELINES, Figures

TRACES = ("metrics.json", "environment.json", "batch_manifest.parquet", "telemetry.jsonl")
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
        names = ("metrics.json", "config.yaml", "environment.json")
        return cls(path, Figures.read(path), *(_mapping(path / name) for name in names))

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
        recorded = self.config.get("choices") or {}
        return {str(group): _text(name) for group, name in recorded.items() if not str(group).startswith("hydra/")}

    @property
    def title(self) -> str:
        """Sampler, model and data set, as far as they are known; else the folder's name."""
        known = [self.choices[group] for group in TITLE_GROUPS if group in self.choices]
        return " · ".join(known) or self.path.resolve().name

    def setting(self, group: str, key: str) -> Any:
        """A value of a config group; None where the config has none."""
        return (self.config.get(group) or {}).get(key)


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
    return [int(part) if part.isdigit() else part for part in re.split(r"([0-9]+)", path.as_posix())]


def _mapping(path: Path) -> dict[str, Any]:
    """A JSON or YAML file; empty where there is none."""
    if not path.is_file():
        return {}
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:
        raise InputError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds a {type(content).__name__}; expected a mapping")
    return content


def _text(value: object) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "+".join(str(item) for item in value)
    return str(value)
