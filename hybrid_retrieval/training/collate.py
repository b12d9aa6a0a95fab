"""Pairs to tensors: the texts of a global batch that a rank encodes, and what the loss knows of all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hybrid_retrieval.data.parallel import ParallelPairs, TextTable
from hybrid_retrieval.data.tokens import TokenStore
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.losses.loss import PassageIds, QueryIds
from hybrid_retrieval.models.chunks import plan, shares
from hybrid_retrieval.models.encoder import Role, Tokens
from hybrid_retrieval.ragged import Ragged
from hybrid_retrieval.sampling.availability import Availability, SetAvailability
from hybrid_retrieval.sampling.batch import PairIndices
from hybrid_retrieval.training.augmentation import Augmentation, Lost
from hybrid_retrieval.training.teacher import TeacherEmbeddings

Ints = npt.NDArray[np.int64]
SET_SHIFT = 40
"""Group ids of different sets are kept apart by the set's number above this bit."""
COLUMN = {"query": 0, "passage": 1}
"""The column of an edge that holds a side's group."""


@dataclass(frozen=True)
class Chunk:
    """Texts that a rank encodes together; `number` is the chunk's in the plan of the global batch."""

    number: int
    tokens: Tokens


@dataclass(frozen=True)
class PairBatch:
    """A global batch of B pairs as one rank sees it: the texts that it encodes, and ids of all.

    Texts are numbered: the B of the pairs' first sides (their queries), the B of their second (their own passages), then
    the hard negatives, then perturbed queries where these come beside the clean ones.

    Attributes:
        step: the batch's number in the run.
        chunks: texts that this rank encodes.
        counts: how many texts each rank encodes; `chunk_counts`: how many chunks.
        places: int64 [texts], the place of each text's embedding when the ranks' embeddings lie end to end, each rank's in
            the order of its chunks.
        rank: this rank.
        pairs: the batch as indices.
        taught: float32 [texts, teacher's dimensions], a teacher's embeddings of the queries and of the passages of the whole
            batch, where the loss has a teacher.
        scores: float32 [B, 1 + hard negatives], as of `EmbeddedPairs`, where the loss asks for them.
        perturbed: int64 [perturbed], the queries that an augmentation has changed; fingerprints and what a teacher says of a
            text stay the clean ones'. None without an augmentation.
        lost: of these texts.
    """

    step: int
    chunks: tuple[Chunk, ...]
    counts: tuple[int, ...]
    chunk_counts: tuple[int, ...]
    places: Tensor
    of_queries: QueryIds
    of_passages: PassageIds
    rank: int
    pairs: PairIndices
    taught: tuple[Tensor, ...] = ()
    scores: Tensor | None = None
    perturbed: Tensor | None = None
    lost: Lost | None = None

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def rows(self) -> slice:
        """The queries whose loss is this rank's to compute."""
        each = len(self) // len(self.counts)
        return slice(self.rank * each, (self.rank + 1) * each)

    @property
    def own_places(self) -> slice:
        """The place of this rank's embeddings among those of all."""
        start = sum(self.counts[: self.rank])
        return slice(start, start + self.counts[self.rank])

    def to(self, device: torch.device | str, non_blocking: bool = False) -> PairBatch:
        """The same on another device."""
        values: dict[str, Any] = {part.name: getattr(self, part.name) for part in fields(self)}
        moved = {name: value.to(device, non_blocking=non_blocking) for name, value in values.items() if hasattr(value, "to")}
        chunks = tuple(replace(chunk, tokens=chunk.tokens.to(device, non_blocking=non_blocking)) for chunk in self.chunks)
        taught = tuple(part.to(device, non_blocking=non_blocking) for part in self.taught)
        return replace(self, chunks=chunks, taught=taught, **moved)


@dataclass(frozen=True)
class TextBatch:
    """Texts that a rank embeds: `rows` int64 [texts] of a side of the set `set_index`, or of a collection."""

    role: Role
    set_index: int
    rows: Tensor
    tokens: Tokens

    def to(self, device: torch.device | str, non_blocking: bool = False) -> TextBatch:
        """The same with its tokens on another device; rows are read on the host."""
        return replace(self, tokens=self.tokens.to(device, non_blocking=non_blocking))


