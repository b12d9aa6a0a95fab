"""Pairs out of the columns of a `datasets.Dataset`, as sentence-transformers users have them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import datasets
import numpy as np

from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.data.beir_folder import LANGUAGE
from hybrid_retrieval.data.parallel import CHUNK, PairsWriter, text_key
from hybrid_retrieval.data.source import BuiltSource
from hybrid_retrieval.data.stored_texts import fingerprint
from hybrid_retrieval.errors import InputError


class ColumnPairs(BuiltSource):
    """A row is a pair: a question, a passage that answers it, and the language of each; all rows are for training.

    Rows of the same id are translations of one pair, and every language of its questions is paired with every language of its
    passages. Without ids a pair is drawn in the languages of its row, and two rows of the same text share it.
    """

    kind = "columns"
    version = 1

    def __init__(
        self,
        dataset: datasets.Dataset,
        anchor: str = "anchor",
        positive: str = "positive",
        anchor_language: str = "anchor_language",
        positive_language: str | None = None,
        item: str | None = None,
        name: str = "columns",
        paths: PathsConfig | None = None,
    ) -> None:
        """
        Args:
            anchor: column of questions.
            positive: column of passages.
            anchor_language: column of the questions' languages, and by default of the passages'.
            positive_language: column of the passages' languages.
            item: column of ids that translations share.
            name: of the set, in logs.

        Raises:
            InputError: a column is not there, or has a row without a text, or with what is no name of a language.
        """
        super().__init__(paths or PathsConfig())
        self.name, self.item = name, item
        self.sides = {"queries": (anchor, anchor_language), "passages": (positive, positive_language or anchor_language)}
        used = [column for side in self.sides.values() for column in side] + ([item] if item else [])
        if missing := [column for column in used if column not in dataset.column_names]:
            raise InputError(f"column {missing[0]!r} is not in the data set; it has: {', '.join(dataset.column_names)}")
        self.dataset = dataset.select_columns(list(dict.fromkeys(used)))
        for text, language in self.sides.values():
            self._refuse(text, [not isinstance(one, str) or not one.strip() for one in self._column(text)], "without a text")
            named = [isinstance(one, str) and LANGUAGE.fullmatch(one) for one in self._column(language)]
            self._refuse(language, [not one for one in named], "without the name of a language, as de or pt_br")
        if item:
            self._refuse(item, [one is None for one in self._column(item)], "without an id")

    def at_hand(self) -> bool:
        return True

    def chosen(self) -> list[str]:
        return sorted({language for _, column in self.sides.values() for language in self.dataset.unique(column)})

    def state(self) -> Any:
        return [self.name, list(self.sides.values()), self.item, self._content]

    @property
    def _content(self) -> str:
        return fingerprint(*([str(one) for one in self._column(name)] for name in self.dataset.column_names))

    def write(self, writer: PairsWriter) -> None:
        groups = {side: self._groups(side) for side in self.sides}
        for side, (text, language) in self.sides.items():
            rows: dict[str, dict[int, int]] = defaultdict(dict)
            for row, (group, name) in enumerate(zip(groups[side], self._column(language), strict=True)):
                first = rows[name].setdefault(group, row)
                if self.item and first != row and self.dataset[first][text] != self.dataset[row][text]:
                    again = self.dataset[row][self.item]
                    raise InputError(
                        f"column {self.item!r}: {again!r} has two texts of column {text!r} in {name}, expected one"
                    )
            for name in writer.languages:
                writer.write(side, name, self._texts(rows[name], text))
        edges = np.unique(np.array([groups["queries"], groups["passages"]], np.int32).T.reshape(-1, 2), axis=0)
        writer.finish({"train": edges}, {"provenance": {"columns": self.state(), "version": self.version}})

    def _groups(self, side: str) -> list[int]:
        """The group of each row's text: that of its id, or of its language and text."""
        number: dict[Any, int] = {}
        if self.item:
            return [number.setdefault(one, len(number)) for one in self._column(self.item)]
        text, language = (self._column(column) for column in self.sides[side])
        return [number.setdefault((name, text_key(one)), len(number)) for one, name in zip(text, language, strict=True)]

    def _texts(self, rows: dict[int, int], column: str) -> Iterator[tuple[int, str, str]]:
        """(group, id, text), read a chunk at a time."""
        every = list(rows.items())
        for start in range(0, len(every), CHUNK):
            chunk = every[start : start + CHUNK]
            texts = self.dataset[[row for _, row in chunk]][column]
            yield from ((group, str(group), text) for (group, _), text in zip(chunk, texts, strict=True))

    def _column(self, name: str) -> Iterator[Any]:
        for batch in self.dataset.select_columns([name]).iter(CHUNK):
            yield from batch[name]

    def _refuse(self, column: str, bad: Iterable[bool], said: str) -> None:
        rows = np.flatnonzero(np.array(list(bad)))
        if len(rows):
            raise InputError(f"column {column!r}: {len(rows):,} of {len(self.dataset):,} rows are {said}, first row {rows[0]}")
