"""Candidates of a block of queries, out of the lists of miners: searched, checked, merged into one order of merit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, fields

import numpy as np

from hybrid_retrieval.data.parallel import Ints, ParallelPairs
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.evaluation.scoring.scorer import PairScorer
from hybrid_retrieval.evaluation.scoring.search import search
from hybrid_retrieval.mining.answers import Answers, Flags
from hybrid_retrieval.mining.miners import Floats, Margin, Miner
from hybrid_retrieval.values import Count, check

MERGES = ("reciprocal_rank", "round_robin")
FUSION = 60
"""The constant of reciprocal rank fusion (Cormack et al., SIGIR 2009)."""
ALREADY = "a hard negative already"
UNIT = 1 << 40
"""Reciprocal ranks are summed as whole numbers, so that no order of summing counts."""


@dataclass(frozen=True)
class Ranks:
    """The places of a miner's list that candidates are taken from, the first being 1."""

    first: Count = 1
    last: Count = 100

    def __post_init__(self) -> None:
        check(type(self), vars(self), "ranks")
        if self.first > self.last:
            raise InputError(f"ranks.first={self.first} is behind ranks.last={self.last}: the window is empty")


@dataclass(frozen=True)
class Candidates:
    """Candidates of queries, one a row.

    Attributes:
        query, passage: int64, groups.
        asked, found: int64, the rows of texts that met.
        rank: int64, the place in the list, from 1.
        source: int64, the number of the list.
    """

    query: Ints
    passage: Ints
    asked: Ints
    found: Ints
    rank: Ints
    source: Ints

    def __len__(self) -> int:
        return len(self.query)

    def take(self, rows: Ints | Flags) -> Candidates:
        """Some of them."""
        return Candidates(*(getattr(self, one.name)[rows] for one in fields(self)))

    @classmethod
    def join(cls, parts: Sequence[Candidates]) -> Candidates:
        """One after another."""
        none = np.empty(0, np.int64)
        return cls(*(np.concatenate([none, *(getattr(part, field.name) for part in parts)]) for field in fields(cls)))


@dataclass(frozen=True)
class Hunt:
    """What candidates of a split depend on.

    Attributes:
        elsewhere: of each passage group, whether it belongs to another split.
        known: int64 [negatives, 2 or more], query and passage groups: hard negatives that the set has.
    """

    pairs: ParallelPairs
    answers: Answers
    elsewhere: Flags
    ranks: Ranks
    margin: Margin
    known: Ints = field(default_factory=lambda: np.empty((0, 2), np.int64))

    def list_of(self, miner: Miner, number: int, rows: Ints, language: int, own: bool, thrown: Counter[str]) -> Candidates:
        """One miner's candidates among the passages of a language, for queries `rows`; what is thrown out is counted.

        Args:
            number: of the miner; each of a miner's lists, by the query's language and the passage's, has one of its own.
            own: the queries are in the same language.
        """
        pairs = self.pairs
        start, stop = np.searchsorted(pairs.passages.languages, [language, language + 1]).tolist()
        if not len(rows) or start == stop:
            return Candidates.join([])
        scorer = miner.scorer(rows, language, own)
        top = search(scorer, len(rows), stop - start, self.ranks.last)
        asked, place = np.nonzero(np.isfinite(top.scores) & (np.arange(top.scores.shape[1]) >= self.ranks.first - 1))
        found, scores = top.documents[asked, place] + start, top.scores[asked, place]
        query, passage = pairs.queries.groups[rows[asked]].astype(np.int64), pairs.passages.groups[found].astype(np.int64)
        kept = np.ones(len(asked), np.bool_)
        reasons = {
            "answers the query": self.answers.answer(query, passage),
            "belongs to another split": self.elsewhere[passage],
            **self.margin.faults(scores, self._worst_answers(scorer, rows, language, start)[asked]),
        }
        if len(self.known):
            width = len(pairs.passages.rows)
            reasons[ALREADY] = np.isin(query * width + passage, self.known[:, 0] * width + self.known[:, 1])
        for reason, fault in reasons.items():
            thrown[reason] += int((fault & kept).sum())
            kept &= ~fault
        count = len(pairs.languages)
        source = (number * count + pairs.queries.languages[rows[asked]]) * count + language
        return Candidates(query, passage, rows[asked], found, place + 1, source).take(kept)

    def _worst_answers(self, scorer: PairScorer, rows: Ints, language: int, start: int) -> Floats:
        """float32 [rows]: the least score of a query's answers in a language; not a number where there is none."""
        worst = np.full(len(rows), np.nan, np.float32)
        if self.margin.compares:
            asked, found = answers_in(self.pairs, rows, language)
            order = np.argsort(found, kind="stable")
            scores = scorer.pairs(asked[order], found[order] - start).cpu().numpy()
            np.fmin.at(worst, asked[order], scores)
        return worst


def answers_in(pairs: ParallelPairs, rows: Ints, language: int) -> tuple[Ints, Ints]:
    """The answers in a language to queries `rows`: places in `rows`, and rows of passages."""
    known = pairs.answers_by_query.gather(pairs.queries.groups[rows].astype(np.int64))
    found = pairs.passages.rows[known.values, language].astype(np.int64)
    return known.rows()[found >= 0], found[found >= 0]


def merged(candidates: Candidates, merge: str, lists: int) -> Candidates:
    """One candidate for each passage group of a query, best first: where it stood best, in the order of all lists together.

    Reciprocal rank: by the sum over lists of 1 / (60 + rank). Round robin: the first of every list, then the second of each. Of
    lists that are even, each query begins with another one, so that no language is preferred.

    Args:
        lists: how many there may be, above every `source`: a query's order does not hang on those beside it.
    """
    turn = (candidates.source - candidates.query) % lists
    order = np.lexsort((turn, candidates.rank, candidates.passage, candidates.query))
    every, turn = candidates.take(order), turn[order]
    new = np.ones(len(every), np.bool_)
    new[1:] = (every.query[1:] != every.query[:-1]) | (every.passage[1:] != every.passage[:-1])
    starts = np.flatnonzero(new)
    best, turn = every.take(starts), turn[starts]
    if not len(best):
        return best
    merit = np.add.reduceat(UNIT // (FUSION + every.rank), starts) if merge == MERGES[0] else np.zeros(len(best), np.int64)
    return best.take(np.lexsort((best.passage, turn, best.rank, -merit, best.query)))


def first_of_each(query: Ints, alive: Flags, count: int) -> Flags:
    """The first `count` of every query's candidates that are alive; candidates lie query after query."""
    before: Ints = np.cumsum(alive) - alive
    starts = np.searchsorted(query, query)
    found: Flags = alive & (before - before[starts] < count)
    return found
