"""Mr. TyDi (arXiv 2108.08787): questions in 11 languages against the Wikipedia passages of the same language; its test part."""

from __future__ import annotations

from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.evaluation.benchmarks.published_files import PublishedFiles
from hybrid_retrieval.evaluation.benchmarks.stored_corpus import Judgements, StoredCorpus, Topics, read_topics

TOPICS, TOPICS_REVISION = "castorini/mr-tydi", "f1bb6e8db022ef33688e72eb352264e5cb16f057"
CORPORA, CORPORA_REVISION = "castorini/mr-tydi-corpus", "3a3aa212bbe94a8cc0dc858710a3dad49d532054"

PUBLISHED: dict[str, tuple[str, int | None, int | None]] = {
    "ar": ("arabic", 1081, 2_106_586),
    "bn": ("bengali", 111, 304_059),
    "en": ("english", 744, 32_907_100),
    "fi": ("finnish", 1254, 1_908_757),
    "id": ("indonesian", 829, 1_469_399),
    "ja": ("japanese", 720, 7_000_027),
    "ko": ("korean", 421, 1_496_126),
    "ru": ("russian", 995, 9_597_504),
    "sw": ("swahili", 670, 136_689),
    "te": ("telugu", 646, 548_224),
    "th": ("thai", 1190, 568_855),
}
"""Its name in the files, test queries, passages."""


class MrTydi(StoredCorpus):
    """``mr_tydi/mrtydi-v1.1-<language>/{test,corpus}.jsonl.gz`` below ``paths.data``, or from the hub."""

    name = "mr_tydi"
    measures = ("mrr@100", "recall@100")

    def __init__(self, paths: PathsConfig, languages: list[str] | None = None) -> None:
        """
        Args:
            languages: all by default.
        """
        super().__init__(paths, PUBLISHED, languages)
        folders = {language: f"mrtydi-v1.1-{PUBLISHED[language][0]}" for language in self.languages}
        self.topics, self.corpora = (
            PublishedFiles.of_hub(
                paths, self.name, dataset, revision, {language: f"{folder}/{file}" for language, folder in folders.items()}
            )
            for dataset, revision, file in (
                (TOPICS, TOPICS_REVISION, "test.jsonl.gz"),
                (CORPORA, CORPORA_REVISION, "corpus.jsonl.gz"),
            )
        )

    def corpus_keys(self, language: str) -> list[str]:
        return [language]

    def expected(self, language: str) -> dict[str, int | None]:
        return dict(zip(("queries", "passages"), PUBLISHED[language][1:], strict=True))

    def read_topics(self, language: str) -> tuple[Topics, Judgements]:
        return read_topics(self.topics.path(language))
