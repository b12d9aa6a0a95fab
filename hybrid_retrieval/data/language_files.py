"""Folders with a file per language, whose records share ids: the same id in two languages is a translation."""

from __future__ import annotations

import logging
from abc import abstractmethod
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from hybrid_retrieval.cache import file_state
from hybrid_retrieval.data.languages import languages_of
from hybrid_retrieval.data.parallel import EMPTY, SIDES, SPLITS, PairsWriter, text_key
from hybrid_retrieval.data.records import ID, check_id, read_lines
from hybrid_retrieval.data.source import BuiltSource, choose_languages, find_folder, split_of
from hybrid_retrieval.errors import InputError, nearest
from hybrid_retrieval.progress import track
from hybrid_retrieval.values import Name, Share, check

log = logging.getLogger(__name__)

PACKED = ("", ".gz", ".xz")


def language_files(folder: Path, ending: str, key: str, others: Sequence[str] = ()) -> dict[str, Path]:
    """The file of each language of a folder, by the language as the house writes it.

    Files whose names are of no language are passed over, and named in the log.

    Args:
        ending: of the files' names, before that of a packed one.
        key: of the config that names the folder, for errors.
        others: names of files that are known to be of no language.

    Raises:
        InputError: there is no folder, no such file in it, or two of one language.
    """
    expected = f"expected <language>{ending} (or {ending}.gz, {ending}.xz) in it"
    if not folder.is_dir():
        raise InputError(f"{key}={folder} is not a folder; {expected}")
    named: dict[str, Path] = {}
    for file in sorted(file for packed in PACKED for file in folder.glob(f"*{ending}{packed}") if file.name not in others):
        stem = file.name[: file.name.rindex(ending)]
        if stem in named:
            raise InputError(f"{named[stem]} lies beside {file.name}: keep one of them")
        named[stem] = file
    languages = languages_of(named, f"{key}={folder}")
    if strange := [file.name for stem, file in named.items() if stem not in languages]:
        log.info("%s: not read, being named after no language: %s", folder, ", ".join(strange))
    if not languages:
        raise InputError(f"{key}={folder} has no file of a language; {expected}")
    return {language: named[name] for name, language in languages.items()}


def read_column(file: Path, name: str) -> dict[str, str]:
    """By id, a column of a table whose first line names its columns, the first of them ``id``."""
    found: dict[str, str] = {}
    columns: list[str] = []
    for number, line in read_lines(file):
        fields = line.rstrip("\r\n").split("\t")
        if number == 1:
            columns = fields
            if columns[0] != ID or name not in columns[1:]:
                raise InputError(f"{file}, line 1: no column {name!r} after {ID!r}{nearest(name, columns[1:])}")
        elif len(fields) != len(columns):
            raise InputError(
                f"{file}, line {number}: {len(fields)} fields; expected {len(columns)} ({', '.join(columns)[:200]})"
            )
        else:
            found[fields[0]] = fields[columns.index(name, 1)]
    return found


class Entry(NamedTuple):
    """What a file says under an id: a text that asks and one that answers, maybe the same; empty where there is none.

    Attributes:
        place: file and line, for errors.
    """

    place: str
    id: str
    query: str
    passage: str


@dataclass(eq=False)
class LanguageFiles(BuiltSource):
    """A source of such a folder: the n-th query group is answered by the n-th passage group.

    Nothing is trained on whose text is held out in its language, under whatever id.
    """

    path: str | None = None
    languages: list[str] | None = None
    pivot: str | None = None
    validation_share: Share = 0.02
    test_share: Share = 0.0
    license: str | None = None
    name: Name | None = None  # type: ignore[assignment]

    ending: ClassVar[str]
    """Of the files' names."""

    def __post_init__(self) -> None:
        if self.path is None:
            raise InputError(f"dataset.path is missing: name a folder with <language>{self.ending} in it")
        check(type(self), vars(self), "dataset")
        if self.validation_share + self.test_share > 1:
            said = f"dataset.validation_share={self.validation_share} and dataset.test_share={self.test_share}"
            raise InputError(f"{said} are more than 1 together")
        self.folder = find_folder(self.path, self.paths.data, "dataset.path")
        self.name = self.name or self.folder.resolve().name

    @abstractmethod
    def entries(self, file: Path) -> Iterator[Entry]:
        """What a language's file holds."""

    def tables(self) -> Sequence[str]:
        """Names of files in the folder that are read beside those of the languages."""
        return ()

    def split(self) -> Callable[[str], str]:
        """What tells the split of an id."""
        return lambda id_: split_of(id_, self.validation_share, self.test_share)

    def files(self) -> dict[str, Path]:
        """Those of the languages."""
        return language_files(self.folder, self.ending, "dataset.path", self.tables())

    def at_hand(self) -> bool:
        return self.folder.is_dir()

    def offered(self) -> list[str] | None:
        return list(self.files()) if self.at_hand() else None

    def chosen(self) -> list[str]:
        chosen = choose_languages(self.languages, list(self.files()))
        if self.pivot is not None and self.pivot not in chosen:
            raise InputError(f"dataset.pivot={self.pivot!r} is no language that is read{nearest(self.pivot, chosen)}")
        return chosen

    def state(self) -> list[Any]:
        tables = [self.folder / name for name in self.tables()]
        return [file_state(file) for file in (*self.files().values(), *tables) if file.exists()]

    def write(self, writer: PairsWriter) -> None:
        files, pivot, split = self.files(), self.pivot, self.split()
        pivots = None if pivot is None else {one.id for one in self.entries(files[pivot])}
        groups: dict[str, int] = {}
        asking, answering = there = array("i"), array("i")
        dropped: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))

        def texts() -> Iterator[tuple[str, str, int, str, str]]:
            for language in track(writer.languages, f"reading {self.name}"):
                closed = {
                    text_key(text)
                    for place, id_, *found in self.entries(files[language])
                    if split(check_id(id_, f"{place}: the id")) != "train"
                    for text in found
                }
                seen: set[str] = set()
                for place, id_, *found in self.entries(files[language]):
                    if id_ in seen:
                        raise InputError(f"{place}: id {id_!r} is already in an earlier line")
                    seen.add(id_)
                    if pivots is not None and id_ not in pivots:
                        dropped[f"texts without one in {pivot}"][language] += 1
                        continue
                    group = groups.setdefault(id_, len(groups))
                    trained = split(id_) == "train"
                    for side, groups_there, text in zip(SIDES, there, found, strict=True):
                        if not text:
                            dropped[f"{side} {EMPTY}"][language] += 1
                        elif trained and text_key(text) in closed:
                            dropped[f"{side} for training whose text is held out"][language] += 1
                        else:
                            groups_there.append(group)
                            yield side, language, group, id_, text

        writer.write_mixed(texts())
        both = np.intersect1d(asking, answering)
        if not len(both):
            raise InputError(f"{self.name}: no text in {', '.join(writer.languages)}")
        splits = np.array([split(id_) for id_ in groups])[both]
        edges = {name: np.repeat(both[splits == name][:, None], 2, 1).astype(np.int32) for name in SPLITS}
        provenance = {"path": str(self.folder), "version": self.version}
        writer.finish(edges, {"provenance": provenance, "dropped": dropped})
