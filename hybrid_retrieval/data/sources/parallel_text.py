"""Sentences, paragraphs or names that are translations of one another: a file of tab-separated lines per language.

Every text is a query and the passage that answers it, so that cross-lingual batches are pairs of translations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hybrid_retrieval.data.language_files import Entry, LanguageFiles, read_column
from hybrid_retrieval.data.parallel import SPLIT_NAMES
from hybrid_retrieval.data.records import read_fields
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.values import Count


@dataclass(eq=False)
class ParallelText(LanguageFiles):
    """The lines of ``<language>.tsv``; columns are counted from 1."""

    id_columns: list[Count] = field(default_factory=lambda: [1])
    text_columns: list[Count] = field(default_factory=lambda: [2])
    separator: str | None = None
    alternatives: Count = 4
    replace: dict[str, str] = field(default_factory=dict)
    split_file: str | None = None
    split_column: str = "split"

    kind = "parallel_text"
    version = 1
    ending = ".tsv"

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("id_columns", "text_columns"):
            if not getattr(self, key):
                raise InputError(f"dataset.{key} is empty; expected numbers of columns, the first of which is 1")
        if "" in (self.separator, *self.replace):
            raise InputError("dataset.separator and the names of dataset.replace must not be empty")

    def tables(self) -> Sequence[str]:
        return [self.split_file] if self.split_file is not None else []

    def entries(self, file: Path) -> Iterator[Entry]:
        width = max(*self.id_columns, *self.text_columns)
        for place, fields in read_fields(file):
            if len(fields) < width:
                raise InputError(
                    f"{place}: {len(fields)} fields; expected {width}, by dataset.id_columns and dataset.text_columns"
                )
            text = self._text([fields[column - 1] for column in self.text_columns])
            yield Entry(place, "/".join(fields[column - 1] for column in self.id_columns), text, text)

    def _text(self, columns: Sequence[str]) -> str:
        """The first alternatives that columns hold, each once."""
        parts = [part for column in columns for part in (column.split(self.separator) if self.separator else [column])]
        for old, new in self.replace.items():
            parts = [part.replace(old, new) for part in parts]
        words = dict.fromkeys(" ".join(part.split()) for part in parts)
        return ", ".join([word for word in words if word][: self.alternatives])

    def split(self) -> Callable[[str], str]:
        if self.split_file is None:
            return super().split()
        file = self.folder / self.split_file
        stated = read_column(file, self.split_column)

        def split(id_: str) -> str:
            if id_ not in stated:
                raise InputError(f"{file} lacks id {id_!r}; expected every id of dataset.path={self.folder}")
            if stated[id_] not in SPLIT_NAMES:
                said = f"{self.split_column} of id {id_!r} is {stated[id_]!r}"
                raise InputError(f"{file}: {said}; expected one of: {', '.join(SPLIT_NAMES)}")
            return SPLIT_NAMES[stated[id_]]

        return split
