"""Parallel question-passage pairs: groups, languages, edges; Arrow on disk, memory-mapped.

A *group* is one meaning in several languages: a query group holds translations of one question, a passage group
translations of one passage. An *edge* says that a query group is answered by a passage group. Sets are ragged: a group
has a row in some languages and none (-1) in others. An X-X pair takes an edge with both sides in one language, an X-Y
pair an edge with two different ones.

Edges are stored sorted by (split, languages of the query, languages of the passage). The items that a language pair can
use are then a union of a few ranges (one for each *availability pattern*), so that sampling needs no index arrays.
"""

from __future__ import annotations

import json
import logging
import unicodedata
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hybrid_retrieval.data.stored_texts import StoredTexts, appending, fingerprint, open_table, write_rows
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.hashing import text_hash
from hybrid_retrieval.ragged import Ragged

log = logging.getLogger(__name__)

SIDES = ("queries", "passages")
SPLITS = ("train", "validation", "test")
SPLIT_NAMES = {"train": "train", "dev": "validation", "validation": "validation", "test": "test"}
"""Splits by what published files call them."""
SCHEMA = pa.schema([("key", pa.int64()), ("id", pa.large_string()), ("text", pa.large_string())])
MAX_LANGUAGES = 64
SCORES = "scores.npy"
EMPTY = "with an empty text"
"""How the reasons end for which a set has left out texts that are empty, or null."""
CHUNK = 65_536
"""Rows that are written together."""

Ints = npt.NDArray[np.int64]


def text_key(text: str) -> int:
    """A 63-bit fingerprint of a text, equal for texts that differ only in Unicode form or spacing."""
    return text_hash(" ".join(unicodedata.normalize("NFKC", text).split())) >> 1


@dataclass(frozen=True)
class TextTable:
    """One side (queries or passages) of a set: a row is one text in one language.

    Attributes:
        table: columns key, id, text; language after language.
        rows: int32 [groups, languages], the row of a group in a language, or -1.
    """

    table: pa.Table
    rows: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @cached_property
    def keys(self) -> Ints:
        """int64 [rows]: `text_key` of every text."""
        return np.asarray(self.table.column("key").combine_chunks())

    @cached_property
    def groups(self) -> npt.NDArray[np.int32]:
        """int32 [rows]: the group of every row."""
        groups = np.empty(len(self), np.int32)
        group, language = np.nonzero(self.rows >= 0)
        groups[self.rows[group, language]] = group
        return groups

    @cached_property
    def languages(self) -> Ints:
        """int64 [rows]: the language of every row, as an index into the set's languages."""
        return np.repeat(np.arange(self.rows.shape[1]), (self.rows >= 0).sum(0))

    def column(self, name: str) -> StoredTexts:
        """Every ``text`` or ``id``."""
        return StoredTexts(self.table.column(name))

    def texts(self, rows: Sequence[int] | npt.NDArray[Any] | None = None) -> list[str]:
        """The texts of `rows` (all of them by default)."""
        return list(self.column("text")) if rows is None else self.column("text").take(rows)

    def ids(self, rows: Sequence[int] | npt.NDArray[Any]) -> list[str]:
        """The published ids of `rows`."""
        return self.column("id").take(rows)


class Patterns(NamedTuple):
    """The availability patterns of one split: runs of edges whose two sides exist in the same languages.

    Attributes:
        queries, passages: uint64 [patterns], bit l set where the side exists in language l.
        starts, stops: int64 [patterns], the run of edges.
    """

    queries: npt.NDArray[np.uint64]
    passages: npt.NDArray[np.uint64]
    starts: Ints
    stops: Ints


