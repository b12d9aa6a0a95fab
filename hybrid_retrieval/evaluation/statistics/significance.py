"""Is the difference of two systems more than chance? Over the questions of a benchmark, and over seeds where there are several.

Knows values only, no scores and no text, so that results are compared without loading a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hybrid_retrieval.evaluation.measures import Floats, Ints
from hybrid_retrieval.evaluation.statistics.mixed_effects import contributions, crossed_difference, crossed_mean
from hybrid_retrieval.evaluation.statistics.resampling import bootstrap_intervals, by_cluster, panel_means, sign_flip_p_values


@dataclass(frozen=True)
class Estimates:
    """Values with intervals, [pairs + 1] each: of every language pair, and last the macro mean; `p` is two-sided."""

    value: Floats
    low: Floats
    high: Floats
    p: Floats


def system_mean(runs: Floats, replicates: int, seed: int, clusters: Ints | None = None) -> tuple[float, float, float]:
    """A system's macro mean and its bounds; `runs`: [seeds, questions, pairs] with the same cells NaN in each."""
    if len(runs) > 1:
        estimate = crossed_mean(_contributions(runs, clusters))
        return estimate.value, estimate.low, estimate.high
    low, high = bootstrap_intervals([runs[0]], replicates, seed, clusters=clusters)[0][:, -1].tolist()
    return float(panel_means(runs[0])[-1]), low, high


def macro_p_values(
    pairs: Sequence[tuple[Floats, Floats]], replicates: int, seed: int, clusters: Ints | None = None
) -> list[float]:
    """The p of the macro means of `paired_difference` for each of many pairs, without the rest of it."""
    found = {
        at: crossed_difference(_contributions(ours, clusters), _contributions(theirs, clusters)).p
        for at, (ours, theirs) in enumerate(pairs)
        if not len(ours) == len(theirs) == 1
    }
    alone = [at for at in range(len(pairs)) if at not in found]
    if alone:  # each pair of systems as a column, so that signs are drawn once
        differences = [pairs[at][0][0] - pairs[at][1][0] for at in alone]
        parts = [np.nan_to_num(one / np.isfinite(one).sum(axis=0)).mean(axis=1) * len(one) for one in differences]
        p = sign_flip_p_values(np.column_stack(parts), replicates, seed, clusters=clusters)
        found |= dict(zip(alone, p[:-1].tolist(), strict=True))
    return [found[at] for at in range(len(pairs))]


def paired_difference(ours: Floats, theirs: Floats, replicates: int, seed: int, clusters: Ints | None = None) -> Estimates:
    """`ours` minus `theirs`, each [seeds, questions, pairs], paired by question.

    The same cells are NaN in all of them, and every question and every pair has a value. One run each: cluster bootstrap and
    randomisation test over clusters of questions (`clusters`, int64 [questions]; by default each question is one). Several runs
    of one or both: crossed random effects of seeds and clusters.
    """
    if len(ours) == len(theirs) == 1:
        differences = ours[0] - theirs[0]
        low, high = bootstrap_intervals([differences], replicates, seed, clusters=clusters)[0]
        p = sign_flip_p_values(differences, replicates, seed, clusters=clusters)
        return Estimates(panel_means(differences), low, high, p)
    estimates = []
    for pair, asked in enumerate(np.isfinite(ours[0]).T):
        inside = None if clusters is None else clusters[asked]
        one, other = (_contributions(runs[:, asked, pair : pair + 1], inside) for runs in (ours, theirs))
        estimates.append(crossed_difference(one, other))
    estimates.append(crossed_difference(_contributions(ours, clusters), _contributions(theirs, clusters)))
    columns = np.array([(one.value, one.low, one.high, one.p) for one in estimates]).T
    return Estimates(*columns)


def _contributions(runs: Floats, clusters: Ints | None) -> Floats:
    """[seeds, clusters]: the mean over them is the macro mean."""
    found = [by_cluster(contributions(panel), clusters) for panel in runs]
    return np.stack([sums * len(sums) / runs.shape[1] for sums in found])


def holm(p_values: npt.ArrayLike) -> Floats:
    """Holm's (1979) step-down correction: p values that hold for the family as a whole, in the order given."""
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(stepped, 1)
    return corrected


def significance_clusters(significant: npt.NDArray[np.bool_]) -> list[list[int]]:
    """Clusters of systems that are given from the best to the worst, as WMT ranks them.

    `significant`: [systems, systems], whether the two differ significantly. A cluster ends where every system so far is
    significantly better than every system below.
    """
    clusters: list[list[int]] = []
    for last in range(len(significant)):
        if last == 0 or significant[:last, last:].all():
            clusters.append([])
        clusters[-1].append(last)
    return clusters
