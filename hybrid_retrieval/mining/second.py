"""A second model, which throws out candidates that it takes for answers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.special import expit

from hybrid_retrieval.data.parallel import Ints, ParallelPairs
from hybrid_retrieval.evaluation.scoring.vectors import Vectors, join
from hybrid_retrieval.mining.answers import Flags
from hybrid_retrieval.mining.candidates import Candidates, answers_in, first_of_each
from hybrid_retrieval.mining.cross_encoder import CrossEncoder
from hybrid_retrieval.mining.miners import NOTHING_TO_COMPARE, EncoderMiner, Floats, Margin

AT_ONCE = 1 << 14
"""Pairs whose embeddings are held together."""


class Judge(Protocol):
    """Scores pairs of texts of a set."""

    def scores(self, queries: Ints, passages: Ints) -> Floats:
        """float32 [pairs], of these rows of queries and of passages."""


@dataclass(frozen=True)
class EncoderJudge:
    """Dot products of another encoder's embeddings."""

    queries: Vectors
    passages: Vectors

    @classmethod
    def of(cls, miner: EncoderMiner) -> EncoderJudge:
        """By what a miner has encoded."""
        return cls(miner.queries, join([part for part in miner.passages if len(part)]))

    def scores(self, queries: Ints, passages: Ints) -> Floats:
        found = np.empty(len(queries), np.float32)
        for start in range(0, len(queries), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            left, right = np.asarray(self.queries[queries[part]]), np.asarray(self.passages[passages[part]])
            found[part] = np.einsum("ij,ij->i", left.astype(np.float32), right.astype(np.float32))
        return found


@dataclass(frozen=True)
class CrossEncoderJudge:
    """The probabilities of a cross-encoder, 0..1."""

    model: CrossEncoder
    pairs: ParallelPairs

    def scores(self, queries: Ints, passages: Ints) -> Floats:
        logits = self.model.logits(self.pairs.queries.texts(queries), self.pairs.passages.texts(passages))
        found: Floats = expit(logits)
        return found


@dataclass(frozen=True)
class Second:
    """A judge and how much it may give a candidate beside the worst answer in the candidate's language."""

    judge: Judge
    margin: Margin

    def refuses(self, pairs: ParallelPairs, candidates: Candidates) -> Flags:
        """Whether it takes each candidate for an answer; where it knows no answer to compare with, it does not."""
        language = pairs.passages.languages[candidates.found]
        answer = np.full(len(candidates), np.nan, np.float32)
        for index in np.unique(language).tolist() if self.margin.compares else []:
            mine = np.flatnonzero(language == index)
            rows, row_of = np.unique(candidates.asked[mine], return_inverse=True)
            asked, found = answers_in(pairs, rows, index)
            worst = np.full(len(rows), np.nan, np.float32)
            if len(asked):
                np.fmin.at(worst, asked, self.judge.scores(rows[asked], found))
            answer[mine] = worst[row_of]
        faults = self.margin.faults(self.judge.scores(candidates.asked, candidates.found), answer)
        refused: Flags = np.any([fault for reason, fault in faults.items() if reason != NOTHING_TO_COMPARE], axis=0)
        return refused


def chosen(pairs: ParallelPairs, merit: Candidates, count: int, second: Second | None, thrown: Counter[str]) -> Flags:
    """The best `count` of every query's candidates, in place of those that the second model throws out the next ones."""
    alive, judged = np.ones(len(merit), np.bool_), np.zeros(len(merit), np.bool_)
    while True:
        taken = first_of_each(merit.query, alive, count)
        new = np.flatnonzero(taken & ~judged)
        if second is None or not len(new):
            return taken
        refused = second.refuses(pairs, merit.take(new))
        alive[new[refused]] = False
        judged[new] = True
        thrown["an answer to the second model"] += int(refused.sum())
