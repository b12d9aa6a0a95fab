"""What of a run may be said to everybody: its figures, its data and its languages, without what is of one machine or person."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.evaluation.figures import Figure, Figures
from hybrid_retrieval.reporting.batch_composition import BatchComposition
from hybrid_retrieval.reporting.run_directory import RunDirectory

UNKNOWN = "unknown"
"""The hub's word for a licence that is not stated."""
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
"""Of a model or a data set."""
BCP_47 = re.compile(r"(?P<language>[a-z]{2,3})(?:[_-](?P<script>[a-z]{4}))?(?:[_-](?P<region>[a-z]{2}|\d{3}))?", re.IGNORECASE)
URL = re.compile(r"(\w[\w+.-]*://)(?:[^\s/@]*@)?([^\s?#]*)(?:[?#]\S*)?")
"""With its account and its query, which are left out."""


def public(value: Any) -> Any:
    """A plain value without what is of one machine or person: of paths the last part, of URLs neither account nor query."""
    if isinstance(value, Mapping):
        return {str(key): public(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [public(inner) for inner in value]
    if not isinstance(value, str):
        return value
    if re.match(r"file:|[/~\\]|[A-Za-z]:[/\\]|\.\.", value):
        return re.split(r"[/\\]", value.rstrip("/\\"))[-1]
    return URL.sub(r"\1\2", value)


def bcp47(language: str) -> str | None:
    """A language as BCP 47 writes it, ``pt-BR`` of ``pt_br``; None where it is no such tag."""
    found = BCP_47.fullmatch(language)
    if not found:
        return None
    script, region = found["script"], found["region"]
    return "-".join([found["language"].lower(), *([script.title()] if script else []), *([region.upper()] if region else [])])


def open_public(run: Path) -> RunDirectory:
    """A run directory whose figures are those of ``metrics.json``, and whose text may be published."""
    opened = RunDirectory.open(run)

    def stated(one: Figure) -> Figure:
        value, low, high = (opened.metrics.get(f"{one.key}{end}") for end in ("", ".low", ".high"))
        if value is None:
            raise InputError(f"{run / 'metrics.json'} lacks {one.key}, which figures.parquet has: they are of two evaluations")
        return dataclasses.replace(one, value=value, low=low, high=high)

    figures = Figures(tuple(map(stated, opened.figures)))
    return dataclasses.replace(opened, figures=figures, config=public(opened.config), environment=public(opened.environment))


def data_of(run: RunDirectory) -> list[dict[str, Any]]:
    """What environment.json says of each training set."""
    return [one for one in run.environment.get("data") or [] if isinstance(one, dict) and "name" in one]


def benchmarks_of(run: RunDirectory) -> dict[str, dict[str, Any]]:
    """And of each benchmark."""
    found = run.environment.get("benchmarks") or {}
    return {name: one for name, one in found.items() if isinstance(one, dict)}


def base_of(run: RunDirectory) -> str | None:
    """The published model that training began with, by its name on the hub."""
    model = run.config.get("model") or {}
    named = model.get("name")
    return named if isinstance(named, str) and not model.get("path") and HUB_NAME.fullmatch(named) and "/" in named else None


def trained_on(run: RunDirectory) -> list[str]:
    """The languages of the pairs that were drawn."""
    composition = BatchComposition.read(run.path)
    return [] if composition is None else [str(name) for name in composition.pairs.index]
