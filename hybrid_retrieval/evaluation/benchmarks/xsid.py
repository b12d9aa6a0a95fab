"""xSID 0.7 (arXiv 2105.07316) as retrieval: an utterance finds those of its intent in 18 languages and dialects.

CoNLL files whose comments hold each utterance: ``# text = ...``, ``# intent = ...`` and, but for English, ``# text-en = ...``.
Translations are those of the same English text: rows do not say it (those of the Bavarian file are others from row 149 on).
Intents are as published: 26 of the Arabic file's, and none of the others', differ from the English ones.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.data.records import read_lines
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.evaluation.benchmarks.published_files import expect_count
from hybrid_retrieval.evaluation.benchmarks.utterances import LabelledUtterances, Utterance, Utterances
from hybrid_retrieval.values import Count

log = logging.getLogger(__name__)

PUBLISHED = "ar da de de_ba de_muc de_st en gsw id it ja kk lt nap nl sr tr zh"
COMMENT = re.compile(r"#\s*(text|text-en|intent)\s*[=:]\s*(.*\S)\s*")


class Xsid(LabelledUtterances):
    """``<language>.test.conll.gz``; dialects of German are ``de_ba``, ``de_muc``, ``de_st`` here."""

    utterances: Mapping[str, int] = {language: 250 if language == "ja" else 500 for language in PUBLISHED.split()}
    """In the test part."""

    def __init__(
        self,
        paths: PathsConfig,
        path: str = "xsid-0.7",
        languages: list[str] | None = None,
        queries: Count | None = None,
    ) -> None:
        super().__init__(paths, "xsid_intent", path, list(self.utterances), languages, queries)

    def read(self) -> Utterances:
        english = {key: str(row) for row, (key, _, _) in enumerate(self._read("en"), 1)}
        return {
            language: [
                (english.get(key, f"{language}-{row}"), text, intent)
                for row, (key, text, intent) in enumerate(self._read(language), 1)
            ]
            for language in self.languages
        }

    def _read(self, language: str) -> list[Utterance]:
        found = read_conll(self.folder / f"{language.replace('_', '-')}.test.conll.gz")
        expect_count(f"benchmark {self.name}: {language}", "utterances", len(found), self.utterances[language])
        return found


def read_conll(file: Path) -> list[Utterance]:
    """(a key that the translations share, text, intent) of each utterance.

    The key is the English text without spaces and case, and how often it occurred before.
    """
    found, before = [], Counter[str]()
    current: dict[str, str] = {}
    start = 1

    def end(number: int) -> None:
        if missing := [name for name in ("text", "intent") if name not in current]:
            raise InputError(f"{file}, line {start}: no comment '# {missing[0]} = ' in lines {start} to {number}")
        english = "".join(current.get("text-en", current["text"]).casefold().split())
        found.append((f"{english}#{before[english]}", current["text"], current["intent"]))
        before[english] += 1
        current.clear()

    inside, number = False, 0
    for number, line in read_lines(file):
        if not line.strip():
            if inside:
                end(number - 1)
            inside = False
            continue
        if not inside:
            inside, start = True, number
        if match := COMMENT.fullmatch(line.strip()):
            current.setdefault(match[1], match[2])
    if inside:
        end(number)
    return found
