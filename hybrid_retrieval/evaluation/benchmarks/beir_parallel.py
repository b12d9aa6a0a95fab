"""A set of one's own in BEIR's files, one folder a language, against all of its passages; nothing is trained on it.

The files are those of `data.records`. The same query ``_id`` in two languages is a translation, and a judgement in folder
``<lang>`` joins a query of whichever language with a passage of that language. Grades count, and passages that answer nothing
are candidates too: that is what sets it apart from `held_out`, whose corpus is the answers of a split.
"""

from __future__ import annotations

import logging
from typing import Any

from hybrid_retrieval.cache import Cache, folder_state
from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.data.beir_folder import BeirFolder, read_qrels
from hybrid_retrieval.data.source import choose_languages, find_folder
from hybrid_retrieval.data.stored_texts import Passages
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.evaluation.benchmarks.benchmark import Benchmark
from hybrid_retrieval.evaluation.benchmarks.stored_corpus import store_passages
from hybrid_retrieval.evaluation.collection import RetrievalCollection
from hybrid_retrieval.values import Name

log = logging.getLogger(__name__)


class BeirParallel(Benchmark):
    """The queries that a split judges."""

    def __init__(
        self,
        paths: PathsConfig,
        path: str | None = None,
        split: Name = "test",
        languages: list[str] | None = None,
        name: Name = "beir_parallel",
    ) -> None:
        """
        Args:
            path: the set's folder; a relative one is looked for under ``paths.data`` too.
            split: of the qrels: ``qrels/<split>.tsv[.gz]``.
            languages: the folders to use; all by default.
            name: in metric keys.
        """
        if path is None:
            raise InputError(
                f"benchmark.{name}.path is missing: name a folder with one sub-folder per language in BEIR's layout"
            )
        self.name, self.split = name, split
        self._cache_path = paths.cache
        key = f"benchmark.{name}.path"
        self._folder = BeirFolder(find_folder(path, paths.data, key), key)
        self._wanted = languages

    def at_hand(self) -> bool:
        return self._folder.path.is_dir()

    def provenance(self) -> dict[str, Any]:
        return {"path": str(self._folder.path), "split": self.split, "state": folder_state(self._folder.path)[1]}

    def load(self) -> RetrievalCollection:
        present = self._folder.languages()
        languages = choose_languages(self._wanted, present, f"benchmark.{self.name}.languages")
        every = {language: list(self._folder.records(language, "queries")) for language in present}
        asked = {language: every[language] for language in languages}
        known = {id_ for rows in every.values() for id_, _ in rows}
        chosen = {id_ for rows in asked.values() for id_, _ in rows}
        answers = {language: self._answers(language, known, chosen) for language in languages}
        judged = {query for rows in answers.values() for query, _, _ in rows}
        if not judged:
            raise InputError(f"{self._folder.path}: no judgement in qrels/{self.split}.tsv of {', '.join(languages)}")
        if not any(grade > 0 for rows in answers.values() for _, _, grade in rows):
            raise InputError(
                f"{self._folder.path}: every grade in qrels/{self.split}.tsv of {', '.join(languages)} is 0 or below, which "
                "is not relevant; expected a grade of 1 or more"
            )
        queries = {language: [row for row in rows if row[0] in judged] for language, rows in asked.items()}
        corpus = {language: passages for language in languages if (passages := self._passages(language)) is not None}
        unused = {
            "queries without a judgement": sum(map(len, asked.values())) - sum(map(len, queries.values())),
            "judgements below 1": sum(grade <= 0 for rows in answers.values() for _, _, grade in rows),
        }
        log.info("left out of %s: %s", self.name, ", ".join(f"{reason} {count:,}" for reason, count in unused.items()))
        return RetrievalCollection.parallel(self.name, queries, corpus, answers)

    def _answers(self, language: str, known: set[str], chosen: set[str]) -> list[tuple[str, str, int]]:
        """(query id, passage id, grade) of a language's folder, for the queries of the `chosen` languages."""
        file = self._folder.qrels(language).get(self.split)
        every = list(read_qrels(file, known)) if file else []
        found = [row for row in every if row[0] in chosen]
        if elsewhere := len(every) - len(found):
            log.warning("%s %s: %d judgements are of queries in none of the chosen languages", self.name, language, elsewhere)
        return found

    def _passages(self, language: str) -> Passages | None:
        file = self._folder.file(language, "corpus")
        if file is None:
            return None
        return store_passages(Cache.at(self._cache_path), [file], f"{self.name} {language}: storing passages")
