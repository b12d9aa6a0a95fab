"""A multilingual test collection: queries, a pooled corpus, and judgements between their rows."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from hybrid_retrieval.data.source import components
from hybrid_retrieval.data.stored_texts import Passages, Rows, as_column, by_language, fingerprint, prompted
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.evaluation.measures import check_measures
from hybrid_retrieval.ragged import spans

SPACE = re.compile(r"\s")
SPELT = "|".join(quote(chr(code))[1:] for code in range(0x3001) if SPACE.match(chr(code)))
ESCAPED = re.compile(rf"\s|%(?=25|{SPELT})")
"""Characters of ids that TREC files spell as in a URL: space, and a percent sign that would begin such a spelling."""
ANY_ESCAPED = r"[%\s\p{Z}\x{0b}\x{85}\x{1c}-\x{1f}]"
"""The same for Arrow, whose class of space is ASCII's; it also finds some ids that need no spelling."""

Ints = npt.NDArray[np.int64]

DEFAULT_MEASURES = ("map", "mrr", "recall@1", "recall@10", "recall@100", "ndcg@10")
"""Reported where a benchmark names no measures of its own."""


@dataclass(frozen=True)
class Side:
    """The queries, or the corpus, of all languages: languages one after another, in the collection's order.

    Attributes:
        texts, ids: one entry a row; ids are unique within a language.
        language: int64 [rows], index into the collection's languages, ascending.
        prompt: what an encoder is given before each text, after its own prefix.
    """

    texts: Sequence[str]
    ids: Sequence[str]
    language: Ints
    prompt: str = ""

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def of(cls, name: str, languages: Sequence[str], rows: Mapping[str, Rows]) -> Side:
        """The rows of `languages`, one after another.

        Raises:
            InputError: an id occurs twice in a language (of a stored corpus that is seen when it is written).
        """
        for language, part in rows.items():
            if not isinstance(part, Passages):
                twice = next((id_ for id_, count in Counter(id_ for id_, _ in part).items() if count > 1), None)
                if twice is not None:
                    raise InputError(f"benchmark {name}: id {language}:{twice} occurs twice")
        passages, language_of = by_language(languages, rows)
        return cls(passages.texts, passages.ids, language_of)

    def given(self, rows: slice = slice(None)) -> Sequence[str]:
        """The texts as an encoder is given them."""
        return prompted(self.texts[rows], self.prompt)

    def rows(self, language: int) -> slice:
        """The rows of a language."""
        first, last = np.searchsorted(self.language, [language, language + 1])
        return slice(int(first), int(last))


@dataclass(frozen=True)
class Languages:
    """The languages of queries and of what they are asked of.

    Attributes:
        corpus_language: None for the pool of all.
    """

    query_language: str
    corpus_language: str | None

    @property
    def setting(self) -> str:
        """The setting that they belong to."""
        if self.corpus_language is None:
            return "multilingual"
        return "monolingual" if self.query_language == self.corpus_language else "crosslingual"

    @property
    def name(self) -> str:
        """The language, or ``query-corpus`` across languages."""
        return f"{self.query_language}-{self.corpus_language}" if self.setting == "crosslingual" else self.query_language


@dataclass(frozen=True)
class View(Languages):
    """Rows of queries and the rows of documents that they are asked of."""

    queries: slice
    documents: slice


@dataclass(frozen=True)
class Contrasts:
    """Two passages each, of which a query has to prefer the better one.

    Attributes:
        ids: unique.
        query: int64 [contrasts], rows; ascending.
        better, worse: int64 [contrasts], rows of documents.
        phenomenon: what is wrong with the worse one.
    """

    ids: Sequence[str]
    query: Ints
    better: Ints
    worse: Ints
    phenomenon: Sequence[str]

    def renumbered(self, query: Ints, document: Ints) -> Contrasts:
        """Those whose rows all have a new number, of 0 or more."""
        rows = np.stack([query[self.query], document[self.better], document[self.worse]])
        kept = np.flatnonzero((rows >= 0).all(0))
        ids, phenomenon = ([column[row] for row in kept.tolist()] for column in (self.ids, self.phenomenon))
        return Contrasts(ids, rows[0, kept], rows[1, kept], rows[2, kept], phenomenon)