@dataclass(frozen=True)
class TokenisedSet:
    """A set with the tokens of its two sides, and a teacher's embeddings of their texts."""

    pairs: ParallelPairs
    queries: TokenStore
    passages: TokenStore
    taught: Mapping[int, TeacherEmbeddings] = field(default_factory=dict)
    """By column, where the loss has a teacher."""

    def store(self, column: int) -> TokenStore:
        """The tokens of a side."""
        return self.passages if column else self.queries

    def table(self, column: int) -> TextTable:
        """The texts of a side."""
        return self.pairs.passages if column else self.pairs.queries


def availability(sets: Sequence[ParallelPairs], split: str, columns: tuple[int, int] = (0, 1)) -> Availability:
    """The edges of a split by the languages that the texts on either side exist in, for a sampler to draw from.

    Args:
        columns: of the first and of the second side of a pair.
    """
    found = []
    for pairs in sets:
        runs = pairs.patterns(split)
        first, second = ((runs.queries, runs.passages)[column] for column in columns)
        found.append(SetAvailability(pairs.name, pairs.languages, first, second, runs.starts, runs.stops, pairs.weight))
    return Availability(found)


def text_rows(pairs: ParallelPairs, column: int, groups: Ints, languages: Ints, union: Sequence[str]) -> Ints:
    """Text rows of groups of a side in `languages` of the sets' `union`; -1 where there is none."""
    table = pairs.passages if column else pairs.queries
    rows: Ints = table.rows[groups, numbers_in(pairs, union)[languages]].astype(np.int64)
    return rows


def numbers_in(pairs: ParallelPairs, union: Sequence[str]) -> Ints:
    """int64 [union]: the number of each language in a set; -1 where it is not the set's."""
    return np.array([pairs.languages.index(name) if name in pairs.languages else -1 for name in union])


