"""Indices to tensors: the texts of a step that a rank encodes, and what the loss knows of all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hybrid_retrieval.data.parallel import ParallelPairs, TextTable
from hybrid_retrieval.data.tokens import TokenStore
from hybrid_retrieval.losses.masks import PassageIds, QueryIds
from hybrid_retrieval.models.chunks import plan, shares
from hybrid_retrieval.models.encoder import Tokens
from hybrid_retrieval.sampling.availability import Availability, SetAvailability
from hybrid_retrieval.sampling.batch import PairIndices
from hybrid_retrieval.sampling.composer import Composer
from hybrid_retrieval.training.teacher import TeacherEmbeddings

Ints = npt.NDArray[np.int64]
SET_SHIFT = 40
"""Group ids of different sets are kept apart by the set's number above this bit."""
SIDES = {"query": 0, "passage": 1}


@dataclass(frozen=True)
class Chunk:
    """Texts that a rank encodes together; `number` is the chunk's in the plan of the global batch."""

    number: int
    tokens: Tokens


@dataclass(frozen=True)
class PairBatch:
    """A global batch of B pairs as one rank sees it: the texts that it encodes, and ids of all.

    Texts are numbered: the B of the pairs' first sides (their queries), the B of their second (their own passages), then
    the hard negatives.

    Attributes:
        chunks: what this rank encodes.
        counts: how many texts each rank encodes.
        places: int64 [texts], where the embedding of each text is when the ranks' embeddings lie end to end, each rank's
            in the order of its chunks.
        rank: this rank.
        composition: the batch as indices, for the manifest.
        teacher_queries, teacher_passages: float32 [texts, dimensions], what a teacher says of the queries and of the
            passages of the whole batch, where the loss has one.
        passes: chunks of the rank that has most.
    """

    step: int
    chunks: tuple[Chunk, ...]
    counts: tuple[int, ...]
    places: Tensor
    of_queries: QueryIds
    of_passages: PassageIds
    rank: int
    composition: PairIndices
    teacher_queries: Tensor | None = None
    teacher_passages: Tensor | None = None
    passes: int = 0

    def __len__(self) -> int:
        return len(self.composition)

    @property
    def rows(self) -> slice:
        """The queries whose loss is this rank's to compute."""
        share = len(self) // len(self.counts)
        return slice(self.rank * share, (self.rank + 1) * share)

    @property
    def own_places(self) -> slice:
        """Where this rank's embeddings lie among those of all."""
        start = sum(self.counts[: self.rank])
        return slice(start, start + self.counts[self.rank])

    @property
    def tokens(self) -> int:
        """Tokens that this rank encodes, without padding."""
        return sum(len(chunk.tokens.ids) for chunk in self.chunks)

    @property
    def padded_tokens(self) -> int:
        """The same with padding."""
        return sum(len(chunk.tokens) * chunk.tokens.longest or len(chunk.tokens.ids) for chunk in self.chunks)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> PairBatch:
        """The same on another device."""
        moved = {
            name: getattr(self, name).to(device, non_blocking=non_blocking) for name in ("places", "of_queries", "of_passages")
        }
        for name in ("teacher_queries", "teacher_passages"):
            if (value := getattr(self, name)) is not None:
                moved[name] = value.to(device, non_blocking=non_blocking)
        chunks = tuple(replace(chunk, tokens=chunk.tokens.to(device, non_blocking=non_blocking)) for chunk in self.chunks)
        return replace(self, chunks=chunks, **moved)


@dataclass(frozen=True)
class TokenisedSet:
    """A set with the tokens of its two sides, what a teacher says of their texts, and its share of the draws."""

    pairs: ParallelPairs
    queries: TokenStore
    passages: TokenStore
    weight: float
    taught: Mapping[int, TeacherEmbeddings] = field(default_factory=dict)
    """By side, where the loss has a teacher."""

    def store(self, side: int) -> TokenStore:
        """The tokens of a side."""
        return self.passages if side else self.queries

    def table(self, side: int) -> TextTable:
        """The texts of a side."""
        return self.pairs.passages if side else self.pairs.queries


@dataclass(frozen=True)
class Chunking:
    """How the texts of a global batch are cut into chunks, the same whatever the number of devices (law 4).

    Attributes:
        budget: tokens, padding included; 0 where texts are not padded: then each rank takes its texts in one piece.
        multiple: the number of chunks is a multiple of it.
    """

    budget: int
    multiple: int = 1