@dataclass(frozen=True)
class RetrievalCollection:
    """Queries, a corpus and judgements: the data that a benchmark is scored on.

    Attributes:
        languages: sorted; of queries and corpus together.
        query: int64 [judgements], row of the query; ascending.
        document: int64 [judgements], row of a relevant document.
        grade: int64 [judgements], 1 or more.
        measures: of ranks, by name (`hybrid_retrieval.evaluation.measures.measure`), of every setting.
        excluded: int64 [pairs, 2], (query row, document row), sorted: documents that a query must not find, such as itself.
        labels: int64 [queries] and int64 [documents], where judgements say that a query and a document have the same label.
        cluster: of each query, what makes its figures depend on those of others (its paragraph, page or article), whatever its
            language; by default its id, which its translations share.
        asked: (rows of queries, rows of documents), of a language each: where it is given, these queries are asked of these
            documents, and nothing else is asked: there is no pool. No judgement lies in two of them.
        contrasts: where they are given, they are all that is measured: nothing is `asked`.
    """

    name: str
    languages: tuple[str, ...]
    queries: Side
    corpus: Side
    query: Ints
    document: Ints
    grade: Ints
    measures: tuple[str, ...] = DEFAULT_MEASURES
    excluded: Ints = field(default_factory=lambda: np.empty((0, 2), np.int64))
    labels: tuple[Ints, Ints] | None = None
    cluster: Sequence[str] | None = None
    asked: tuple[tuple[slice, slice], ...] | None = None
    contrasts: Contrasts | None = None

    def __post_init__(self) -> None:
        check_measures(self.measures, f"benchmark {self.name}")

    @classmethod
    def build(
        cls,
        name: str,
        queries: Mapping[str, Rows],
        corpus: Mapping[str, Rows],
        judgements: Mapping[tuple[str, str], Sequence[tuple[str, str, int]]],
        measures: tuple[str, ...] = DEFAULT_MEASURES,
    ) -> RetrievalCollection:
        """From the rows of each language and, for each (query language, corpus language), (query id, document id, grade).

        A grade of 0 or less says "not relevant", which is what no judgement says too.

        Raises:
            InputError: an id occurs twice in a language, a document is judged twice for a query, or a judgement points
                nowhere.
        """
        languages = tuple(sorted({*queries, *corpus}))
        sides = Side.of(name, languages, queries), Side.of(name, languages, corpus)
        judged = {pair: [row for row in rows if row[2] > 0] for pair, rows in judgements.items()}
        asked = [(asked, [query for query, _, _ in rows]) for (asked, _), rows in judged.items()]
        answered = [(answered, [document for _, document, _ in rows]) for (_, answered), rows in judged.items()]
        found = [
            _find(name, languages, side, wanted, "a judgement") for side, wanted in zip(sides, (asked, answered), strict=True)
        ]
        grade = np.array([grade for rows in judged.values() for _, _, grade in rows], np.int64)
        return cls(name, languages, *sides, *_in_order(name, sides[1], found[0], found[1], grade), measures)

    @classmethod
    def parallel(
        cls,
        name: str,
        queries: Mapping[str, Rows],
        corpus: Mapping[str, Rows],
        answers: Mapping[str, Sequence[tuple[str, str, int]]],
        measures: tuple[str, ...] = DEFAULT_MEASURES,
    ) -> RetrievalCollection:
        """From the rows of each language and, for each corpus language, (query id, document id, grade).

        The same query id in two languages is a translation: a document that answers one of them answers the others. An
        answer to a query that no language has is left out.

        Raises:
            InputError: as of `build`.
        """
        languages = tuple(sorted({*queries, *corpus}))
        sides = Side.of(name, languages, queries), Side.of(name, languages, corpus)
        judged = {language: [row for row in rows if row[2] > 0] for language, rows in answers.items()}
        wanted = [(language, [document for _, document, _ in rows]) for language, rows in judged.items()]
        document = _find(name, languages, sides[1], wanted, "an answer")
        grade = np.array([grade for rows in judged.values() for _, _, grade in rows], np.int64)
        keys = pa.array([query for rows in judged.values() for query, _, _ in rows], pa.string())
        names = pc.unique(keys)
        query, place = join(_place(as_column(sides[0].ids), names), _place(pa.chunked_array([keys]), names))
        return cls(name, languages, *sides, *_in_order(name, sides[1], query, document[place], grade[place]), measures)

    @classmethod
    def translations(
        cls,
        name: str,
        languages: Sequence[str],
        side: Side,
        asked: Sequence[tuple[slice, slice]],
        cluster: Sequence[str] | None = None,
    ) -> RetrievalCollection:
        """Texts that find their translations: each row of the queries `asked` the row in its place of their documents.

        ``recall@1`` is the accuracy of the literature.
        """
        query, document = (
            np.concatenate([np.arange(rows.start, rows.stop) for rows in part]) for part in zip(*asked, strict=True)
        )
        judgements = _in_order(name, side, query, document, np.ones_like(query))
        return cls(name, tuple(languages), side, side, *judgements, ("recall@1",), cluster=cluster, asked=tuple(asked))

    @property
    def fingerprint(self) -> str:
        """A checksum of all that figures depend on."""
        sides = [part for side in (self.queries, self.corpus) for part in (side.ids, side.texts, side.language)]
        only: list[Any] = (
            [np.array([(rows.start, rows.stop) for pair in self.asked for rows in pair])] if self.asked is not None else []
        )
        if self.contrasts is not None:
            only += [getattr(self.contrasts, one.name) for one in fields(self.contrasts)]
        return fingerprint(self.languages, *sides, self.query, self.document, self.grade, self.excluded, self.clusters, *only)

    @property
    def clusters(self) -> Sequence[str]:
        """The cluster of each query."""
        return self.queries.ids if self.cluster is None else self.cluster

    def clustered(self, groups: Iterable[Iterable[str]]) -> RetrievalCollection:
        """The same with a cluster for each of `groups`, of query ids; those that share an id are one cluster.

        A cluster is called after the first of its queries in the collection.
        """
        number = {id_: at for at, id_ in enumerate(dict.fromkeys(self.queries.ids))}
        every = [[number[id_] for id_ in group if id_ in number] for group in groups]
        links = [(group[0], other) for group in every for other in group[1:]]
        label = components(links, len(number)).tolist()
        first: dict[int, str] = {}
        named = {id_: first.setdefault(label[at], id_) for id_, at in number.items()}
        return replace(self, cluster=[named[id_] for id_ in self.queries.ids])

    def clustered_before(self, mark: str) -> RetrievalCollection:
        """The same with queries in one cluster whose ids are alike up to the last `mark`, as of headings of a page."""
        groups: dict[str, list[str]] = {}
        for id_ in dict.fromkeys(self.queries.ids):
            groups.setdefault(id_.rpartition(mark)[0] or id_, []).append(id_)
        return self.clustered(groups.values())

    @property
    def settings(self) -> set[str]:
        """The settings, of three, that have a judgement."""
        if not len(self.query):
            return set()
        same = self.queries.language[self.query] == self.corpus.language[self.document]
        found = ({"multilingual"} if self.asked is None else set()) | ({"monolingual"} if same.any() else set())
        return found | (set() if same.all() else {"crosslingual"})

    @cached_property
    def views(self) -> list[View]:
        """What is `asked`; else every language that has queries against every language that has documents, and the pool."""
        if self.asked is not None:
            return [
                View(
                    self.languages[self.queries.language[rows.start]],
                    self.languages[self.corpus.language[among.start]],
                    rows,
                    among,
                )
                for rows, among in self.asked
            ]
        queries, documents = (
            {self.languages[index]: side.rows(index) for index in np.unique(side.language).tolist()}
            for side in (self.queries, self.corpus)
        )
        against: dict[str | None, slice] = {**documents, None: slice(0, len(self.corpus))}
        return [View(asked, of, rows, among) for asked, rows in queries.items() for of, among in against.items()]

    def judged(self, view: View) -> Ints:
        """int64: the numbers of a view's judgements."""
        first, last = np.searchsorted(self.query, [view.queries.start, view.queries.stop])
        return self.among(np.arange(first, last, dtype=np.int64), view.documents)

    def among(self, judgements: Ints, documents: slice) -> Ints:
        """Those of some judgements that are of these documents."""
        document = self.document[judgements]
        found: Ints = judgements[(document >= documents.start) & (document < documents.stop)]
        return found

    @cached_property
    def tie_order(self) -> Ints:
        """int64 [documents]: of two documents with equal scores the one with the larger number comes first.

        trec_eval's rule: ids descending, ids being ``<language>:<id>`` over the pool.
        """
        place = np.empty(len(self.corpus), np.int64)
        before = 0
        # No language's name and colon begin another's, so that languages may be sorted first.
        for language in sorted(range(len(self.languages)), key=lambda index: f"{self.languages[index]}:"):
            rows = self.corpus.rows(language)
            ids = as_column(self.corpus.ids[rows])
            if len(ids) and pc.any(pc.match_substring_regex(ids, ANY_ESCAPED)).as_py():
                ids = pa.chunked_array([pa.array([without_space(id_) for id_ in ids.to_pylist()], pa.large_string())])
            order = pc.sort_indices(ids).to_numpy()
            place[rows.start + order] = np.arange(before, before + len(order))
            before += len(order)
        return place

    def full_ids(self, side: Side, rows: Sequence[int] | Ints | None = None) -> list[str]:
        """``<language>:<id>`` of `rows` (all by default), unique over the pool; space is spelt as in a URL, for TREC."""
        chosen = range(len(side)) if rows is None else rows
        return [f"{self.languages[side.language[row]]}:{without_space(side.ids[int(row)])}" for row in chosen]


