"""Which passages are no negatives of a query: those that answer it, as the masks of a batch know them (law 3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hybrid_retrieval.data.parallel import SPLITS, Ints, ParallelPairs, TextTable
from hybrid_retrieval.data.source import components

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Answers:
    """What answers what, by the labels of groups; groups that share a text in some language have the same label.

    Attributes:
        query, passage: int64, the label of each query group and of each passage group.
        known: int64, ascending: query label times `width` plus the label of a passage that answers it, in whichever split.
    """

    query: Ints
    passage: Ints
    width: int
    known: Ints

    @classmethod
    def of(cls, pairs: ParallelPairs) -> Answers:
        """All that the judgements and the texts of a set say."""
        query, passage = _labels(pairs.queries), _labels(pairs.passages)
        width = len(passage) + 1
        answers = pairs.answers_by_query
        judged = query[answers.rows()] * width + passage[answers.values]
        # A passage with the text of the query itself.
        keys, asked, found = np.intersect1d(pairs.queries.keys, pairs.passages.keys, return_indices=True)
        same = query[pairs.queries.groups[asked]] * width + passage[pairs.passages.groups[found]] if len(keys) else keys
        return cls(query, passage, width, np.unique(np.concatenate([judged, same])))

    def answer(self, queries: Ints, passages: Ints) -> Flags:
        """Whether each passage group answers the query group beside it."""
        asked = self.query[queries] * self.width + self.passage[passages]
        place = np.minimum(np.searchsorted(self.known, asked), len(self.known) - 1)
        found: Flags = self.known[place] == asked
        return found

    def elsewhere(self, pairs: ParallelPairs, split: str) -> Flags:
        """Whether each passage group, or its text, answers questions of other splits only: it is kept out of this one."""
        others = [pairs.split_edges(other)[:, 1] for other in SPLITS if other != split]
        found: Flags = np.isin(self.passage, self.passage[np.concatenate(others)])
        found[pairs.split_edges(split)[:, 1]] = False
        return found


def _labels(table: TextTable) -> Ints:
    """int64 [groups], equal for groups that a chain of equal texts joins."""
    order = np.argsort(table.keys, kind="stable")
    same = np.flatnonzero(table.keys[order][1:] == table.keys[order][:-1])
    groups = table.groups[order]
    return components(np.stack([groups[same], groups[same + 1]], 1), len(table.rows)).astype(np.int64)
