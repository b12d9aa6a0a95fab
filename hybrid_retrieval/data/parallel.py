"""Parallel question-passage pairs: groups, languages, edges; Arrow on disk, memory-mapped.

A *group* is one meaning in several languages: a query group holds translations of one question, a passage group
translations of one passage. An *edge* says that a query group is answered by a passage group. Sets are ragged: a group
has a row in some languages and none (-1) in others. An X-X pair takes an edge with both sides in one language, an X-Y
pair an edge with two different ones.

Edges are stored sorted by (split, languages of the query, languages of the passage). The items that a language pair can
use are then a union of a few ranges (one for each *availability pattern*), so that sampling needs no index arrays.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hybrid_retrieval.ragged import Ragged

SPLITS = ("train", "validation", "test")
SCHEMA = pa.schema([("group", pa.int32()), ("key", pa.int64()), ("id", pa.large_string()), ("text", pa.large_string())])
MAX_LANGUAGES = 64
CHUNK = 65_536

Ints = npt.NDArray[np.int64]


def text_key(text: str) -> int:
    """A 63-bit fingerprint of a text, equal for texts that differ only in Unicode form or spacing."""
    canonical = " ".join(unicodedata.normalize("NFKC", text).split())
    return int.from_bytes(hashlib.blake2b(canonical.encode(), digest_size=8).digest(), "big") >> 1


@dataclass(frozen=True)
class TextTable:
    """One side (queries or passages) of a set: a row is one text in one language.

    Attributes:
        table: columns group, key, id, text; sorted by language.
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
        return np.asarray(self.table.column("group").combine_chunks())

    @cached_property
    def languages(self) -> Ints:
        """int64 [rows]: the language of every row, as an index into the set's languages."""
        found = np.zeros(len(self), np.int64)
        for language in range(self.rows.shape[1]):
            present = self.rows[:, language]
            found[present[present >= 0]] = language
        return found

    def texts(self, rows: Sequence[int] | npt.NDArray[Any] | None = None) -> list[str]:
        """The texts of `rows` (all of them by default)."""
        if rows is None:
            values: list[str] = self.table.column("text").to_pylist()
            return values
        return self._take("text", rows)

    def ids(self, rows: Sequence[int] | npt.NDArray[Any]) -> list[str]:
        """The published ids of `rows`."""
        return self._take("id", rows)

    def _take(self, name: str, rows: Sequence[int] | npt.NDArray[Any]) -> list[str]:
        """Values of a column, chunk by chunk: Arrow's own take first joins all chunks in memory."""
        column = self.table.column(name)
        wanted = np.asarray(rows, dtype=np.int64)
        ends = np.cumsum([len(chunk) for chunk in column.chunks])
        chunk_of = np.searchsorted(ends, wanted, side="right")
        values = np.empty(len(wanted), dtype=object)
        for number in np.unique(chunk_of).tolist():
            here = np.flatnonzero(chunk_of == number)
            chunk = column.chunk(number)
            values[here] = chunk.take(pa.array(wanted[here] - (ends[number] - len(chunk)))).to_pylist()
        taken: list[str] = values.tolist()
        return taken

    def iterate(self, chunk: int = 4096) -> Iterator[list[str]]:
        """All texts in row order, a chunk at a time."""
        for batch in self.table.select(["text"]).to_batches(max_chunksize=chunk):
            yield batch.column(0).to_pylist()


