"""BEIR's layout, one folder per language: how a parallel set of one's own is brought in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from hybrid_retrieval.cache import file_state
from hybrid_retrieval.config import PathsConfig, share
from hybrid_retrieval.data.beir_files import BeirFolder, read_qrels
from hybrid_retrieval.data.judged import JudgedSource
from hybrid_retrieval.data.source import choose_languages, find_folder
from hybrid_retrieval.errors import InputError

VERSION = 4
SPLIT_NAMES = {"train": "train", "dev": "validation", "validation": "validation", "test": "test"}


class BeirPairs(JudgedSource):
    """A parallel set in BEIR's files."""

    kind = "beir_parallel"

    def __init__(
        self,
        paths: PathsConfig,
        path: str | None = None,
        languages: list[str] | None = None,
        validation_share: float = 0.05,
        test_share: float = 0.0,
        name: str | None = None,
    ) -> None:
        """Take the choices; nothing is read yet.

        Args:
            paths: where local copies and the cache are.
            path: the set's folder; a relative one is looked for under ``paths.data`` too.
            languages: the folders to use; all by default.
            validation_share: cut from train, by the passages' words, where the set has no ``qrels/dev.tsv``.
            test_share: likewise for ``qrels/test.tsv``.
            name: how tables and manifests call the set; the folder's name by default.
        """
        if path is None:
            raise InputError("dataset.path is missing: name a folder with one sub-folder per language in BEIR's layout")
        share("dataset.validation_share", validation_share)
        share("dataset.test_share", test_share)
        self.paths = paths
        self.folder = BeirFolder(find_folder(path, paths.data), "dataset.path")
        self.name = name or self.folder.path.resolve().name
        self.shares = {"validation": validation_share, "test": test_share}
        self.origin = {"path": str(self.folder.path), "version": VERSION}
        self._wanted = languages

    def languages(self) -> list[str]:
        return choose_languages(self._wanted, self.folder.languages())

    def at_hand(self) -> bool:
        return self.folder.path.is_dir()

    def key(self) -> dict[str, Any]:
        folders = [self.folder.path / language for language in self.folder.languages()]
        files = sorted(file for folder in folders for file in folder.rglob("*") if file.is_file())
        return {
            "version": VERSION,
            "name": self.name,
            "languages": self.languages(),
            "shares": self.shares,
            "files": [file_state(file) for file in files],
        }

    def queries(self, language: str) -> Iterable[tuple[str, str]]:
        return self.folder.records(language, "queries")

    def passages(self, language: str) -> Iterable[tuple[str, str]]:
        return self.folder.records(language, "corpus")

    def judgements(
        self, language: str, queries: Mapping[str, int], passages: Mapping[str, int]
    ) -> Iterator[tuple[str, str, str, int]]:
        others = set(self.folder.languages()) - set(self.languages())
        known = queries.keys() | {id_ for other in others for id_, _ in self.queries(other)}
        for name, file in self.folder.qrels(language).items():
            if name not in SPLIT_NAMES:
                raise InputError(f"{file}: unknown split; expected one of: {', '.join(SPLIT_NAMES)} (.tsv or .tsv.gz)")
            for query, passage, grade in read_qrels(file, known, passages):
                yield SPLIT_NAMES[name], query, passage, grade
