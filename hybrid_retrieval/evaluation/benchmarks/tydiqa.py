"""TyDi QA GoldP 1.1 (arXiv 2003.05002), dev part: questions in 9 languages against the gold passages of all questions.

A passage that answers several questions stands once; questions are relevant to their own passage only, in their language.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.data.records import read_document
from hybrid_retrieval.data.source import choose_languages
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.evaluation.benchmarks.benchmark import Judgements, Topics
from hybrid_retrieval.evaluation.benchmarks.published_files import (
    PublishedBenchmark,
    PublishedFile,
    PublishedFiles,
    Website,
    expect_count,
)
from hybrid_retrieval.evaluation.collection import RetrievalCollection

PUBLISHER, REVISION = "https://storage.googleapis.com/tydiqa", "v1.1"
WHOLE = "tydiqa-goldp-v1.1-dev.json"
"""The publisher's file, with all languages."""

MEASURES = ("map", "mrr", "recall@1", "recall@10", "recall@100")

LANGUAGE_CODES = {
    "arabic": "ar",
    "bengali": "bn",
    "english": "en",
    "finnish": "fi",
    "indonesian": "id",
    "japanese": "ja",
    "korean": "ko",
    "russian": "ru",
    "swahili": "sw",
    "telugu": "te",
    "thai": "th",
}
"""By the names that TyDi's files and the ids of their questions have; GoldP lacks Japanese and Thai."""

PUBLISHED: dict[str, tuple[int, int, str | None]] = {
    "ar": (921, 842, "77ee56d46345f5480e94a6c09c10ae4b8a56535ab4b82dc182ded9fe2d77a89f"),
    "bn": (113, 105, "8cc1e066a838aee71fc29e121e7bb9903edf9c0984a0043365973939424d15be"),
    "en": (440, 429, "48c61c94db82b5764ae23227230e6a2edd4abfb21f0b69311cc1ccec53c49395"),
    "fi": (782, 634, "a21197f1e02d3c09bfad28ee4592be642f6e5d5fe25cc19b1bb46ace62b88e1b"),
    "id": (565, 514, "a24e336715adc6750cf3815a1c05e3105f706bc84aec5220c06fe67a9e8a807e"),
    "ko": (276, 228, "98946f99a1473991a8455b5b58a32146e3535d3960477c8669969cd3a20f839c"),
    "ru": (812, 778, "c78f9d70486fd31036b9563dc9bf8db95da18504e965837f985dd94544033064"),
    "sw": (499, 357, "b3bad8772cdd3cf6ae3c046a9fc6a982daa563a9cc4da03378e009ba1fc7e7c7"),
    "te": (669, 601, "ea58ed0c8cd248b9dd712b737d506aae2ba55352166dd08ba5e7343a0e08c913"),
}
"""Questions, distinct passages, and the SHA-256 of the language's file."""


class Tydiqa(PublishedBenchmark):
    """``tydiqa-goldp/tydiqa.goldp.<language>.dev.json`` below ``paths.data``, or the publisher's one file, there or fetched."""

    name = "tydiqa"
    published = PUBLISHED

    def __init__(self, paths: PathsConfig, languages: list[str] | None = None) -> None:
        """
        Args:
            languages: all by default.
        """
        self.languages = choose_languages(languages, list(self.published), f"benchmark.{self.name}.languages")
        by_language = {
            language: PublishedFile(WHOLE, f"tydiqa.goldp.{language}.dev.json", self.published[language][2])
            for language in self.languages
        }
        website = Website(PUBLISHER, REVISION)
        self.files = PublishedFiles(paths, self.name, website, by_language, "tydiqa-goldp")
        if not all(self.files.local_copy(language) for language in self.languages):
            self.files = replace(self.files, files={"all": PublishedFile(WHOLE)})

    def load(self) -> RetrievalCollection:
        queries: dict[str, Topics] = {language: [] for language in self.languages}
        passages: dict[str, dict[str, str]] = {language: {} for language in self.languages}
        answers: dict[str, Judgements] = {language: [] for language in self.languages}
        for key in self.files.files:
            for language, id_, question, context in read_questions(self.files.path(key)):
                if language not in queries:
                    continue
                queries[language].append((id_, question))
                passage = passages[language].setdefault(context, str(len(passages[language])))
                answers[language].append((id_, passage, 1))
        for language in self.languages:
            where, (questions, distinct, _) = f"benchmark {self.name}: {language}", self.published[language]
            expect_count(where, "questions", len(queries[language]), questions)
            expect_count(where, "passages", len(passages[language]), distinct)
        corpus = {language: [(id_, text) for text, id_ in found.items()] for language, found in passages.items()}
        asked: dict[tuple[str, str], list[str]] = {}
        for language, judged in answers.items():
            for query, passage, _ in judged:
                asked.setdefault((language, passage), []).append(query)
        return RetrievalCollection.parallel(self.name, queries, corpus, answers, MEASURES).clustered(asked.values())


def read_questions(file: Path) -> Iterator[tuple[str, str, str, str]]:
    """(language, id, question, passage) of a SQuAD file whose question ids start with the name of a language."""
    for article in read_document(file).records("data"):
        for paragraph in article.records("paragraphs"):
            context = paragraph.text("context")
            for question in paragraph.records("qas"):
                id_ = question.id("id")
                language = LANGUAGE_CODES.get(id_.partition("-")[0])
                if language is None:
                    raise InputError(f"{question.place}: question id {id_!r} starts with no known language")
                yield language, id_, question.text("question"), context