@dataclass(frozen=True)
class Patterns:
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
    answer_offsets: Ints
    """int64 [query groups + 1]: where a query group's answers start in `answers`."""
    answers: npt.NDArray[np.int32]
    """int32: distinct passage groups that answer each query group."""
    meta: Mapping[str, Any]
    directory: Path

    @property
    def answers_by_query(self) -> Ragged:
        """int32: the distinct passage groups that answer each query group."""
        return Ragged(self.answers, self.answer_offsets)

    @classmethod
    def open(cls, directory: Path, name: str | None = None) -> ParallelPairs:
        """Memory-map a written set; no text is read."""
        meta = json.loads((directory / "meta.json").read_text())
        return cls(
            name=name or meta["name"],
            languages=tuple(meta["languages"]),
            queries=_open_table(directory, "queries"),
            passages=_open_table(directory, "passages"),
            edges=_load(directory / "edges.npy"),
            answer_offsets=_load(directory / "answer_offsets.npy"),
            answers=_load(directory / "answers.npy"),
            meta=meta,
            directory=directory,
        )

    def patterns(self, split: str) -> Patterns:
        """The availability patterns of a split's edges."""
        table = _load(self.directory / "patterns.npy")
        table = table[table[:, 0] == SPLITS.index(split)]
        return Patterns(
            queries=table[:, 1].astype(np.uint64),
            passages=table[:, 2].astype(np.uint64),
            starts=table[:, 3].astype(np.int64),
            stops=table[:, 4].astype(np.int64),
        )

    def split_edges(self, split: str) -> npt.NDArray[np.int32]:
        """The edges of a split, as a view."""
        patterns = self.patterns(split)
        if not len(patterns.starts):
            return self.edges[:0]
        return self.edges[int(patterns.starts.min()) : int(patterns.stops.max())]

    def split_rows(self, split: str) -> tuple[Ints, Ints]:
        """Rows of the queries and of the passages that a split's edges touch, each sorted."""
        edges = self.split_edges(split)
        query_rows = self.queries.rows[np.unique(edges[:, 0])].ravel()
        passage_rows = self.passages.rows[np.unique(edges[:, 1])].ravel()
        return (
            np.sort(query_rows[query_rows >= 0]).astype(np.int64),
            np.sort(passage_rows[passage_rows >= 0]).astype(np.int64),
        )


class PairsWriter:
    """Streams a parallel set to disk: texts language by language, then edges by split."""

    def __init__(self, directory: Path, name: str, languages: Sequence[str]) -> None:
        if len(languages) > MAX_LANGUAGES:
            raise ValueError(f"{len(languages)} languages; at most {MAX_LANGUAGES} fit an availability pattern")
        self.directory = directory
        self.name = name
        self.languages = tuple(languages)
        self._sides = {
            "queries": _SideWriter(directory, "queries", len(languages)),
            "passages": _SideWriter(directory, "passages", len(languages)),
        }

    def write(self, side: str, language: str, rows: Iterable[tuple[int, str, str]]) -> int:
        """Append (group, id, text) rows of one language to ``queries`` or ``passages``; how many there were."""
        return self._sides[side].append(self.languages.index(language), rows)

    def finish(self, edges: Mapping[str, npt.NDArray[Any]], meta: Mapping[str, Any]) -> None:
        """Sort the edges of each split by availability and write everything that `ParallelPairs.open` reads.

        Args:
            edges: int [edges, 2 + negatives] for each of train, validation, test (absent: empty).
            meta: what is known of the set (counts, drops, provenance); JSON.
        """
        parts = [np.asarray(part) for part in edges.values() if len(part)]
        query_rows = self._sides["queries"].close(max((int(part[:, 0].max()) + 1 for part in parts), default=0))
        passage_rows = self._sides["passages"].close(max((int(part[:, 1:].max()) + 1 for part in parts), default=0))
        query_masks, passage_masks = _masks(query_rows), _masks(passage_rows)
        ordered: list[npt.NDArray[np.int32]] = []
        patterns: list[tuple[int, int, int, int, int]] = []
        offset = 0
        for index, split in enumerate(SPLITS):
            part = np.asarray(edges.get(split, np.empty((0, 2))), dtype=np.int32)
            if not len(part):
                continue
            left, right = query_masks[part[:, 0]], passage_masks[part[:, 1]]
            order = np.lexsort((right, left))
            part, left, right = part[order], left[order], right[order]
            change = np.flatnonzero((np.diff(left) != 0) | (np.diff(right) != 0)) + 1
            bounds = np.concatenate([[0], change, [len(part)]])
            for start, stop in itertools.pairwise(bounds):
                patterns.append((index, int(left[start]), int(right[start]), offset + int(start), offset + int(stop)))
            ordered.append(part)
            offset += len(part)
        every = np.concatenate(ordered) if ordered else np.empty((0, 2), np.int32)
        np.save(self.directory / "edges.npy", every)
        np.save(self.directory / "patterns.npy", np.array(patterns, dtype=np.uint64).reshape(-1, 5))
        offsets, answers = _answers(every, len(query_rows))
        np.save(self.directory / "answer_offsets.npy", offsets)
        np.save(self.directory / "answers.npy", answers)
        counts = {
            "queries": dict(zip(self.languages, (query_rows >= 0).sum(0).tolist(), strict=True)),
            "passages": dict(zip(self.languages, (passage_rows >= 0).sum(0).tolist(), strict=True)),
            "edges": {split: len(edges.get(split, ())) for split in SPLITS},
        }
        record = {"name": self.name, "languages": self.languages, "counts": counts, **meta}
        (self.directory / "meta.json").write_text(json.dumps(record, indent=1, ensure_ascii=False))


