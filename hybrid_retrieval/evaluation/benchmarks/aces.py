"""ACES (arXiv 2210.15615): translations with one of 68 accuracy errors, beside good ones; 146 language pairs.

Rows of the published columns ``source``, ``good-translation``, ``incorrect-translation``, ``reference``, ``phenomena``,
``langpair``; passages are in the pair's second language. References are not read: a retriever sees none.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.data.records import PACKED, Record, read_csv, read_rows
from hybrid_retrieval.evaluation.benchmarks.challenge import Challenge, ChallengeSet, cells, language_pair, local_files
from hybrid_retrieval.evaluation.benchmarks.published_files import HubDataset, PublishedFile, PublishedFiles

REPOSITORY, REVISION = "nikitam/ACES", "d21239303ffc7561f9794fdce942b22c3c7f060d"
PUBLISHED = "challenge_set.jsonl"
COLUMNS = ("source", "good-translation", "incorrect-translation", "phenomena", "langpair")


def _rows(file: Path) -> Iterator[Record]:
    """Of a ``.tsv`` as the published scorer reads it: its quotes are text."""
    return read_csv(file, quoted=False) if file.name.removesuffix(".gz").endswith(".tsv") else read_rows(file)


class Aces(ChallengeSet):
    """All of ``aces/*.tsv``, ``.csv`` and ``.jsonl`` below ``paths.data``, or the published file."""

    name = "aces"

    def __init__(self, paths: PathsConfig, languages: list[str] | None = None) -> None:
        super().__init__(languages)
        folder = Path(paths.data).expanduser() / self.name if paths.data else None
        names = local_files(folder, (*PACKED, *(f"{ending}.gz" for ending in PACKED))) or [PUBLISHED]
        files = {name: PublishedFile(name) for name in names}
        self.files = PublishedFiles(paths, self.name, HubDataset(REPOSITORY, REVISION), files)

    def read(self) -> Iterator[Challenge]:
        sources: dict[tuple[str, str], str] = {}
        records = (record for name in self.files.files for record in _rows(self.files.path(name)))
        for number, record in enumerate(records, 1):
            source, good, damaged, phenomenon, pair = cells(record, COLUMNS)
            asked, answered = language_pair(pair, record.place)
            source_id = sources.setdefault((asked, source), str(number))
            yield Challenge(str(number), source_id, asked, source, answered, good, damaged, phenomenon, record.place)
