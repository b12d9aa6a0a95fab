"""Benchmarks whose queries are judged in their own language, against corpora that are larger than memory."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from hybrid_retrieval.cache import Cache, file_state
from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.data.beir_folder import BeirFolder
from hybrid_retrieval.data.records import read_rows
from hybrid_retrieval.data.source import choose_languages
from hybrid_retrieval.data.stored_texts import Passages, write_passages
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.evaluation.benchmarks.benchmark import Benchmark, Judgements, Topics
from hybrid_retrieval.evaluation.benchmarks.published_files import PublishedFiles, expect_count
from hybrid_retrieval.evaluation.collection import RetrievalCollection
from hybrid_retrieval.progress import track

log = logging.getLogger(__name__)

VERSION = 1
COUNTS = "counts.json"


class StoredCorpus(Benchmark):
    """A query of a language and the passages of that language.

    A subclass says in its constructor where the `topics` and the `corpora` are; a key of either is a language, or begins with a
    language and a slash.
    """

    name: ClassVar[str]
    measures: ClassVar[tuple[str, ...]]
    published: Mapping[str, tuple[int | None, int | None]]
    """Queries and passages by language."""
    topics: PublishedFiles
    corpora: PublishedFiles
    translations: BeirFolder | None = None
    """Queries in other languages, under the ids of those that they translate: asked of these queries' passages."""

    def __init__(self, paths: PathsConfig, languages: list[str] | None = None) -> None:
        """
        Args:
            languages: all by default.
        """
        self.cache_path = paths.cache
        self.languages = choose_languages(languages, list(self.published), f"benchmark.{self.name}.languages")

    def read_topics(self, language: str) -> tuple[Topics, Judgements]:
        """Queries (id, text), and (query id, passage id, grade)."""
        return read_topics(self.topics.path(language))

    def at_hand(self) -> bool:
        return self.topics.at_hand() and self.corpora.at_hand()

    def provenance(self) -> dict[str, Any]:
        return {"topics": self.topics.provenance(), "corpora": self.corpora.provenance()}

    def load(self) -> RetrievalCollection:
        queries: dict[str, Topics] = {}
        judgements: dict[tuple[str, str], Judgements] = {}
        for language in self.languages:
            queries[language], judgements[language, language] = self.read_topics(language)
            where, published = f"benchmark {self.name}: {language}", self.published[language][0]
            expect_count(where, "queries", len(queries[language]), published)
        if self.translations is not None:
            self._add_translations(self.translations, queries, judgements)
        # The topics are read first: what is wrong with them shows before hours of download.
        corpus = {language: self._passages(language) for language in self.languages}
        return RetrievalCollection.build(self.name, queries, corpus, judgements, self.measures)

    def _add_translations(
        self, folder: BeirFolder, queries: dict[str, Topics], judgements: dict[tuple[str, str], Judgements]
    ) -> None:
        language_of: dict[str, str] = {}
        for language, rows in queries.items():
            for id_, _ in rows:
                if (other := language_of.setdefault(id_, language)) != language:
                    raise InputError(
                        f"benchmark {self.name}: {id_!r} is a query of {other} and of {language}: no id for translations"
                    )
        answers: dict[str, Judgements] = {}
        for judged in list(judgements.values()):
            for row in judged:
                answers.setdefault(row[0], []).append(row)
        counts = {}
        for language in [one for one in folder.languages() if one in self.languages]:
            found = [(id_, text) for id_, text in folder.records(language, "queries") if language_of.get(id_) != language]
            for id_, _ in found:
                if id_ not in language_of:
                    raise InputError(f"{folder.file(language, 'queries')}: {id_!r} is no query of benchmark {self.name}")
                judgements.setdefault((language, language_of[id_]), []).extend(answers.get(id_, ()))
            queries[language] = [*queries[language], *found]
            counts[language] = len(found)
        log.info(
            "%s: translated queries: %s", self.name, ", ".join(f"{language} {count:,}" for language, count in counts.items())
        )

    def _passages(self, language: str) -> Passages:
        files = [self.corpora.path(key) for key in self.corpora.files if key.partition("/")[0] == language]
        label = f"{self.name} {language}: storing passages"
        return store_passages(Cache.at(self.cache_path), files, label, self.published[language][1])


def store_passages(cache: Cache, files: Sequence[Path], label: str, expected: int | None = None) -> Passages:
    """The passages of `files` in the cache, streamed there on first use.

    Args:
        label: of the progress bar and in the log.
        expected: how many there should be, where that is known.

    Raises:
        InputError: a damaged line, an id that occurs twice, or another number of passages.
    """
    source = str(files[0]) if len(files) == 1 else f"{files[0]} .. {files[-1].name}"

    def make(directory: Path) -> None:
        empty = 0

        def rows() -> Iterator[tuple[str, str]]:
            nonlocal empty
            for file in files:
                for id_, text in read_passages(file):
                    empty += not text
                    yield id_, text

        count = write_passages(directory, track(rows(), label, expected), source)
        expect_count(source, "passages", count, expected)
        (directory / COUNTS).write_text(json.dumps({"passages": count, "empty": empty}))

    key = {"version": VERSION, "expected": expected, "files": [file_state(file) for file in files]}
    directory = cache.build("passages", key, make)
    counts = json.loads((directory / COUNTS).read_text())
    if counts["empty"]:
        log.warning("%s: %d of %d passages are empty; they stay candidates", label, counts["empty"], counts["passages"])
    return Passages.open(directory)


def read_passages(file: Path) -> Iterator[tuple[str, str]]:
    """(id, text) of each record: ``docid`` (or ``_id``), ``text``, and a ``title`` that goes before it."""
    for record in read_rows(file):
        yield record.id("docid", "_id"), f"{record.text('title', '')} {record.text('text')}".strip()


def read_topics(file: Path) -> tuple[Topics, Judgements]:
    """Read a ``.jsonl[.gz]`` with ``query_id``, ``query`` and ``positive_passages`` a line: queries, and what is relevant.

    A passage that is named twice for a query is judged once, and counted in the log.
    """
    queries: Topics = []
    judged: Judgements = []
    twice = 0
    for record in read_rows(file):
        query = record.id("query_id")
        positive = [passage.id("docid") for passage in record.records("positive_passages")]
        queries.append((query, record.text("query")))
        judged += [(query, passage, 1) for passage in dict.fromkeys(positive)]
        twice += len(positive) - len(set(positive))
    if twice:
        log.info("%s: %d passages are named twice for a query", file, twice)
    return queries, judged
