"""mMARCO: MS MARCO's training triples with machine translations of every query and passage, the paper's largest set.

The published layout: ``collections`` and ``queries`` hold one file of (id, text) lines per language, and languages share
ids, so that a group is an id; one file of (query, positive passage, negative passage) triples serves all languages.
Texts stream from file to Arrow; what is held in memory are ids (about 5 GB at the peak for the 39.8M published triples).
"""

from __future__ import annotations

import logging
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv

from hybrid_retrieval.cache import Cache, file_state
from hybrid_retrieval.config import PathsConfig, share
from hybrid_retrieval.data.parallel import PairsWriter, ParallelPairs
from hybrid_retrieval.data.source import Source, choose_languages, find_folder, split_of
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.hub import Hub
from hybrid_retrieval.progress import track

log = logging.getLogger(__name__)

VERSION = 1
REPOSITORY = "unicamp-dl/mmarco"
NAMES = {
    "en": "english",
    "ar": "arabic",
    "zh": "chinese",
    "nl": "dutch",
    "fr": "french",
    "de": "german",
    "hi": "hindi",
    "id": "indonesian",
    "it": "italian",
    "ja": "japanese",
    "pt": "portuguese",
    "ru": "russian",
    "es": "spanish",
    "vi": "vietnamese",
}
TRIPLES = "triples.train.ids.small.tsv"
LARGEST_ID = 2**31 - 1

Int32s = npt.NDArray[np.int32]


class Mmarco(Source):
    """The translated training triples, from a local copy or from the hub at a pinned revision."""

    name = "mmarco"
    hub = Hub()

    def __init__(
        self,
        paths: PathsConfig,
        languages: list[str],
        revision: str,
        path: str | None = None,
        validation_share: float = 0.001,
    ) -> None:
        """Take the choices; nothing is read or downloaded yet.

        Args:
            paths: where local copies and the cache are.
            languages: BCP 47 codes out of the fourteen that are published.
            revision: the hub's commit to download.
            path: a local folder in the published layout, with or without its leading ``data/``; a relative one is looked
                for under ``paths.data`` too.
            validation_share: of the positive passages; their triples leave train.
        """
        share("dataset.validation_share", validation_share)
        self._languages = choose_languages(languages, list(NAMES))
        self._paths = paths
        self._revision = revision
        self._folder = find_folder(path, paths.data) if path is not None else None
        self._share = validation_share

    def at_hand(self) -> bool:
        if self._folder is not None:
            return self._folder.is_dir()
        return Cache.at(self._paths.cache).directory("datasets/mmarco", self._key(self._revision)).exists()

    def pairs(self) -> ParallelPairs:
        cache = Cache.at(self._paths.cache)
        if self._folder is not None:
            files = self._local(self._folder)
            key = self._key([file_state(file) for file in files.values()])
            provenance: dict[str, Any] = {"path": str(self._folder), "version": VERSION}
            return ParallelPairs.open(cache.build("datasets/mmarco", key, lambda to: self._build(to, files, provenance)))

        def make(directory: Path) -> None:
            files = self._download()
            # The hub stores large files under their SHA-256.
            checksums = {name: file.resolve().name for name, file in files.items()}
            self._build(directory, files, {"hub": REPOSITORY, "revision": self._revision, "checksums": checksums})

        return ParallelPairs.open(cache.build("datasets/mmarco", self._key(self._revision), make))

    def _key(self, state: Any) -> dict[str, Any]:
        return {"version": VERSION, "languages": self._languages, "validation_share": self._share, "state": state}

    def _names(self) -> list[str]:
        """The files to read, below ``data/``."""
        queries = [f"google/queries/train/{NAMES[language]}_queries.train.tsv" for language in self._languages]
        return [TRIPLES, *queries, *(f"google/collections/{NAMES[language]}_collection.tsv" for language in self._languages)]

    def _local(self, folder: Path) -> dict[str, Path]:
        if not folder.is_dir():
            raise InputError(f"dataset.path={folder} is not a folder; expected a copy of {REPOSITORY} with {TRIPLES} in it")
        root = folder / "data" if (folder / "data").is_dir() else folder
        files = {name: root / name for name in self._names()}
        for file in files.values():
            if not file.is_file():
                raise InputError(
                    f"dataset.path={folder} lacks {file}; expected a copy of {REPOSITORY}, or other dataset.languages"
                )
        return files

    def _download(self) -> dict[str, Path]:
        """Every file, from the hub or its cache."""
        advice = "name a local copy with dataset.path="
        return {
            name: self.hub.dataset_file(REPOSITORY, f"data/{name}", self._revision, advice)
            for name in track(self._names(), f"downloading {REPOSITORY}")
        }

    def _build(self, directory: Path, files: Mapping[str, Path], provenance: Mapping[str, Any]) -> None:
        triples = read_triples(files[TRIPLES])
        sides = {"queries": Ids.of(triples[:, :1]), "passages": Ids.of(triples[:, 1:])}
        writer = PairsWriter(directory, self.name, self._languages)
        dropped: dict[str, dict[str, int]] = {f"{side} in no triple": {} for side in sides}
        dropped |= {f"{side} with an empty text": {} for side in sides}
        for side, folder, ending in (
            ("queries", "google/queries/train", "queries.train"),
            ("passages", "google/collections", "collection"),
        ):
            for language in track(self._languages, f"reading {side}"):
                reader = TextReader(files[f"{folder}/{NAMES[language]}_{ending}.tsv"], sides[side])
                writer.write(side, language, reader)
                dropped[f"{side} in no triple"][language] = reader.unused
                dropped[f"{side} with an empty text"][language] = reader.empty
        for reason, counts in dropped.items():
            log.info("left out, %s: %s", reason, ", ".join(f"{k} {v:,}" for k, v in counts.items()))
        for column, side in enumerate(("queries", "passages", "passages")):
            self._require(sides[side], triples[:, column], files[TRIPLES], side)
            triples[:, column] = np.searchsorted(sides[side].known, triples[:, column])
        held_out = self._held_out(sides["passages"], triples[:, 1])[triples[:, 1]]
        edges = {"train": triples[~held_out], "validation": triples[held_out]}
        writer.finish(edges, {"provenance": provenance, "dropped": dropped})

    def _require(self, ids: Ids, column: Int32s, triples: Path, side: str) -> None:
        """Every id of a column of the triples has a text in some language."""
        absent = np.flatnonzero(np.isin(column, ids.known[~ids.found]))
        if len(absent):
            missing = f"id {column[absent[0]]} is among the {side} of no chosen language ({', '.join(self._languages)})"
            raise InputError(f"{triples}, line {absent[0] + 1}: {missing}")

    def _held_out(self, passages: Ids, positives: Int32s) -> npt.NDArray[np.bool_]:
        """Whether each passage group is a positive that falls into validation (bool [passage groups])."""
        chosen = np.zeros(len(passages.known), dtype=np.bool_)
        for group in np.unique(positives).tolist():
            chosen[group] = split_of(str(passages.known[group]), self._share, 0.0) == "validation"
        return chosen


