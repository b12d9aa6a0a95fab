"""The questions of a page that can be browsed: what each system retrieved for them, from ``retrieved.parquet``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from hybrid_retrieval.errors import reading
from hybrid_retrieval.evaluation.figures import RETRIEVED, RETRIEVED_SCHEMA
from hybrid_retrieval.evaluation.measures import SETTINGS, measure
from hybrid_retrieval.files import check_recorded
from hybrid_retrieval.reporting.page import Section
from hybrid_retrieval.reporting.run_directory import RunDirectory

BYTES = 2_500_000
"""Of all questions of a page together."""
MOST_SYSTEMS = 8
KINDS = ("worst", "best", "sample")
HOW = (
    "Worst and best: by the first measure of the tables, of each run in each setting, the languages of queries taking turns. "
    "Random sample: by a hash of the question's id, the same for all runs. Of each question there are the first passages of "
    "the pool and of each language, and the relevant one that is ranked first; long texts are cut. Questions "
    "that all systems kept come first."
)

Key = tuple[str, str]
"""Of a question: its query's language and id."""


@dataclass
class _Question:
    """A question and, by corpus language and system, the value and the passages that were retrieved."""

    text: str
    chosen: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    lists: dict[str | None, dict[int, tuple[float | None, list[dict[str, Any]]]]] = field(default_factory=dict)
    systems: set[int] = field(default_factory=set)
    measure: str = ""


def browser_section(systems: Mapping[str, RunDirectory]) -> Section | None:
    """The section of a page in which questions are browsed; None where no system kept any."""
    there = {name: run.path / RETRIEVED for name, run in systems.items() if (run.path / RETRIEVED).is_file()}
    shown = dict(list(there.items())[:MOST_SYSTEMS])
    questions = _questions(list(shown.values()))
    if not questions:
        return None
    benchmarks, left_out = _within(questions, len(shown))
    notes = [HOW]
    notes += [f"{left_out} questions are left out to keep the page small."] if left_out else []
    if lacking := [name for name, run in systems.items() if run.benchmarks and name not in shown]:
        most = f"at most {MOST_SYSTEMS} are shown, of those that kept questions when they were evaluated (evaluation.browse)"
        notes.append(f"Without {', '.join(lacking)}: {most}.")
    settings = {
        name: SETTINGS[name]
        for name in SETTINGS
        if any((kind, name) in one.chosen for of in questions.values() for one in of.values() for kind in KINDS)
    }
    return Section("Questions", notes=notes, browser={"systems": [*shown], "settings": settings, "benchmarks": benchmarks})


def _questions(paths: Sequence[Path]) -> dict[str, dict[Key, _Question]]:
    """By benchmark."""
    found: dict[str, dict[Key, _Question]] = {}
    for system, path in enumerate(paths):
        for hit in _rows(path):
            key = (hit["query_language"], hit["query_id"])
            question = found.setdefault(hit["benchmark"], {}).setdefault(key, _Question(hit["query"], measure=hit["measure"]))
            if system not in question.systems:
                question.systems.add(system)
                for why in hit["chosen"] or ():
                    kind, _, setting = why.partition(" ")
                    question.chosen.setdefault((kind, setting), []).append(system)
            lists = question.lists.setdefault(hit["corpus_language"], {})
            lists.setdefault(system, (hit["value"], []))[1].append(hit)
    return found


def _rows(path: Path) -> list[dict[str, Any]]:
    check_recorded(path)
    with reading(f"{path} cannot be read"):
        rows: list[dict[str, Any]] = pq.read_table(path).select(RETRIEVED_SCHEMA.names).cast(RETRIEVED_SCHEMA).to_pylist()
    return rows


def _within(questions: Mapping[str, Mapping[Key, _Question]], systems: int) -> tuple[list[dict[str, Any]], int]:
    """The benchmarks as the page reads them, first the questions that most systems kept; and how many had no room."""
    found, left_out = [], 0
    for name, of in sorted(questions.items()):
        room = BYTES // len(questions)
        texts: dict[str, int] = {}
        kept: list[dict[str, Any]] = []
        for key, one in sorted(of.items(), key=lambda item: (-len(item[1].systems), item[0][::-1])):
            before = len(texts)
            plain = _plain(key, one, systems, texts)
            size = _size(plain) + _size(list(texts)[before:])
            if size > room:
                left_out += 1
                texts = dict(list(texts.items())[:before])
                continue
            room -= size
            kept.append(plain)
        label = measure(next(iter(of.values())).measure).label
        found.append({"name": name, "measure": label, "texts": list(texts), "questions": kept})
    return found, left_out


def _plain(key: Key, one: _Question, systems: int, texts: dict[str, int]) -> dict[str, Any]:
    """A question as the page reads it; new texts are added to `texts`, with their numbers."""

    def number(text: str) -> int:
        return texts.setdefault(text, len(texts))

    def hits(rows: Iterable[Mapping[str, Any]]) -> list[list[Any]]:
        return [
            [
                row["rank"],
                row["passage_language"],
                row["passage_id"],
                number(row["passage"]),
                _short(row["score"]),
                int(row["relevant"]),
            ]
            for row in rows
        ]

    def listed(by_system: Mapping[int, tuple[float | None, list[dict[str, Any]]]]) -> list[list[Any] | None]:
        return [
            [_short(found[0]), hits(found[1])] if (found := by_system.get(at)) else [None, []] if at in one.systems else None
            for at in range(systems)
        ]

    order = sorted(one.lists, key=lambda corpus: (corpus is not None, corpus != key[0], corpus))
    return {
        "id": key[1],
        "language": key[0],
        "text": number(one.text),
        "chosen": [[kind, setting, of] for (kind, setting), of in one.chosen.items()],
        "lists": [[corpus, listed(one.lists[corpus])] for corpus in order],
    }


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.5g}")


def _size(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(errors="replace"))