@dataclass(frozen=True)
class ParallelPairs:
    """A parallel set, opened from the folder that `PairsWriter` wrote."""

    name: str
    languages: tuple[str, ...]
    queries: TextTable
    passages: TextTable
    edges: npt.NDArray[np.int32]
    """int32 [edges, 2 + negatives]: query group, passage group, passage groups that are hard negatives."""
    answers_by_query: Ragged
    """int32: the distinct passage groups that answer each query group, whether or not there is an edge."""
    meta: Mapping[str, Any]
    directory: Path
    weight: float = 1.0
    """Of its draws in a mixture, relative to the other sets."""
    scores: npt.NDArray[np.float32] | None = None
    """float32 [edges, 1 + negatives]: what a teacher gave the passage and each negative of an edge, NaN where it is unknown."""

    prompts: Mapping[str, str] = field(default_factory=dict)
    """By side, where there is one: what stands before each text, after the encoder's own prefix."""

    @classmethod
    def open(cls, directory: Path) -> ParallelPairs:
        """Memory-map a written set; no text is read."""
        meta = json.loads((directory / "meta.json").read_text())
        return cls(
            name=meta["name"],
            languages=tuple(meta["languages"]),
            queries=_open_side(directory, "queries", meta["languages"]),
            passages=_open_side(directory, "passages", meta["languages"]),
            edges=_load(directory / "edges.npy"),
            answers_by_query=Ragged(_load(directory / "answers.npy"), _load(directory / "answer_offsets.npy")),
            meta=meta,
            directory=directory,
            scores=_load(directory / SCORES) if (directory / SCORES).exists() else None,
        )

    @property
    def empty(self) -> int:
        """How many texts were left out because there is nothing in them."""
        found = [count for reason, count in self.meta.get("dropped", {}).items() if reason.endswith(EMPTY)]
        return sum(sum(count.values()) if isinstance(count, Mapping) else count for count in found)

    def patterns(self, split: str) -> Patterns:
        """The availability patterns of a split's edges."""
        table = _load(self.directory / "patterns.npy")
        queries, passages, starts, stops = table[table[:, 0] == SPLITS.index(split), 1:].T
        return Patterns(queries, passages, starts.astype(np.int64), stops.astype(np.int64))

    def split_edges(self, split: str) -> npt.NDArray[np.int32]:
        """The edges of a split, as a view."""
        patterns = self.patterns(split)
        if not len(patterns.starts):
            return self.edges[:0]
        return self.edges[int(patterns.starts.min()) : int(patterns.stops.max())]

    def negatives(self, edges: npt.NDArray[Any], languages: Ints, count: int) -> Ints:
        """int64 [count, edges]: the columns of the first hard negatives that exist in a language; -1 where there are no more.

        Args:
            languages: int64 [edges], of the passage of each pair, as an index.
        """
        groups = edges[:, 2:]
        there = (groups >= 0) & (self.passages.rows[np.maximum(groups, 0), languages[:, None]] >= 0)
        first = np.argsort(~there, axis=1, kind="stable")[:, :count]
        found = np.full((count, len(edges)), -1, np.int64)
        found[: first.shape[1]] = np.where(np.take_along_axis(there, first, 1), first + 2, -1).T
        return found

    def split_rows(self, split: str) -> tuple[Ints, Ints]:
        """Rows of the queries and of the passages that a split's edges touch, each sorted."""
        edges = self.split_edges(split)
        query_rows = self.queries.rows[np.unique(edges[:, 0])]
        passage_rows = self.passages.rows[np.unique(edges[:, 1])]
        queries, passages = (np.sort(rows[rows >= 0]).astype(np.int64) for rows in (query_rows, passage_rows))
        return queries, passages


