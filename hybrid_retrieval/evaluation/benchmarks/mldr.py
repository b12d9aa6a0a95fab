"""MLDR (arXiv 2402.03216): questions in 13 languages against long documents of the same language; its test part."""

from __future__ import annotations

from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.data.beir_folder import BeirFolder
from hybrid_retrieval.data.source import find_folder
from hybrid_retrieval.evaluation.benchmarks.published_files import HubDataset, PublishedFile, PublishedFiles
from hybrid_retrieval.evaluation.benchmarks.stored_corpus import StoredCorpus

DATASET, REVISION = "Shitao/MLDR", "f3837caa8004c6b49954bb6b511d424222eb9161"

PUBLISHED = {
    "ar": (200, 7_607),
    "de": (200, 10_000),
    "en": (800, 200_000),
    "es": (200, 9_551),
    "fr": (200, 10_000),
    "hi": (200, 3_806),
    "it": (200, 10_000),
    "ja": (200, 10_000),
    "ko": (200, 6_176),
    "pt": (200, 6_569),
    "ru": (200, 10_000),
    "th": (200, 10_000),
    "zh": (800, 200_000),
}
"""Test queries, documents."""


class Mldr(StoredCorpus):
    """``mldr/mldr-v1.0-<language>/{test,corpus}.jsonl.gz`` below ``paths.data``, or from the hub."""

    name = "mldr"
    measures = ("ndcg@10", "recall@100")
    published = PUBLISHED

    def __init__(self, paths: PathsConfig, languages: list[str] | None = None, translations: str | None = None) -> None:
        """
        Args:
            translations: a folder with ``<language>/queries.jsonl``: questions translated into that language, under their ids,
                for the settings across languages; a relative one is looked for under ``paths.data`` too.
        """
        super().__init__(paths, languages)
        if translations is not None:
            key = "benchmark.mldr.translations"
            self.translations = BeirFolder(find_folder(translations, paths.data, key), key)
        self.topics, self.corpora = (
            PublishedFiles(
                paths,
                self.name,
                HubDataset(DATASET, REVISION),
                {language: PublishedFile(f"mldr-v1.0-{language}/{file}.jsonl.gz") for language in self.languages},
            )
            for file in ("test", "corpus")
        )
