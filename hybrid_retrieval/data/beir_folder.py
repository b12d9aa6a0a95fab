"""BEIR's layout, in one folder per language: ``corpus``, ``queries`` and ``qrels/<split>``.

Records are JSON lines (``.jsonl``, ``.jsonl.gz``) or rows of a ``.parquet``; judgements are lines of a ``.tsv`` or ``.tsv.gz``
with BEIR's header.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path

from hybrid_retrieval.data.records import only_one, read_grade, read_lines, read_rows
from hybrid_retrieval.errors import InputError

SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet")
LANGUAGE = re.compile(r"[^\W_][\w.-]{0,39}")


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
        if odd := [name for name in found if not LANGUAGE.fullmatch(name)]:
            raise InputError(
                f"{self.key}={self.path} has a sub-folder {odd[0]!r}, which is no name of a language; "
                "expected at most 40 letters, digits, dots, hyphens and underscores"
            )
        return found

    def file(self, language: str, stem: str) -> Path | None:
        """The file ``queries`` or ``corpus`` of a language in whichever form it is there."""
        return only_one(self.path / language / f"{stem}{suffix}" for suffix in SUFFIXES)

    def records(self, language: str, stem: str) -> Iterator[tuple[str, str]]:
        """(id, text) of the ``queries`` or the ``corpus`` of a language; none without a file."""
        file = self.file(language, stem)
        return read_records(file) if file else iter(())

    def qrels(self, language: str) -> dict[str, Path]:
        """The file of judgements of each split of a language."""
        folder = self.path / language / "qrels"
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder} is not a folder; expected qrels/<split>.tsv in it")
        forms: dict[str, list[Path]] = {}
        for file in sorted((*folder.glob("*.tsv"), *folder.glob("*.tsv.gz"))):
            forms.setdefault(file.name.removesuffix(".gz").removesuffix(".tsv"), []).append(file)
        return {split: found for split, files in forms.items() if (found := only_one(files))}


def read_records(file: Path) -> Iterator[tuple[str, str]]:
    """(id, text) of every record with ``_id`` and ``text``; a ``title`` goes before its text.

    Raises:
        InputError: an empty file, a damaged record, an empty text or an id that occurs twice, with file and line.
    """
    seen: dict[str, int] = {}
    for number, record in enumerate(read_rows(file), 1):
        id_, text = record.id("_id"), " ".join(f"{record.text('title', '')} {record.text('text')}".split())
        if not text:
            raise InputError(f"{record.place}: the text of {id_!r} is empty")
        if id_ in seen:
            raise InputError(f"{record.place}: id {id_!r} is already in record {seen[id_]}")
        seen[id_] = number
        yield id_, text


def read_qrels(file: Path, queries: Container[str], passages: Container[str] | None = None) -> Iterator[tuple[str, str, int]]:
    """(query id, passage id, grade) of every judgement.

    Args:
        queries: the ids that may be judged.
        passages: likewise; None where whoever reads on checks them.

    Raises:
        InputError: an empty file, no header, a damaged line or an unknown id, with file and line.
    """
    for number, line in read_lines(file):
        fields = line.rstrip("\r\n").split("\t")
        if number == 1:
            if fields[:2] != ["query-id", "corpus-id"]:
                raise InputError(f"{file}, line 1: {line.strip()!r} is not the header query-id, corpus-id, score")
            continue
        if len(fields) != 3:
            raise InputError(f"{file}, line {number}: not three tab-separated fields (truncated?)")
        query, passage, score = fields
        grade = read_grade(score, f"{file}, line {number}")
        if query not in queries:
            raise InputError(f"{file}, line {number}: query {query!r} is in no language's queries.jsonl")
        if passages is not None and passage not in passages:
            raise InputError(f"{file}, line {number}: passage {passage!r} is not in {file.parents[1].name}/corpus.jsonl")
        yield query, passage, grade
