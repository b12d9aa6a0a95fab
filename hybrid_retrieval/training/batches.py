"""Indices to tensors: the pairs of a step, tokenised and with what the masks need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from hybrid_retrieval.data.parallel import ParallelPairs
from hybrid_retrieval.data.tokens import TokenStore
from hybrid_retrieval.losses.masks import PassageIds, QueryIds
from hybrid_retrieval.models.encoder import Tokens
from hybrid_retrieval.sampling.availability import Availability, SetAvailability
from hybrid_retrieval.sampling.batch import PairIndices
from hybrid_retrieval.sampling.sampler import Composer

Ints = npt.NDArray[np.int64]
SET_SHIFT = 40
"""Group ids of different sets are kept apart by the set's number above this bit."""


@dataclass(frozen=True)
class PairBatch:
    """One rank's slice of a global batch: b pairs, and after their b own passages the hard negatives.

    Attributes:
        queries: b texts.
        passages: b (1 + hard negatives) texts.
        composition: the whole global batch as indices, for the manifest.
    """

    step: int
    queries: Tokens
    passages: Tokens
    of_queries: QueryIds
    of_passages: PassageIds
    composition: PairIndices

    def to(self, device: torch.device | str, non_blocking: bool = False) -> PairBatch:
        """The same on another device."""
        parts = ("queries", "passages", "of_queries", "of_passages")
        return replace(self, **{name: getattr(self, name).to(device, non_blocking=non_blocking) for name in parts})


@dataclass(frozen=True)
class TokenisedSet:
    """A set with the tokens of its two sides and its share of the draws."""

    pairs: ParallelPairs
    queries: TokenStore
    passages: TokenStore
    weight: float


class BatchBuilder:
    """Turns global batches of indices into the tensors of one rank."""

    def __init__(self, sets: Sequence[TokenisedSet], hard_negatives: int = 0) -> None:
        self.sets = tuple(sets)
        self.hard_negatives = hard_negatives
        self.languages = tuple(sorted({language for one in sets for language in one.pairs.languages}))

    @property
    def negatives(self) -> int:
        """Mined negatives of a pair, in the set that has most."""
        return max(int(one.pairs.edges.shape[1]) for one in self.sets) - 2

    def availability(self, split: str) -> Availability:
        """What a sampler can draw from a split."""
        return Availability(
            [SetAvailability(one.pairs.name, one.pairs.languages, one.pairs.patterns(split), one.weight) for one in self.sets]
        )

    def build(self, step: int, indices: PairIndices, part: slice = slice(None)) -> PairBatch:
        """The tensors of `part` of a global batch."""
        widest = max(self._answer_counts(indices).max(initial=1), 1)
        mine = indices[part]
        count, width = len(mine), 1 + self.hard_negatives
        query_key, answer_key = np.empty(count, np.int64), np.empty(count, np.int64)
        answers = np.full((count, int(widest)), -1, np.int64)
        group, key = np.full((width, count), -1, np.int64), np.full((width, count), -1, np.int64)
        query_parts: list[tuple[Ints, Ints, Ints]] = []
        passage_parts: list[tuple[Ints, Ints, Ints]] = []
        for index in np.unique(mine.set_index).tolist():
            one, slots = self.sets[index], np.flatnonzero(mine.set_index == index)
            pairs, edges = one.pairs, one.pairs.edges[mine.edge[slots]].astype(np.int64)
            query_rows = self._rows(index, "queries", edges[:, 0], mine.query_language[slots])
            passage_rows = self._rows(index, "passages", edges[:, 1], mine.passage_language[slots])
            query_parts.append((slots, *one.queries.gather(query_rows)))
            passage_parts.append((slots, *one.passages.gather(passage_rows)))
            query_key[slots] = pairs.queries.keys[query_rows]
            answer_key[slots] = key[0, slots] = pairs.passages.keys[passage_rows]
            group[0, slots] = edges[:, 1] + (index << SET_SHIFT)
            known, of_slot = self._answers(pairs, edges[:, 0])
            answers[slots[of_slot], _places(of_slot)] = known + (index << SET_SHIFT)
            for place in range(1, width):
                column = edges[:, 1 + place] if edges.shape[1] > 1 + place else np.full(len(slots), -1, np.int64)
                rows = self._rows(index, "passages", np.maximum(column, 0), mine.passage_language[slots])
                there = (column >= 0) & (rows >= 0)
                # A pair without a negative in its language takes its own passage as filling, marked as no candidate.
                rows = np.where(there, rows, passage_rows)
                passage_parts.append((slots + place * count, *one.passages.gather(rows)))
                key[place, slots] = pairs.passages.keys[rows]
                group[place, slots] = np.where(there, column + (index << SET_SHIFT), -1)
        of_passage_query = np.full((width, count), -1, np.int64)
        of_passage_query[0] = query_key
        return PairBatch(
            step=step,
            queries=_join(query_parts, count),
            passages=_join(passage_parts, count * width),
            of_queries=QueryIds(*map(torch.from_numpy, (query_key, answers, answer_key))),
            of_passages=PassageIds(*(torch.from_numpy(part.ravel()) for part in (group, key, of_passage_query))),
            composition=indices,
        )

    def _rows(self, set_index: int, side: str, groups: Ints, languages: Ints) -> Ints:
        """Text rows of groups in languages of the union; -1 where there is none."""
        pairs = self.sets[set_index].pairs
        column = np.array([pairs.languages.index(name) if name in pairs.languages else -1 for name in self.languages])
        rows: Ints = getattr(pairs, side).rows[groups, column[languages]].astype(np.int64)
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
        of_slot = np.repeat(np.arange(len(queries)), stops - starts)
        places = np.concatenate([np.arange(a, b) for a, b in zip(starts, stops, strict=True)])
        return pairs.answers[places].astype(np.int64), of_slot


def _places(of_slot: Ints) -> Ints:
    """Position of each element in its run: [0, 0, 1, 2, 2] -> [0, 1, 0, 0, 1]."""
    starts = np.searchsorted(of_slot, of_slot, side="left")
    return np.arange(len(of_slot)) - starts


def _join(parts: Sequence[tuple[Ints, Ints, Ints]], count: int) -> Tokens:
    """Ragged tokens of texts 0..count-1 from parts of (text numbers, ids, offsets)."""
    if len(parts) == 1:
        _, ids, offsets = parts[0]
        return Tokens(torch.from_numpy(ids), torch.from_numpy(offsets))
    texts: list[Ints] = [np.empty(0, np.int64)] * count
    for slots, ids, offsets in parts:
        for slot, text in zip(slots.tolist(), np.split(ids, offsets[1:-1]), strict=True):
            texts[slot] = text
    offsets = np.concatenate([[0], np.cumsum([len(text) for text in texts])])
    return Tokens(torch.from_numpy(np.concatenate(texts)), torch.from_numpy(offsets))


class StepBatches(torch.utils.data.Dataset[PairBatch]):
    """Item `step` is this rank's slice of the global batch of that step (law 1)."""

    def __init__(self, builder: BatchBuilder, composer: Composer, steps: int, rank: int = 0, world_size: int = 1) -> None:
        self.builder, self.composer = builder, composer
        self.steps, self.rank, self.world_size = steps, rank, world_size

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> PairBatch:
        indices = self.composer.batch(step)
        share = len(indices) // self.world_size
        return self.builder.build(step, indices, slice(self.rank * share, (self.rank + 1) * share))
