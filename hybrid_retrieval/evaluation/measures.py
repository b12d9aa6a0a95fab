"""Measures: what each is called, which end of it is good, how it is shown, and, for those of ranks, its definition.

A measure is found by its name in ``metrics.json``: ``map``, or with a depth ``recall@10``; `measure` parses it. Definitions are
trec_eval's: functions of `Relevant`, per query first. A new one is one entry of `MEASURES`. Imports nothing heavy, so that
`hybrid_retrieval.reporting` may use it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import numpy as np
import numpy.typing as npt

from hybrid_retrieval.errors import InputError

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

SETTINGS = {"monolingual": "Mo.", "crosslingual": "Cr.", "multilingual": "Mul."}
"""The settings of arXiv 2408.10536, in its order, with its abbreviations."""
POOLED = ("multilingual",)
NOT_FOUND = 1 << 62
"""The rank of a document that a query does not find, beyond any depth."""
EVERY = NOT_FOUND - 1
"""A depth that holds every document that is found."""
TIES = "ties_"
"""Before the name of a measure: how much of its value hangs on the order of ties; see `hybrid_retrieval.evaluation.ties`."""
BYTES = "bytes_per_passage"
"""The name of the size of an embedding: a cost, no measure of retrieval."""
MICRO = "micro_"
"""Before the name of a measure: its mean over all queries, where languages have different numbers of them."""
CONTRASTS = "kendall"
"""Of contrasts, how many more have the better passage first than have not (a tie among these), as a part of all."""
PHENOMENON = f"{CONTRASTS}_"
"""Before the name of what is wrong with a passage: the same over all contrasts of that kind, whatever their language."""


@dataclass(frozen=True)
class Relevant:
    """Relevant documents of `count` queries.

    Attributes:
        query: int64 [documents], 0..count-1, ascending; every query has a document.
        rank: int64 [documents], from 1, ascending within a query; `NOT_FOUND` counts as in trec_eval: relevant, and nowhere.
        grade: int64 [documents], 1 or more.
    """

    query: Ints
    rank: Ints
    grade: Ints
    count: int

    @classmethod
    def grouped(cls, query: Ints, rank: Ints, grade: Ints) -> tuple[Relevant, Ints]:
        """Group documents in any order by query; also the query's number in the input for each group."""
        order = np.lexsort((rank, query))
        names, number = np.unique(query[order], return_inverse=True)
        return cls(number.astype(np.int64), rank[order], grade[order], len(names)), names

    def sum(self, values: npt.NDArray[np.generic]) -> Floats:
        """Sum over each query's documents."""
        return np.bincount(self.query, values.astype(np.float64), self.count).astype(np.float64)

    @property
    def starts(self) -> Ints:
        """The place of each query's first document."""
        return np.searchsorted(self.query, np.arange(self.count)).astype(np.int64)

    @property
    def sizes(self) -> Ints:
        """Relevant documents of each query."""
        return np.bincount(self.query, minlength=self.count)

    @property
    def place(self) -> Ints:
        """Each document's number, from 1, among those of its query."""
        return np.arange(1, len(self.query) + 1) - self.starts[self.query]


def average_precision(relevant: Relevant, depth: int = EVERY) -> Floats:
    """Mean, over a query's relevant documents, of the precision at their ranks, 0 beyond `depth`. In [0, 1]."""
    return relevant.sum(np.where(relevant.rank <= depth, relevant.place / relevant.rank, 0)) / relevant.sizes


def reciprocal_rank(relevant: Relevant, depth: int = EVERY) -> Floats:
    """1 / rank of the first relevant document, 0 where it lies beyond `depth`. In [0, 1]."""
    first = relevant.rank[relevant.starts]
    return np.where(first <= depth, 1 / first, 0.0)


def recall(relevant: Relevant, depth: int = EVERY) -> Floats:
    """Part of a query's relevant documents within the first `depth`; of one document, whether it is there. In [0, 1]."""
    return relevant.sum(relevant.rank <= depth) / relevant.sizes


def precision(relevant: Relevant, depth: int = EVERY) -> Floats:
    """Part of the first `depth` documents that is relevant. In [0, 1]."""
    return relevant.sum(relevant.rank <= depth) / depth


def ndcg(relevant: Relevant, depth: int = EVERY) -> Floats:
    """DCG over the first `depth` with gain = grade and discount log2(rank + 1), over the best possible. In [0, 1]."""
    gain = np.where(relevant.rank <= depth, relevant.grade / np.log2(relevant.rank + 1), 0)
    best = relevant.grade[np.lexsort((-relevant.grade, relevant.query))]
    ideal = np.where(relevant.place <= depth, best / np.log2(relevant.place + 1), 0)
    return np.asarray(relevant.sum(gain) / relevant.sum(ideal))


