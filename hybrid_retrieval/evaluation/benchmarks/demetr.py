"""DEMETR (arXiv 2210.13746): machine translations into English beside 32 kinds of damage to each.

1,000 sources in ten languages ask for the translation (Cr.), and so does each one's English reference (Mo.). Its controls
(``base_*``: an empty text, another source's translation, the reference itself) are no damage and are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from hybrid_retrieval.cache import folder_state
from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.data.records import read_json
from hybrid_retrieval.data.source import find_folder
from hybrid_retrieval.errors import InputError, nearest
from hybrid_retrieval.evaluation.benchmarks.challenge import Challenge, ChallengeSet

FILE = "demetr.jsonl.gz"
ENGLISH = "en"
LANGUAGES = {
    "chinese_simple": "zh",
    "czech": "cs",
    "french": "fr",
    "german": "de",
    "hindi": "hi",
    "italian": "it",
    "japanese": "ja",
    "polish": "pl",
    "russian": "ru",
    "spanish": "es",
}
KIND = re.compile(r"(base|critical|major|minor)_id\d+_(\w+)")
CONTROL = "base"


class Demetr(ChallengeSet):
    """A folder of the user's with ``demetr.jsonl.gz``: a source a line, with its translations under ``pert``."""

    name = "demetr"

    def __init__(self, paths: PathsConfig, path: str = "demetr", languages: list[str] | None = None) -> None:
        super().__init__(languages)
        self.path = path
        self.folder = find_folder(path, paths.data, f"benchmark.{self.name}.path")

    def at_hand(self) -> bool:
        return (self.folder / FILE).is_file()

    def provenance(self) -> dict[str, Any]:
        return {"path": str(self.folder), "state": folder_state(self.folder)[1]}

    def read(self) -> Iterator[Challenge]:
        file = self.folder / FILE
        if not file.is_file():
            raise InputError(
                f"benchmark={self.name} reads {FILE} of the folder {self.path!r} below paths.data (HYBRID_RETRIEVAL_DATA), "
                f"which is not there; benchmark.{self.name}.path names another folder"
            )
        for record in read_json(file):
            number, language, good = record.id("id"), record.text("lang"), record.text("mt_en")
            if language not in LANGUAGES:
                raise InputError(f"{record.place}: lang is {language[:30]!r}{nearest(language, LANGUAGES)}")
            asked = {LANGUAGES[language]: record.text("src"), ENGLISH: record.text("ref_en")}
            damage = record.record("pert")
            for kind in damage.values:
                match = KIND.fullmatch(kind)
                if match is None:
                    raise InputError(
                        f"{record.place}: {kind[:60]!r} is no damage; expected a name such as critical_id8_negation"
                    )
                if match[1] == CONTROL:
                    continue
                name, damaged = f"{match[1]}_{match[2]}", damage.text(kind)
                for of, source in asked.items():
                    yield Challenge(
                        f"{number}#{name}", number, of, source, ENGLISH, good, damaged, name, f"{record.place}, {kind}"
                    )
