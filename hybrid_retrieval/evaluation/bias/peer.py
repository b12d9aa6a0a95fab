"""PEER, the probability of equal expected rank (arXiv 2405.00978).

Per query and level of relevance, a Kruskal-Wallis test asks whether the relevant documents of each language have the same
mean rank: H = (n - 1) sum_l n_l (mean_l - mean)^2 / sum_d (rank_d - mean)^2 over the n documents of the level, n_l of them in
language l, with their positions in the pooled list as ranks, as in the authors' implementation. Its p-value is that of a
chi-square with (languages - 1) degrees of freedom, and 1 where the documents are all of one language or all at one rank. PEER
is the weighted mean over the levels; here the levels that a query has weigh the same. In [0, 1]; higher is fairer.

Equal scores share their ranks. With a depth k, the relevant documents beyond it are tied at the mean of the ranks k + 1,
k + 2, ... that they would fill, and those that a query does not find after the n that it does: u of them at n + (u + 1) / 2.

Where each language has one relevant document, H is n - 1 whatever the ranking: a collection of only such queries
(XQuAD-R) has no PEER, and the Friedman test of `friedman` takes its place.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import stats

from hybrid_retrieval.evaluation.bias.evidence import Evidence, Finding
from hybrid_retrieval.evaluation.collection import Ints
from hybrid_retrieval.evaluation.measures import NOT_FOUND, Floats


def peer(evidence: Evidence, depth: int | None = None) -> Finding:
    """To full depth, or with a cutoff."""
    name = "peer" if depth is None else f"peer@{depth}"
    collection = evidence.collection
    query, level = evidence.levels
    # A cell is a level's documents in one language.
    count = len(collection.languages)
    cells, cell = np.unique(level * count + collection.corpus.language[collection.document], return_inverse=True)
    of_cell = cells // count
    groups, sizes = np.bincount(of_cell, minlength=len(query)), np.bincount(level, minlength=len(query))
    constant = ~np.isin(evidence.judged, query[(groups > 1) & (sizes > groups)])
    if constant.all():
        cause = "for every query each language has one relevant document, or all are in one language"
        return Finding(notes=[f"{name}: not printed: {cause}, so that it is the same for any ranking; see friedman"])
    rank = evidence.ranks.pool_ties.shared
    absent = evidence.ranks.pool == NOT_FOUND
    depth = NOT_FOUND if depth is None else depth
    lost = absent | (rank > depth)
    last = np.where(absent, np.minimum(evidence.ranks.pool_ties.better, depth), depth)  # rank in the list that they follow
    rank[lost] = last[lost] + (np.bincount(level, lost, len(query))[level[lost]] + 1) / 2
    p = _p_values(rank, level, cell, of_cell)
    values = evidence.blank()
    values[evidence.judged] = (np.bincount(query, p) / np.maximum(np.bincount(query), 1))[evidence.judged]
    finding = evidence.of_queries({name: values})
    if constant.any():
        finding.notes.append(f"{name}: for {constant.sum()} of {len(constant)} queries it is the same for any ranking")
    return finding


def _p_values(rank: Floats, level: Ints, cell: Ints, of_cell: Ints) -> Floats:
    """float64 [levels]: of the Kruskal-Wallis tests of ranks [documents], grouped by cell."""
    size, total = np.bincount(level), np.bincount(level, rank)
    mean = total / size
    cell_size = np.bincount(cell)
    cell_mean = np.bincount(cell, rank) / cell_size
    between = np.bincount(of_cell, cell_size * np.square(cell_mean - mean[of_cell]))
    whole = np.bincount(level, np.square(rank - mean[level]))
    groups = np.bincount(of_cell)
    testable = (groups > 1) & (whole > 0)
    p = np.ones(len(size))
    statistic: npt.NDArray[np.float64] = (size[testable] - 1) * between[testable] / whole[testable]
    p[testable] = stats.chi2.sf(statistic, groups[testable] - 1)
    return p