def without_space(id_: str) -> str:
    """Space as in a URL; so is a percent sign that would be read as the start of one, so that no two ids become one."""
    return ESCAPED.sub(lambda found: quote(found[0]), id_)


def join(left: Ints, right: Ints) -> tuple[Ints, Ints]:
    """All pairs of places at which two arrays have the same number of 0 or more; by the place on the left."""
    order = np.argsort(right, kind="stable")
    first, last = (np.searchsorted(right[order], left, side=side) for side in ("left", "right"))
    counts = np.where(left >= 0, last - first, 0)
    return np.repeat(np.arange(len(left)), counts), order[spans(first, counts)]


def _place(column: pa.ChunkedArray, values: pa.Array) -> Ints:
    """The place in `values` of each string of a column, or -1."""
    found: Ints = pc.fill_null(pc.index_in(column, value_set=values), -1).to_numpy().astype(np.int64)
    return found


def _find(name: str, languages: Sequence[str], side: Side, wanted: Sequence[tuple[str, Sequence[str]]], what: str) -> Ints:
    """int64 [ids]: the rows of the ids that are `wanted` of a language, in their order. Only these ids are held in memory."""
    found = [np.empty(len(ids), np.int64) for _, ids in wanted]
    for language in dict.fromkeys(language for language, _ in wanted):
        parts = [number for number, (other, _) in enumerate(wanted) if other == language]
        ids = pa.chunked_array([pa.array(wanted[number][1], pa.string()) for number in parts], pa.string())
        values = pc.unique(ids)
        rows = side.rows(languages.index(language)) if language in languages else slice(0, 0)
        place = _place(as_column(side.ids[rows]), values)
        row_of = np.full(len(values), -1, np.int64)
        row_of[place[place >= 0]] = rows.start + np.flatnonzero(place >= 0)
        if (row_of < 0).any():
            missing = values[int(np.argmin(row_of))].as_py()
            raise InputError(f"benchmark {name}: {what} names {language}:{missing}, which is not there")
        every = row_of[_place(ids, values)]
        for number, part in zip(parts, np.split(every, np.cumsum([len(wanted[number][1]) for number in parts])), strict=False):
            found[number] = part
    return np.concatenate([np.empty(0, np.int64), *found])


def _in_order(name: str, corpus: Side, query: Ints, document: Ints, grade: Ints) -> tuple[Ints, Ints, Ints]:
    """Judgements by query and document; an InputError where one occurs twice."""
    order = np.lexsort((document, query))
    query, document, grade = query[order], document[order], grade[order]
    twice = np.flatnonzero((np.diff(query) == 0) & (np.diff(document) == 0))
    if len(twice):
        raise InputError(f"benchmark {name}: document {corpus.ids[int(document[twice[0]])]} is judged twice for a query")
    return query, document, grade
