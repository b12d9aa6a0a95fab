"""Which evaluation texts the training text holds: equal texts, shared ids, shared n-grams.

Training text is streamed once, whatever its size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hybrid_retrieval.audit.index import Index, bare_id, ngram_sizes
from hybrid_retrieval.audit.texts import BATCH, EvaluationPart, Texts, TrainingPart
from hybrid_retrieval.audit.units import Ints, Units, spelled
from hybrid_retrieval.data.parallel import TextTable
from hybrid_retrieval.progress import track

KINDS = ("exact", "normalised", "id", "ngram")
EXCERPT = 120


@dataclass(frozen=True)
class Hit:
    """An evaluation text that training text holds, and a training text that does.

    Attributes:
        overlap: part of the evaluation text's distinct n-grams that occurs in some training text; 1 for other kinds.
        answers: of a passage, whether it answers a query of the benchmark; of a query that is equal to a training query,
            whether an answer is the same too.
        stops: whether a run is to stop for it.
        training_side: ``queries``, ``passages``, or ``negatives``.
        training_id: and its neighbours: of the first training text, or of the one that has most of the n-grams.
    """

    benchmark: str
    side: str
    kind: str
    language: str
    id: str
    text: str
    overlap: float
    answers: bool
    stops: bool
    training_set: str
    training_side: str
    training_language: str
    training_id: str
    training_text: str


class _Match(NamedTuple):
    """An evaluation text in a training text, by their numbers."""

    text: int
    kind: str
    training: int
    overlap: float
    answered: bool = False
    """True for an equal query with an equal answer."""


def find_hits(index: Index, training: Texts[TrainingPart], threshold: float) -> list[Hit]:
    """All hits, by evaluation text and kind.

    Args:
        threshold: the least overlap of n-grams that is one.
    """
    hits = [(match.text, _hit(index, training, match)) for match in _find(index, training, threshold)]
    declared = _declared(index.evaluation, training, {text for text, hit in hits if hit.stops})
    return [replace(hit, stops=False) if text in declared else hit for text, hit in hits]


def _find(index: Index, training: Texts[TrainingPart], threshold: float) -> list[_Match]:
    scan = _Scan(index)
    for part in training.parts:
        batches = track(part.batches(BATCH), f"auditing {part.name} {part.side}", -(-len(part) // BATCH))
        for start, texts, ids in batches:
            scan.add(part.side, start, texts, ids)
    answered = _answered(index, training, scan.queries, threshold)
    matches = []
    for text in np.flatnonzero(scan.equal >= 0).tolist():
        kind = "exact" if scan.exact[text] else "normalised"
        matches.append(_Match(text, kind, answered.get(text, int(scan.equal[text])), 1.0, text in answered))
    matches += [_Match(text, "id", int(scan.ids[text]), 1.0) for text in np.flatnonzero(scan.ids >= 0).tolist()]
    matches += _near(index, scan, threshold)
    return sorted(matches, key=lambda match: (match.text, KINDS.index(match.kind)))


class _Scan:
    """The first training text, by number, that each evaluation text and each n-gram was found in; or -1."""

    def __init__(self, index: Index) -> None:
        self.index = index
        self.equal, self.ids = (np.full(len(index.evaluation), -1, np.int64) for _ in range(2))
        self.exact = np.zeros(len(index.evaluation), np.bool_)
        self.ngrams = np.full(len(index.ngrams.hashes), -1, np.int64)
        self.queries: dict[int, list[int]] = {}
        """For each hash of an evaluation query the training queries that have it."""
        self._open = np.ones(len(index.numbers), np.bool_)

    def add(self, side: str, start: int, texts: Sequence[str], ids: Sequence[str]) -> None:
        """Look up a batch of training texts, numbered from `start`."""
        units = Units.of(texts)
        some = np.flatnonzero(units.counts)
        places, hashes = self.index.texts.find(units.text_hashes[some])
        for place, hash_ in zip(some[places].tolist(), hashes.tolist(), strict=True):
            self._compare(side, hash_, start + place, texts[place])
        for size in self.index.sizes:
            text, windows = units.windows(size)
            place, found = self.index.ngrams.find(windows)
            new = np.flatnonzero(self.ngrams[found] < 0)[::-1]  # of several values for a place the last one stays
            self.ngrams[found[new]] = start + text[place[new]]
        wanted = self.index.ids["queries" if side == "queries" else "passages"]
        for number, id_ in enumerate(ids if wanted else (), start):
            for text_number in wanted.get(bare_id(id_), ()):
                if self.ids[text_number] < 0:
                    self.ids[text_number] = number

    def _compare(self, side: str, hash_: int, training: int, text: str) -> None:
        """Evaluation texts and a training text of one hash: an exact one is kept before others, a hard negative after them."""
        numbers = self.index.numbers[hash_]
        if side == "queries" and self.index.is_query[numbers].any():
            self.queries.setdefault(hash_, []).append(training)
        if not self._open[hash_]:
            return
        for number in numbers[~self.exact[numbers]].tolist():
            part, row = self.index.evaluation.part_of(number)
            same = part.texts[row] == text
            if self.equal[number] < 0 or (same and side != "negatives"):
                self.equal[number], self.exact[number] = training, same
        self._open[hash_] = not self.exact[numbers].all()


def _answered(index: Index, training: Texts[TrainingPart], queries: dict[int, list[int]], threshold: float) -> dict[int, int]:
    """For evaluation queries the first training query that is the same and has the same answer.

    Query and answer together must be as long as an n-gram.

    Args:
        queries: training queries by the hash that they share with evaluation queries.
    """
    found: dict[int, int] = {}
    for hash_, numbers in queries.items():
        groups: dict[tuple[int, int], int] = {}
        for number in numbers:
            part, row = training.part_of(number)
            groups.setdefault((training.parts.index(part), int(part.pairs.queries.groups[row])), number)
        held: dict[tuple[int, int], Sequence[str]] = {}
        same = index.numbers[hash_]
        for text in same[index.is_query[same]].tolist():
            asked, row = index.evaluation.part_of(text)
            units = Units.of([asked.texts[row]])
            size = int(ngram_sizes(units, index.ngram)[0])
            least = max(1, size - int(units.counts[0]))
            wanted = _runs(asked.answers(row), least)
            for group, number in groups.items() if wanted else ():
                if group not in held:
                    held[group] = training.parts[group[0]].answers(group[1])
                if _same_answer(wanted, _runs(held[group], least), size, threshold):
                    found[text] = number
                    break
    return found


def _same_answer(wanted: set[str], held: set[str], size: int, threshold: float) -> bool:
    """True where of some run on either side one lies in the other or has `threshold` of its n-grams there.

    Benchmarks cut paragraphs into sentences, and sets put titles before them. Not every run is compared with every other: a
    question may have thousands of answers (all utterances of its intent).
    """
    if any(run in every for runs, every in ((wanted, "\0".join(held)), (held, "\0".join(wanted))) for run in runs):
        return True
    having: dict[tuple[str, ...], list[str]] = {}
    for other in held:
        for window in _windows(other, size):
            having.setdefault(window, []).append(other)
    for one in wanted:
        left = _windows(one, size)
        for other in {other for window in left for other in having.get(window, ())}:
            right = _windows(other, size)
            if len(left & right) >= threshold * min(len(left), len(right)):
                return True
    return False


@lru_cache(1 << 10)
def _windows(run: str, size: int) -> frozenset[tuple[str, ...]]:
    units = run.split("\n")[1:-1]
    return frozenset(zip(*(units[place:] for place in range(size)), strict=False))


def _runs(texts: Sequence[str], least: int) -> set[str]:
    """The texts of `least` units or more, as `_run` writes them."""
    return {run for text in texts if (run := _run(text)).count("\n") > least}


@lru_cache(1 << 14)
def _run(text: str) -> str:
    """The units of a text as a string that lies in another one where they are a run of its units."""
    return "".join(f"\n{unit}" for unit in spelled(text)) + "\n"


def _near(index: Index, scan: _Scan, threshold: float) -> Iterator[_Match]:
    """Texts that equal no training text, with `threshold` of their n-grams or more in training text."""
    training: Ints = scan.ngrams[index.places.values]
    there = np.bincount(index.places.rows()[training >= 0], minlength=len(index.evaluation))
    near = (there > 0) & (there >= threshold * index.places.lengths) & (scan.equal < 0)
    for text in np.flatnonzero(near).tolist():
        cited = scan.ngrams[index.places[text]]
        numbers, times = np.unique(cited[cited >= 0], return_counts=True)
        yield _Match(text, "ngram", int(numbers[times.argmax()]), float(there[text] / len(cited)))


def _hit(index: Index, training: Texts[TrainingPart], match: _Match) -> Hit:
    """A match in words; it stops the run where the training text is learnt from, whatever its set declares."""
    part, row = index.evaluation.part_of(match.text)
    taught, trained = training.part_of(match.training)
    judged = bool(part.judged[row])
    answers = match.answered if part.side == "queries" else judged
    equal_passage = part.side == "passages" and match.kind in ("exact", "normalised") and bool(index.long[match.text])
    leaks = judged if match.kind == "id" else answers and (part.side == "queries" or equal_passage)
    return Hit(
        benchmark=part.name,
        side=part.side,
        kind=match.kind,
        language=part.language_of(row),
        id=part.ids[row],
        text=part.texts[row][:EXCERPT],
        overlap=match.overlap,
        answers=answers,
        stops=leaks and taught.side != "negatives",
        training_set=taught.name,
        training_side=taught.side,
        training_language=taught.language_of(trained),
        training_id=taught.ids[trained],
        training_text=taught.texts[trained][:EXCERPT],
    )


def _declared(evaluation: Texts[EvaluationPart], training: Texts[TrainingPart], numbers: set[int]) -> set[int]:
    """Those of the texts `numbers` that are passages which a set has in two splits because its makers have declared so.

    A company's set often is one corpus, with some questions of each passage to train on and others to test on. Such a
    benchmark is known by its queries: the training set's own files hold them all, by language, id and text. Where the
    training split has them too, they are matches of their own.
    """
    found: set[int] = set()
    for queries, passages in zip(evaluation.parts[::2], evaluation.parts[1::2], strict=True):
        mine = {n: int(passages.rows[n - passages.start]) for n in numbers if 0 <= n - passages.start < len(passages)}
        for taught in training.parts:
            if mine and taught.side == "passages" and _is_split_of(queries, taught):
                rows = np.intersect1d(_rows(taught.pairs.passages, [passages.ids[row] for row in mine.values()]), taught.rows)
                trained = set(taught.pairs.passages.ids(rows))
                found |= {number for number, row in mine.items() if passages.ids[row] in trained}
    return found


def _is_split_of(queries: EvaluationPart, taught: TrainingPart) -> bool:
    """True where a set holds every query that a benchmark has in the set's languages, and there are some."""
    every = zip(map(queries.language_of, range(len(queries.ids))), queries.ids, queries.texts, strict=True)
    asked = {query for query in every if query[0] in taught.languages}
    table = taught.pairs.queries
    rows = _rows(table, [id_ for _, id_, _ in asked])
    languages = [taught.languages[language] for language in table.languages[rows].tolist()]
    return bool(asked) and asked <= set(zip(languages, table.ids(rows), table.texts(rows), strict=True))


def _rows(table: TextTable, ids: list[str]) -> Ints:
    """The rows of a set that have one of `ids`."""
    has_one: Ints = np.flatnonzero(pc.is_in(table.table.column("id"), value_set=pa.array(ids, pa.large_string())).to_numpy())
    return has_one