class Collator:
    """Turns global batches of pairs into the tensors of one rank.

    The chunks of a global batch do not depend on the number of ranks (law 4).
    """

    def __init__(
        self,
        sets: Sequence[TokenisedSet],
        hard_negatives: int = 0,
        sides: tuple[str, str] = ("query", "passage"),
        chunk_tokens: int = 0,
        scored: bool = False,
    ) -> None:
        """
        Args:
            hard_negatives: mined negatives of each pair.
            sides: which side of an edge stands first and second in a pair.
            chunk_tokens: of a chunk, padding included; 0 where texts are not padded: each rank takes its texts in one piece.
            scored: batches carry the data's scores of each pair's passages.

        Raises:
            InputError: a set has none.
        """
        self.sets = tuple(sets)
        self.hard_negatives, self.chunk_tokens, self.scored = hard_negatives, chunk_tokens, scored
        if bare := [one.pairs.name for one in sets if scored and one.pairs.scores is None]:
            raise InputError(f"loss.targets=data: {bare[0]} has no scores; a column of the data brings them, or prepare score")
        self.columns = COLUMN[sides[0]], COLUMN[sides[1]]
        self.languages = tuple(sorted({language for one in sets for language in one.pairs.languages}))

    @property
    def teacher_dimensions(self) -> int:
        """Width of the teacher's embeddings; 0 without one."""
        return next((one.dimensions for one in self.sets[0].taught.values()), 0)

    def availability(self, split: str) -> Availability:
        """The edges of a split, for a sampler to draw from."""
        return availability([one.pairs for one in self.sets], split, self.columns)

    def __call__(
        self, step: int, pairs: PairIndices, rank: int = 0, ranks: int = 1, augmentation: Augmentation | None = None
    ) -> PairBatch:
        """A global batch as one of `ranks` sees it.

        Args:
            augmentation: what perturbs queries, of a training batch.
        """
        count, width = len(pairs), 2 + self.hard_negatives
        # [places of a pair, pairs]: each text's row, fingerprint and passage group; first side, second side, negatives.
        row, key = np.empty((width, count), np.int64), np.empty((width, count), np.int64)
        group = np.full((width, count), -1, np.int64)
        answers: list[tuple[Ints, Ragged]] = []
        for index, slots in _by_set(pairs):
            one, shift = self.sets[index], index << SET_SHIFT
            edges = one.pairs.edges[pairs.edge[slots]].astype(np.int64)
            languages = pairs.query_language[slots], pairs.passage_language[slots]
            for place, column in enumerate(self.columns):
                row[place, slots] = self._rows(index, column, edges[:, column], languages[place])
                key[place, slots] = one.table(column).keys[row[place, slots]]
                group[place, slots] = edges[:, 1] + shift
            self._negatives(index, slots, edges, languages[1], row, key, group)
            known = one.pairs.answers_by_query.gather(edges[:, 0])
            here = np.isin(known.values, group[1:, slots] - shift)
            found = known.values[here].astype(np.int64) + shift
            answers.append((slots, Ragged.of(found, np.bincount(known.rows()[here], minlength=len(slots)))))
        language = np.concatenate([pairs.query_language, np.tile(pairs.passage_language, width - 1)])
        asked = np.concatenate([key[0], np.full((width - 2) * count, -1)])
        of_queries = key[0].copy(), _filled(answers, count), key[1].copy(), language[:count]
        of_passages = group[1:].ravel(), key[1:].ravel(), asked, language[count:]
        store = np.tile(pairs.set_index, (width, 1)) * 2 + np.array([*self.columns, *[1] * (width - 2)])[:, None]
        texts = _Texts(self.sets, store.ravel(), row.ravel())
        changed, lost = None, None
        if augmentation is not None:
            changed, tokens, lost = self._perturbed(augmentation, step, pairs, row[0])
            texts = texts.perturbed(changed, tokens, augmentation.beside)
        chunks, counts, chunk_counts, places = self._chunks(texts, rank, ranks)
        return PairBatch(
            step=step,
            chunks=chunks,
            counts=counts,
            chunk_counts=chunk_counts,
            places=places,
            of_queries=QueryIds(*map(torch.from_numpy, of_queries)),
            of_passages=PassageIds(*map(torch.from_numpy, of_passages)),
            rank=rank,
            pairs=pairs,
            taught=self._taught(pairs, row),
            scores=self._scores(pairs, group),
            perturbed=None if changed is None else torch.from_numpy(changed),
            lost=lost,
        )

    def _rows(self, index: int, column: int, groups: Ints, languages: Ints) -> Ints:
        """Text rows of groups in languages of the union; -1 where there is none."""
        return text_rows(self.sets[index].pairs, column, groups, languages, self.languages)

    def _negatives(self, index: int, slots: Ints, edges: Ints, languages: Ints, row: Ints, key: Ints, group: Ints) -> None:
        """Fill in the hard negatives; where a pair has none in its language, some passage, marked as no candidate."""
        # Where passages stand on the second side, its own: then its length is that of others of the batch.
        filling = row[1, slots] if self.columns[1] else 0
        columns = self.sets[index].pairs.negatives(
            edges, numbers_in(self.sets[index].pairs, self.languages)[languages], self.hard_negatives
        )
        for place, column in enumerate(columns, 2):
            groups = edges[np.arange(len(edges)), np.where(column >= 0, column, 1)]
            rows = self._rows(index, 1, groups, languages)
            row[place, slots] = np.where(column >= 0, rows, filling)
            key[place, slots] = self.sets[index].pairs.passages.keys[row[place, slots]]
            group[place, slots] = np.where(column >= 0, groups + (index << SET_SHIFT), -1)

    def _taught(self, pairs: PairIndices, row: Ints) -> tuple[Tensor, ...]:
        """The teacher's embeddings of texts `row` [places, pairs], of queries and of passages; none without a teacher."""
        if not self.sets[0].taught:
            return ()
        found = np.empty((*row.shape, self.teacher_dimensions), np.float32)
        for index, slots in _by_set(pairs):
            for place, column in enumerate((*self.columns, *[1] * self.hard_negatives)):
                found[place, slots] = self.sets[index].taught[column].gather(row[place, slots])
        return torch.from_numpy(found[0]), torch.from_numpy(found[1:].reshape(-1, found.shape[-1]))

    def _scores(self, pairs: PairIndices, group: Ints) -> Tensor | None:
        """The data's scores of each pair's passages, whose groups are `group` [places, pairs]; None where nobody asks."""
        if not self.scored:
            return None
        found = np.full((len(pairs), 1 + self.hard_negatives), np.nan, np.float32)
        for index, slots in _by_set(pairs):
            known = self.sets[index].pairs.scores
            assert known is not None
            width = min(known.shape[1], found.shape[1])
            found[slots, :width] = known[pairs.edge[slots], :width]
        found[group[1:].T < 0] = np.nan
        return torch.from_numpy(found)

    def _perturbed(self, augmentation: Augmentation, step: int, pairs: PairIndices, row: Ints) -> tuple[Ints, Ragged, Lost]:
        """The places of the queries that are perturbed, and their tokens; `row` has the clean ones."""
        places = augmentation.places(step, len(pairs))
        made: dict[int, str] = {}
        for index, slots in _by_set(pairs):
            one, mine = self.sets[index].pairs, np.intersect1d(slots, places)
            for place, text in zip(mine.tolist(), one.queries.texts(row[mine]), strict=True):
                new = augmentation.text(step, place, text, self.languages[pairs.query_language[place]])
                if new != text:
                    made[place] = one.prompts.get("queries", "") + new
        return np.array(sorted(made), np.int64), *augmentation.tokens([made[place] for place in sorted(made)])

    def _chunks(
        self, texts: _Texts, rank: int, ranks: int
    ) -> tuple[tuple[Chunk, ...], tuple[int, ...], tuple[int, ...], Tensor]:
        """The chunks of this rank, the texts and the chunks of each rank, and the place of each text's embedding."""
        lengths = texts.lengths()
        if self.chunk_tokens:
            chunks = plan(lengths, self.chunk_tokens)
            taken = shares(chunks, lengths, ranks)
        else:
            chunks = np.array_split(np.arange(len(lengths)), ranks)
            taken = [[number] for number in range(ranks)]
        order = np.concatenate([chunks[number] for numbers in taken for number in numbers])
        places = np.empty(len(lengths), np.int64)
        places[order] = np.arange(len(lengths))
        mine = tuple(Chunk(number, Tokens.of(texts.gather(chunks[number]))) for number in taken[rank])
        counts = tuple(sum(len(chunks[number]) for number in numbers) for numbers in taken)
        return mine, counts, tuple(map(len, taken)), torch.from_numpy(places)


