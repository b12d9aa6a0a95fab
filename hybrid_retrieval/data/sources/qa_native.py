"""Questions about passages, both in the language that people wrote them in: one folder per published set.

A folder's name ends in its language, ``jaquad-ja``; it holds ``<split>.questions.jsonl`` (id, question, passage) and
``<split>.passages.jsonl`` (id, title, text), packed or not. Nothing is parallel. What is published for training trains, and the
rest validates or tests; a folder without a training split trains on what `train_instead` names. Where no split is left to
validate with, some articles are.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hybrid_retrieval.cache import file_state
from hybrid_retrieval.data.language_files import PACKED
from hybrid_retrieval.data.languages import known_language, spelt
from hybrid_retrieval.data.parallel import EMPTY, SPLIT_NAMES, SPLITS, PairsWriter
from hybrid_retrieval.data.records import Record, only_one, read_json
from hybrid_retrieval.data.source import BuiltSource, choose_languages, find_folder, split_of
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.progress import track
from hybrid_retrieval.values import Name, Share, check

QUESTIONS, PASSAGES = ".questions.jsonl", ".passages.jsonl"
PUBLISHED = {**SPLIT_NAMES, "valid": "validation", "trial": "validation"}
"""What a published split is for, where it does not train."""


class Part(NamedTuple):
    """A published split of a set, with what it is for."""

    language: str
    folder: str
    published: str
    split: str
    questions: Path
    passages: Path
    cut: bool
    """Whether some of its articles validate."""


@dataclass(eq=False)
class QaNative(BuiltSource):
    """The sets in a folder of folders, or one of them."""

    path: str | None = None
    languages: list[str] | None = None
    train: list[str] = field(default_factory=lambda: ["train"])
    train_instead: list[str] = field(default_factory=list)
    validation_share: Share = 0.02
    license: str | None = None
    name: Name | None = None  # type: ignore[assignment]

    kind = "qa_native"
    version = 1

    def __post_init__(self) -> None:
        if self.path is None:
            raise InputError(f"dataset.path is missing: name a folder with <set>-<language>/<split>{QUESTIONS} in it")
        check(type(self), vars(self), "dataset")
        self.folder = find_folder(self.path, self.paths.data, "dataset.path")
        self.name = self.name or self.folder.resolve().name

    def parts(self) -> list[Part]:
        """All that there is to read.

        Raises:
            InputError: there is nothing, or a folder, a split or a file that is not of the kind.
        """
        expected = f"expected <set>-<language>/<split>{QUESTIONS} (or {QUESTIONS}.gz) in it"
        if not self.folder.is_dir():
            raise InputError(f"dataset.path={self.folder} is not a folder; {expected}")
        found: list[Part] = []
        for folder in (self.folder, *sorted(one for one in self.folder.iterdir() if one.is_dir())):
            stems = sorted({file.name.partition(QUESTIONS)[0] for file in folder.glob(f"*{QUESTIONS}*")})
            found += self._parts(folder.resolve(), stems) if stems else []
        if not found:
            raise InputError(f"dataset.path={self.folder} has no questions; {expected}")
        return found

    def _parts(self, folder: Path, stems: Sequence[str]) -> Iterator[Part]:
        name, _, code = folder.name.rpartition("-")
        language = spelt(code)
        if not (name and known_language(language)):
            raise InputError(f"{folder} does not end in a language; expected a name such as jaquad-ja")
        trains = [stem for stem in stems if stem in self.train] or [stem for stem in stems if stem in self.train_instead]
        if strange := [stem for stem in stems if stem not in trains and stem not in PUBLISHED]:
            raise InputError(f"{folder}: unknown split {strange[0]!r}; expected one of: {', '.join(PUBLISHED)}")
        splits = {stem: "train" if stem in trains else PUBLISHED[stem] for stem in stems}
        for stem, split in splits.items():
            questions, passages = (
                only_one(folder / f"{stem}{side}{packed}" for packed in PACKED) for side in (QUESTIONS, PASSAGES)
            )
            if questions is None or passages is None:
                raise InputError(f"{folder} lacks {stem}{PASSAGES} (or {stem}{PASSAGES}.gz) beside the questions")
            yield Part(language, folder.name, stem, split, questions, passages, "validation" not in splits.values())

    def at_hand(self) -> bool:
        return self.folder.is_dir()

    def offered(self) -> list[str] | None:
        return sorted({part.language for part in self.parts()}) if self.at_hand() else None

    def chosen(self) -> list[str]:
        return choose_languages(self.languages, sorted({part.language for part in self.parts()}))

    def state(self) -> list[Any]:
        return [file_state(file) for part in self.parts() for file in (part.questions, part.passages)]

    def write(self, writer: PairsWriter) -> None:
        parts = [part for part in self.parts() if part.language in writer.languages]
        edges: dict[str, list[tuple[int, int]]] = {split: [] for split in SPLITS}
        dropped: dict[str, Counter[str]] = defaultdict(Counter)

        def texts() -> Iterator[tuple[str, str, int, str, str]]:
            asked = answers = 0
            for part in track(parts, f"reading {self.name}"):
                place = f"{part.folder}/{part.published}"
                groups: dict[str, tuple[int, str]] = {}
                for record in read_json(part.passages):
                    id_, article, text = record.id("id"), record.text("title", ""), _text(record, "title", "text")
                    if id_ in groups:
                        raise InputError(f"{record.place}: passage {id_!r} is already in an earlier line")
                    groups[id_] = answers, f"{place}/{article or id_}"
                    answers += 1
                    if text:
                        yield "passages", part.language, groups[id_][0], f"{place}/{id_}", text
                    else:
                        dropped[f"passages {EMPTY}"][part.language] += 1
                for record in read_json(part.questions):
                    id_, passage, text = record.id("id"), record.id("passage"), _text(record, "question")
                    if passage not in groups:
                        raise InputError(f"{record.place}: passage {passage!r} is not in {part.passages.name}")
                    group, article = groups[passage]
                    if not text:
                        dropped[f"queries {EMPTY}"][part.language] += 1
                        continue
                    cut = part.split == "train" and part.cut
                    edges[split_of(article, self.validation_share, 0.0) if cut else part.split].append((asked, group))
                    yield "queries", part.language, asked, f"{place}/{id_}", text
                    asked += 1

        writer.write_mixed(texts())
        provenance = {"path": str(self.folder), "version": self.version}
        found = {split: np.array(pairs, np.int32).reshape(-1, 2) for split, pairs in edges.items()}
        writer.finish(found, {"provenance": provenance, "dropped": dropped})


def _text(record: Record, *names: str) -> str:
    """Fields as one text of one line."""
    return " ".join(" ".join(record.text(name, "" if name == "title" else None) for name in names).split())
