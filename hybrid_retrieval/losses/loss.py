"""What a loss is: a function of all embeddings of a global batch, summed over its queries.

A loss sees embeddings and integers only. Because it is a sum over queries, the engine may take it in blocks of queries, on any
number of ranks, and never needs all similarities at once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor, nn

from hybrid_retrieval.config import positive
from hybrid_retrieval.errors import InputError, choice
from hybrid_retrieval.losses.masks import PassageIds, QueryIds

Side = Literal["query", "passage"]
"""What can stand on a side of a pair."""
SIDES: tuple[Side, Side] = ("query", "passage")
Sides = list[str] | tuple[str, str]
Dimensions = list[int] | dict[int, float] | None


@dataclass(frozen=True)
class EmbeddedPairs:
    """The embeddings of a global batch of B pairs, on every rank, and what is known of them.

    Attributes:
        queries: [B, dimensions].
        passages: [C, dimensions]: the B pairs' own passages, then their hard negatives.
        teacher_queries, teacher_passages: [B, teacher's dimensions] and [C, teacher's dimensions], what a teacher says of the
            same texts, for the losses that name one.
    """

    queries: Tensor
    passages: Tensor
    of_queries: QueryIds
    of_passages: PassageIds
    teacher_queries: Tensor | None = None
    teacher_passages: Tensor | None = None

    @property
    def taught(self) -> tuple[Tensor, Tensor]:
        """The teacher's embeddings of queries and passages, where the loss named a teacher."""
        assert self.teacher_queries is not None
        assert self.teacher_passages is not None
        return self.teacher_queries, self.teacher_passages

    def leading(self, dimensions: int) -> EmbeddedPairs:
        """The same with only the leading `dimensions` of each embedding, at unit length again; whole ones stay as they are."""
        if dimensions == self.queries.shape[1]:
            return self
        return replace(self, queries=_cut(self.queries, dimensions), passages=_cut(self.passages, dimensions))


class Scored(NamedTuple):
    """What a loss says of some queries.

    Attributes:
        loss: [r].
        hit: bool [r], whether a query's own passage is its best candidate.
        figures: more to average over queries and log, each [r] and without gradient.
    """

    loss: Tensor
    hit: Tensor
    figures: Mapping[str, Tensor] = MappingProxyType({})


class Loss(nn.Module, ABC):
    """A training objective. A new one is a subclass in a file of its own, and a config that names it.

    Every loss can be taken at several leading dimensions of the embeddings (Matryoshka representation learning,
    arXiv 2205.13147, Eq. 1): with D' the dimensions d of `dimensions` and w_d their weights,
    L_i = sum_{d in D'} w_d L_i(first d dimensions, at unit length) / sum_{d in D'} w_d.
    """

    hard_negatives: int = 0
    """Mined negatives of a pair that are encoded."""
    teacher: Mapping[str, Any] | None = None
    """Config of the teacher whose embeddings of the batch's texts the loss needs."""

    def __init__(self, sides: Sides = SIDES, dimensions: Dimensions = None) -> None:
        """
        Args:
            sides: what stands on the two sides of a pair: the edge's query or its passage, each in the language that was
                drawn for that side.
            dimensions: leading dimensions to train, all of one weight, or with a weight each; none: the whole embedding only.
        """
        super().__init__()
        if len(sides) != 2:
            raise InputError(f"loss.sides={list(sides)}; expected two of: {', '.join(SIDES)}")
        for side in sides:
            choice("loss.sides", side, SIDES)
        self.sides = cast(tuple[Side, Side], tuple(sides))
        self.dimensions = _weighted(dimensions)
        self.widths: tuple[int, ...] = ()

    def bind(self, dimensions: int, languages: Sequence[str], teacher_dimensions: int = 0) -> None:
        """Build what depends on the encoder's `dimensions`, the data's `languages` or the teacher; once, before training.

        Raises:
            InputError: ``loss.dimensions`` asks for more than the encoder has.
        """
        wide = [width for width in self.dimensions if width > dimensions]
        if wide:
            raise InputError(f"loss.dimensions has {wide[0]}, but the encoder gives {dimensions} dimensions; expected no more")
        self.widths = tuple(self.dimensions) or (dimensions,)

    def forward(self, pairs: EmbeddedPairs, rows: slice) -> Scored:
        """Score the queries `rows` of the batch against its candidates."""
        rows = slice(*rows.indices(len(pairs.queries)))
        if not self.dimensions:
            return self.score(pairs, rows)
        parts = {width: self.score(pairs.leading(width), rows) for width in self.dimensions}
        shares = {width: weight / sum(self.dimensions.values()) for width, weight in self.dimensions.items()}
        loss = torch.stack([shares[width] * part.loss for width, part in parts.items()]).sum(0)
        widest = parts[max(parts)]
        each = {f"loss@{width}": part.loss.detach() for width, part in parts.items()}
        return Scored(loss, widest.hit, {**widest.figures, **each})

    @abstractmethod
    def score(self, pairs: EmbeddedPairs, rows: slice) -> Scored:
        """The same for embeddings of one width."""

    def figures(self) -> dict[str, Tensor]:
        """Scalars to log beside the loss."""
        return {}


def _weighted(dimensions: Dimensions) -> dict[int, float]:
    """The leading dimensions in ascending order, with their weights.

    Raises:
        InputError: nothing is asked for, or a dimension or a weight is none.
    """
    if dimensions is None:
        return {}
    found = dict(dimensions) if isinstance(dimensions, dict) else dict.fromkeys(dimensions, 1.0)
    if not found or len(found) < len(dimensions):
        raise InputError(f"loss.dimensions={dimensions}; expected different numbers of dimensions, or null")
    for width, weight in found.items():
        if not isinstance(width, int) or isinstance(width, bool) or not isinstance(weight, (int, float)):
            raise InputError(f"loss.dimensions={dimensions}; expected whole numbers, or a mapping of them to weights")
        positive("loss.dimensions", width)
        positive(f"loss.dimensions.{width}", weight)
    return dict(sorted(found.items()))


def _cut(embeddings: Tensor, dimensions: int) -> Tensor:
    wide = torch.promote_types(embeddings.dtype, torch.float32)
    return nn.functional.normalize(embeddings[:, :dimensions].to(wide), dim=-1)
