"""The texts that a run is trained on: queries, answers and hard negatives of the training split, in every language."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from hybrid_retrieval.audit.units import Ints
from hybrid_retrieval.data.parallel import ParallelPairs, TextTable

BATCH = 1024
"""Texts that are read and hashed together."""
SIDES = ("queries", "passages")


@dataclass(frozen=True)
class TrainingPart:
    """One side of one set.

    Attributes:
        side: ``queries``, ``passages`` (that answer a query), or ``negatives`` (that only ever are hard negatives).
        rows: int64 [texts], the rows of `table` that are trained on, ascending.
        start: the number of the first of them among all training texts.
    """

    pairs: ParallelPairs
    side: str
    rows: Ints
    start: int

    @property
    def table(self) -> TextTable:
        """The side of the set."""
        return self.pairs.queries if self.side == "queries" else self.pairs.passages

    def language(self, place: int) -> str:
        """The language of a text."""
        return self.pairs.languages[int(self.table.languages[self.rows[place]])]

    def batches(self) -> Iterator[tuple[int, Ints, list[str]]]:
        """The number of the first text, the rows, and the texts, `BATCH` at a time."""
        for start in range(0, len(self.rows), BATCH):
            rows = self.rows[start : start + BATCH]
            yield self.start + start, rows, self.table.texts(rows)


@dataclass(frozen=True)
class TrainingTexts:
    """All sets of a run, part after part."""

    parts: tuple[TrainingPart, ...]

    @classmethod
    def of(cls, sets: Sequence[ParallelPairs], hard_negatives: int) -> TrainingTexts:
        """The training split of `sets`, with so many hard negatives of each pair; those of all sets come last."""
        sides = [(pairs, side, rows) for pairs in sets for side, rows in zip(SIDES, pairs.split_rows("train"), strict=True)]
        sides += [(pairs, "negatives", _negatives(pairs, hard_negatives)) for pairs in sets if hard_negatives]
        starts = np.cumsum([0, *(len(rows) for _, _, rows in sides)]).tolist()
        return cls(tuple(TrainingPart(*side, start) for side, start in zip(sides, starts, strict=False)))

    def __len__(self) -> int:
        return sum(len(part.rows) for part in self.parts)

    def part_of(self, number: int) -> tuple[TrainingPart, int]:
        """The part of a text, and its place there."""
        part = next(part for part in reversed(self.parts) if part.start <= number)
        return part, number - part.start

    def group(self, number: int) -> tuple[int, int]:
        """The place of a query's part among the parts, and its group there: the same for all translations."""
        part, place = self.part_of(number)
        index = next(index for index, one in enumerate(self.parts) if one is part)
        return index, int(part.pairs.queries.groups[part.rows[place]])

    def answers(self, index: int, group: int) -> list[str]:
        """The passages, of all languages, that are trained on as answers to a `group` of queries."""
        pairs, trained = self.parts[index].pairs, self.parts[index + 1].rows
        answering = pairs.answers_by_query[group]
        rows = np.unique(pairs.passages.rows[answering])
        place = np.searchsorted(trained, rows)
        return pairs.passages.texts(rows[trained.take(place, mode="clip") == rows] if len(trained) else [])

    def texts(self, numbers: Sequence[int]) -> list[str]:
        """Texts by their numbers."""
        wanted = np.asarray(numbers, np.int64)
        found = np.empty(len(wanted), object)
        for part in self.parts:
            here = np.flatnonzero((wanted >= part.start) & (wanted < part.start + len(part.rows)))
            if len(here):
                found[here] = part.table.texts(part.rows[wanted[here] - part.start])
        texts: list[str] = found.tolist()
        return texts


def _negatives(pairs: ParallelPairs, hard_negatives: int) -> Ints:
    """int64 [texts]: the rows that are trained on as hard negatives and as nothing else."""
    groups = np.unique(pairs.split_edges("train")[:, 2 : 2 + hard_negatives])
    rows = pairs.passages.rows[groups[groups >= 0]].ravel()
    return np.setdiff1d(rows[rows >= 0], pairs.split_rows("train")[1]).astype(np.int64)
