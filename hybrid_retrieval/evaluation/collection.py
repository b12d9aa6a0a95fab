"""A multilingual test collection: queries, a pooled corpus, and judgements between their rows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from hybrid_retrieval.errors import InputError

SPACE = re.compile(r"\s")

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Side:
    """The queries, or the corpus, of all languages: languages one after another, in the collection's order.

    Attributes:
        texts, ids: one entry a row; ids are unique within a language.
        language: int64 [rows], index into the collection's languages, ascending.
    """

    texts: Sequence[str]
    ids: Sequence[str]
    language: Ints

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, language: int) -> slice:
        """The rows of a language."""
        first, last = np.searchsorted(self.language, [language, language + 1])
        return slice(int(first), int(last))


@dataclass(frozen=True)
class RetrievalCollection:
    """What a benchmark is scored on.

    Attributes:
        languages: sorted; of queries and corpus together.
        query: int64 [judgements], row of the query; ascending.
        document: int64 [judgements], row of a relevant document.
        grade: int64 [judgements], 1 or more.
    """

    name: str
    languages: tuple[str, ...]
    queries: Side
    corpus: Side
    query: Ints
    document: Ints
    grade: Ints

    @classmethod
    def build(
        cls,
        name: str,
        queries: Mapping[str, Sequence[tuple[str, str]]],
        corpus: Mapping[str, Sequence[tuple[str, str]]],
        judgements: Mapping[tuple[str, str], Sequence[tuple[str, str, int]]],
    ) -> RetrievalCollection:
        """From (id, text) of each language and, for each (query language, corpus language), (query id, document id, grade).

        A grade of 0 or less says "not relevant", which is what no judgement says too.

        Raises:
            InputError: an id occurs twice in a language, a document is judged twice for a query, or a judgement points
                nowhere.
        """
        languages = tuple(sorted({*queries, *corpus}))
        sides = [_side(languages, queries), _side(languages, corpus)]
        places = [_places(name, languages, side) for side in sides]
        try:
            rows = [
                (places[0][asked, query], places[1][answered, document], grade)
                for (asked, answered), judged in judgements.items()
                for query, document, grade in judged
                if grade > 0
            ]
        except KeyError as error:
            language, id_ = error.args[0]
            raise InputError(f"benchmark {name}: a judgement names {language}:{id_}, which is not there") from error
        query, document, grade = _columns(rows)
        twice = np.flatnonzero((np.diff(query) == 0) & (np.diff(document) == 0))
        if len(twice):
            raise InputError(f"benchmark {name}: document {sides[1].ids[document[twice[0]]]} is judged twice for a query")
        return cls(name, languages, sides[0], sides[1], query, document, grade)

    @property
    def settings(self) -> set[str]:
        """Which of the three settings have a judgement."""
        if not len(self.query):
            return set()
        same = self.queries.language[self.query] == self.corpus.language[self.document]
        found = {"multilingual"} | ({"monolingual"} if same.any() else set())
        return found | (set() if same.all() else {"crosslingual"})

    def tie_order(self) -> Ints:
        """int64 [documents]: of two documents with equal scores the one with the larger number comes first.

        trec_eval's rule: ids descending, ids being ``<language>:<id>`` over the pool.
        """
        names = self.full_ids(self.corpus)
        order = sorted(range(len(names)), key=names.__getitem__)
        place = np.empty(len(names), np.int64)
        place[order] = np.arange(len(names))
        return place

    def full_ids(self, side: Side) -> list[str]:
        """``<language>:<id>`` of every row, unique over the pool; space in an id is spelt as in a URL, for TREC's files."""
        return [
            f"{self.languages[language]}:{SPACE.sub(lambda space: quote(space[0]), id_)}"
            for language, id_ in zip(side.language.tolist(), side.ids, strict=True)
        ]


def _side(languages: Sequence[str], rows: Mapping[str, Sequence[tuple[str, str]]]) -> Side:
    ordered = [(index, *row) for index, language in enumerate(languages) for row in rows.get(language, ())]
    return Side(
        texts=[text for _, _, text in ordered],
        ids=[id_ for _, id_, _ in ordered],
        language=np.array([index for index, _, _ in ordered], dtype=np.int64),
    )


def _places(name: str, languages: Sequence[str], side: Side) -> dict[tuple[str, str], int]:
    """The row of each (language, id)."""
    places: dict[tuple[str, str], int] = {}
    for row, (language, id_) in enumerate(zip(side.language.tolist(), side.ids, strict=True)):
        if places.setdefault((languages[language], id_), row) != row:
            raise InputError(f"benchmark {name}: id {languages[language]}:{id_} occurs twice")
    return places


def _columns(rows: list[tuple[int, int, int]]) -> tuple[Ints, Ints, Ints]:
    table = np.array(rows or np.empty((0, 3)), dtype=np.int64)
    table = table[np.lexsort((table[:, 1], table[:, 0]))]
    return table[:, 0], table[:, 1], table[:, 2]
