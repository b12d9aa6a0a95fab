"""The texts of both sides of an audit by number: what benchmarks are scored on, and what a run is trained on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from hybrid_retrieval.audit.units import Ints
from hybrid_retrieval.data.parallel import SIDES, ParallelPairs
from hybrid_retrieval.data.stored_texts import take
from hybrid_retrieval.evaluation.collection import RetrievalCollection

BATCH = 1024
"""Texts that are read and hashed together."""


@dataclass(frozen=True, eq=False)
class Part:
    """One side of one benchmark or training set.

    Attributes:
        name: of the benchmark or of the set.
        side: ``queries``, ``passages``, or ``negatives`` (passages that only ever are hard negatives).
        texts, ids: one entry a row.
        language: int64 [rows], as indices into `languages`.
        rows: int64, ascending, those that are looked at; they are numbered from `start` on.
    """

    name: str
    side: str
    texts: Sequence[str]
    ids: Sequence[str]
    languages: tuple[str, ...]
    language: Ints
    rows: Ints
    start: int

    def __len__(self) -> int:
        return len(self.rows)

    def language_of(self, row: int) -> str:
        """The language of a row."""
        return self.languages[int(self.language[row])]

    def batches(self, size: int) -> Iterator[tuple[int, list[str], list[str]]]:
        """The number of the first text, texts and ids, `size` at a time."""
        for start in range(0, len(self.rows), size):
            rows = self.rows[start : start + size]
            yield self.start + start, take(self.texts, rows), take(self.ids, rows)


@dataclass(frozen=True, eq=False)
class EvaluationPart(Part):
    """One side of a benchmark."""

    collection: RetrievalCollection

    @cached_property
    def judged(self) -> npt.NDArray[np.bool_]:
        """Bool [rows]: whether a passage answers a query, or a query has an answer."""
        judged = np.zeros(len(self.ids), np.bool_)
        judged[self.collection.query if self.side == "queries" else self.collection.document] = True
        return judged

    def answers(self, row: int) -> list[str]:
        """The passages that answer a query."""
        first, last = np.searchsorted(self.collection.query, [row, row + 1])
        return take(self.collection.corpus.texts, self.collection.document[first:last])


@dataclass(frozen=True, eq=False)
class TrainingPart(Part):
    """One side of a training split."""

    pairs: ParallelPairs

    def answers(self, group: int) -> list[str]:
        """The passages, of all languages, that are trained on as answers to a group of queries."""
        trained = self._trained
        rows = np.unique(self.pairs.passages.rows[self.pairs.answers_by_query[group]])
        return self.pairs.passages.texts(rows[trained.take(np.searchsorted(trained, rows), mode="clip") == rows])

    @cached_property
    def _trained(self) -> Ints:
        return self.pairs.split_rows("train")[1]


P = TypeVar("P", EvaluationPart, TrainingPart)


@dataclass(frozen=True)
class Texts(Generic[P]):
    """Texts of several parts, numbered part after part."""

    parts: tuple[P, ...]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def part_of(self, number: int) -> tuple[P, int]:
        """The part of a text, and its row there."""
        part = next(part for part in reversed(self.parts) if part.start <= number)
        return part, int(part.rows[number - part.start])


def evaluation_texts(collections: Mapping[str, RetrievalCollection], most_unjudged: int) -> tuple[Texts[EvaluationPart], int]:
    """The texts of benchmarks, and n: of more than `most_unjudged` passages that answer no query, every n-th is taken."""
    unjudged = sum(len(one.corpus) - len(np.unique(one.document)) for one in collections.values())
    step = max(1, -(-unjudged // most_unjudged))
    parts: list[EvaluationPart] = []
    start = 0
    for name, collection in collections.items():
        answering = np.unique(collection.document)
        others = np.setdiff1d(np.arange(len(collection.corpus)), answering)
        chosen = np.arange(len(collection.queries)), np.union1d(answering, others[::step])
        for side, texts, rows in zip(SIDES, (collection.queries, collection.corpus), chosen, strict=True):
            languages = collection.languages
            parts.append(EvaluationPart(name, side, texts.texts, texts.ids, languages, texts.language, rows, start, collection))
            start += len(rows)
    return Texts(tuple(parts)), step


def training_texts(sets: Sequence[ParallelPairs], hard_negatives: int) -> Texts[TrainingPart]:
    """The training split of sets, with the first `hard_negatives` of each pair; those of all sets come last."""
    sides = [(pairs, side, rows) for pairs in sets for side, rows in zip(SIDES, pairs.split_rows("train"), strict=True)]
    sides += [(pairs, "negatives", _negatives(pairs, hard_negatives)) for pairs in sets if hard_negatives]
    parts: list[TrainingPart] = []
    start = 0
    for pairs, side, rows in sides:
        table = pairs.queries if side == "queries" else pairs.passages
        columns = table.column("text"), table.column("id")
        parts.append(TrainingPart(pairs.name, side, *columns, pairs.languages, table.languages, rows, start, pairs))
        start += len(rows)
    return Texts(tuple(parts))


def _negatives(pairs: ParallelPairs, hard_negatives: int) -> Ints:
    """int64 [texts]: the rows that are trained on as hard negatives and as nothing else."""
    edges = pairs.split_edges("train")
    rows = []
    for language in range(len(pairs.languages)):
        for column in pairs.negatives(edges, np.full(len(edges), language), hard_negatives):
            groups = np.unique(edges[np.flatnonzero(column >= 0), column[column >= 0]])
            rows.append(pairs.passages.rows[groups, language])
    return np.setdiff1d(np.concatenate(rows), pairs.split_rows("train")[1]).astype(np.int64)
