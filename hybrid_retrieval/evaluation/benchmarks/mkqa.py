"""MKQA (arXiv 2007.15207) as retrieval: a question in one language finds the text of its answer in another.

26 languages, all pairs. Questions without an answer that is a text (unanswerable, or a long answer) are left out. An answer
text that several questions share stands once in its language and is relevant to each of them.
"""

from __future__ import annotations

import logging
from collections import Counter

from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.data.records import Record, read_rows
from hybrid_retrieval.data.source import choose_languages
from hybrid_retrieval.evaluation.benchmarks.benchmark import Judgements, Topics
from hybrid_retrieval.evaluation.benchmarks.published_files import (
    PublishedBenchmark,
    PublishedFile,
    PublishedFiles,
    Website,
    expect_count,
)
from hybrid_retrieval.evaluation.collection import RetrievalCollection

log = logging.getLogger(__name__)

PUBLISHER = "https://raw.githubusercontent.com/apple/ml-mkqa"
REVISION = "651b8cc85c407270b024157aff06ee6ab8c4fc6d"
FILE = "mkqa.jsonl.gz"
CODES = "ar da de en es fi fr he hu it ja km ko ms nl no pl pt ru sv th tr vi zh_cn zh_hk zh_tw"
WITHOUT_TEXT = ("unanswerable", "long_answer")
"""Types of answers that have no text."""


class Mkqa(PublishedBenchmark):
    """``mkqa/mkqa.jsonl.gz`` below ``paths.data``, or from the publisher."""

    name = "mkqa"
    examples = 10_000

    def __init__(self, paths: PathsConfig, languages: list[str] | None = None) -> None:
        """
        Args:
            languages: all by default.
        """
        self.languages = choose_languages(languages, CODES.split(), f"benchmark.{self.name}.languages")
        website = Website(PUBLISHER, REVISION)
        self.files = PublishedFiles(paths, self.name, website, {"all": PublishedFile(f"dataset/{FILE}", FILE)})

    def load(self) -> RetrievalCollection:
        file = self.files.path("all")
        queries: dict[str, Topics] = {language: [] for language in self.languages}
        texts: dict[str, dict[str, str]] = {language: {} for language in self.languages}
        answers: dict[str, Judgements] = {language: [] for language in self.languages}
        left_out: Counter[str] = Counter()
        count = 0
        for record in read_rows(file):
            count += 1
            id_, questions = record.id("example_id"), record.record("queries")
            asked = {language: questions.text(language) for language in self.languages}
            kinds, answered = _answers(record, self.languages)
            if not any(answered.values()):
                left_out[kinds[0]] += 1
                continue
            for language in self.languages:
                queries[language].append((id_, asked[language]))
                left_out[f"no text in {language}"] += not answered[language]
                known = texts[language]
                answers[language] += [(id_, known.setdefault(text, str(len(known))), 1) for text in answered[language]]
        expect_count(file, "examples", count, self.examples)
        said = ", ".join(f"{reason} {number:,}" for reason, number in sorted(left_out.items()) if number)
        log.info("left out of %s: %s", self.name, said or "nothing")
        corpus = {language: [(id_, text) for text, id_ in known.items()] for language, known in texts.items()}
        return RetrievalCollection.parallel(self.name, queries, corpus, answers)


def _answers(example: Record, languages: list[str]) -> tuple[list[str], dict[str, list[str]]]:
    """The types of the answers, and the distinct texts of those in each language."""
    answers, kinds = example.record("answers"), []
    texts: dict[str, list[str]] = {}
    for language in languages:
        found: dict[str, None] = {}
        for answer in answers.records(language):
            kinds.append(answer.text("type"))
            text = answer.text("text", "").strip()
            if text and kinds[-1] not in WITHOUT_TEXT:
                found[text] = None
        texts[language] = list(found)
        if not answers.items(language):
            raise answers.error(language, "at least one answer")
    return kinds, texts
