"""mMARCO: MS MARCO's training triples with machine translations of every query and passage, the paper's largest set.

The published layout: ``collections`` and ``queries`` hold one file of (id, text) lines per language, and languages share
ids, so that a group is an id; one file of (query, positive passage, negative passage) triples serves all languages.
Texts stream from file to Arrow; what is held in memory are ids (about 5 GB at the peak for the 39.8M published triples).
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv

from hybrid_retrieval.cache import Cache, file_state
from hybrid_retrieval.data.parallel import EMPTY, PairsWriter
from hybrid_retrieval.data.records import read_lines
from hybrid_retrieval.data.source import BuiltSource, choose_languages, find_folder, split_of
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.files import open_input
from hybrid_retrieval.hub import Hub
from hybrid_retrieval.progress import track
from hybrid_retrieval.values import Share, check

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
TEXTS = {"queries": "google/queries/train/{}_queries.train.tsv", "passages": "google/collections/{}_collection.tsv"}
LARGEST_ID = 2**31 - 1

Int32s = npt.NDArray[np.int32]


@dataclass(eq=False)
class Mmarco(BuiltSource):
    """The translated training triples, from a local copy or from the hub at a pinned revision."""

    languages: list[str] = field(kw_only=True)
    revision: str = field(kw_only=True)
    path: str | None = None
    validation_share: Share = 0.001

    name = kind = "mmarco"
    license = "non-commercial: MS MARCO's terms"
    version = 1
    hub: ClassVar[Hub] = Hub()

    def __post_init__(self) -> None:
        check(type(self), vars(self), "dataset")
        self.languages = choose_languages(self.languages, self.offered())
        self._folder = find_folder(self.path, self.paths.data, "dataset.path") if self.path is not None else None

    def chosen(self) -> list[str]:
        return self.languages

    def offered(self) -> list[str]:
        return list(NAMES)

    def at_hand(self) -> bool:
        return self._folder.is_dir() if self._folder is not None else self.built()

    def state(self) -> list[Any] | None:
        return None if self._folder is None else [file_state(file) for file in self._files().values()]

    def _files(self) -> dict[str, Path]:
        """The files to read by their place below ``data/``, of the local copy, or from the hub or its cache."""
        names = [TRIPLES, *(place.format(NAMES[language]) for place in TEXTS.values() for language in self.languages)]
        if self._folder is None:
            advice = "name a local copy with dataset.path="
            files = {
                name: self.hub.dataset_file(REPOSITORY, f"data/{name}", self.revision, advice)
                for name in track(names, f"downloading {REPOSITORY}")
            }
            for name, file in files.items():
                Cache.at(self.paths.cache).check_pinned((REPOSITORY, self.revision, name), file)
            return files
        expected = f"expected a copy of {REPOSITORY}"
        if not self._folder.is_dir():
            raise InputError(f"dataset.path={self._folder} is not a folder; {expected} with {TRIPLES} in it")
        root = self._folder / "data" if (self._folder / "data").is_dir() else self._folder
        for name in names:
            if not (root / name).exists():
                raise InputError(f"dataset.path={self._folder} lacks {root / name}; {expected}, or other dataset.languages")
        return {name: root / name for name in names}

    def write(self, writer: PairsWriter) -> None:
        files = self._files()
        triples = read_triples(files[TRIPLES])
        known = {"queries": np.unique(triples[:, 0]), "passages": np.unique(triples[:, 1:])}
        found = {side: np.zeros(len(ids), np.bool_) for side, ids in known.items()}
        dropped: dict[str, dict[str, int]] = {}
        for side, place in TEXTS.items():
            for language in track(self.languages, f"reading {side}"):
                lost = Counter({"in no triple": 0, EMPTY: 0})
                writer.write(side, language, read_texts(files[place.format(NAMES[language])], known[side], found[side], lost))
                for reason, count in lost.items():
                    dropped.setdefault(f"{side} {reason}", {})[language] = count
        for column, side in enumerate(("queries", "passages", "passages")):
            absent = np.flatnonzero(np.isin(triples[:, column], known[side][~found[side]]))
            if len(absent):
                missing = f"id {triples[absent[0], column]} is among the {side} of no chosen language"
                raise InputError(f"{files[TRIPLES]}, line {absent[0] + 1}: {missing} ({', '.join(self.languages)})")
            triples[:, column] = np.searchsorted(known[side], triples[:, column])
        positives = np.unique(triples[:, 1])
        splits = np.array([split_of(str(id_), self.validation_share, 0.0) for id_ in known["passages"][positives].tolist()])
        held_out = np.isin(triples[:, 1], positives[splits == "validation"])
        # The hub's cache keeps large files under their SHA-256.
        checksums = {name: file.resolve().name for name, file in files.items()}
        origin: dict[str, Any] = {"hub": REPOSITORY, "revision": self.revision, "checksums": checksums}
        if self._folder is not None:
            origin = {"path": str(self._folder), "version": self.version}
        edges = {"train": triples[~held_out], "validation": triples[held_out]}
        writer.finish(edges, {"provenance": origin, "dropped": dropped})


def read_texts(file: Path, known: Int32s, found: npt.NDArray[np.bool_], lost: Counter[str]) -> Iterator[tuple[int, str, str]]:
    """(group, id, text) of the lines of a language's file whose id is known.

    Args:
        known: int32 [groups], sorted; the rank of an id is its group.
        found: bool [groups], set where there is a text.
        lost: counts the other lines, by reason.

    Raises:
        InputError: an empty file, a line that is not an id and a text, or an id that occurs twice, with file and line.
    """
    ids, seen = known.data, array("i")
    for number, line in read_lines(file):
        fields = line.rstrip("\r\n").split("\t")
        # A file cut right after a tab looks like an empty text; its line has no end.
        if len(fields) != 2 or not is_id(fields[0]) or not (fields[1] or line.endswith("\n")):
            raise InputError(f"{file}, line {number}: not an integer id, a tab and a text (truncated?)")
        id_, text = int(fields[0]), " ".join(fields[1].split())
        seen.append(id_)
        group = bisect_left(ids, id_)
        if group == len(ids) or ids[group] != id_:
            lost["in no triple"] += 1
        elif text:
            found[group] = True
            yield group, str(id_), text
        else:
            lost[EMPTY] += 1
    values, first = np.unique(np.asarray(seen), return_index=True)
    if len(values) < len(seen):
        again = int(np.setdiff1d(np.arange(len(seen)), first)[0])
        earlier = first[np.searchsorted(values, seen[again])]
        raise InputError(f"{file}, line {again + 1}: id {seen[again]} is already on line {earlier + 1}")


def is_id(value: str) -> bool:
    """True for a plain number that fits 31 bits."""
    return value.isascii() and value.isdigit() and len(value) <= 10 and int(value) <= LARGEST_ID


def read_triples(file: Path) -> Int32s:
    """int32 [triples, 3]: query, positive passage, negative passage.

    Raises:
        InputError: an empty file, or a line that is not three integers, with its number.
    """
    columns = ("query", "positive", "negative")
    parts: list[Int32s] = []
    try:
        with (
            open_input(file) as opened,
            pa.csv.open_csv(
                opened,
                read_options=pa.csv.ReadOptions(column_names=columns, block_size=16 << 20),
                parse_options=pa.csv.ParseOptions(delimiter="\t", quote_char=False, ignore_empty_lines=False),
                convert_options=pa.csv.ConvertOptions(column_types=dict.fromkeys(columns, pa.int32()), null_values=[]),
            ) as batches,
        ):
            parts.extend(np.stack([column.to_numpy() for column in batch.columns], axis=1) for batch in batches)
    except pa.ArrowInvalid as error:
        for number, line in read_lines(file):
            fields = line.rstrip("\r\n").split("\t")
            if len(fields) != len(columns) or not all(map(is_id, fields)):
                reason = f"is not 3 tab-separated integers ({', '.join(columns)}; truncated?)"
                raise InputError(f"{file}, line {number}: {line.strip()[:60]!r} {reason}") from error
        raise InputError(f"{file}: not 3 tab-separated columns of integers ({str(error)[:120]})") from error
    return np.concatenate(parts)
