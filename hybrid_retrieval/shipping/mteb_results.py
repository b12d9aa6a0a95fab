"""The results of a run in mteb's form."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hybrid_retrieval.errors import reading
from hybrid_retrieval.evaluation.benchmarks.belebele import language_and_script
from hybrid_retrieval.evaluation.measures import SETTINGS
from hybrid_retrieval.reporting.run_directory import RunDirectory
from hybrid_retrieval.reporting.tables import retrieval_measures
from hybrid_retrieval.shipping.public import UNKNOWN, base_of, benchmarks_of, data_of, open_public, trained_on

META = "model_meta.json"


def mteb_results(run: Path, name: str | None = None) -> dict[str, dict[str, Any]]:
    """By file name, mteb's ``TaskResult`` of each setting of each benchmark, and its ``ModelMeta``.

    Tasks are called as `hybrid_retrieval.interop.mteb_task` calls them, and so are their subsets.
    """
    opened = open_public(run)
    with reading(f"{run} cannot be described", whole=True):
        languages = [language_and_script(language) for language in trained_on(opened)]
        return _task_results(opened) | {META: _model_meta(opened, name, [one for one in languages if one])}


def _task_results(opened: RunDirectory) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for benchmark in opened.benchmarks:
        for setting in SETTINGS:
            scores = _subsets(opened, benchmark, setting)
            if scores:
                task = f"{benchmark}_{setting}"
                origin = benchmarks_of(opened).get(benchmark, {})
                found[re.sub(r"[^\w.-]", "_", task) + ".json"] = {
                    "dataset_revision": str(origin.get("fingerprint") or UNKNOWN),
                    "task_name": task,
                    "mteb_version": None,
                    "scores": {str(origin.get("split") or "test"): scores},
                    "evaluation_time": None,
                    "kg_co2_emissions": None,
                }
    return found


def _subsets(run: RunDirectory, benchmark: str, setting: str) -> list[dict[str, Any]]:
    """The scores of a setting by language or pair, under mteb's names."""
    measures = [one for one in retrieval_measures([run], benchmark) if setting in one.settings]
    by_subset: dict[str, dict[str, Any]] = {}
    for one in measures:
        for languages, figure in run.figures.by_languages(benchmark, setting, one.name).items():
            names = dict.fromkeys(name for name in (figure.query_language, figure.corpus_language) if name)
            subset = by_subset.setdefault(languages, {"hf_subset": languages, "languages": [*map(_mteb_language, names)]})
            subset.setdefault("main_score", figure.value)
            subset[one.name.replace("@", "_at_")] = figure.value
    return list(by_subset.values())


def _mteb_language(name: str) -> str:
    return language_and_script(name) or "und-Zyyy"


def _model_meta(run: RunDirectory, name: str | None, languages: Sequence[str]) -> dict[str, Any]:
    open_ = ("loader", "revision", "release_date", "n_parameters", "memory_usage_mb", "max_tokens", "embed_dim", "license")
    return {
        **dict.fromkeys((*open_, "open_weights", "public_training_code", "public_training_data", "similarity_fn_name")),
        "name": name if name and "/" in name else None,
        "languages": list(languages) or None,
        "framework": ["Sentence Transformers"],
        "use_instructions": bool(run.setting("model", "query_prefix", str) or run.setting("model", "passage_prefix", str)),
        "training_datasets": [one["name"] for one in data_of(run)] or None,
        "adapted_from": base_of(run),
    }