class BatchBuilder:
    """Turns global batches of indices into the tensors of one rank."""

    def __init__(
        self,
        sets: Sequence[TokenisedSet],
        hard_negatives: int = 0,
        sides: tuple[str, str] = ("query", "passage"),
        chunking: Chunking | None = None,
    ) -> None:
        self.sets = tuple(sets)
        self.hard_negatives = hard_negatives
        self.sides = SIDES[sides[0]], SIDES[sides[1]]
        self.chunking = chunking or Chunking(0)
        self.languages = tuple(sorted({language for one in sets for language in one.pairs.languages}))

    @property
    def teacher_dimensions(self) -> int:
        """Width of the teacher's embeddings; 0 without one."""
        return next((one.dimensions for one in self.sets[0].taught.values()), 0)

    @property
    def negatives(self) -> int:
        """Mined negatives of a pair, in the set that has most."""
        return max(int(one.pairs.edges.shape[1]) for one in self.sets) - 2

    def availability(self, split: str) -> Availability:
        """What a sampler can draw from a split: languages that the texts on either side exist in."""
        found = []
        for one in self.sets:
            patterns = one.pairs.patterns(split)
            of_side = patterns.queries, patterns.passages
            patterns = replace(patterns, queries=of_side[self.sides[0]], passages=of_side[self.sides[1]])
            found.append(SetAvailability(one.pairs.name, one.pairs.languages, patterns, one.weight))
        return Availability(found)

    def build(self, step: int, indices: PairIndices, rank: int = 0, ranks: int = 1) -> PairBatch:
        """A global batch as one of `ranks` sees it."""
        count, width = len(indices), 2 + self.hard_negatives
        # By place in the pair (first side, second side, hard negatives) and pair: the text's row and what is known of it.
        row, key = np.empty((width, count), np.int64), np.empty((width, count), np.int64)
        group = np.full((width, count), -1, np.int64)
        answers = np.full((count, int(max(self._answer_counts(indices).max(initial=1), 1))), -1, np.int64)
        for index in np.unique(indices.set_index).tolist():
            slots = np.flatnonzero(indices.set_index == index)
            one, shift = self.sets[index], index << SET_SHIFT
            edges = one.pairs.edges[indices.edge[slots]].astype(np.int64)
            languages = indices.query_language[slots], indices.passage_language[slots]
            for place, side in enumerate(self.sides):
                row[place, slots] = self._rows(index, side, edges[:, side], languages[place])
                key[place, slots] = one.table(side).keys[row[place, slots]]
                group[place, slots] = edges[:, 1] + shift
            self._negatives(index, slots, edges, languages[1], row, key, group)
            known, of_slot = self._answers(one.pairs, edges[:, 0])
            answers[slots[of_slot], _places(of_slot)] = known + shift
        language = np.concatenate([indices.query_language, np.tile(indices.passage_language, width - 1)])
        asked = np.concatenate([key[0], np.full((width - 2) * count, -1)])
        tensors = [torch.from_numpy(part) for part in (key[0].copy(), answers, key[1].copy(), language[:count])]
        about = [torch.from_numpy(part) for part in (group[1:].ravel(), key[1:].ravel(), asked, language[count:])]
        chunks, counts, passes, places = self._chunks(indices, row, rank, ranks)
        return PairBatch(
            step=step,
            chunks=chunks,
            counts=counts,
            places=places,
            of_queries=QueryIds(*tensors),
            of_passages=PassageIds(*about),
            rank=rank,
            composition=indices,
            teacher_queries=self._taught(indices, row[:1], self.sides[:1]),
            teacher_passages=self._taught(indices, row[1:], (self.sides[1], *[1] * self.hard_negatives)),
            passes=passes,
        )

    def _taught(self, indices: PairIndices, row: Ints, sides: Sequence[int]) -> Tensor | None:
        """What the teacher says of texts `row` [places in a pair, pairs], end to end; None without one."""
        if not self.sets[0].taught:
            return None
        found = np.empty((*row.shape, self.sets[0].taught[sides[0]].dimensions), np.float32)
        for index in np.unique(indices.set_index).tolist():
            slots = indices.set_index == index
            for place, side in enumerate(sides):
                found[place, slots] = self.sets[index].taught[side].gather(row[place, slots])
        return torch.from_numpy(found.reshape(-1, found.shape[-1]))

    def _negatives(self, index: int, slots: Ints, edges: Ints, languages: Ints, row: Ints, key: Ints, group: Ints) -> None:
        """Fill in the hard negatives; where a pair has none in its language, some passage, marked as no candidate."""
        # Where passages stand on the second side, its own: then its length is that of others of the batch.
        filling = row[1, slots] if self.sides[1] else 0
        for place in range(2, 2 + self.hard_negatives):
            column = edges[:, place] if edges.shape[1] > place else np.full(len(slots), -1, np.int64)
            rows = self._rows(index, 1, np.maximum(column, 0), languages)
            there = (column >= 0) & (rows >= 0)
            row[place, slots] = np.where(there, rows, filling)
            key[place, slots] = self.sets[index].pairs.passages.keys[row[place, slots]]
            group[place, slots] = np.where(there, column + (index << SET_SHIFT), -1)

    def _chunks(
        self, indices: PairIndices, row: Ints, rank: int, ranks: int
    ) -> tuple[tuple[Chunk, ...], tuple[int, ...], int, Tensor]:
        """The chunks of this rank, the texts of each rank, the most chunks of a rank, and the place of each text."""
        width, count = row.shape
        side = np.repeat([self.sides[0], self.sides[1], *[1] * (width - 2)], count)
        source = np.tile(indices.set_index, width) * 2 + side
        rows = row.ravel()
        lengths = np.empty(len(rows), np.int64)
        for number in np.unique(source).tolist():
            mine = source == number
            offsets = self.sets[number // 2].store(number % 2).offsets
            lengths[mine] = offsets[rows[mine] + 1] - offsets[rows[mine]]
        if self.chunking.budget:
            chunks = plan(lengths, self.chunking.budget, self.chunking.multiple)
            taken = shares(chunks, lengths, ranks)
        else:
            chunks = np.array_split(np.arange(len(rows)), ranks)
            taken = [[number] for number in range(ranks)]
        order = np.concatenate([chunks[number] for numbers in taken for number in numbers])
        places = np.empty(len(rows), np.int64)
        places[order] = np.arange(len(rows))
        mine = tuple(Chunk(number, self._tokens(source[chunks[number]], rows[chunks[number]])) for number in taken[rank])
        counts = tuple(sum(len(chunks[number]) for number in numbers) for numbers in taken)
        return mine, counts, max(map(len, taken)), torch.from_numpy(places)

    def _tokens(self, source: Ints, rows: Ints) -> Tokens:
        """The texts `rows` of the stores `source` (twice the set's number, plus the side)."""
        parts = [(np.flatnonzero(source == number), number) for number in np.unique(source).tolist()]
        gathered = [self.sets[number // 2].store(number % 2).gather(rows[slots]) for slots, number in parts]
        ids, offsets = gathered[0]
        if len(parts) > 1:
            ids, offsets = _merge([slots for slots, _ in parts], gathered)
        longest = int(np.diff(offsets).max()) if self.chunking.budget else 0
        return Tokens(torch.from_numpy(ids), torch.from_numpy(offsets), longest)

    def _rows(self, set_index: int, side: int, groups: Ints, languages: Ints) -> Ints:
        """Text rows of groups in languages of the union; -1 where there is none."""
        pairs = self.sets[set_index].pairs
        column = np.array([pairs.languages.index(name) if name in pairs.languages else -1 for name in self.languages])
        rows: Ints = self.sets[set_index].table(side).rows[groups, column[languages]].astype(np.int64)
        return rows

    def _answer_counts(self, indices: PairIndices) -> Ints:
        counts = np.ones(len(indices), np.int64)
        for index in np.unique(indices.set_index).tolist():
            slots = indices.set_index == index
            pairs = self.sets[index].pairs
            query = pairs.edges[indices.edge[slots], 0]
            counts[slots] = pairs.answer_offsets[query + 1] - pairs.answer_offsets[query]
        return counts

    def _answers(self, pairs: ParallelPairs, queries: Ints) -> tuple[Ints, Ints]:
        """Passage groups that answer each query, end to end, and the position in `queries` that each belongs to."""
        starts, stops = pairs.answer_offsets[queries], pairs.answer_offsets[queries + 1]
        counts = stops - starts
        of_slot = np.repeat(np.arange(len(queries)), counts)
        places = np.repeat(starts - (np.cumsum(counts) - counts), counts) + np.arange(len(of_slot))
        return pairs.answers[places].astype(np.int64), of_slot


def _places(of_slot: Ints) -> Ints:
    """Position of each element in its run: [0, 0, 1, 2, 2] -> [0, 1, 0, 0, 1]."""
    starts = np.searchsorted(of_slot, of_slot, side="left")
    return np.arange(len(of_slot)) - starts


def _merge(slots: Sequence[Ints], parts: Sequence[tuple[Ints, Ints]]) -> tuple[Ints, Ints]:
    """Ragged ids and offsets of texts 0.. from parts, each with the numbers of its texts, its ids and its offsets."""
    numbers = np.concatenate(slots)
    lengths = np.empty(len(numbers), np.int64)
    lengths[numbers] = np.concatenate([np.diff(offsets) for _, offsets in parts])
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ids = np.concatenate([part for part, _ in parts])
    lengths_there = lengths[numbers]
    starts_there = np.cumsum(lengths_there) - lengths_there
    start = np.empty(len(numbers), np.int64)
    start[numbers] = starts_there
    return ids[np.repeat(start - offsets[:-1], lengths) + np.arange(offsets[-1])], offsets


class StepBatches(torch.utils.data.Dataset[PairBatch]):
    """Item `step` is the global batch of that step as this rank sees it (law 1)."""

    def __init__(self, builder: BatchBuilder, composer: Composer, steps: int, rank: int = 0, world_size: int = 1) -> None:
        self.builder, self.composer = builder, composer
        self.steps, self.rank, self.world_size = steps, rank, world_size

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> PairBatch:
        return self.builder.build(step, self.composer.batch(step), self.rank, self.world_size)


class Steps(torch.utils.data.Dataset[tuple[PairBatch, ...]]):
    """Item `step` is the global batches of an optimizer step: `accumulate` consecutive ones."""

    def __init__(self, batches: StepBatches, accumulate: int) -> None:
        self.batches, self.accumulate = batches, accumulate

    def __len__(self) -> int:
        return len(self.batches) // self.accumulate

    def __getitem__(self, step: int) -> tuple[PairBatch, ...]:
        return tuple(self.batches[step * self.accumulate + number] for number in range(self.accumulate))
