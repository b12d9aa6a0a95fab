"""The candidates of a batch for some of its queries (or passages), and the softmax over them.

A batch has every passage as a candidate of every query. Of these, one is the query's own; some answer it too (law 3), and the
mask says what they are; of the others, the pool says which are negatives.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hybrid_retrieval.losses.loss import EmbeddedPairs, PassageIds, QueryIds, Scored

NEVER = -1e9
"""A score that no softmax sees; finite, so that a query without negatives has loss 0 and gradient 0."""


class Candidates(NamedTuple):
    """Candidates of r anchors.

    Attributes:
        similarity: [r, c].
        own: int64 [r], each anchor's own candidate.
        negative: bool [r, c]; never the own one.
        positive: bool [r, c], with the own one; None where it is only that.
    """

    similarity: Tensor
    own: Tensor
    negative: Tensor
    positive: Tensor | None


def answering(queries: QueryIds, passages: PassageIds) -> Tensor:
    """Bool [b, c]: passage j answers query i, by group, by its text, or because it came with the same question.

    Where both sides of a pair are passages, so does a passage with the text of i itself.
    """
    known = same(queries.answer_key, passages.key)
    known |= same(queries.key, passages.key)
    known |= same(queries.key, passages.query_key)
    # Filling on one side must not meet filling on the other.
    for answer in queries.answers.masked_fill(queries.answers < 0, -2).T.contiguous():
        known |= same(answer, passages.group)
    return known


def same(left: Tensor, right: Tensor) -> Tensor:
    """Bool [b, c]: whether int64 `left` [b] and `right` [c] are equal.

    Compared by their places in the order of `right`: numbers of 16 bits, of which a processor compares four times as many.
    """
    ordered = torch.sort(right).values
    short = torch.int16 if len(right) < 1 << 15 else torch.int32
    place = torch.searchsorted(ordered, left).clamp_(max=len(right) - 1)
    found = torch.where(ordered[place] == left, place, -1).to(short)
    return found[:, None] == torch.searchsorted(ordered, right).to(short)


def passages_of(pairs: EmbeddedPairs, rows: slice, mask: str = "ignore", pool: str = "all") -> Candidates:
    """The batch's passages, as candidates of the queries `rows`.

    Args:
        mask: what becomes of a passage that answers a query beside its own: ignore (it is left out), positive, keep (it is
            like any other).
        pool: which other passages are negatives: all, those in the language of the query's own passage, or those in others.
    """
    passages = pairs.of_passages
    answers = answering(pairs.of_queries[rows], passages)
    candidate = (passages.group >= 0).expand_as(answers)
    scores = similarity(pairs.queries[rows], pairs.passages)
    return _candidates(scores, _own(pairs, rows), answers, candidate, passages.language, mask, pool)


def queries_of(pairs: EmbeddedPairs, rows: slice, mask: str = "ignore", pool: str = "all") -> Candidates:
    """The batch's queries, as candidates of the own passages of the pairs `rows`.

    A query that the passage answers is what the mask says; the languages that the pool compares are those of the queries.
    """
    answers = answering(pairs.of_queries, pairs.of_passages[rows]).T
    scores = similarity(pairs.passages[rows], pairs.queries)
    return _candidates(scores, _own(pairs, rows), answers, torch.ones_like(answers), pairs.of_queries.language, mask, pool)


def ranking(candidates: Candidates, temperature: Tensor, margin: float = 0.0) -> Scored:
    """Softmax cross-entropy of each positive against the negatives, averaged over an anchor's positives.

    With s the similarity, t the temperature, m the margin, P_i and N_i positives and negatives:
    L_i = -1/|P_i| sum_{p in P_i} log( exp((s_ip - m)/t) / (exp((s_ip - m)/t) + sum_{j in N_i} exp(s_ij/t)) ).
    """
    scores, offset = candidates.similarity / temperature, margin / temperature
    own = scores.gather(1, candidates.own[:, None])
    negatives = scores.masked_fill(~candidates.negative, NEVER)
    hit = own.squeeze(1) >= negatives.amax(1)
    rest = torch.logsumexp(negatives, 1, keepdim=True)
    if candidates.positive is None:
        return Scored(_against(own - offset, rest).squeeze(1), hit)
    each = _against(scores - offset, rest).masked_fill(~candidates.positive, 0)
    return Scored(each.sum(1) / candidates.positive.sum(1), hit)


def similarity(left: Tensor, right: Tensor) -> Tensor:
    """[left, right] dot products in float32 or better, also under autocast: a temperature multiplies their rounding."""
    wide = torch.promote_types(left.dtype, torch.float32)
    with torch.autocast(left.device.type, enabled=False):
        return left.to(wide) @ right.to(wide).T


def _candidates(
    scores: Tensor, own: Tensor, answers: Tensor, candidate: Tensor, language: Tensor, mask: str, pool: str
) -> Candidates:
    # A pair's own passage answers its query by group and by text, so that `answers` holds it.
    known = torch.zeros_like(answers).scatter_(1, own[:, None], True) if mask == "keep" else answers
    negative = candidate & ~known
    if pool != "all":
        same = language[own][:, None] == language
        negative = negative & (same if pool == "same_language" else ~same)
    return Candidates(scores, own, negative, known & candidate if mask == "positive" else None)


def _own(pairs: EmbeddedPairs, rows: slice) -> Tensor:
    return torch.arange(len(pairs.queries), device=pairs.queries.device)[rows]


def _against(positive: Tensor, rest: Tensor) -> Tensor:
    """-log of a score's share beside the `rest` of the softmax."""
    return torch.logaddexp(positive, rest) - positive