class PairsWriter:
    """Streams a parallel set to disk: the texts of each language, then edges by split."""

    def __init__(self, directory: Path, name: str, languages: Sequence[str], chunk: int = CHUNK) -> None:
        if len(languages) > MAX_LANGUAGES:
            raise InputError(
                f"{name} has {len(languages)} languages; at most {MAX_LANGUAGES} fit: choose with dataset.languages"
            )
        self.directory = directory
        self.name = name
        self.languages = tuple(languages)
        self._chunk = chunk
        none = np.empty(0, np.int32)
        self._groups: dict[str, dict[str, npt.NDArray[np.int32]]] = {side: dict.fromkeys(languages, none) for side in SIDES}

    def write(self, side: str, language: str, rows: Iterable[tuple[int, str, str]]) -> None:
        """Write the (group, id, text) rows of one language of ``queries`` or ``passages``; texts are held a chunk at a time."""
        groups = array("i")

        def keyed() -> Iterator[tuple[int, str, str]]:
            for group, id_, text in rows:
                groups.append(group)
                yield text_key(text), id_, text

        write_rows(_side_file(self.directory, side, language), SCHEMA, keyed(), self._chunk)
        self._groups[side][language] = np.array(groups, np.int32)

    def write_mixed(self, rows: Iterable[tuple[str, str, int, str, str]]) -> None:
        """Write (side, language, group, id, text) rows in any order; each file's are held a chunk at a time."""
        groups: dict[tuple[str, str], array[int]] = {}
        files: dict[tuple[str, str], Callable[[Sequence[Any]], None]] = {}
        with ExitStack() as opened:
            for side, language, group, id_, text in rows:
                place = side, language
                if place not in files:
                    groups[place] = array("i")
                    files[place] = opened.enter_context(appending(_side_file(self.directory, side, language), SCHEMA))
                groups[place].append(group)
                files[place]((text_key(text), id_, text))
        for (side, language), found in groups.items():
            self._groups[side][language] = np.array(found, np.int32)

    def groups(self, side: str) -> int:
        """The number of groups that were written."""
        return max((int(part.max()) + 1 for part in self._groups[side].values() if len(part)), default=0)

    def row_languages(self, side: str) -> Ints:
        """int64 [rows]: the language of every row that was written, as an index."""
        return np.repeat(np.arange(len(self.languages)), [len(part) for part in self._groups[side].values()])

    def table(self, side: str) -> TextTable:
        """The texts that were written."""
        return TextTable(_side_table(self.directory, side, self.languages), self._row_index(side, 0))

    def regroup(self, side: str, group_of: npt.NDArray[Any]) -> None:
        """Replace the groups of all rows of a side: a group is known only when all texts have been seen."""
        self._groups[side] = {language: group_of[groups] for language, groups in self._groups[side].items()}

    def finish(
        self,
        edges: Mapping[str, npt.NDArray[Any]],
        meta: Mapping[str, Any],
        scores: Mapping[str, npt.NDArray[Any]] | None = None,
        answers: npt.NDArray[Any] | None = None,
    ) -> None:
        """Sort the edges of each split by availability and write everything that `ParallelPairs.open` reads.

        Args:
            edges: int [edges, 2 + negatives] for each of train, validation, test (absent: empty).
            meta: what is known of the set, JSON; ``dropped``, by reason and perhaps by language, is also logged.
            scores: float [edges, 1 + negatives], a teacher's, for each split that has edges; NaN where unknown.
            answers: int [answers, 2], query group and passage group, beside the edges: what is no negative, and no pair.
        """
        parts = {index: np.asarray(edges[name], np.int32) for index, name in enumerate(SPLITS) if len(edges.get(name, ()))}
        every = np.concatenate(list(parts.values())) if parts else np.empty((0, 2), np.int32)
        split = np.repeat(np.array(list(parts), np.uint64), [len(part) for part in parts.values()])
        known_answers = np.empty((0, 2), np.int32) if answers is None else np.asarray(answers, np.int32)
        query_rows = self._row_index("queries", int(every[:, 0].max(initial=-1)) + 1)
        passage_rows = self._row_index("passages", int(every[:, 1:].max(initial=-1)) + 1)
        kind = np.stack([split, _masks(query_rows)[every[:, 0]], _masks(passage_rows)[every[:, 1]]])
        order = np.lexsort(kind[::-1])
        every, kind = every[order], kind[:, order]
        starts = np.flatnonzero(np.append(True, (kind[:, 1:] != kind[:, :-1]).any(0))[: len(every)])
        stops = np.append(starts, len(every))[1:]
        answered = _answers(np.concatenate([every[:, :2], known_answers]), len(query_rows))
        counts = {
            "queries": dict(zip(self.languages, (query_rows >= 0).sum(0).tolist(), strict=True)),
            "passages": dict(zip(self.languages, (passage_rows >= 0).sum(0).tolist(), strict=True)),
            "edges": {split: len(edges.get(split, ())) for split in SPLITS},
        }
        arrays: dict[str, npt.NDArray[Any]] = {
            "queries_rows": query_rows,
            "passages_rows": passage_rows,
            "edges": every,
            "patterns": np.stack([*kind[:, starts], starts, stops], 1).astype(np.uint64),
            "answers": answered.values,
            "answer_offsets": answered.offsets,
        }
        taught: list[npt.NDArray[np.float32]] = []
        if scores is not None and parts:
            taught = [np.concatenate([np.asarray(scores[SPLITS[index]], np.float32) for index in parts])[order]]
            if taught[0].shape != (len(every), every.shape[1] - 1):
                raise ValueError(f"scores are {taught[0].shape}; expected one for each passage of {every.shape} edges")
            np.save(self.directory / SCORES, taught[0])
        more = [] if answers is None else [answered.values, answered.offsets]
        for name, values in arrays.items():
            np.save(self.directory / f"{name}.npy", values)
        sides = [_open_side(self.directory, side, self.languages) for side in SIDES]
        texts = [side.column(name) for side in sides for name in ("id", "text")]
        known = fingerprint(self.languages, *texts, query_rows, passage_rows, every, kind[0], *taught, *more)
        for reason, dropped in sorted(meta.get("dropped", {}).items()):
            by_language = isinstance(dropped, Mapping)
            if not (any(dropped.values()) if by_language else dropped):
                continue
            said = ", ".join(f"{name} {count:,}" for name, count in sorted(dropped.items())) if by_language else f"{dropped:,}"
            log.info("left out of %s, %s: %s", self.name, reason, said)
        record = {"name": self.name, "languages": self.languages, "counts": counts, "fingerprint": known, **meta}
        (self.directory / "meta.json").write_text(json.dumps(record, indent=1, ensure_ascii=False))

    def _row_index(self, side: str, least: int) -> npt.NDArray[np.int32]:
        """int32 [groups, languages] of a side, for `least` groups or more."""
        groups = self._groups[side]
        rows = np.full((max(least, self.groups(side)), len(groups)), -1, np.int32)
        start = 0
        for index, part in enumerate(groups.values()):
            rows[part, index] = np.arange(start, start + len(part))
            start += len(part)
        return rows


