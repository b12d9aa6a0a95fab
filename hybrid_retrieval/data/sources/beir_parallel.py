"""BEIR's layout, one folder per language: how a parallel set of one's own is brought in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hybrid_retrieval.cache import file_state
from hybrid_retrieval.config import share
from hybrid_retrieval.data.beir_files import BeirFolder, read_qrels
from hybrid_retrieval.data.judged import JudgedSource
from hybrid_retrieval.data.source import choose_languages, find_folder
from hybrid_retrieval.errors import InputError

SPLIT_NAMES = {"train": "train", "dev": "validation", "validation": "validation", "test": "test"}


@dataclass(eq=False)
class BeirPairs(JudgedSource):
    """A parallel set in BEIR's files."""

    path: str | None = None
    languages: list[str] | None = None
    validation_share: float = 0.05
    test_share: float = 0.0
    name: str | None = None  # type: ignore[assignment]

    kind = "beir_parallel"
    version = 4

    def __post_init__(self) -> None:
        if self.path is None:
            raise InputError("dataset.path is missing: name a folder with one sub-folder per language in BEIR's layout")
        share("dataset.validation_share", self.validation_share)
        share("dataset.test_share", self.test_share)
        self.folder = BeirFolder(find_folder(self.path, self.paths.data), "dataset.path")
        self.name = self.name or self.folder.path.resolve().name
        self.origin = {"path": str(self.folder.path), "version": self.version}

    def chosen(self) -> list[str]:
        return choose_languages(self.languages, self.folder.languages())

    def at_hand(self) -> bool:
        return self.folder.path.is_dir()

    def state(self) -> list[Any]:
        folders = [self.folder.path / language for language in self.folder.languages()]
        return [file_state(file) for folder in folders for file in sorted(folder.rglob("*")) if file.is_file()]

    def queries(self, language: str) -> Iterable[tuple[str, str]]:
        return self.folder.records(language, "queries")

    def passages(self, language: str) -> Iterable[tuple[str, str]]:
        return self.folder.records(language, "corpus")

    def judgements(
        self, language: str, queries: Mapping[str, int], passages: Mapping[str, int]
    ) -> Iterator[tuple[str, str, str, int]]:
        others = set(self.folder.languages()) - set(self.chosen())
        known = queries.keys() | {id_ for other in others for id_, _ in self.queries(other)}
        for name, file in self.folder.qrels(language).items():
            if name not in SPLIT_NAMES:
                raise InputError(f"{file}: unknown split; expected one of: {', '.join(SPLIT_NAMES)} (.tsv or .tsv.gz)")
            for query, passage, grade in read_qrels(file, known, passages):
                yield SPLIT_NAMES[name], query, passage, grade
