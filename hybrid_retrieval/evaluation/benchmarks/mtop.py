"""MTOP (arXiv 2008.09335) as retrieval: an utterance in one language finds the utterances of its intent, or domain, in another.

All pairs of 6 languages. An utterance never finds itself, nor its translations where the files say which these are: in some
layouts ids are shared between languages, in others they number the lines of each. Translations have the same label, lines
of the same number mostly not; so ids are taken for shared where nearly all utterances with the same id agree in their label.
Ids that are not shared become ``<language>-<id>``, since equal ids of queries are read as one question in several languages.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.data.records import read_rows
from hybrid_retrieval.data.source import choose_languages
from hybrid_retrieval.errors import choice
from hybrid_retrieval.evaluation.benchmarks.published_files import (
    HubDataset,
    PublishedBenchmark,
    PublishedFile,
    PublishedFiles,
    expect_count,
)
from hybrid_retrieval.evaluation.collection import Ints, RetrievalCollection, Side, join

log = logging.getLogger(__name__)

REVISIONS = {
    "intent": "ae001d0e6b1228650b7bd1c2c65fb50ad11a8aba",
    "domain": "d80d48c1eb48d3562165c59d59d0034df9fff0bf",
}
"""Revisions of mteb/mtop_intent and mteb/mtop_domain on the hub."""
SHARED = 0.95
"""Share of the pairs with the same id that must agree in their label, for ids to be those of translations."""


class Mtop(PublishedBenchmark):
    """``mtop_<task>/<language>/test.jsonl`` below ``paths.data``, or from the hub."""

    utterances: Mapping[str, int] = {"de": 3549, "en": 4386, "es": 2998, "fr": 3193, "hi": 2789, "th": 2765}
    """In the test part."""

    def __init__(self, paths: PathsConfig, task: str, languages: list[str] | None = None) -> None:
        """
        Args:
            task: intent or domain.
            languages: all by default.
        """
        choice("benchmark.mtop.task", task, REVISIONS)
        self.name = f"mtop_{task}"
        self.languages = choose_languages(languages, list(self.utterances), f"benchmark.{self.name}.languages")
        files = {language: PublishedFile(f"{language}/test.jsonl") for language in self.languages}
        self.files = PublishedFiles(paths, self.name, HubDataset(f"mteb/{self.name}", REVISIONS[task]), files)

    def load(self) -> RetrievalCollection:
        found = {language: read_utterances(self.files.path(language)) for language in self.languages}
        for language, part in found.items():
            expect_count(f"benchmark {self.name}: {language}", "utterances", len(part), self.utterances[language])
        label = numbers([label for part in found.values() for _, _, label in part])
        rows = {language: [(id_, text) for id_, text, _ in part] for language, part in found.items()}
        side = Side.of(self.name, self.languages, rows)
        excluded = same_ids(side)
        if not self._shared(excluded, label):
            rows = {language: [(f"{language}-{id_}", text) for id_, text in part] for language, part in rows.items()}
            side = Side.of(self.name, self.languages, rows)
            excluded = same_ids(side)
        query, document = related(label, excluded)
        return RetrievalCollection(
            name=self.name,
            languages=tuple(self.languages),
            queries=side,
            corpus=side,
            query=query,
            document=document,
            grade=np.broadcast_to(np.int64(1), len(query)),
            measures=("map",),
            excluded=excluded,
            labels=(label, label),
        )

    def _shared(self, pairs: Ints, label: Ints) -> bool:
        """Whether the utterances of `pairs`, which have the same id, are translations; true where there are no such pairs."""
        itself = pairs[:, 0] == pairs[:, 1]
        if itself.all():
            log.info("%s: no two languages share an id; an utterance is kept from itself only", self.name)
            return True
        agree = float((label[pairs[~itself, 0]] == label[pairs[~itself, 1]]).mean())
        if agree >= SHARED:
            log.info("%s: %d pairs of translations are left out (%.1f%% agree)", self.name, (~itself).sum(), 100 * agree)
            return True
        log.warning(
            "%s: ids are not shared by translations (%.1f%% of the pairs with the same id agree in their label): "
            "an utterance is kept from itself, but not from its translations",
            self.name,
            100 * agree,
        )
        return False


def same_ids(side: Side) -> Ints:
    """int64 [pairs, 2], sorted: the rows of every utterance and each that has the same id, itself among them."""
    ids = numbers(list(side.ids))
    return np.stack(join(ids, ids), 1)


def related(label: Ints, excluded: Ints) -> tuple[Ints, Ints]:
    """All (query, document) of the same label but the `excluded`, sorted."""
    query, document = join(label, label)  # int64 [pairs]: 35 million or more for the 11 domains
    left_out = excluded[label[excluded[:, 0]] == label[excluded[:, 1]]]
    keep = np.ones(len(query), bool)
    keep[np.searchsorted(query * len(label) + document, left_out[:, 0] * len(label) + left_out[:, 1])] = False
    return query[keep], document[keep]


def numbers(values: list[str]) -> Ints:
    """The same number for the same string, from 0."""
    encoded: Ints = pc.dictionary_encode(pa.array(values, pa.string())).indices.to_numpy().astype(np.int64)
    return encoded


def read_utterances(file: Path) -> list[tuple[str, str, str]]:
    """(id, text, label) of a file with ``id``, ``text`` and ``label_text`` a line; a missing id is the line's number."""
    return [
        (record.id("id", default=str(number)), record.text("text"), record.text("label_text"))
        for number, record in enumerate(read_rows(file), 1)
    ]
