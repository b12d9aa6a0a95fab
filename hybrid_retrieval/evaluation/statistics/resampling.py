"""Resampling over clusters of questions that are not independent: of one paragraph, page or article; drawn or flipped together.

The translations of one question are one row of a panel, so that they always stay together; `clusters`, int64 [questions], says
which rows do, too, and by default each is alone. A panel holds one measure as float64 [questions, pairs]: a pair is a query
language with a corpus language or the pool, NaN says that the question was not asked there or that the measure is not defined.
Its figures are the mean of every pair over its questions, and the macro mean: the mean of these means. Results are ordered like
that: [pairs + 1], the macro mean last.

Intervals are percentiles. By simulation BCa covers the same from 100 questions on, and with a few dozen neither helps against
a skewed measure; benchmarks have hundreds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from hybrid_retrieval.evaluation.measures import Floats, Ints

Singles = npt.NDArray[np.float32]

CELLS = 1 << 22
"""Default for the entries of a block of weights or signs, [replicates of the block, questions]."""
ROUNDING = 1e-9
"""Tolerance, as a part of the sum of absolute differences: flipped sums this close to the observed one are ties."""


def panel_means(panel: Floats) -> Floats:
    """The figures of a panel, [pairs + 1]; NaN where a pair has no value, which the macro mean then leaves out."""
    present = np.isfinite(panel)
    with np.errstate(invalid="ignore"):
        means = np.where(present, panel, 0).sum(axis=0) / present.sum(axis=0)
        known = np.isfinite(means)
        return np.append(means, means[known].sum() / known.sum())


def bootstrap_intervals(
    panels: Sequence[Floats],
    replicates: int,
    seed: int,
    confidence: float = 0.95,
    cells: int = CELLS,
    clusters: Ints | None = None,
) -> list[Floats]:
    """Cluster bootstrap: lower and upper bounds of each panel's figures, [2, pairs + 1].

    The panels have the same questions as rows, whose clusters are drawn with replacement for all panels and pairs at once. A
    figure of fewer than two clusters has no bounds (NaN).
    """
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    bounds = []
    for panel, deviations in zip(panels, _deviations(panels, replicates, seed, cells, clusters), strict=True):
        there = by_cluster(np.isfinite(panel).astype(np.float64), clusters) > 0
        counts = np.append(there.sum(axis=0), there.any(axis=1).sum())
        bounded = counts > 1
        quantile = np.nanquantile if np.isnan(deviations[bounded]).any() else np.quantile
        figures = np.full((2, len(counts)), np.nan)
        figures[:, bounded] = panel_means(panel)[bounded] + quantile(deviations[bounded], tails, axis=1)
        bounds.append(figures)
    return bounds


def with_exact_limits(
    bounds: Floats, panel: Floats, clusters: Ints | None = None, confidence: float = 0.95, least: float = 0
) -> Floats:
    """The `bounds` [2, pairs + 1] of a measure in [least, 1], with exact ones where every value is least, or every one is 1.

    There no resample varies. But where the mean is m, n clusters hold nothing but ones with a probability of m^n at most, so
    that the bound is that of Clopper and Pearson, about 1 - 3.7 / n (the rule of three, for two sides). A macro mean has the
    bound of its pair with the fewest clusters.
    """
    counts = (by_cluster(np.isfinite(panel).astype(np.float64), clusters) > 0).sum(axis=0)
    counts = np.append(counts, counts[counts > 0].min(initial=len(panel)))
    distance = (1 - least) * (1 - ((1 - confidence) / 2) ** (1 / np.maximum(counts, 1)))
    means = panel_means(panel)
    low = np.where(means == 1, 1 - distance, bounds[0])
    high = np.where(means == least, least + distance, bounds[1])
    return np.where(np.isfinite(bounds), np.stack([low, high]), bounds)


def by_cluster(rows: Floats, clusters: Ints | None) -> Floats:
    """Sums [clusters, ...] of the rows of each cluster, in the order of their first rows."""
    if clusters is None:
        return rows
    _, first, number = np.unique(clusters, return_index=True, return_inverse=True)
    place = np.argsort(np.argsort(first))[number]
    sums = np.zeros((len(first), *rows.shape[1:]))
    np.add.at(sums, place, rows)
    return sums


def _deviations(panels: Sequence[Floats], replicates: int, seed: int, cells: int, clusters: Ints | None) -> list[Singles]:
    """Replicated figures minus the observed ones, float32 [pairs + 1, replicates].

    A pair is NaN where none of its questions was drawn; the macro mean moves with the others then. Sums over a replicate are
    matrix products with how often each cluster was drawn; deviations from the mean keep single precision exact enough whatever
    the measure's range.
    """
    factors = []
    for panel in panels:
        present = np.isfinite(panel)
        centred = np.where(present, panel - panel_means(panel)[:-1], 0)
        both = by_cluster(centred, clusters), by_cluster(present.astype(np.float64), clusters)  # each [clusters, pairs]
        factors.append(tuple(sums.T.astype(np.float32) for sums in both))
    found = [np.empty((panel.shape[1] + 1, replicates), np.float32) for panel in panels]
    done = 0
    for drawn in _drawn(factors[0][0].shape[1], replicates, seed, cells):
        block = slice(done, done + len(drawn))
        for (values, there), figures in zip(factors, found, strict=True):
            with np.errstate(invalid="ignore"):
                pairs = (values @ drawn.T) / (there @ drawn.T)
            figures[:-1, block] = pairs
            asked = np.isfinite(pairs)
            figures[-1, block] = np.where(asked, pairs, 0).sum(axis=0) / np.maximum(asked.sum(axis=0), 1)
        done += len(drawn)
    return found


def _drawn(clusters: int, replicates: int, seed: int, cells: int) -> Iterator[Singles]:
    """Counts of draws of each cluster: float32 [replicates of a block, clusters], every row's sum is `clusters`."""
    rng = np.random.default_rng(seed)
    for size in _blocks(clusters, replicates, cells):
        flat = rng.integers(0, clusters, (size, clusters)) + np.arange(size)[:, None] * clusters
        yield np.bincount(flat.ravel(), minlength=size * clusters).reshape(size, clusters).astype(np.float32)