@dataclass(frozen=True)
class _Texts:
    """Where the tokens of a batch's texts lie.

    Attributes:
        store: int64 [texts], twice a set's number plus the column; `OWN` for tokens of the batch itself.
        row: int64 [texts], in that store.
        own: tokens that no store has.
    """

    OWN: ClassVar[int] = -1

    sets: Sequence[TokenisedSet]
    store: Ints
    row: Ints
    own: Ragged | None = None

    def perturbed(self, places: Ints, tokens: Ragged, beside: bool) -> _Texts:
        """The same with the queries at `places` in other words, or (`beside`) with these after all others."""
        store, row, rows = self.store.copy(), self.row.copy(), np.arange(len(places))
        if beside:
            store, row = np.append(store, np.full(len(places), self.OWN)), np.append(row, rows)
        else:
            store[places], row[places] = self.OWN, rows
        return replace(self, store=store, row=row, own=tokens)

    def lengths(self) -> Ints:
        """int64 [texts]."""
        found = np.empty(len(self.row), np.int64)
        for number in np.unique(self.store).tolist():
            found[self.store == number] = self._tokens(number).lengths_of(self.row[self.store == number])
        return found

    def gather(self, numbers: Ints) -> Ragged:
        """The ids of some of the texts."""
        store, row = self.store[numbers], self.row[numbers]
        slots = [np.flatnonzero(store == number) for number in np.unique(store).tolist()]
        return Ragged.merge(slots, [self._tokens(int(store[mine[0]])).gather(row[mine]) for mine in slots])

    def _tokens(self, number: int) -> Ragged:
        if self.own is not None and number == self.OWN:
            return self.own
        return self.sets[number // 2].store(number % 2).tokens


def _filled(parts: Sequence[tuple[Ints, Ragged]], count: int) -> Ints:
    """int64 [count, longest]: the values of each row, filled up with -1; a part has its rows' numbers and values."""
    found = np.full((count, max((int(part.lengths.max()) for _, part in parts), default=1)), -1, np.int64)
    for rows, part in parts:
        found[rows[part.rows()], part.positions()] = part.values
    return found


def _by_set(pairs: PairIndices) -> list[tuple[int, Ints]]:
    """The sets that a batch has pairs of, each with the places of its pairs."""
    return [(index, np.flatnonzero(pairs.set_index == index)) for index in np.unique(pairs.set_index).tolist()]
