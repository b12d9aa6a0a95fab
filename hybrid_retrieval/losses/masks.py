"""Which candidates of a query are not negatives: law 3.

A candidate passage is no negative of a query when it is a translation of the query's own passage, has its text, answers
the same question (also in other words of the same question), or is another known answer; nor is the query's own text, where
both sides of a pair are passages. All of it is a comparison of integers, so that it works after gathering across ranks.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

MODES = ("ignore", "positive", "keep")


@dataclass(frozen=True)
class QueryIds:
    """What is known of the b queries of a batch.

    Attributes:
        key: int64 [b], fingerprint of the query's text.
        answers: int64 [b, a], ids of the passage groups that answer it, the pair's own first; padded with -1.
        answer_key: int64 [b], fingerprint of the pair's own passage.
        language: int64 [b], index of its language.
    """

    key: Tensor
    answers: Tensor
    answer_key: Tensor
    language: Tensor

    def __getitem__(self, rows: slice) -> QueryIds:
        return QueryIds(*(getattr(self, field.name)[rows] for field in fields(self)))

    def to(self, device: torch.device | str, non_blocking: bool = False) -> QueryIds:
        """The same on another device."""
        return QueryIds(*(getattr(self, field.name).to(device, non_blocking=non_blocking) for field in fields(self)))


@dataclass(frozen=True)
class PassageIds:
    """What is known of the c candidate passages.

    Attributes:
        group: int64 [c], passage group, unique over the sets; -1 fills a place and is never a candidate.
        key: int64 [c], fingerprint of the passage's text.
        query_key: int64 [c], fingerprint of the query it came with; -1 for a hard negative.
        language: int64 [c], index of its language.
    """

    group: Tensor
    key: Tensor
    query_key: Tensor
    language: Tensor

    def __getitem__(self, rows: slice) -> PassageIds:
        return PassageIds(*(getattr(self, field.name)[rows] for field in fields(self)))

    def to(self, device: torch.device | str, non_blocking: bool = False) -> PassageIds:
        """The same on another device."""
        return PassageIds(*(getattr(self, field.name).to(device, non_blocking=non_blocking) for field in fields(self)))


def answering(queries: QueryIds, passages: PassageIds) -> Tensor:
    """Bool [b, c]: passage j answers query i, by group, by its text, or because it came with the same question.

    Where both sides of a pair are passages, so does a passage with the text of i itself.
    """
    known = queries.answer_key[:, None] == passages.key
    known |= queries.key[:, None] == passages.key
    known |= queries.key[:, None] == passages.query_key
    # Filling on one side must not meet filling on the other.
    for column in queries.answers.masked_fill(queries.answers < 0, -2).T:
        known |= column[:, None] == passages.group
    return known