def sign_flip_p_values(
    differences: Floats, replicates: int, seed: int, cells: int = CELLS, clusters: Ints | None = None
) -> Floats:
    """Paired randomisation test: two-sided p of each figure of a panel of differences, [pairs + 1].

    Under the null hypothesis the two systems are exchangeable on every cluster, so that all differences of a cluster change
    sign together. All sign patterns are enumerated where they are at most `replicates`; else p = (1 + hits) / (1 + replicates).
    """
    present = np.isfinite(differences)
    parts = by_cluster(np.where(present, differences, 0) / present.sum(axis=0), clusters)
    parts = np.column_stack([parts, parts.mean(axis=1)])
    parts = parts[parts.any(axis=1)]  # the sign of a question without differences changes nothing
    exact = len(parts) < 63 and 2 ** len(parts) <= replicates
    reached = np.abs(parts.sum(axis=0)) - ROUNDING * np.abs(parts).sum(axis=0)
    hits = np.zeros(parts.shape[1], np.int64)
    for signs in _signs(len(parts), None if exact else replicates, seed, cells):
        hits += (np.abs(signs @ parts) >= reached).sum(axis=0)
    p: Floats = hits / 2 ** len(parts) if exact else (1 + hits) / (1 + replicates)
    return p


def _signs(questions: int, replicates: int | None, seed: int, cells: int) -> Iterator[Floats]:
    """Random sign patterns, or every one: float64 [patterns of a block, questions]."""
    rng = np.random.default_rng(seed)
    first = 0
    for size in _blocks(questions, replicates or 2**questions, cells):
        if replicates:
            bits = rng.integers(0, 2, (size, questions))
        else:
            bits = np.arange(first, first + size)[:, None] >> np.arange(questions) & 1
        yield 1 - 2 * bits.astype(np.float64)
        first += size


def _blocks(questions: int, replicates: int, cells: int) -> Iterator[int]:
    """Replicates of each block."""
    size = max(1, cells // max(questions, 1))
    for first in range(0, replicates, size):
        yield min(size, replicates - first)
