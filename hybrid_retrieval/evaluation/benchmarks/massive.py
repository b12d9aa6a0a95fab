"""MASSIVE (arXiv 2204.08582) as retrieval: an utterance finds those of its intent or scenario, or its own translations."""

from __future__ import annotations

from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.data.massive import FILES, FOLDER, read_meta, read_utterances
from hybrid_retrieval.errors import InputError, choice
from hybrid_retrieval.evaluation.benchmarks.published_files import expect_count
from hybrid_retrieval.evaluation.benchmarks.utterances import LabelledUtterances, Utterances, by_translation
from hybrid_retrieval.evaluation.collection import RetrievalCollection
from hybrid_retrieval.values import Count, Name

TASKS = ("intent", "scenario", "translation")


class Massive(LabelledUtterances):
    """The test partition, as `data.massive` reads it."""

    utterances = 2974
    """Of the test partition, in each language."""

    def __init__(
        self,
        paths: PathsConfig,
        task: str,
        path: str = FOLDER,
        languages: list[str] | None = None,
        queries: Count | None = None,
        name: Name | None = None,
    ) -> None:
        """
        Args:
            task: intent, scenario or translation.
            name: of this choice of languages; by default that of the task.
        """
        choice("benchmark.massive.task", task, TASKS)
        self.task = task
        super().__init__(paths, name or f"massive_{task}", path, list(FILES), languages, queries)

    def read(self) -> Utterances:
        meta = {id_: one for id_, one in read_meta(self.folder).items() if one.partition == "test"}
        expect_count(f"benchmark {self.name}", "utterances", len(meta), self.utterances)
        found = {}
        for language in self.languages:
            texts = read_utterances(self.folder, language)
            if missing := next((id_ for id_ in meta if id_ not in texts), None):
                raise InputError(f"{self.folder / FILES[language]}.tsv.gz lacks the id {missing!r}, which meta.tsv.gz has")
            found[language] = [
                (id_, texts[id_], one.scenario if self.task == "scenario" else one.intent) for id_, one in meta.items()
            ]
        return found

    def collection(self, utterances: Utterances) -> RetrievalCollection:
        if self.task == "translation":
            return by_translation(self.name, utterances, self.queries)
        return super().collection(utterances)
