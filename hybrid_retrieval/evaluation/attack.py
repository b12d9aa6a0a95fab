"""An adversary that knows a retriever's scores: changes of a query's words that push its best relevant passage down most.

What it minimises is the margin, the score of the best relevant passage less that of the best other one: its sign says whether a
relevant passage is first. The relevant passage's score alone falls with that of all others, and nothing changes places.

The search is greedy, a word after another: of all candidates that are left the one with the least margin is made, if that is
less than before, so that a larger budget of words never helps a query. Candidates are edits of perturbations, each within one
word; no word is changed twice, and function words, numbers and whatever holds a digit stay as they are. Letters are wrong in
words of `SHORTEST` or more alone: a shorter one often becomes another word. Where no spaces part words, an edit is a word. Of
more candidates than may be scored those of the least margins go first, then those that were not scored yet, in an order that
(seed, query id, language) draw.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from random import Random
from typing import NamedTuple

import numpy as np
import torch

from hybrid_retrieval.data.languages import primary
from hybrid_retrieval.evaluation.collection import Ints, RetrievalCollection, Side, View
from hybrid_retrieval.evaluation.degradation import Degradation
from hybrid_retrieval.evaluation.language_pairs import LanguagePair, language_pairs
from hybrid_retrieval.evaluation.measures import SETTINGS, Floats
from hybrid_retrieval.evaluation.perturbations.perturbation import WORD, Perturbation, alone, unspaced
from hybrid_retrieval.evaluation.perturbations.suite import PERTURBATIONS
from hybrid_retrieval.evaluation.perturbations.tables import table
from hybrid_retrieval.evaluation.protocol import Wanted, ranked
from hybrid_retrieval.evaluation.retrievers.retriever import AskedAgain, Index
from hybrid_retrieval.evaluation.robustness import asking, paired
from hybrid_retrieval.evaluation.scoring.ranks import BLOCK_SCORES, on
from hybrid_retrieval.evaluation.synonyms import Synonyms
from hybrid_retrieval.hashing import text_hash
from hybrid_retrieval.models.encoder import Encoder
from hybrid_retrieval.progress import track
from hybrid_retrieval.ragged import spans

BETWEEN_WORDS = ("word_order", "function_words", "punctuation", "digits", "spaces")
"""Perturbations that leave the letters of words alone."""
CANDIDATES: dict[str, type[Perturbation]] = {Synonyms.name: Synonyms} | {
    name: one for name, one in PERTURBATIONS.items() if name not in BETWEEN_WORDS
}
"""What may change a word, by name."""
SHORTEST = 4
"""Characters of a word in which one may be wrong."""
SUCCESS = "attack_success"
"""Of queries that had a relevant passage first: the share of those that have none there any more."""
FIRST = "precision@1"
MEASURES = ("map", FIRST)
Margins = Callable[[View, Sequence[int], Sequence[str]], list[float]]
"""Of queries of a view in other words: rows, and a text of each."""
AT_ONCE = 4096
"""Variants that are encoded together."""


class Change(NamedTuple):
    """Characters start .. stop - 1 of a query in NFC become others, by a perturbation; a whole word where spaces part words."""

    start: int
    stop: int
    new: str
    kind: str


@dataclass(frozen=True)
class Attack:
    """What an adversary may do.

    Attributes:
        candidates: what changes a word.
        words: the most that are changed of a query.
        variants: of a query, the most that the attacked retriever scores, spread evenly over the words.
        judge: another encoder, to which a query and its variant are alike: their cosine is `similarity` or more.
    """

    candidates: Sequence[Perturbation]
    words: int = 3
    variants: int = 120
    seed: int = 0
    judge: Encoder | None = None
    similarity: float = 0.0

    def changes(self, text: str, language: str, query_id: str) -> list[Change]:
        """Every change of one word, in the order in which they are tried."""
        text = unicodedata.normalize("NFC", text)
        kept = {*table("function_words").get(primary(language), ())}
        words = [found.span() for found in WORD.finditer(text)]
        found: dict[tuple[int, int, str], Change] = {}
        for one in self.candidates:
            free = [(first, last) for first, last in words if last - first >= SHORTEST or one.by_words(language)]
            for start, stop, new in alone(one, text, language, self.seed, query_id):
                if not unspaced(language):
                    first, last = next(((a, b) for a, b in free if a <= start and stop <= b), (start, start))
                    start, stop, new = first, last, text[first:start] + new + text[stop:last]
                old = text[start:stop]
                touched = any(map(str.isalpha, old)) and not any(map(str.isdigit, old)) and old.lower() not in kept
                if touched and new.strip() and new != old:
                    found.setdefault((start, stop, new), Change(start, stop, new, one.name))
        draw = Random(hashlib.sha256(f"{self.seed}\0attack\0{language}\0{query_id}".encode()).digest())  # noqa: S311
        return sorted(found.values(), key=lambda _: draw.random())


@dataclass
class Attacked:
    """A query under attack.

    Attributes:
        row: of the collection.
        texts, margins, made: by the words that may be changed, from 0 on.
        scored: variants that the retriever scored.
        left: changes to try, in their order.
    """

    row: int
    view: View
    texts: list[str]
    left: list[Change]
    margins: list[float] = field(default_factory=list)
    made: list[tuple[Change, ...]] = field(default_factory=lambda: [()])
    scored: int = 0

    def proposals(self, most: int) -> list[Change]:
        """The first changes of words that are as they were."""
        made = self.made[-1]
        return [one for one in self.left if all(one.stop <= of.start or of.stop <= one.start for of in made)][:most]

    def with_change(self, change: Change) -> str:
        """The text so far with one change more."""
        return applied(self.texts[0], (*self.made[-1], change))

    def step(self, tried: Sequence[Change], margins: Sequence[float], passed: Sequence[Change]) -> None:
        """A word more: make the best of the changes that `passed` the judge and have `margins`, if it lowers the margin."""
        self.scored += len(passed)
        best = min(range(len(passed)), key=lambda at: margins[at], default=None)
        now, made, text = self.margins[-1], self.made[-1], self.texts[-1]
        rest = [one for one in self.left if one not in {*tried}]
        if best is not None and margins[best] < now:
            text, now, made = self.with_change(passed[best]), margins[best], (*made, passed[best])
            order = sorted(range(len(passed)), key=lambda at: margins[at])
            rest = [passed[at] for at in order if at != best] + rest
        self.left = rest
        self.texts.append(text)
        self.margins.append(now)
        self.made.append(made)


def applied(text: str, changes: Sequence[Change]) -> str:
    """A text with changes of different words."""
    if not changes:
        return text
    text = unicodedata.normalize("NFC", text)
    for one in sorted(changes, reverse=True):
        text = text[: one.start] + one.new + text[one.stop :]
    return text


def sampled(collection: RetrievalCollection, languages: Sequence[str], most: int | None, seed: int) -> RetrievalCollection:
    """The judged queries of some languages, up to `most` of each: those of the same ids in all."""
    rows: list[int] = []
    judged = np.unique(collection.query)
    for index, language in enumerate(collection.languages):
        mine = judged[collection.queries.language[judged] == index].tolist() if language in languages else []
        drawn = sorted(mine, key=lambda row: (text_hash(f"{seed}\t{collection.queries.ids[row]}"), row))[:most]
        rows += sorted(drawn)
    texts = [collection.queries.texts[row] for row in rows]
    return replace(asking(collection, np.array(rows, np.int64), texts), measures=MEASURES)


def known(candidates: Sequence[Perturbation], collection: RetrievalCollection) -> dict[str, list[str]]:
    """By each language that asks, the candidates that know it."""
    asked = [collection.languages[at] for at in np.unique(collection.queries.language[collection.query]).tolist()]
    return {language: [one.name for one in candidates if one.knows(language)] for language in asked}


def settings(
    collection: RetrievalCollection, names: Sequence[str], corpus_language: str
) -> Iterator[tuple[str, RetrievalCollection]]:
    """Of each setting that there is, the collection asked in it alone; across languages, of `corpus_language`."""
    for name in SETTINGS:
        if name in names and name == "multilingual" and collection.asked is None:
            yield name, collection
        elif name in names and name != "multilingual":
            views = [view for view in collection.views if view.setting == name and len(collection.judged(view))]
            asked = [
                (view.queries, view.documents)
                for view in views
                if name == "monolingual" or view.corpus_language == corpus_language
            ]
            if asked:
                yield name, replace(collection, asked=tuple(asked))


def by_scores(retriever: AskedAgain, index: Index, collection: RetrievalCollection) -> Margins:
    """What leads an attack on a retriever, whose index is of the same corpus."""
    return partial(margins, retriever, index, collection)


def at_random() -> Margins:
    """What leads an attack without scores, for comparison: always lower, so that what is drawn first is made."""
    calls = count()

    def lower(_view: View, _rows: Sequence[int], texts: Sequence[str]) -> list[float]:
        return [-float(next(calls))] * len(texts)

    return lower


def attack(led_by: Margins, collection: RetrievalCollection, setting: str, how: Attack, label: str = "") -> list[Attacked]:
    """The queries of a collection of `settings`, attacked; with a `label`, progress is shown."""
    size = max(1, AT_ONCE // -(-how.variants // how.words))
    work = []
    for view in (view for view in collection.views if view.setting == setting):
        rows = np.unique(collection.query[collection.judged(view)]).tolist()
        work += [(view, rows[at : at + size]) for at in range(0, len(rows), size)]
    found: list[Attacked] = []
    for view, rows in track(work, f"{label}: attack, {setting}", len(work), show=bool(label)):
        found += _attacked(led_by, collection, view, rows, how)
    return found


def _attacked(led_by: Margins, collection: RetrievalCollection, view: View, rows: Sequence[int], how: Attack) -> list[Attacked]:
    """A block of queries."""
    texts, ids = ([of[row] for row in rows] for of in (collection.queries.texts, collection.queries.ids))
    changes = (how.changes(text, view.query_language, id_) for text, id_ in zip(texts, ids, strict=True))
    queries = [Attacked(row, view, [text], left) for row, text, left in zip(rows, texts, changes, strict=True)]
    for query, margin in zip(queries, led_by(view, rows, texts), strict=True):
        query.margins.append(margin)
    alike = None if how.judge is None else _Alike(how.judge, texts, how.similarity)
    for word in range(how.words):
        tried = [query.proposals(-(-(how.variants - query.scored) // (how.words - word))) for query in queries]
        every = [(at, one, queries[at].with_change(one)) for at, of in enumerate(tried) for one in of]
        if alike is not None and every:
            passed = alike([at for at, _, _ in every], [text for _, _, text in every])
            every = [one for one, good in zip(every, passed, strict=True) if good]
        asked = [rows[at] for at, _, _ in every]
        scores = led_by(view, asked, [text for _, _, text in every])
        ends = np.searchsorted([at for at, _, _ in every], np.arange(len(queries) + 1)).tolist()
        for query, of, first, last in zip(queries, tried, ends[:-1], ends[1:], strict=True):
            query.step(of, scores[first:last], [one for _, one, _ in every[first:last]])
    return queries


class _Alike:
    """Whether another encoder finds variants like the queries that they come from."""

    def __init__(self, judge: Encoder, texts: Sequence[str], least: float) -> None:
        self.judge, self.least = judge, least
        self.clean = self._embedded(texts)

    def __call__(self, of: Sequence[int], variants: Sequence[str]) -> list[bool]:
        cosines = np.einsum("ij,ij->i", self.clean[list(of)], self._embedded(variants))
        passed: list[bool] = (cosines >= self.least).tolist()
        return passed

    def _embedded(self, texts: Sequence[str]) -> Floats:
        rows = np.asarray(self.judge.encode(texts, "query"), np.float64)
        unit: Floats = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
        return unit


def margins(
    retriever: AskedAgain, index: Index, collection: RetrievalCollection, view: View, rows: Sequence[int], texts: Sequence[str]
) -> list[float]:
    """Of queries in other words, encoded in one call: the score of the best relevant document less that of the best other.

    Args:
        rows: of the query that each text stands for.
    """
    if not texts:
        return []
    language = np.full(len(texts), collection.languages.index(view.query_language), np.int64)
    side = Side(texts, [""] * len(texts), language, collection.queries.prompt)
    asked = retriever.asking(index, replace(collection, queries=side))
    scorer = asked.pool if view.corpus_language is None or asked.language is None else asked.language
    block = scorer.against(view.documents)
    height = max(1, BLOCK_SCORES // max(1, view.documents.stop - view.documents.start))
    part = collection.judged(view)
    inside = (collection.excluded[:, 1] >= view.documents.start) & (collection.excluded[:, 1] < view.documents.stop)
    pairs = [(collection.query[part], collection.document[part]), (*collection.excluded[inside].T,)]
    found: list[float] = []
    for start in range(0, len(texts), height):
        mine = np.array(rows[start : start + height], np.int64)
        scores = block(start, start + len(mine))
        (owner, relevant), (of, hidden) = (
            [on(scores, numbers) for numbers in _beside(mine, query, document - view.documents.start)]
            for query, document in pairs
        )
        scores[of, hidden] = -torch.inf
        least = scores.new_full((len(mine),), -torch.inf)
        right = least.scatter_reduce(0, owner, scores[owner, relevant], "amax")
        scores[owner, relevant] = -torch.inf
        margin = torch.where(torch.isneginf(right), least, right - scores.max(1).values)
        found += margin.tolist()
    return found


def _beside(rows: Ints, query: Ints, document: Ints) -> tuple[Ints, Ints]:
    """(place in rows, document) of all pairs, which ascend by query, of the queries in `rows`."""
    first, last = (np.searchsorted(query, rows, side=side) for side in ("left", "right"))
    return np.repeat(np.arange(len(rows)), last - first), document[spans(first, last - first)]


def answered(
    retriever: AskedAgain, index: Index, collection: RetrievalCollection, setting: str, texts: Mapping[int, str]
) -> list[LanguagePair]:
    """The values of a setting's queries, some of which are asked in other words, by row."""
    every = [texts.get(row, text) for row, text in enumerate(collection.queries.texts)]
    asked = asking(collection, np.arange(len(every)), every)
    ranks = ranked(asked, retriever.asking(index, asked))[1]
    return [pair for pair in language_pairs(asked, ranks) if pair.setting == setting]


def lost(
    collection: RetrievalCollection,
    attacker: str,
    words: int,
    clean: Sequence[LanguagePair],
    after: Sequence[LanguagePair],
    changed: set[int],
    wanted: Wanted,
) -> list[Degradation]:
    """mAP, and the attack's success, after an attack against before, with paired intervals."""
    both = [(_first(before, before), _first(before, now)) for before, now in zip(clean, after, strict=True)]
    return list(paired(collection, attacker, float(words), both, changed, wanted))


def _first(clean: LanguagePair, now: LanguagePair) -> LanguagePair:
    """mAP, and whether what was first is no longer so."""
    success = np.where(clean.values[FIRST] == 1, 1 - now.values[FIRST], np.nan)
    return replace(now, values={"map": now.values["map"], SUCCESS: success})
