"""MRC, mean rank correlation (arXiv 2509.06195): how alike the lists are that a question finds in different languages.

Per question and pair of languages, Spearman's correlation of the two rankings of the whole pool (ties have their mean rank);
per query, its mean over the other languages in which the question is asked; then the mean over questions per language, and the
macro mean over languages. In [-1, 1]; higher is fairer. A pair in which a list has one score throughout has no correlation.

Pools of more than `SAMPLED` documents are sampled: that many documents, in runs of `RUN` at equal distances, the same for
every query. The correlation over a sample estimates that over the pool, with a standard error below 1 / sqrt(SAMPLED) were the
documents drawn one by one, and more the more alike neighbours are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch

from hybrid_retrieval.evaluation.bias.evidence import Evidence, Finding
from hybrid_retrieval.evaluation.collection import Ints
from hybrid_retrieval.evaluation.measures import Floats
from hybrid_retrieval.evaluation.scoring.scorer import Block

SAMPLED, RUN = 50_000, 500
CHUNK = 1 << 23
GAP = 8
"""Queries between two wanted ones that are scored along rather than asked for apart."""


def mrc(evidence: Evidence, sampled: int = SAMPLED, run: int = RUN, chunk: int = CHUNK) -> Finding:
    """Per query: the mean correlation with the question's other languages.

    Args:
        sampled: documents of a larger pool that are ranked.
        run: neighbouring documents in a sample.
        chunk: scores that are ranked together.
    """
    question = evidence.question[evidence.judged]
    numbers, sizes = np.unique(question, return_counts=True)
    asked_twice = np.flatnonzero(np.isin(question, numbers[sizes > 1]))
    values = evidence.blank()
    if len(asked_twice):
        rows = evidence.judged[asked_twice]
        parts = sample(len(evidence.collection.corpus), sampled, run)
        values[rows] = _correlations(evidence, rows, question[asked_twice], parts, chunk)
    return evidence.of_queries({"mrc": values}, "no question is asked in two languages")


def sample(documents: int, sampled: int, run: int) -> list[slice]:
    """All documents, or runs of them at equal distances."""
    if documents <= sampled:
        return [slice(0, documents)]
    starts = np.linspace(0, documents - run, sampled // run).astype(np.int64)
    return [slice(start, start + run) for start in starts.tolist()]


def _correlations(evidence: Evidence, rows: Ints, question: Ints, parts: list[slice], chunk: int) -> Floats:
    """float64 [rows]: mean correlation of each query's list with those of its question's other queries."""
    blocks = [evidence.scorer.against(part) for part in parts]
    width = sum(part.stop - part.start for part in parts)
    values = np.full(len(rows), np.nan)
    for members in _chunks(question, max(1, chunk // width)):
        chosen = np.sort(members)  # positions in `rows`, so that queries are asked for in their order
        ranks = average_ranks(_scores(blocks, rows[chosen], width))
        ranks -= (width + 1) / 2
        length = np.sqrt(np.einsum("ij,ij->i", ranks, ranks))
        with np.errstate(invalid="ignore"):
            ranks /= length[:, None]
        values[chosen] = _means(ranks, question[chosen])
    return values


def _chunks(question: Ints, size: int) -> Iterator[Ints]:
    """Positions of whole questions together, in the order in which the questions first come; about `size` at a time."""
    _, first, number = np.unique(question, return_index=True, return_inverse=True)
    order = np.argsort(first[number], kind="stable")
    starts = np.flatnonzero(np.diff(first[number][order], prepend=-1)).tolist()
    begin = 0
    for start, stop in zip(starts, [*starts[1:], len(order)], strict=True):
        if stop - begin > size and start > begin:
            yield order[begin:start]
            begin = start
    yield order[begin:]


def _scores(blocks: Sequence[Block], rows: Ints, width: int) -> npt.NDArray[np.float32]:
    """float32 [rows, width]; rows ascending."""
    scores = np.empty((len(rows), width), np.float32)
    breaks = np.flatnonzero(np.diff(rows) > GAP) + 1
    for part in np.split(np.arange(len(rows)), breaks):
        start, stop = int(rows[part[0]]), int(rows[part[-1]]) + 1
        inside = torch.from_numpy(rows[part] - start)
        at = 0
        for block in blocks:
            found = block(start, stop).cpu()[inside].numpy()
            scores[part[0] : part[-1] + 1, at : at + found.shape[1]] = found
            at += found.shape[1]
    return scores


def average_ranks(scores: npt.NDArray[np.float32]) -> Floats:
    """float64 [rows, documents]: ascending from 1, equal scores have their mean rank."""
    rows, width = scores.shape
    order = np.argsort(scores, axis=1)
    place = torch.arange(1, width + 1, dtype=torch.float64).expand(rows, -1)
    ranks: Floats = torch.empty((rows, width), dtype=torch.float64).scatter_(1, torch.from_numpy(order), place).numpy()
    ordered = np.sort(scores, axis=1)
    equal = np.zeros((rows, width + 1), bool)
    np.equal(ordered[:, 1:], ordered[:, :-1], out=equal[:, 1:-1])
    # First and last place of every run of equal scores.
    first, last = np.flatnonzero(equal[:, 1:] != equal[:, :-1]).reshape(-1, 2).T
    size = last - first + 1
    run = np.repeat(np.arange(len(size)), size)
    places = np.arange(len(run)) + (first - np.cumsum(size) + size)[run]
    ranks[places // width, order.reshape(-1)[places]] = ((first + last) / 2 - first // width * width + 1)[run]
    return ranks


def _means(lists: Floats, question: Ints) -> Floats:
    """float64 [rows]: mean dot product with the other rows of the same question; nan products are left out."""
    order = np.argsort(question, kind="stable")
    values = np.full(len(lists), np.nan)
    for members in np.split(order, np.flatnonzero(np.diff(question[order])) + 1):
        products = lists[members] @ lists[members].T
        np.fill_diagonal(products, np.nan)
        known = ~np.isnan(products)
        with np.errstate(invalid="ignore"):
            values[members] = np.where(known, products, 0).sum(1) / known.sum(1)
    return values
