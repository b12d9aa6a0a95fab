"""Descriptions of Debian's packages and their translations: a short one asks, the paragraphs of the long one answer.

A folder with ``<language>.jsonl``: a JSON list a line, of an id, the short description and a list of paragraphs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hybrid_retrieval.data.language_files import Entry, LanguageFiles
from hybrid_retrieval.data.records import read_lists

NAMES = ("id", "short description", "paragraphs")


@dataclass(eq=False)
class DebianDescriptions(LanguageFiles):
    """The packages that a folder describes."""

    kind = "debian_descriptions"
    version = 1
    ending = ".jsonl"

    def entries(self, file: Path) -> Iterator[Entry]:
        for record in read_lists(file, NAMES):
            texts = [record.text("short description"), *record.texts("paragraphs")]
            short, *paragraphs = (" ".join(text.split()) for text in texts)
            yield Entry(record.place, record.id("id"), short, " ".join(filter(None, paragraphs)))
