"""MKQA (arXiv 2007.15207) as retrieval: a question in one language finds the text of its answer in another.

26 languages, all pairs. Questions without an answer that is a text (unanswerable, or a long answer) are left out. An answer
text that several questions share stands once in its language and is relevant to each of them.
"""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from typing import Any

from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.data.source import choose_languages
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.evaluation.benchmarks.benchmark import Benchmark
from hybrid_retrieval.evaluation.benchmarks.published_files import PublishedFile, PublishedFiles, expect_counts
from hybrid_retrieval.evaluation.benchmarks.stored_corpus import read_json
from hybrid_retrieval.evaluation.collection import RetrievalCollection

log = logging.getLogger(__name__)

NAME = "mkqa"
PUBLISHER = "https://raw.githubusercontent.com/apple/ml-mkqa"
REVISION = "651b8cc85c407270b024157aff06ee6ab8c4fc6d"
FILE = "mkqa.jsonl.gz"
EXAMPLES: int | None = 10_000
CODES = "ar da de en es fi fr he hu it ja km ko ms nl no pl pt ru sv th tr vi zh_cn zh_hk zh_tw"
WITHOUT_TEXT = ("unanswerable", "long_answer")
"""Types of answers that have no text."""

Rows = list[tuple[str, str]]


class Mkqa(Benchmark):
    """``mkqa/mkqa.jsonl.gz`` below ``paths.data``, or from the publisher."""

    def __init__(self, paths: PathsConfig, languages: list[str] | None = None) -> None:
        """
        Args:
            languages: all by default.
        """
        self._languages = choose_languages(languages, CODES.split(), f"benchmark.{NAME}.languages")
        files = {"all": PublishedFile(FILE, f"{PUBLISHER}/{REVISION}/dataset/{FILE}")}
        self._files = PublishedFiles.of(paths, NAME, NAME, PUBLISHER, REVISION, files)

    def at_hand(self) -> bool:
        return self._files.at_hand()

    def provenance(self) -> dict[str, Any]:
        return self._files.provenance()

    def load(self) -> RetrievalCollection:
        file = self._files.path("all")
        queries: dict[str, Rows] = {language: [] for language in self._languages}
        texts: dict[str, dict[str, str]] = {language: {} for language in self._languages}
        answers: dict[str, list[tuple[str, str, int]]] = {language: [] for language in self._languages}
        left_out: Counter[str] = Counter()
        count = 0
        for count, record in read_json(file):
            id_, asked, answered = _fields(file, count, record, self._languages)
            if not any(answered.values()):
                left_out[record["answers"][self._languages[0]][0].get("type", "untyped")] += 1
                continue
            for language in self._languages:
                queries[language].append((id_, asked[language]))
                left_out[f"no text in {language}"] += not answered[language]
                known = texts[language]
                answers[language] += [(id_, known.setdefault(text, str(len(known))), 1) for text in answered[language]]
        expect_counts(file, {"examples": EXAMPLES}, {"examples": count})
        said = ", ".join(f"{reason} {number:,}" for reason, number in sorted(left_out.items()) if number)
        log.info("left out of %s: %s", NAME, said or "nothing")
        corpus = {language: [(id_, text) for text, id_ in known.items()] for language, known in texts.items()}
        return RetrievalCollection.parallel(NAME, queries, corpus, answers)


def _fields(
    file: Path, number: int, record: dict[str, Any], languages: list[str]
) -> tuple[str, dict[str, str], dict[str, list[str]]]:
    """An example's id, its question in each language, and the distinct texts of its answers in each."""
    try:
        asked = {language: record["queries"][language] for language in languages}
        answered = {
            language: list(
                dict.fromkeys(
                    answer["text"].strip()
                    for answer in record["answers"][language]
                    if answer["type"] not in WITHOUT_TEXT and answer["text"] and answer["text"].strip()
                )
            )
            for language in languages
        }
        if not all(isinstance(text, str) and record["answers"][language] for language, text in asked.items()):
            raise TypeError
        return str(record["example_id"]), asked, answered
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{file}, line {number}: not an example with example_id, queries and answers in {languages}"
        ) from error
