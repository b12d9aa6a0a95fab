"""A corpus to search, in whichever form it comes: read once, stored as Arrow, opened memory-mapped.

JSON lines or Parquet with ``text`` and, where they are there, ``_id`` or ``id``, ``title`` and ``language``; plain text, a
passage a line, or a paragraph where that is asked for; or a folder of BEIR's, with a sub-folder a language or with one corpus.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hybrid_retrieval.cache import Cache, file_state
from hybrid_retrieval.data.beir_folder import SUFFIXES, BeirFolder
from hybrid_retrieval.data.records import only_one, read_lines, read_rows
from hybrid_retrieval.data.stored_texts import ROWS, StoredTexts, open_table, text_digest, write_rows
from hybrid_retrieval.errors import InputError, choice, reading
from hybrid_retrieval.evaluation.collection import Ints
from hybrid_retrieval.files import read_text, write_text
from hybrid_retrieval.progress import track

VERSION = 1
"""Version of the files in a folder."""
PLAIN = (".txt", ".txt.gz")
UNKNOWN = "-"
"""The language of a passage that does not say it."""
DIGEST = "digest.txt"
SCHEMA = pa.schema([(name, pa.string()) for name in ("id", "text", "language")])


@dataclass(frozen=True)
class StoredPassages:
    """A corpus, one entry a row.

    Attributes:
        language: an Arrow column.
        digest: of the texts.
    """

    ids: StoredTexts
    texts: StoredTexts
    language: StoredTexts
    digest: str

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def open(cls, path: Path, cache: Cache, paragraphs: bool = False) -> StoredPassages:
        """The corpus at `path`; it is read where it was not, or has changed since.

        Args:
            paragraphs: of plain text: lines without an empty one between them are one passage.

        Raises:
            InputError: it is of no known form, damaged or empty, or what was stored of it is damaged.
        """
        files = corpus_files(path)
        key = [VERSION, paragraphs, [[language, *file_state(file)] for language, file in files]]
        folder = cache.build("corpora", key, partial(_store, files, paragraphs, path))
        with reading(f"{folder} is damaged (remove it)"):
            table = open_table(folder / ROWS)
            ids, texts, language = (StoredTexts(table.column(name)) for name in SCHEMA.names)
            return cls(ids, texts, language, read_text(folder / DIGEST))

    @property
    def languages(self) -> list[str]:
        """Of any passage, sorted."""
        found: list[str] = pc.unique(self.language.column).to_pylist()
        return sorted(found)

    def rows_in(self, languages: Iterable[str]) -> Ints:
        """int64: the rows in some languages.

        Raises:
            InputError: a language has none.
        """
        for language in languages:
            if self.languages == [UNKNOWN]:
                raise InputError(f"--language={language}: no passage says its language; expected a field or a folder for it")
            choice("--language", language, self.languages)
        return np.flatnonzero(pc.is_in(self.language.column, pa.array(list(languages))).to_numpy()).astype(np.int64)


def corpus_files(path: Path) -> list[tuple[str, Path]]:
    """The files of a corpus, each with its language as far as a folder tells it.

    Raises:
        InputError: there is nothing of a known form.
    """
    if path.is_dir():
        if flat := only_one(path / f"corpus{suffix}" for suffix in SUFFIXES):
            return [(UNKNOWN, flat)]
        folder = BeirFolder(path, "CORPUS")
        found = [(language, file) for language in folder.languages() if (file := folder.file(language, "corpus"))]
        if not found:
            raise InputError(f"CORPUS={path} has queries alone; expected a corpus.jsonl in it, or in a sub-folder a language")
        return found
    if not path.exists():
        raise InputError(f"CORPUS={path} is not there; expected a file or a folder")
    if not path.name.endswith((*SUFFIXES, *PLAIN)):
        raise InputError(
            f"CORPUS={path} is of an unknown form; expected {', '.join((*SUFFIXES, *PLAIN))} or a folder of BEIR's"
        )
    return [(UNKNOWN, path)]


def _store(files: list[tuple[str, Path]], paragraphs: bool, path: Path, folder: Path) -> None:
    rows = (row for language, file in files for row in _passages(file, language, paragraphs))
    if not write_rows(folder / ROWS, SCHEMA, track(rows, f"reading {path.name}")):
        raise InputError(f"CORPUS={path} is empty; expected passages")
    write_text(folder / DIGEST, text_digest(StoredTexts(open_table(folder / ROWS).column("text"))))


def _passages(file: Path, language: str, paragraphs: bool) -> Iterator[tuple[str, str, str]]:
    """(id, text, language) of each passage; what has no id is numbered by its line."""
    if file.name.endswith(PLAIN):
        lines = ((number, line.strip()) for number, line in read_lines(file))
        # Empty lines are runs of their own, of which nothing is left.
        runs = groupby(lines, lambda line: bool(line[1]) if paragraphs else line[0])
        for part in ([line for line in run if line[1]] for _, run in runs):
            if part:
                yield str(part[0][0]), " ".join(text for _, text in part), language
        return
    for number, record in enumerate(read_rows(file), 1):
        text = " ".join(f"{record.text('title', '')} {record.text('text')}".split())
        if not text:
            raise InputError(f"{record.place}: the text is empty")
        said = record.text("language", language).strip() or UNKNOWN
        yield record.id("_id", "id", default=str(number)), text, said