@dataclass
class Ids:
    """The ids that the triples mention on one side; an id's rank is its group."""

    known: Int32s
    """int32 [groups], sorted."""
    found: npt.NDArray[np.bool_]
    """bool [groups]: whether some language has a text."""

    @classmethod
    def of(cls, column: Int32s) -> Ids:
        """The distinct ids of `column`."""
        known = np.unique(column)
        return cls(known, np.zeros(len(known), dtype=np.bool_))


@dataclass
class TextReader:
    """Iterates (group, id, text) of a language's file, for the ids that triples mention; the rest it counts.

    Raises:
        InputError: an empty file, a line that is not an id and a text, or an id that occurs twice, with file and line.
    """

    file: Path
    ids: Ids
    unused: int = field(default=0, init=False)
    """Lines whose id no triple mentions."""
    empty: int = field(default=0, init=False)
    """Lines without a text, though a triple mentions the id."""

    def __iter__(self) -> Iterator[tuple[int, str, str]]:
        known = self.ids.known.data
        seen = array("i")
        for number, line in read_lines(self.file):
            id_, text = self._fields(number, line)
            seen.append(id_)
            group = bisect_left(known, id_)
            if group == len(known) or known[group] != id_:
                self.unused += 1
            elif text:
                self.ids.found[group] = True
                yield group, str(id_), text
            else:
                self.empty += 1
        if not seen:
            raise InputError(f"{self.file} is empty; expected lines of an id, a tab and a text")
        self._distinct(np.asarray(seen))

    def _fields(self, number: int, line: str) -> tuple[int, str]:
        fields = line.rstrip("\r\n").split("\t")
        # A file cut right after a tab looks like an empty text; its line has no end.
        if len(fields) != 2 or not is_id(fields[0]) or not (fields[1] or line.endswith("\n")):
            raise InputError(f"{self.file}, line {number}: not an integer id, a tab and a text (truncated?)")
        return int(fields[0]), " ".join(fields[1].split())

    def _distinct(self, seen: Int32s) -> None:
        order = np.argsort(seen, kind="stable")
        again = order[1:][np.diff(seen[order]) == 0]
        if len(again):
            line = int(again.min())
            first = int(np.flatnonzero(seen == seen[line])[0])
            raise InputError(f"{self.file}, line {line + 1}: id {seen[line]} is already on line {first + 1}")


def is_id(value: str) -> bool:
    """Whether a field is a plain number that fits 31 bits."""
    return value.isascii() and value.isdigit() and int(value) <= LARGEST_ID


def read_lines(file: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines, ends included; only a newline ends a line."""
    number = 0
    try:
        with file.open(encoding="utf-8", newline="\n") as lines:
            for number, line in enumerate(lines, 1):
                yield number, line
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: damaged after line {number} ({error})") from error


def read_triples(file: Path) -> Int32s:
    """int32 [triples, 3]: query, positive passage, negative passage.

    Raises:
        InputError: an empty file, or a line that is not three integers, with its number.
    """
    columns = ("query", "positive", "negative")
    parts: list[Int32s] = []
    try:
        with pa.csv.open_csv(
            file,
            read_options=pa.csv.ReadOptions(column_names=columns, block_size=16 << 20),
            parse_options=pa.csv.ParseOptions(delimiter="\t", quote_char=False, ignore_empty_lines=False),
            convert_options=pa.csv.ConvertOptions(column_types=dict.fromkeys(columns, pa.int32()), null_values=[]),
        ) as batches:
            parts.extend(np.stack([column.to_numpy() for column in batch.columns], axis=1) for batch in batches)
    except pa.ArrowInvalid as error:
        if file.stat().st_size == 0:
            raise InputError(f"{file} is empty; expected lines of a query, a positive and a negative passage id") from error
        raise InputError(f"{file}, {_bad_line(file, columns)}") from error
    return np.concatenate(parts)


def _bad_line(file: Path, columns: Sequence[str]) -> str:
    """What is wrong with the first line that is not one integer for each of `columns`."""
    for number, line in read_lines(file):
        fields = line.rstrip("\r\n").split("\t")
        if len(fields) != len(columns) or not all(map(is_id, fields)):
            shown = line.strip()[:60]
            return f"line {number}: {shown!r} is not {len(columns)} tab-separated integers ({', '.join(columns)}; truncated?)"
    return "damaged"
