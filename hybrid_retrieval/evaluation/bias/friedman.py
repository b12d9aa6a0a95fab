"""Friedman test of the ranks of relevant documents, blocked by question: are the document languages ranked alike.

Blocks are questions, treatments the languages of the relevant documents, values their ranks in the pool (the mean rank, where a
language has several; equal scores share theirs). Blocks need not be complete: the statistic is that of Skillings and Mack
(Technometrics 23, 1981), with the variance of each block taken from its midranks where values tie. It is Friedman's, corrected
for ties, where every block is complete. Blocks with one language say nothing and are left out.

- ``friedman/<language>``: over the questions asked in a language, chi-square distributed under equal treatment; 0 or more.
- ``friedman``: over questions, the values being means over the languages in which the question is asked; so preferences for
  the query's own language cancel, and what is left is a preference for some document languages.
- ``friedman_p``: the p-value. In [0, 1].
- ``friedman_w``: Kendall's W, the statistic divided by its largest value, the sum over blocks of (languages - 1). In [0, 1];
  0 is fair, 1 is the same order of languages in every block. Unlike the statistic it does not grow with the questions.
- ``friedman_mean_rank/<language>``: the mean place of the *documents'* language in the blocks of ``friedman``, from 1 (best);
  (languages + 1) / 2 is what is expected of a fair list in complete blocks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from hybrid_retrieval.evaluation.bias.evidence import Evidence, Finding
from hybrid_retrieval.evaluation.collection import Ints
from hybrid_retrieval.evaluation.measures import Floats


@dataclass(frozen=True)
class Friedman:
    """Outcome of a test: the statistic, its p-value, Kendall's W and the mean place of each treatment (nan: never there)."""

    statistic: float
    p: float
    w: float
    mean_rank: Floats


def friedman(evidence: Evidence) -> Finding:
    """Over questions, and over those asked in each language."""
    collection, rows = evidence.collection, evidence.judged
    numbers, question = np.unique(evidence.question[collection.query], return_inverse=True)
    whole = friedman_test(_means(question, evidence, len(numbers)))
    if not whole:
        return Finding(notes=["friedman: no question has relevant documents in two languages"])
    asked, row_means = collection.queries.language[rows], _means(np.searchsorted(rows, collection.query), evidence, len(rows))
    languages = np.unique(asked).tolist()
    tests = {collection.languages[index]: friedman_test(row_means[asked == index]) for index in languages}
    figures = [
        evidence.figure(name, value, language)
        for language, test in [(None, whole), *tests.items()]
        if test
        for name, value in (("friedman", test.statistic), ("friedman_p", test.p), ("friedman_w", test.w))
    ]
    places = zip(collection.languages, whole.mean_rank.tolist(), strict=True)
    figures += [evidence.figure("friedman_mean_rank", place, None, name) for name, place in places if not np.isnan(place)]
    return Finding(figures)


def friedman_test(values: Floats) -> Friedman | None:
    """The test of values [blocks, treatments], nan where missing; None where no block has two treatments."""
    present = ~np.isnan(values)
    kept = present.sum(1) > 1
    values, present = values[kept], present[kept]
    if not len(values):
        return None
    size = present.sum(1, keepdims=True)
    rank = stats.rankdata(values, axis=1, nan_policy="omit")
    with np.errstate(invalid="ignore"):
        mean_rank = np.where(present, rank, 0).sum(0) / present.sum(0)
    score = np.where(present, rank - (size + 1) / 2, 0) * np.sqrt(12 / (size + 1))
    variance = np.square(score).sum(1, keepdims=True) / (size - 1)
    weight = variance / size
    covariance = np.diag((present * variance).sum(0)) - (present * weight).T @ present
    total = score.sum(0)
    statistic = float(total @ np.linalg.pinv(covariance, hermitian=True) @ total)
    freedom = int(np.linalg.matrix_rank(covariance, hermitian=True))
    p = float(stats.chi2.sf(statistic, freedom)) if freedom else 1.0
    return Friedman(statistic, p, statistic / float((size - 1).sum()), mean_rank)


def _means(block: Ints, evidence: Evidence, blocks: int) -> Floats:
    """float64 [blocks, languages]: mean rank of the judged documents of each language."""
    count = len(evidence.collection.languages)
    cell = block * count + evidence.collection.corpus.language[evidence.collection.document]
    size = np.bincount(cell, minlength=blocks * count)
    total = np.bincount(cell, evidence.ranks.pool_ties.shared, minlength=blocks * count)
    with np.errstate(invalid="ignore"):
        means: Floats = (total / size).reshape(blocks, count)
    return means