class _SideWriter:
    """One Arrow file and the row index of its groups."""

    def __init__(self, directory: Path, side: str, languages: int) -> None:
        self._directory, self._side, self._languages = directory, side, languages
        self._file = pa.OSFile(str(directory / f"{side}.arrow"), "wb")
        self._writer = pa.ipc.new_file(self._file, SCHEMA)
        self._count = 0
        self._index: list[tuple[int, npt.NDArray[np.int32], int]] = []

    def append(self, language: int, rows: Iterable[tuple[int, str, str]]) -> int:
        """Write rows in chunks; texts are held no longer than that."""
        start, chunk = self._count, []
        for row in rows:
            chunk.append(row)
            if len(chunk) == CHUNK:
                self._flush(language, chunk)
                chunk = []
        self._flush(language, chunk)
        return self._count - start

    def _flush(self, language: int, chunk: list[tuple[int, str, str]]) -> None:
        if not chunk:
            return
        groups, ids, texts = zip(*chunk, strict=True)
        columns = [groups, [text_key(text) for text in texts], ids, texts]
        arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)]
        self._writer.write_batch(pa.record_batch(arrays, schema=SCHEMA))
        self._index.append((language, np.array(groups, np.int32), self._count))
        self._count += len(chunk)

    def close(self, least: int) -> npt.NDArray[np.int32]:
        """Finish the file and write the row index, int32 [groups, languages], for `least` groups or more."""
        self._writer.close()
        self._file.close()
        groups = max(least, 1 + max((int(part.max()) for _, part, _ in self._index), default=-1))
        rows = np.full((groups, self._languages), -1, np.int32)
        for language, part, start in self._index:
            rows[part, language] = np.arange(start, start + len(part), dtype=np.int32)
        np.save(self._directory / f"{self._side}_rows.npy", rows)
        return rows


def _open_table(directory: Path, side: str) -> TextTable:
    with pa.memory_map(str(directory / f"{side}.arrow")) as source:
        table = pa.ipc.open_file(source).read_all()
    return TextTable(table, _load(directory / f"{side}_rows.npy"))


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


def _answers(edges: npt.NDArray[np.int32], query_groups: int) -> tuple[Ints, npt.NDArray[np.int32]]:
    """Distinct answers of every query group, in compressed rows."""
    if not len(edges):
        return np.zeros(query_groups + 1, np.int64), np.empty(0, np.int32)
    span = int(edges[:, 1].max()) + 1
    pairs = np.unique(edges[:, 0].astype(np.int64) * span + edges[:, 1])
    counts = np.bincount(pairs // span, minlength=query_groups)
    return np.concatenate([[0], np.cumsum(counts)]), (pairs % span).astype(np.int32)
