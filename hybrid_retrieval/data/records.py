"""Numbered lines, JSON objects and rows of files, and BEIR's layout of them; damage is named with file and line.

BEIR's files lie in one folder per language: ``corpus``, ``queries`` and ``qrels/<split>``. Records are JSON lines (``.jsonl``,
``.jsonl.gz``) or rows of a ``.parquet``; judgements are lines of a ``.tsv`` or ``.tsv.gz`` with BEIR's header.

JSON lines are streamed here and not by `datasets`, which reads Parquet: over 317,109 records of SQuAD 2.0 in three languages
this takes 2.0 s and 76 MB; `datasets` takes 3.2 s (5.9 s streamed) and 286 MB, a second to import, and does not say which line
is damaged.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hybrid_retrieval.errors import InputError

CHUNK = 4096
"""Rows of a Parquet file that are decoded together."""
SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet")


def read_lines(file: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines, ends included, of a text file, gzip or plain; only a newline ends a line.

    Raises:
        InputError: it is damaged, with the line that the damage follows.
    """
    number = 0
    opened = gzip.open if file.suffix == ".gz" else open
    try:
        with opened(file, "rt", encoding="utf-8", newline="\n") as lines:
            for number, line in enumerate(lines, 1):
                yield number, line
    except (EOFError, zlib.error, gzip.BadGzipFile, UnicodeDecodeError) as error:
        raise InputError(f"{file}: damaged or truncated after line {number} ({error})") from error


def read_rows(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Numbered records of a ``.jsonl``, a ``.jsonl.gz`` or a ``.parquet``."""
    return read_parquet(file) if file.suffix == ".parquet" else read_json(file)


def read_json(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Numbered JSON objects, one a line, of a ``.jsonl`` or ``.jsonl.gz``."""
    for number, line in read_lines(file):
        try:
            record = json.loads(line)
        except ValueError as error:
            raise InputError(f"{file}, line {number}: not JSON (truncated?)") from error
        if not isinstance(record, dict):
            raise InputError(f"{file}, line {number}: not a JSON object")
        yield number, record


def read_parquet(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Numbered rows of a Parquet file."""
    import datasets
    import pyarrow as pa

    number = 0
    try:
        rows = datasets.load_dataset("parquet", data_files=str(file), split="train", streaming=True)
        for batch in rows.with_format("arrow").iter(CHUNK):
            for record in batch.to_pylist():
                number += 1
                yield number, record
    except (pa.ArrowException, datasets.exceptions.DatasetsError, OSError) as error:
        raise InputError(f"{file}: not a readable Parquet file ({str(error).splitlines()[0][:120]})") from error


@dataclass(frozen=True)
class BeirFolder:
    """A parallel set: a folder with one sub-folder per language.

    Attributes:
        key: of the config that `path` is from, for errors.
    """

    path: Path
    key: str

    def languages(self) -> list[str]:
        """The sub-folders with queries or a corpus, sorted.

        Raises:
            InputError: there are none.
        """
        if not self.path.is_dir():
            raise InputError(f"{self.key}={self.path} is not a folder; expected one sub-folder per language in it")
        stems = ("queries", "corpus")
        found = sorted(folder.name for folder in self.path.iterdir() if any(self.file(folder.name, stem) for stem in stems))
        if not found:
            raise InputError(f"{self.key}={self.path} has no sub-folder with queries.jsonl or corpus.jsonl in it")
        return found

    def file(self, language: str, stem: str) -> Path | None:
        """The file ``queries`` or ``corpus`` of a language in whichever form it is there."""
        files = (self.path / language / f"{stem}{suffix}" for suffix in SUFFIXES)
        return next((file for file in files if file.is_file()), None)

    def records(self, language: str, stem: str) -> Iterator[tuple[str, str]]:
        """(id, text) of the ``queries`` or the ``corpus`` of a language; none without a file."""
        file = self.file(language, stem)
        return read_records(file) if file else iter(())

    def qrels(self, language: str) -> dict[str, Path]:
        """The file of judgements of each split of a language; the plain one where there is a compressed one too."""
        files = sorted((self.path / language / "qrels").glob("*.tsv*"), reverse=True)
        return {file.name.split(".")[0]: file for file in files}


def read_records(file: Path) -> Iterator[tuple[str, str]]:
    """(id, text) of every record with ``_id`` and ``text``; a ``title`` goes before its text.

    Raises:
        InputError: an empty file, a damaged record, an empty text or an id that occurs twice, with file and line.
    """
    seen: dict[str, int] = {}
    number = 0
    for number, record in read_rows(file):
        try:
            id_, title, text = record["_id"], record.get("title") or "", record["text"]
            if not (isinstance(id_, (str, int)) and isinstance(title, str) and isinstance(text, str)):
                raise TypeError("a field is of the wrong type")
        except (KeyError, TypeError) as error:
            raise InputError(f"{file}, line {number}: not a record with _id and text") from error
        id_, text = str(id_), " ".join(f"{title} {text}".split())
        if not text:
            raise InputError(f"{file}, line {number}: the text of {id_!r} is empty")
        if id_ in seen:
            raise InputError(f"{file}, line {number}: id {id_!r} is already on line {seen[id_]}")
        seen[id_] = number
        yield id_, text
    if number == 0:
        raise InputError(f"{file} is empty; expected one record a line")


def read_qrels(file: Path, queries: Container[str], passages: Container[str] | None = None) -> Iterator[tuple[str, str, int]]:
    """(query id, passage id, grade) of every judgement.

    Args:
        queries: the ids that may be judged.
        passages: likewise; None where whoever reads on checks them.

    Raises:
        InputError: an empty file, no header, a damaged line or an unknown id, with file and line.
    """
    number = 0
    for number, line in read_lines(file):
        fields = line.rstrip("\r\n").split("\t")
        if number == 1:
            if fields[:2] != ["query-id", "corpus-id"]:
                raise InputError(f"{file}, line 1: {line.strip()!r} is not the header query-id, corpus-id, score")
            continue
        try:
            query, passage, score = fields
            grade = int(float(score))
        except (ValueError, OverflowError) as error:
            raise InputError(
                f"{file}, line {number}: not three tab-separated fields with a number last (truncated?)"
            ) from error
        if query not in queries:
            raise InputError(f"{file}, line {number}: query {query!r} is in no language's queries.jsonl")
        if passages is not None and passage not in passages:
            raise InputError(f"{file}, line {number}: passage {passage!r} is not in {file.parents[1].name}/corpus.jsonl")
        yield query, passage, grade
    if number == 0:
        raise InputError(f"{file} is empty; expected a header line and judgements")
