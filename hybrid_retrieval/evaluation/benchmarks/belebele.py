"""Belebele (arXiv 2308.16884) as retrieval: a question in one language finds its FLORES passage in another.

Questions and passages are parallel across 122 variants of languages: 900 questions on 488 passages in each.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path

from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.data.languages import script, three_letters
from hybrid_retrieval.data.records import read_rows
from hybrid_retrieval.data.source import choose_languages
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.evaluation.benchmarks.benchmark import Judgements, Topics
from hybrid_retrieval.evaluation.benchmarks.published_files import (
    HubDataset,
    PublishedBenchmark,
    PublishedFile,
    PublishedFiles,
    expect_count,
)
from hybrid_retrieval.evaluation.collection import RetrievalCollection

log = logging.getLogger(__name__)

DATASET, REVISION = "facebook/belebele", "75b399394a9803252cfec289d103de462763db7c"
PASSAGES = 488

LANGUAGES = (
    "ar bg bn ca cs da de el en es et eu fa fi fr gl he hi hr hu id it ja km ko lt lv mr ms ne nl no pl pt pt_br ro ru sk sl "
    "sr sv sw ta te th tr uk ur vi yo zh zh_cn zh_hk zh_tw"
)
VARIANTS = {language: f"{three_letters(language)}_{script(language) or 'Latn'}" for language in LANGUAGES.split()}
"""FLORES-200's names, <language in ISO 639-3>_<script>, of languages by what the other benchmarks call them."""
VARIANT = re.compile(r"[a-z]{3}_[A-Z][a-z]{3}")


def language_and_script(name: str) -> str | None:
    """A language as mteb writes it, ``deu-Latn`` of ``de``; None of one that is not known."""
    variant = VARIANTS.get(name, name)
    return variant.replace("_", "-") if VARIANT.fullmatch(variant) else None


class Belebele(PublishedBenchmark):
    """``belebele/data/<variant>.jsonl`` below ``paths.data``, or from the hub."""

    name = "belebele"
    questions = 900

    def __init__(self, paths: PathsConfig, languages: list[str]) -> None:
        """
        Args:
            languages: short names or variants; metric keys have them as they are written here.
        """
        key = f"benchmark.{self.name}.languages"
        others = [language for language in languages if VARIANT.fullmatch(language)]
        self.languages = choose_languages(languages, [*VARIANTS, *VARIANTS.values(), *others], key)
        variants = [VARIANTS.get(language, language) for language in self.languages]
        if len(set(variants)) < len(variants):
            raise InputError(f"{key}={languages} names a variant twice")
        files = {one: PublishedFile(f"data/{variant}.jsonl") for one, variant in zip(self.languages, variants, strict=True)}
        self.files = PublishedFiles(paths, self.name, HubDataset(DATASET, REVISION), files)

    def load(self) -> RetrievalCollection:
        queries, corpus, answers = {}, {}, {}
        for language in self.languages:
            file = self.files.path(language)
            queries[language], corpus[language], answers[language] = read_variant(file)
            expect_count(file, "questions", len(queries[language]), self.questions)
            if len(corpus[language]) != PASSAGES:
                log.info("%s %s: %d distinct passages of %d", self.name, language, len(corpus[language]), PASSAGES)
        return RetrievalCollection.parallel(self.name, queries, corpus, answers).clustered_before("#")  # by passage


def read_variant(file: Path) -> tuple[Topics, Topics, Judgements]:
    """Questions (id, text), distinct passages (id, text), and the passage of each question.

    A question's id, ``<link>#<number>``, is the same in all variants; a passage's id is its number in the file.
    """
    queries: Topics = []
    passages: dict[str, str] = {}
    answers: Judgements = []
    for record in read_rows(file):
        id_ = f"{record.id('link')}#{record.id('question_number')}"
        queries.append((id_, record.text("question")))
        answers.append((id_, passages.setdefault(record.text("flores_passage"), str(len(passages))), 1))
    return queries, [(id_, text) for text, id_ in passages.items()], answers
