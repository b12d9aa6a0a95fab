"""From judgements to groups and edges, whatever the files were: which passages are one meaning, and what answers what.

Passages are numbered over all languages, language after language. Those that share an id are one group, and so are those that
answer the same query, one in each language. A passage that is judged not to answer a query is a hard negative of its pairs;
none of the group of an answer is (law 3).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from hybrid_retrieval.data.parallel import MAX_LANGUAGES, SPLITS, PairsWriter, TextTable
from hybrid_retrieval.data.source import components, split_of
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.hashing import text_hash
from hybrid_retrieval.ragged import spans

NO_LETTERS = re.compile(r"[\W_]+")
CONFLICTS = "passages kept apart in their group's language"

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Judgements:
    """Passages judged for queries, in the order in which they were read; each field is [judgements].

    Attributes:
        split: index into `SPLITS`.
        query: the group of the query; one of a language that was not chosen has a number above all that have texts.
        passage: the number of the passage.
        negative: it does not answer the query.
        score: float32, a teacher's, NaN where it is unknown.
    """

    split: Ints
    query: Ints
    passage: Ints
    negative: Bools
    score: npt.NDArray[np.float32] | None = None

    def only(self, chosen: Bools) -> Judgements:
        """Some of them."""
        score = None if self.score is None else self.score[chosen]
        return Judgements(self.split[chosen], self.query[chosen], self.passage[chosen], self.negative[chosen], score)


@dataclass(frozen=True)
class PairsFromJudgements:
    """Ends a set whose texts are written, each passage under its number.

    Attributes:
        validation_share, test_share: cut from train where a split has no answer, by groups that share a text.
        max_negatives: hard negatives that a pair keeps, the first that were judged.
        groups_by_id: passages are of one group by their ids alone.
    """

    validation_share: float
    test_share: float
    max_negatives: int
    groups_by_id: bool = False
    dropped: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.validation_share + self.test_share > 1:
            said = f"dataset.validation_share={self.validation_share} and dataset.test_share={self.test_share}"
            raise InputError(f"{said} are more than 1 together")

    def finish(self, writer: PairsWriter, judged: Judgements, same_id: Ints, meta: Mapping[str, Any]) -> None:
        """Group the passages and write the edges.

        Args:
            same_id: int64 [links, 2], passages of different languages that share an id.
            meta: as of `PairsWriter.finish`; ``dropped`` is added to it.
        """
        languages = writer.row_languages("passages")
        answers = judged.only(~judged.negative & (not self.groups_by_id))
        group_of, self.dropped[CONFLICTS] = group_passages(answers, languages, same_id)
        writer.regroup("passages", group_of)
        queries = writer.groups("queries")
        judged = judged.only(judged.query < queries)
        edges, scores = self._edges(judged, group_of[judged.passage], languages[judged.passage], queries)
        counts = [len(edges[split]) for split in SPLITS]
        shares = (0.0, self.validation_share, self.test_share)
        if counts[0] and any(share and not count for share, count in zip(shares, counts, strict=True)):
            validation, test = (0.0 if count else share for share, count in zip(shares[1:], counts[1:], strict=True))
            drawn = np.array(
                [SPLITS.index(split_of(name, validation, test)) for name in group_names(writer.table("passages"), group_of)]
            )
            into, whole, theirs = drawn[edges["train"][:, 1]], edges["train"], scores and scores["train"]
            for index, split in enumerate(SPLITS):
                if index == 0 or not counts[index]:
                    edges[split] = whole[into == index]
                    if scores is not None and theirs is not None:
                        scores[split] = theirs[into == index]
        writer.finish(edges, {**meta, "dropped": self.dropped}, scores)

    def _edges(
        self, judged: Judgements, group: Ints, language: Ints, queries: int
    ) -> tuple[dict[str, npt.NDArray[np.int32]], dict[str, npt.NDArray[np.float32]] | None]:
        """Distinct edges by split, with their negatives, and the scores of both where there are any."""
        span = int(group.max(initial=-1)) + 1
        code = judged.query * span + group
        scored = judged.score is not None and not np.isnan(judged.score).all()
        score = judged.score if judged.score is not None else np.full(len(code), np.nan, np.float32)
        of_query, negatives, their_scores = self._negatives(code, language, judged.negative, score, span, queries)
        edges, scores = {}, {}
        for index, split in enumerate(SPLITS):
            mine = np.flatnonzero((judged.split == index) & ~judged.negative)
            mine = mine[np.lexsort((np.isnan(score[mine]), code[mine]))]  # of several scores one that is known
            distinct, first = np.unique(code[mine], return_index=True)
            query = distinct // max(span, 1)
            rows = of_query[query]
            edges[split] = np.concatenate([np.stack([query, distinct % max(span, 1)], 1), negatives[rows]], 1).astype(np.int32)
            scores[split] = np.concatenate([score[mine][first][:, None], their_scores[rows]], 1)
        return edges, scores if scored else None

    def _negatives(
        self, code: Ints, language: Ints, negative: Bools, score: npt.NDArray[np.float32], span: int, queries: int
    ) -> tuple[Ints, Ints, npt.NDArray[np.float32]]:
        """For each query a row of the two tables that follow: hard negatives, -1 where there are fewer, and scores.

        Languages take turns, each with its negatives as they were read.
        """
        found, first = np.unique(code[negative], return_index=True)
        where = np.flatnonzero(negative)[first]
        answers = np.isin(found, code[~negative])
        asked = np.isin(found // max(span, 1), np.unique(code[~negative] // max(span, 1)))
        keep = ~answers & asked
        query, where = found[keep] // max(span, 1), where[keep]
        order = np.lexsort((where, language[where], query))
        _, listed = np.unique(query[order] * MAX_LANGUAGES + language[where[order]], return_counts=True)
        turn = spans(np.zeros(len(listed), np.int64), listed)
        order = order[np.lexsort((language[where[order]], turn, query[order]))]
        query, where = query[order], where[order]
        counts = np.bincount(query, minlength=queries)
        place = spans(np.zeros(queries, np.int64), counts)
        within = place < self.max_negatives
        self.dropped.update(
            {
                "hard negatives that answer their query": int(answers.sum()),
                "hard negatives of queries without an answer": int((~asked & ~answers).sum()),
                f"hard negatives after the first {self.max_negatives} (dataset.max_negatives)": int((~within).sum()),
            }
        )
        query, where, place = query[within], where[within], place[within]
        width = int(place.max(initial=-1)) + 1
        having, row = np.unique(query, return_inverse=True)
        table = np.full((len(having) + 1, width), -1, np.int64)
        theirs = np.full((len(having) + 1, width), np.nan, np.float32)
        table[row, place], theirs[row, place] = code[where] % max(span, 1), score[where]
        of_query = np.full(queries, len(having), np.int64)
        of_query[having] = np.arange(len(having))
        return of_query, table, theirs


def group_passages(answers: Judgements, language: Ints, same_id: Ints) -> tuple[Ints, int]:
    """int64 [passages], the group of each, and how many could not join that of a query's other answers.

    A group has at most one passage a language, so these are not just the components of a graph: a query with several answers
    in one language joins none of them, and a union that would bring two passages of a language together is left out.
    """
    code = answers.split * (int(answers.query.max(initial=0)) + 1) + answers.query
    _, first, asked = np.unique(code, return_index=True, return_inverse=True)
    # Queries take precedence in the order in which they were read, those of train first.
    rank = np.empty(len(first), np.int64)
    rank[np.lexsort((first, answers.split[first]))] = np.arange(len(first))
    asked = rank[asked]
    order = np.argsort(asked, kind="stable")
    asked, passage = asked[order], answers.passage[order]
    starts = np.flatnonzero(np.append(True, asked[1:] != asked[:-1])[: len(asked)])
    in_language, count = np.unique(asked * MAX_LANGUAGES + language[passage], return_counts=True)
    several = np.zeros(len(starts), np.bool_)
    several[in_language[count > 1] // MAX_LANGUAGES] = True
    chains = np.stack([passage[starts[asked]], passage], 1)[~several[asked]]
    chains = chains[chains[:, 0] != chains[:, 1]]
    label = components(np.concatenate([same_id, chains]), len(language)).astype(np.int64)
    met, count = np.unique(label * MAX_LANGUAGES + language, return_counts=True)
    crowded = np.isin(label, met[count > 1] // MAX_LANGUAGES)
    conflicts = _part(label, crowded, language, same_id, chains) if crowded.any() else 0
    _, first, label = np.unique(label, return_index=True, return_inverse=True)
    number = np.empty(len(first), np.int64)
    number[np.argsort(first)] = np.arange(len(first))
    return number[label], conflicts


def _part(label: Ints, crowded: Bools, language: Ints, same_id: Ints, chains: Ints) -> int:
    """Label the `crowded` passages anew, uniting one after another where that is possible; how many unions were not."""
    members = np.flatnonzero(crowded).tolist()
    parent = {number: number for number in members}
    languages = {number: 1 << int(language[number]) for number in members}

    def root(number: int) -> int:
        while parent[number] != number:
            parent[number] = number = parent[parent[number]]
        return number

    conflicts = 0
    for links in (same_id, chains):
        for one, other in links[crowded[links[:, 0]]].tolist():
            left, right = root(one), root(other)
            if left == right:
                continue
            if languages[left] & languages[right]:
                conflicts += 1
            else:
                parent[right] = left
                languages[left] |= languages[right]
    label[members] = [len(label) + root(number) for number in members]
    return conflicts


def group_names(passages: TextTable, group_of: Ints) -> list[str]:
    """For each group the least id of the passages of all groups that a chain of common texts joins it to.

    Texts are the same but for case, spacing, punctuation, marks and Unicode form.

    Args:
        passages: in the order of their numbers.
    """
    words = np.fromiter((words_key(text) for text in passages.column("text")), np.uint64, len(passages))
    _, first, same = np.unique(words, return_index=True, return_inverse=True)
    links = group_of[np.stack([first[same], np.arange(len(words))], 1)[words > 0]]
    label = components(links, int(group_of.max(initial=-1)) + 1)
    ids = passages.column("id")
    by_id = np.asarray(pc.sort_indices(ids.column)).astype(np.int64)
    rank = np.empty(len(ids), np.int64)
    rank[by_id] = np.arange(len(ids))
    least = np.full(int(label.max(initial=-1)) + 1, len(ids), np.int64)
    np.minimum.at(least, label[group_of], rank)
    names = ids.take(by_id[least])
    return [names[one] for one in label.tolist()]


def words_key(text: str) -> int:
    """A hash of a text's letters; 0 where it has none."""
    letters = NO_LETTERS.sub("", unicodedata.normalize("NFKC", text).casefold())
    return text_hash(letters) if letters else 0
