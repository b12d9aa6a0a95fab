"""Texts that are larger than memory: Arrow on disk, memory-mapped, used like sequences of strings."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.hashing import text_hash

ROWS = "rows.arrow"
SCHEMA = pa.schema([("id", pa.string()), ("text", pa.string())])
CHUNK = 4096
"""Rows that are written, and decoded, together."""


class StoredTexts(Sequence[str]):
    """Strings in an Arrow column. A slice is a view; iteration decodes a chunk at a time."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        self.column = column

    def __len__(self) -> int:
        return len(self.column)

    @overload
    def __getitem__(self, place: int) -> str: ...

    @overload
    def __getitem__(self, place: slice) -> StoredTexts: ...

    def __getitem__(self, place: int | slice) -> str | StoredTexts:
        if isinstance(place, slice):
            start, stop, step = place.indices(len(self))
            if step != 1:
                raise ValueError(f"a view of stored texts has no step, got {step}")
            return StoredTexts(self.column.slice(start, max(0, stop - start)))
        row = place + len(self) if place < 0 else place
        if not 0 <= row < len(self):
            raise IndexError(f"row {place} of {len(self)} texts")
        text: str = self.column[row].as_py()
        return text

    def __iter__(self) -> Iterator[str]:
        for batch in self.batches():
            yield from batch

    def batches(self, size: int = CHUNK) -> Iterator[list[str]]:
        """All texts in order, at most `size` at a time."""
        for chunk in self.column.chunks:
            for start in range(0, len(chunk), size):
                yield chunk.slice(start, size).to_pylist()

    def take(self, rows: Sequence[int] | npt.NDArray[Any]) -> list[str]:
        """The texts of `rows` in their order, chunk by chunk: Arrow's own take first joins all chunks in memory."""
        wanted = np.asarray(rows, np.int64)
        chunk_of = np.searchsorted(self._ends, wanted, side="right")
        values = np.empty(len(wanted), dtype=object)
        for number in np.unique(chunk_of).tolist():
            here = np.flatnonzero(chunk_of == number)
            chunk = self.column.chunk(number)
            values[here] = chunk.take(pa.array(wanted[here] - (self._ends[number] - len(chunk)))).to_pylist()
        taken: list[str] = values.tolist()
        return taken

    @cached_property
    def _ends(self) -> npt.NDArray[np.int64]:
        """int64 [chunks]: the row after each chunk's last."""
        return np.cumsum([len(chunk) for chunk in self.column.chunks])


def take(texts: Sequence[str], rows: npt.NDArray[np.int64]) -> list[str]:
    """The texts of `rows`, stored or not."""
    return texts.take(rows) if isinstance(texts, StoredTexts) else [texts[row] for row in rows.tolist()]


@dataclass(frozen=True)
class Passages:
    """Ids and texts, one entry a row: two sequences of the same length."""

    ids: Sequence[str]
    texts: Sequence[str]

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def of(cls, rows: Iterable[tuple[str, str]]) -> Passages:
        """From (id, text) pairs, in memory."""
        rows = list(rows)
        return cls([id_ for id_, _ in rows], [text for _, text in rows])

    @classmethod
    def open(cls, directory: Path) -> Passages:
        """Memory-map a folder that `write_passages` wrote; nothing is read yet."""
        table = open_table(directory / ROWS)
        return cls(StoredTexts(table.column("id")), StoredTexts(table.column("text")))


def join(parts: Sequence[Sequence[str]]) -> Sequence[str]:
    """Sequences of strings one after another; stored where one of them is."""
    if not any(isinstance(part, StoredTexts) for part in parts):
        return [text for part in parts for text in part]
    return StoredTexts(pa.chunked_array([chunk for part in parts for chunk in as_column(part).chunks], pa.string()))


def as_column(texts: Sequence[str]) -> pa.ChunkedArray:
    """The Arrow column of stored texts, or a new one."""
    return texts.column if isinstance(texts, StoredTexts) else pa.chunked_array([pa.array(texts, pa.string())])


def write_rows(file: Path, schema: pa.Schema, rows: Iterable[Sequence[Any]], size: int = CHUNK) -> int:
    """Stream rows to an Arrow file, `size` at a time, which is all that is held; how many there were."""
    count = 0
    with appending(file, schema, size) as append:
        for row in rows:
            append(row)
            count += 1
    return count


@contextmanager
def appending(file: Path, schema: pa.Schema, size: int = CHUNK) -> Iterator[Callable[[Sequence[Any]], None]]:
    """What appends a row to a new Arrow file; `size` rows are written together."""
    held: list[Sequence[Any]] = []

    def write() -> None:
        arrays = [pa.array(column, field.type) for column, field in zip(zip(*held, strict=True), schema, strict=True)]
        writer.write_batch(pa.record_batch(arrays, schema=schema))
        held.clear()

    def append(row: Sequence[Any]) -> None:
        held.append(row)
        if len(held) == size:
            write()

    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        yield append
        if held:
            write()


def open_table(file: Path) -> pa.Table:
    """Memory-map what `write_rows` wrote."""
    with pa.memory_map(str(file)) as source:
        return pa.ipc.open_file(source).read_all()


def write_passages(directory: Path, rows: Iterable[tuple[str, str]], source: str, size: int = CHUNK) -> int:
    """Stream (id, text) pairs to a folder for `Passages.open`, `size` at a time; how many there were.

    Args:
        source: named in errors.

    Raises:
        InputError: an id occurs twice.
    """
    hashes = array("Q")

    def hashed() -> Iterator[tuple[str, str]]:
        for id_, text in rows:
            hashes.append(text_hash(id_))
            yield id_, text

    count = write_rows(directory / ROWS, SCHEMA, hashed(), size)
    every = np.asarray(hashes, np.uint64)
    if len(np.unique(every)) < count:
        again = np.setdiff1d(np.arange(count), np.unique(every, return_index=True)[1])[0]
        raise InputError(f"{source}: id {Passages.open(directory).ids[int(again)]!r} occurs twice")
    return count


def text_digest(texts: Sequence[str]) -> str:
    """SHA-256 of the texts and where each ends."""
    found = hashlib.sha256()
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        found.update(len(data).to_bytes(8, "little"))
        found.update(data)
    return found.hexdigest()


def fingerprint(*parts: Sequence[str] | npt.NDArray[Any]) -> str:
    """A checksum of texts and numbers in their order, wherever they lie."""
    found = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            found.update(f"{part.dtype.str}{part.shape}".encode())
            found.update(np.ascontiguousarray(part).data)
        else:
            found.update(text_digest(part).encode())
    return found.hexdigest()


Rows = Sequence[tuple[str, str]] | Passages
"""(id, text) pairs in memory, or a corpus on disk."""


def by_language(languages: Sequence[str], rows: Mapping[str, Rows]) -> tuple[Passages, npt.NDArray[np.int64]]:
    """The rows of all languages one after another, and int64 [rows], the number of each row's language."""
    given = [rows.get(language, ()) for language in languages]
    parts = [part if isinstance(part, Passages) else Passages.of(part) for part in given]
    passages = Passages(join([part.ids for part in parts]), join([part.texts for part in parts]))
    return passages, np.repeat(np.arange(len(languages)), [len(part) for part in parts])
