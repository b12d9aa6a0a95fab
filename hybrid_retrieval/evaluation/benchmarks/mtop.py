"""MTOP (arXiv 2008.09335) as retrieval: an utterance in one language finds the utterances of its intent, or domain, in another.

All pairs of 6 languages, in the hub's layout or in XSemPLR's. An utterance never finds itself, nor its translations where the
files say which these are: in some layouts ids are shared between languages, in others they number the lines of each.
Translations have the same label, lines of the same number mostly not; so ids are taken for shared where nearly all utterances
with the same id agree in their label. Ids that are not shared become ``<language>-<id>``, since equal ids of queries are read
as one question in several languages.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path

from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.data.records import Record, only_one, read_rows
from hybrid_retrieval.data.source import choose_languages
from hybrid_retrieval.errors import InputError, choice
from hybrid_retrieval.evaluation.benchmarks.published_files import (
    HubDataset,
    PublishedBenchmark,
    PublishedFile,
    PublishedFiles,
    expect_count,
)
from hybrid_retrieval.evaluation.benchmarks.utterances import LabelledUtterances, Utterances, by_label, numbers
from hybrid_retrieval.evaluation.collection import RetrievalCollection, join
from hybrid_retrieval.values import Count

log = logging.getLogger(__name__)

REVISIONS = {
    "intent": "ae001d0e6b1228650b7bd1c2c65fb50ad11a8aba",
    "domain": "d80d48c1eb48d3562165c59d59d0034df9fff0bf",
}
"""Revisions of mteb/mtop_intent and mteb/mtop_domain on the hub."""
SHARED = 0.95
"""Share of the pairs with the same id that must agree in their label, for ids to be those of translations."""
INTENT = re.compile(r"\s*\[(IN:\w+)")
"""The intent of an utterance: the first bracket of its parse."""


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
        if not self._shared(found):
            found = {
                language: [(f"{language}-{id_}", text, label) for id_, text, label in part] for language, part in found.items()
            }
        return by_label(self.name, found)

    def _shared(self, utterances: Utterances) -> bool:
        """Whether utterances with the same id are translations; true where no two have the same."""
        id_, label = (numbers([one[field] for part in utterances.values() for one in part]) for field in (0, 2))
        left, right = join(id_, id_)
        pairs = left != right
        if not pairs.any():
            log.info("%s: no two languages share an id; an utterance is kept from itself only", self.name)
            return True
        agree = float((label[left[pairs]] == label[right[pairs]]).mean())
        if agree >= SHARED:
            log.info("%s: %d pairs of translations are left out (%.1f%% agree)", self.name, pairs.sum(), 100 * agree)
            return True
        log.warning(
            "%s: ids are not shared by translations (%.1f%% of the pairs with the same id agree in their label): "
            "an utterance is kept from itself, but not from its translations",
            self.name,
            100 * agree,
        )
        return False


class MtopParallel(LabelledUtterances):
    """The rows of MTOP's test part that all languages have, by intent, in XSemPLR's layout: ``test.jsonl[.gz]``.

    A line has ``id``, ``question`` and ``slot_intent``, the last two by language; texts are tokenised.
    """

    rows = 1237

    def __init__(
        self,
        paths: PathsConfig,
        path: str = "mtop-xsemplr",
        languages: list[str] | None = None,
        queries: Count | None = None,
    ) -> None:
        super().__init__(paths, "mtop_parallel", path, list(Mtop.utterances), languages, queries)

    def read(self) -> Utterances:
        file = only_one(self.folder / f"test.jsonl{packed}" for packed in (".gz", ""))
        records = list(read_rows(file or self.folder / "test.jsonl.gz"))
        expect_count(f"benchmark {self.name}", "rows", len(records), self.rows)
        return {
            language: [
                (record.id("id"), record.record("question").text(language), intent(record.record("slot_intent"), language))
                for record in records
            ]
            for language in self.languages
        }


def intent(parses: Record, language: str) -> str:
    """The intent in a language's parse."""
    found = INTENT.match(parse := parses.text(language))
    if not found:
        raise InputError(f"{parses.place}, {language}: {parse[:60]!r} does not begin with an intent; expected [IN:NAME ...]")
    return found[1]


def read_utterances(file: Path) -> list[tuple[str, str, str]]:
    """(id, text, label) of a file with ``id``, ``text`` and ``label_text`` a line; a missing id is the line's number."""
    return [
        (record.id("id", default=str(number)), record.text("text"), record.text("label_text"))
        for number, record in enumerate(read_rows(file), 1)
    ]
