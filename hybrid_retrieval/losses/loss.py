"""A loss: a function of all embeddings of a global batch, summed over its queries.

A loss sees embeddings and integers only. Because it is a sum over queries, the engine may take it in blocks of queries, on any
number of ranks, and never needs all similarities at once.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Annotated, Any, Literal, NamedTuple, Self, cast

import torch
from torch import Tensor, nn

from hybrid_retrieval.errors import InputError, choice
from hybrid_retrieval.values import Count, NotNegative, Number, Positive, Range, check

Side = Literal["query", "passage"]
"""What can stand on a side of a pair."""
SIDES: tuple[Side, Side] = ("query", "passage")
Dimensions = list[Count] | dict[Count, Positive] | None
POOLS = ("all", "same_language", "other_languages")
MODES = ("ignore", "positive", "keep")
SMALLEST_TEMPERATURE = 0.01
"""Where a learned temperature stops."""


class Divisors(Range):
    """Temperatures with which a softmax over cosines is neither one passage alone nor all of them alike."""

    def fault(self, value: float) -> str | None:
        said = super().fault(value)
        return said and f"{said}; 0.01 to 0.1 is usual"


Divisor = Annotated[float, Divisors(0.001, 100)]


@dataclass(frozen=True)
class Ids:
    """Integers that are known of texts of a batch, one a text."""

    def __getitem__(self, rows: slice) -> Self:
        return type(self)(*(getattr(self, field.name)[rows] for field in fields(self)))

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Self:
        """The same on another device."""
        return type(self)(*(getattr(self, field.name).to(device, non_blocking=non_blocking) for field in fields(self)))


@dataclass(frozen=True)
class QueryIds(Ids):
    """The b queries of a batch.

    Attributes:
        key: int64 [b], fingerprint of the query's text.
        answers: int64 [b, a], ids of the passage groups of the batch that answer it; padded with -1.
        answer_key: int64 [b], fingerprint of the pair's own passage.
        language: int64 [b], index of its language.
    """

    key: Tensor
    answers: Tensor
    answer_key: Tensor
    language: Tensor


@dataclass(frozen=True)
class PassageIds(Ids):
    """The c candidate passages of a batch.

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


@dataclass(frozen=True)
class EmbeddedPairs:
    """The embeddings of a global batch of B pairs, on every rank, and what is known of them.

    Attributes:
        queries: [B, dimensions].
        passages: [C, dimensions]: the B pairs' own passages, then their hard negatives.
        taught: [B, teacher's dimensions] and [C, teacher's dimensions], what a teacher says of the same texts, for the losses
            that name one.
        scores: float32 [B, 1 + hard negatives], what the data says of each query's own passage and its hard negatives, for the
            losses that are `scored`; not a number where that is unknown, or the passage is not in the batch.
        perturbed: [B, dimensions], queries as they were perturbed, for a loss with `self_teaching`; zeros where one was not.
        is_perturbed: bool [B], which ones were.
    """

    queries: Tensor
    passages: Tensor
    of_queries: QueryIds
    of_passages: PassageIds
    taught: tuple[Tensor, ...] = ()
    scores: Tensor | None = None
    perturbed: Tensor | None = None
    is_perturbed: Tensor | None = None

    def leading(self, dimensions: int) -> EmbeddedPairs:
        """The same with only the leading `dimensions` of each embedding, at unit length again; whole ones stay as they are."""
        if dimensions == self.queries.shape[1]:
            return self
        perturbed = None if self.perturbed is None else _cut(self.perturbed, dimensions)
        queries, passages = _cut(self.queries, dimensions), _cut(self.passages, dimensions)
        return replace(self, queries=queries, passages=passages, perturbed=perturbed)


class Scored(NamedTuple):
    """The loss of some queries.

    Attributes:
        loss: [r].
        hit: bool [r], whether a query's own passage is its best candidate.
        figures: more to average over queries and log, each [r] and without gradient.
    """

    loss: Tensor
    hit: Tensor
    figures: Mapping[str, Tensor] = MappingProxyType({})