def _side_file(directory: Path, side: str, language: str) -> Path:
    return directory / f"{side}.{language}.arrow"


def _open_side(directory: Path, side: str, languages: Sequence[str]) -> TextTable:
    return TextTable(_side_table(directory, side, languages), _load(directory / f"{side}_rows.npy"))


def _side_table(directory: Path, side: str, languages: Sequence[str]) -> pa.Table:
    files = [_side_file(directory, side, language) for language in languages]
    return pa.concat_tables([SCHEMA.empty_table(), *(open_table(file) for file in files if file.exists())])


def _load(path: Path) -> npt.NDArray[Any]:
    """Memory-map an array; a plain load where it is empty, which cannot be mapped."""
    try:
        array: npt.NDArray[Any] = np.load(path, mmap_mode="r")
    except ValueError:
        array = np.load(path)
    return array


def _masks(rows: npt.NDArray[np.int32]) -> npt.NDArray[np.uint64]:
    """uint64 [groups]: bit l set where the group has a row in language l."""
    bits = np.uint64(1) << np.arange(rows.shape[1], dtype=np.uint64)
    masks: npt.NDArray[np.uint64] = ((rows >= 0) * bits).sum(1, dtype=np.uint64)
    return masks


def _answers(edges: npt.NDArray[np.int32], query_groups: int) -> Ragged:
    """The distinct answers of every query group; `edges` [edges, 2] are query group and passage group."""
    span = int(edges[:, 1].max(initial=0)) + 1
    pairs = np.unique(edges[:, 0].astype(np.int64) * span + edges[:, 1])
    return Ragged.of((pairs % span).astype(np.int32), np.bincount(pairs // span, minlength=query_groups))
