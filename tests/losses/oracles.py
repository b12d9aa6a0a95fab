"""Random batches in which every kind of coincidence happens, what answers what in them, in words, and InfoNCE as a loop."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from hybrid_retrieval.losses.loss import EmbeddedPairs, PassageIds, QueryIds, SoftmaxLoss

PAIRS, HARD, DIMENSIONS, LANGUAGES = 7, 2, 6, 3
ALL = slice(0, PAIRS)


def random_ids(seed: int, pairs: int = PAIRS, hard: int = HARD) -> tuple[QueryIds, PassageIds]:
    """Ids as a batch has them, drawn from few values.

    Two pairs may share a question, a passage group (translations), a passage text (duplicates) or an answer; a query may be
    the text of a passage; hard negatives may be answers of other queries; some places of hard negatives are filling.
    """
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, 9, pairs)
    more = np.where(rng.random((pairs, 2)) < 0.3, rng.integers(0, 9, (pairs, 2)), -1)
    keys = 100 + rng.integers(0, 12, pairs * (1 + hard))
    query_keys = np.where(rng.random(pairs) < 0.2, 100 + rng.integers(0, 12, pairs), 200 + rng.integers(0, 10, pairs))
    negatives = np.where(rng.random(pairs * hard) < 0.3, -1, rng.integers(0, 15, pairs * hard))
    query_language, passage_language = rng.integers(0, LANGUAGES, pairs), rng.integers(0, LANGUAGES, pairs)
    of_queries = [query_keys, np.concatenate([groups[:, None], more], 1), keys[:pairs], query_language]
    of_passages = [
        np.concatenate([groups, negatives]),
        keys,
        np.concatenate([query_keys, np.full(pairs * hard, -1)]),
        np.tile(passage_language, 1 + hard),
    ]
    return QueryIds(*map(torch.from_numpy, of_queries)), PassageIds(*map(torch.from_numpy, of_passages))


def distinct_ids(count: int) -> tuple[QueryIds, PassageIds]:
    """Nothing coincides; all of one language."""
    number = torch.arange(count)
    language = torch.zeros_like(number)
    return (
        QueryIds(200 + number, number[:, None], 100 + number, language),
        PassageIds(number, 100 + number, 200 + number, language),
    )


def vectors(seed: int, count: int, dimensions: int = DIMENSIONS) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return nn.functional.normalize(torch.randn(count, dimensions, dtype=torch.float64, generator=generator), dim=-1)


def random_pairs(seed: int, pairs: int = PAIRS, hard: int = HARD, teacher: int = 0) -> EmbeddedPairs:
    """A batch in float64, with a teacher's embeddings of `teacher` dimensions, and scores of which some are unknown."""
    ids = random_ids(seed, pairs, hard)
    scores = vectors(seed + 400, pairs, 1 + hard) * 3
    scores[(torch.arange(scores.numel()).view_as(scores) % 5 == 3) | (ids[1].group.view(-1, pairs).T < 0)] = math.nan
    found = EmbeddedPairs(vectors(seed, pairs), vectors(seed + 100, pairs * (1 + hard)), *ids, scores=scores)
    if not teacher:
        return found
    theirs = vectors(seed + 200, pairs, teacher), vectors(seed + 300, pairs * (1 + hard), teacher)
    return replace(found, taught=theirs)


def is_answer(pairs: EmbeddedPairs, i: int, j: int) -> bool:
    """Law 3, in words: a translation or another answer (by group), a duplicate text (of the own passage, or of the query),
    or it came with the same question."""
    queries, passages = pairs.of_queries, pairs.of_passages
    return (
        (passages.group[j].item() >= 0 and passages.group[j].item() in queries.answers[i].tolist())
        or passages.key[j].item() in (queries.answer_key[i].item(), queries.key[i].item())
        or passages.query_key[j].item() == queries.key[i].item()
    )


def exact(loss: SoftmaxLoss, temperature: float) -> SoftmaxLoss:
    """The loss in float64, at a temperature that float32 did not round."""
    loss.double().log_temperature.data.fill_(math.log(temperature))
    return loss


def loop(
    scores: list[list[float]],
    answers: Callable[[int, int], bool],
    empty: list[bool],
    languages: list[int],
    mode: str,
    pool: str,
    margin: float = 0.0,
) -> list[float]:
    """The formula, candidate by candidate."""
    losses = []
    for i, row in enumerate(scores):
        candidates = [j for j in range(len(row)) if not empty[j]]
        known = {j for j in candidates if answers(i, j)} | {i}
        negatives = [j for j in candidates if j != i and (mode == "keep" or j not in known)]
        if pool == "same_language":
            negatives = [j for j in negatives if languages[j] == languages[i]]
        if pool == "other_languages":
            negatives = [j for j in negatives if languages[j] != languages[i]]
        positives = sorted(known) if mode == "positive" else [i]
        total = sum(math.exp(row[j]) for j in negatives)
        each = [math.exp(row[p] - margin) for p in positives]
        losses.append(-sum(math.log(one / (one + total)) for one in each) / len(positives))
    return losses


def both_loops(pairs: EmbeddedPairs, temperature: float, mode: str, pool: str, margin: float = 0.0) -> tuple[Tensor, Tensor]:
    """The formula for queries among passages, and for own passages among queries."""
    scores = (pairs.queries @ pairs.passages.T / temperature).tolist()
    empty, languages = (pairs.of_passages.group < 0).tolist(), pairs.of_passages.language.tolist()
    forth = loop(scores, lambda i, j: is_answer(pairs, i, j), empty, languages, mode, pool, margin / temperature)
    count, spoken = len(pairs.queries), pairs.of_queries.language.tolist()
    scores = (pairs.passages[:count] @ pairs.queries.T / temperature).tolist()
    back = loop(scores, lambda i, j: is_answer(pairs, j, i), [False] * count, spoken, mode, pool, margin / temperature)
    return torch.tensor(forth, dtype=torch.float64), torch.tensor(back, dtype=torch.float64)
