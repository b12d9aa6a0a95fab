"""Mr. TyDi (arXiv 2108.08787): questions in 11 languages against the Wikipedia passages of the same language; its test part."""

from __future__ import annotations

from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.evaluation.benchmarks.published_files import HubDataset, PublishedFile, PublishedFiles
from hybrid_retrieval.evaluation.benchmarks.stored_corpus import StoredCorpus
from hybrid_retrieval.evaluation.benchmarks.tydiqa import LANGUAGE_CODES

TOPICS, TOPICS_REVISION = "castorini/mr-tydi", "f1bb6e8db022ef33688e72eb352264e5cb16f057"
CORPORA, CORPORA_REVISION = "castorini/mr-tydi-corpus", "3a3aa212bbe94a8cc0dc858710a3dad49d532054"

NAMES = {code: name for name, code in LANGUAGE_CODES.items()}

PUBLISHED = {
    "ar": (1081, 2_106_586),
    "bn": (111, 304_059),
    "en": (744, 32_907_100),
    "fi": (1254, 1_908_757),
    "id": (829, 1_469_399),
    "ja": (720, 7_000_027),
    "ko": (421, 1_496_126),
    "ru": (995, 9_597_504),
    "sw": (670, 136_689),
    "te": (646, 548_224),
    "th": (1190, 568_855),
}
"""Test queries, passages."""


class MrTydi(StoredCorpus):
    """``mr_tydi/mrtydi-v1.1-<language>/{test,corpus}.jsonl.gz`` below ``paths.data``, or from the hub."""

    name = "mr_tydi"
    measures = ("mrr@100", "recall@100")
    published = PUBLISHED

    def __init__(self, paths: PathsConfig, languages: list[str] | None = None) -> None:
        super().__init__(paths, languages)
        self.topics, self.corpora = (
            PublishedFiles(
                paths,
                self.name,
                dataset,
                {one: PublishedFile(f"mrtydi-v1.1-{NAMES[one]}/{file}.jsonl.gz") for one in self.languages},
            )
            for dataset, file in (
                (HubDataset(TOPICS, TOPICS_REVISION), "test"),
                (HubDataset(CORPORA, CORPORA_REVISION), "corpus"),
            )
        )