@dataclass(frozen=True)
class Measure:
    """A measure, or, with a depth, the measure at this depth.

    Attributes:
        stem: its name without the depth.
        heading: of its column in tables, without the depth.
        better: the good end; None where neither is, as for a difference or a count.
        digits: shown after the decimal point.
        settings: in which it is defined.
        of_ranks: from relevant documents and a depth (`EVERY` by default) to float64 [queries]; None where it is not a
            function of the ranks of a query's relevant documents.
        cut: whether it has to have a depth, or must not have one; None: as one likes.
        headline: a measure of language bias that stands beside the measures of retrieval, not in a table of its own.
        probability: of a test: shown on its side of the levels of significance.
        least: the worst value, where the best is 1: of values that are all alike there, intervals are exact.
    """

    stem: str
    heading: str
    better: Literal["higher", "lower"] | None = None
    digits: int = 4
    settings: tuple[str, ...] = tuple(SETTINGS)
    of_ranks: Callable[[Relevant, int], Floats] | None = None
    headline: bool = False
    depth: int | None = None
    cut: bool | None = None
    probability: bool = False
    least: float | None = None

    @property
    def name(self) -> str:
        """The name in ``metrics.json``."""
        return self.stem if self.depth is None else f"{self.stem}@{self.depth}"

    @property
    def label(self) -> str:
        """The heading in tables."""
        return self.heading if self.depth is None else f"{self.heading}@{self.depth}"

    @property
    def of_bias(self) -> bool:
        """Whether it stands in the table of language bias."""
        return self.settings == POOLED and not self.headline

    @property
    def order(self) -> tuple[int, int, str]:
        """Its place among others: as in `MEASURES`, then by depth; the first that a benchmark has is its headline."""
        known = list(MEASURES)
        return known.index(self.stem) if self.stem in MEASURES else len(known), self.depth or 0, self.stem

    def values(self, relevant: Relevant) -> Floats:
        """float64 [queries], of a measure of ranks."""
        assert self.of_ranks is not None, self.name
        return self.of_ranks(relevant, self.depth or EVERY)


BIAS_HEADINGS = {
    "friedman_w": "Kendall's W",
    "friedman_mean_rank": "Mean place of a language",
    "share": "Share of a language",
    "share_deviation": "Shares off the sizes",
    "share_deviation_uniform": "Shares off equal ones",
    "own_language_preference": "Own language preferred",
    "score_gap": "Score gap",
    "score_gap_standardised": "Score gap in deviations",
    "score_gap_non_relevant": "Score gap, not relevant",
    "score_gap_non_relevant_standardised": "Score gap, not relevant, in deviations",
    "drop_without_own_language_map": "mAP lost without own language",
    "language_probe": "Language probe of queries",
    "language_probe_chance": "Language probe of queries by chance",
    "language_probe_corpus": "Language probe of the corpus",
    "language_probe_corpus_chance": "Language probe of the corpus by chance",
    "centroid_distance": "Distance of centroids of queries",
    "centroid_distance_corpus": "Distance of centroids of the corpus",
}
MEASURES = {
    one.stem: one
    for one in (
        Measure("map", "mAP", "higher", of_ranks=average_precision, least=0),
        Measure("ndcg", "nDCG", "higher", of_ranks=ndcg, least=0),
        Measure("mrr", "MRR", "higher", of_ranks=reciprocal_rank, least=0),
        Measure("recall", "R", "higher", of_ranks=recall, least=0),
        Measure("precision", "P", "higher", of_ranks=precision, cut=True, least=0),
        Measure("knn_accuracy", "kNN", "higher"),
        Measure(CONTRASTS, "Kendall", "higher", settings=("monolingual", "crosslingual"), least=-1),
        Measure("rank_distance", "Rank distance", "lower", 1, POOLED, headline=True),
        Measure("rank_distance_chance", "Rank distance by chance", None, 1, POOLED, headline=True),
        Measure("rank_distance_normalised", "Rank distance / pool", "lower", 4, POOLED),
        Measure("peer", "PEER", "higher", 4, POOLED),
        Measure("mrc", "MRC", "higher", 4, POOLED),
        Measure("friedman", "Friedman's statistic", None, 1, POOLED),
        Measure("friedman_p", "Friedman's p", None, 4, POOLED, probability=True),
        *(Measure(stem, heading, None, 4, POOLED) for stem, heading in BIAS_HEADINGS.items()),
        Measure("queries", "Queries", digits=0),
        Measure("left_out", "Left out", digits=0),
        Measure(BYTES, "Bytes per passage", digits=0),
    )
}
"""Measures by name without depth. One of language bias that is not here has its name in words as heading, and no good end."""


def check_measures(names: Sequence[str], where: str) -> None:
    """Whether all names are of measures of ranks.

    Raises:
        InputError: one is not known, or its depth is missing or makes no sense; `where` it stands.
    """
    known = ", ".join(one.stem + ("@10" if one.cut else "") for one in MEASURES.values() if one.of_ranks)
    for name in names:
        one = measure(name)
        if one.of_ranks is None or one.cut not in (None, one.depth is not None):
            raise InputError(f"{where}: measure {name}; expected one of {known}, also at a depth as in recall@10")


@cache
def measure(name: str) -> Measure:
    """The measure of a name such as ``map`` or ``precision@5``."""
    if name.startswith(TIES):
        return Measure(name, name, settings=tuple(SETTINGS))
    if name.startswith(PHENOMENON):
        return replace(MEASURES[CONTRASTS], stem=name, heading=name.removeprefix(PHENOMENON).replace("_", " "))
    if name.startswith(MICRO):
        of_languages = measure(name.removeprefix(MICRO))
        return replace(of_languages, stem=f"{MICRO}{of_languages.stem}", heading=f"micro-{of_languages.heading}", of_ranks=None)
    stem, at, depth = name.partition("@")
    if at and re.fullmatch(r"[1-9]\d*", depth):
        return replace(measure(stem), depth=int(depth))
    return MEASURES.get(name) or Measure(name, name.replace("_", " ").capitalize(), settings=POOLED)