@dataclass(eq=False, repr=False, kw_only=True)
class Loss(nn.Module, ABC):
    """A training objective. A new one is such a dataclass in a file of its own, and a config that names it.

    Fields are config keys, explained in ``conf/loss/base/loss.yaml`` and the files beside it; parameters are made in
    `__post_init__`, or in `bind` where they depend on the encoder.

    Every loss can be taken at several leading dimensions of the embeddings (Matryoshka representation learning,
    arXiv 2205.13147, Eq. 1): with D' the dimensions d of `dimensions` and w_d their weights,
    L_i = sum_{d in D'} w_d L_i(first d dimensions, at unit length) / sum_{d in D'} w_d.
    """

    # Without annotations these are no fields: only losses that use them have such keys.
    hard_negatives = 0
    """Mined negatives of a pair that are encoded."""
    teacher = cast("Mapping[str, Any] | None", None)
    """Config of the teacher whose embeddings of the batch's texts the loss needs."""
    scored = False
    """Whether the loss needs the scores that the data brings of a pair's passages."""
    self_teaching = 0.0
    """Weight of what perturbed queries learn from their clean selves; where it is 0, they stand in the place of these."""

    sides: tuple[Side, Side] = SIDES
    dimensions: Dimensions = None

    def __post_init__(self) -> None:
        check(type(self), vars(self), "loss")
        super().__init__()
        if len(self.sides) != 2:
            raise InputError(f"loss.sides={list(self.sides)}; expected two of: {', '.join(SIDES)}")
        for side in self.sides:
            choice("loss.sides", side, SIDES)
        self.sides = self.sides[0], self.sides[1]
        self.weight_of_width = _weights(self.dimensions)
        """Of the leading dimensions that are trained; empty where only the whole embedding is."""
        self.widths: tuple[int, ...] = ()

    def bind(self, dimensions: int, languages: Sequence[str], teacher_dimensions: int = 0) -> None:
        """Build what depends on the encoder's `dimensions`, the data's `languages` or the teacher; once, before training.

        Raises:
            InputError: ``loss.dimensions`` asks for more than the encoder has.
        """
        wide = [width for width in self.weight_of_width if width > dimensions]
        if wide:
            raise InputError(f"loss.dimensions has {wide[0]}, but the encoder gives {dimensions} dimensions; expected no more")
        self.widths = tuple(self.weight_of_width) or (dimensions,)

    def forward(self, pairs: EmbeddedPairs, rows: slice) -> Scored:
        """Score the queries `rows` of the batch against its candidates."""
        rows = slice(*rows.indices(len(pairs.queries)))
        if not self.weight_of_width:
            return self.whole(pairs, rows)
        parts = {width: self.whole(pairs.leading(width), rows) for width in self.weight_of_width}
        loss = torch.stack([self.weight_of_width[width] * part.loss for width, part in parts.items()]).sum(0)
        widest = parts[max(parts)]
        each = {f"loss@{width}": part.loss.detach() for width, part in parts.items()}
        return Scored(loss, widest.hit, {**widest.figures, **each})

    def whole(self, pairs: EmbeddedPairs, rows: slice) -> Scored:
        """`score`, with whatever terms a kind of loss adds to each of its objectives."""
        return self.score(pairs, rows)

    @abstractmethod
    def score(self, pairs: EmbeddedPairs, rows: slice) -> Scored:
        """The same for embeddings of one width."""

    def contrasts(self, pairs: EmbeddedPairs) -> Tensor | None:
        """Bool [B], by ids alone: whether a query has a passage to be told from; None for a loss that contrasts nothing."""
        return None

    def figures(self) -> dict[str, Tensor]:
        """Scalars to log beside the loss."""
        return {}


def _weights(dimensions: Dimensions) -> dict[int, float]:
    """The leading dimensions in ascending order, with weights that sum to 1.

    Raises:
        InputError: nothing is asked for.
    """
    if dimensions is None:
        return {}
    found = dict(dimensions) if isinstance(dimensions, dict) else dict.fromkeys(dimensions, 1.0)
    if not found or len(found) < len(dimensions):
        raise InputError(f"loss.dimensions={dimensions}; expected different numbers of dimensions, or null")
    return {width: weight / sum(found.values()) for width, weight in sorted(found.items())}


def _cut(embeddings: Tensor, dimensions: int) -> Tensor:
    wide = torch.promote_types(embeddings.dtype, torch.float32)
    return nn.functional.normalize(embeddings[:, :dimensions].to(wide), dim=-1)


@dataclass(eq=False, repr=False, kw_only=True)
class SoftmaxLoss(Loss):
    """A loss with a temperature that divides the cosines, fixed or learned; `temperature` is where it starts."""

    temperature: Divisor = 0.05
    learn_temperature: bool = False
    self_teaching: NotNegative = 0.0
    hard_negatives: Number = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.learn_temperature and self.temperature < SMALLEST_TEMPERATURE:
            raise InputError(f"loss.temperature={self.temperature} is learned, and then must be {SMALLEST_TEMPERATURE} or more")
        start = torch.tensor(math.log(self.temperature))
        self.log_temperature = nn.Parameter(start, requires_grad=self.learn_temperature)

    @property
    def divisor(self) -> Tensor:
        """The temperature as it is now, a scalar."""
        temperature = self.log_temperature.exp()
        if not self.log_temperature.requires_grad:
            return temperature
        # The gradient passes the bound, so that a temperature that reached it can rise again.
        return temperature + (temperature.clamp(min=SMALLEST_TEMPERATURE) - temperature).detach()

    def whole(self, pairs: EmbeddedPairs, rows: slice) -> Scored:
        found = self.score(pairs, rows)
        if not self.self_teaching or pairs.perturbed is None:
            return found
        from hybrid_retrieval.losses.self_teaching import divergence

        learnt = divergence(pairs, rows, self.divisor.detach())
        loss = found.loss + self.self_teaching * learnt
        return Scored(loss, found.hit, {**found.figures, "self_teaching": learnt.detach()})

    def figures(self) -> dict[str, Tensor]:
        return {"temperature": self.divisor.detach()}


@dataclass(eq=False, repr=False, kw_only=True)
class InBatchLoss(SoftmaxLoss):
    """A loss that ranks each query's passage among those of the batch; `mask` and `pool` as in `candidates.passages_of`."""

    mask: str = "ignore"
    pool: str = "all"

    def __post_init__(self) -> None:
        super().__post_init__()
        choice("loss.mask", self.mask, MODES)
        choice("loss.pool", self.pool, POOLS)
