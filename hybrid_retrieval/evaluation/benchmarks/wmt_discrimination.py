"""Cross-lingual semantic discrimination on WMT19 and WMT21: a translation beside four distractors that a language model wrote.

German and French news, both ways: 1,473 sentences of WMT19 and 893 of WMT21. A folder is called ``<set>.<source>.<target>``,
and its rows have the published columns ``Source``, ``Target`` and ``TargetAdv1`` to ``TargetAdv4``.
"""

from __future__ import annotations

from collections.abc import Iterator

from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.data.records import read_parquet
from hybrid_retrieval.evaluation.benchmarks.challenge import Challenge, ChallengeSet, cells
from hybrid_retrieval.evaluation.benchmarks.published_files import HubDataset, PublishedFile, PublishedFiles

REPOSITORY, REVISION = "Andrianos/clsd_wmt19_21", "9627fbdb39b827ee5c066011ebe1e947cdb137bd"
FOLDERS = ("wmt19.de.fr", "wmt19.fr.de", "wmt21.de.fr", "wmt21.fr.de")
FILE = "test-00000-of-00001.parquet"
DISTRACTORS = ("TargetAdv1", "TargetAdv2", "TargetAdv3", "TargetAdv4")
COLUMNS = ("Source", "Target", *DISTRACTORS)


class WmtDiscrimination(ChallengeSet):
    """``wmt_discrimination/<set>.<source>.<target>/test-00000-of-00001.parquet`` below ``paths.data``, or the hub's."""

    name = "wmt_discrimination"

    def __init__(self, paths: PathsConfig, languages: list[str] | None = None) -> None:
        super().__init__(languages)
        files = {folder: PublishedFile(f"{folder}/{FILE}") for folder in FOLDERS}
        self.files = PublishedFiles(paths, self.name, HubDataset(REPOSITORY, REVISION), files)

    def read(self) -> Iterator[Challenge]:
        for folder in self.files.files:
            year, asked, answered = folder.split(".")
            for number, record in enumerate(read_parquet(self.files.path(folder)), 1):
                source, good, *distractors = cells(record, COLUMNS)
                source_id = f"{year}-{number}"
                for column, damaged in zip(DISTRACTORS, distractors, strict=True):
                    sides = asked, source, answered, good, damaged
                    yield Challenge(f"{source_id}#{column}", source_id, *sides, year, f"{record.place}, {column}")
