"""Challenge sets: published rows of a source, a good and a damaged passage in one language, and what the damage is."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hybrid_retrieval.data.languages import known_language, spelt
from hybrid_retrieval.data.records import CONTROL, Record
from hybrid_retrieval.data.source import choose_languages
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.evaluation.benchmarks.published_files import PublishedBenchmark
from hybrid_retrieval.evaluation.collection import Contrasts, RetrievalCollection, Side


@dataclass(frozen=True)
class Challenge:
    """A row of a challenge set.

    Attributes:
        id: unique among those of the two languages.
        source_id: unique among sources of a language; sources that share it, of whichever language, are one cluster.
        place: file and line, for errors.
    """

    id: str
    source_id: str
    source_language: str
    source: str
    language: str
    good: str
    damaged: str
    phenomenon: str
    place: str


class ChallengeSet(PublishedBenchmark):
    """A benchmark of challenges alone: there is no pool to search."""

    def __init__(self, languages: list[str] | None) -> None:
        """
        Args:
            languages: of sources; all by default.
        """
        self.languages = languages

    @abstractmethod
    def read(self) -> Iterator[Challenge]:
        """All rows.

        Raises:
            InputError: a damaged file.
        """

    def load(self) -> RetrievalCollection:
        rows = [checked(one) for one in self.read()]
        asked = choose_languages(self.languages, [*{one.source_language for one in rows}], f"benchmark.{self.name}.languages")
        return challenge_collection(self.name, [one for one in rows if one.source_language in asked])


def checked(one: Challenge) -> Challenge:
    """The challenge again, if it is one."""
    for text, what in ((one.source, "source"), (one.good, "good passage"), (one.damaged, "damaged passage")):
        if not text.strip():
            raise InputError(f"{one.place}: the {what} is empty; expected a text")
    if one.good == one.damaged:
        raise InputError(f"{one.place}: the good and the damaged passage are equal ({one.good[:60]!r}); expected two texts")
    if not one.phenomenon.strip() or "/" in one.phenomenon or CONTROL.search(one.phenomenon):
        raise InputError(f"{one.place}: {one.phenomenon[:60]!r} is no phenomenon; expected a name on one line, without a slash")
    for language in (one.source_language, one.language):
        if not known_language(language):
            raise InputError(f"{one.place}: {language[:30]!r} is no language; expected a code, such as de")
    return one


def cells(record: Record, columns: Sequence[str]) -> list[str]:
    """The texts of a row in columns that all have to be there."""
    if missing := next((column for column in columns if column not in record.values), None):
        raise InputError(f"{record.place}: no column {missing!r}; expected {', '.join(columns)}")
    return [record.text(column) for column in columns]


def language_pair(name: str, place: str) -> tuple[str, str]:
    """The languages of a name such as ``en-de``."""
    parts = name.split("-")
    if len(parts) != 2:
        raise InputError(f"{place}: {name[:30]!r} is no pair of languages; expected two codes, such as en-de")
    return spelt(parts[0]), spelt(parts[1])


def challenge_collection(name: str, rows: Iterable[Challenge]) -> RetrievalCollection:
    """Each source once, and each passage of a language once, however many challenges have them."""
    rows = sorted(rows, key=lambda one: one.source_language)  # within a language as they were published
    texts: dict[str, dict[str, str]] = {}
    passages: dict[str, dict[str, str]] = {}
    for one in rows:
        if texts.setdefault(one.source_language, {}).setdefault(one.source_id, one.source) != one.source:
            raise InputError(f"{one.place}: source {one.source_id} has another text than before")
        known = passages.setdefault(one.language, {})
        for text, end in ((one.good, "good"), (one.damaged, "damaged")):
            known.setdefault(text, f"{one.id}#{end}")
    languages = tuple(sorted({*texts, *passages}))
    queries = Side.of(name, languages, {language: list(of.items()) for language, of in texts.items()})
    corpus = Side.of(
        name, languages, {language: [(id_, text) for text, id_ in of.items()] for language, of in passages.items()}
    )
    asks = {key: row for row, key in enumerate((one, id_) for one in languages for id_ in texts.get(one, ()))}
    answers = {key: row for row, key in enumerate((one, text) for one in languages for text in passages.get(one, ()))}
    rows.sort(key=lambda one: asks[one.source_language, one.source_id])
    query = np.array([asks[one.source_language, one.source_id] for one in rows], np.int64)
    better = np.array([answers[one.language, one.good] for one in rows], np.int64)
    worse = np.array([answers[one.language, one.damaged] for one in rows], np.int64)
    contrasts = Contrasts([one.id for one in rows], query, better, worse, [one.phenomenon for one in rows])
    known_query, known_document = np.unique(np.stack([query, better]), axis=1)  # for whoever looks for leaks
    judgements = known_query, known_document, np.ones_like(known_query)
    return RetrievalCollection(name, languages, queries, corpus, *judgements, measures=(), asked=(), contrasts=contrasts)


def local_files(folder: Path | None, endings: tuple[str, ...]) -> list[str]:
    """The names, below a folder, of the user's copies."""
    if folder is None or not folder.is_dir():
        return []
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.name.endswith(endings))
