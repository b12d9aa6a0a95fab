"""The input of measures of language bias, worked out once for all of them, and their output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from hybrid_retrieval.evaluation.collection import Ints, RetrievalCollection
from hybrid_retrieval.evaluation.figures import Figure
from hybrid_retrieval.evaluation.measures import Floats, measure
from hybrid_retrieval.evaluation.scoring.ranks import BLOCK_DOCUMENTS, BLOCK_SCORES, Ranks, document_blocks
from hybrid_retrieval.evaluation.scoring.scorer import Scorer
from hybrid_retrieval.evaluation.scoring.search import Top, search
from hybrid_retrieval.evaluation.scoring.vectors import Vectors

TOP_DEPTH = 100
"""Depth of the lists that measures of the top look at."""


@dataclass(frozen=True)
class Finding:
    """The output of a measure, in the pooled setting.

    Attributes:
        figures: by query language, and the figure without one is their macro mean, where a measure does not say otherwise.
        per_query: float64 [queries of the collection], nan where not defined; by column name.
        notes: what has no figure, and why.
    """

    figures: list[Figure] = field(default_factory=list)
    per_query: dict[str, Floats] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @classmethod
    def joined(cls, parts: Sequence[Finding]) -> Finding:
        """All figures, columns and notes together."""
        whole = cls()
        for part in parts:
            whole.figures.extend(part.figures)
            whole.per_query.update(part.per_query)
            whole.notes.extend(part.notes)
        return whole


@dataclass(frozen=True)
class Evidence:
    """One collection under one scorer.

    Attributes:
        scorer: documents that a query must not find have a score of minus infinity.
        ranks: of the judged documents.
        embeddings: of queries and corpus, one row a text; None where the scorer has none.
        block_documents: that a further pass over the scores prepares together.
    """

    collection: RetrievalCollection
    scorer: Scorer
    ranks: Ranks
    embeddings: tuple[Vectors, Vectors] | None
    block_documents: int = BLOCK_DOCUMENTS

    @cached_property
    def judged(self) -> Ints:
        """Rows of the queries with a relevant document, ascending."""
        return np.unique(self.collection.query)

    @cached_property
    def question(self) -> Ints:
        """int64 [queries]: the same number for the translations of one question.

        Those are the queries with one id in several languages, where a question is judged across languages; elsewhere
        (MIRACL numbers the topics of each language anew) equal ids say nothing, and each query is a question.
        """
        if "crosslingual" not in self.collection.settings:
            return np.arange(len(self.collection.queries), dtype=np.int64)
        numbers: dict[str, int] = {}
        return np.array([numbers.setdefault(id_, len(numbers)) for id_ in self.collection.queries.ids], dtype=np.int64)

    @cached_property
    def levels(self) -> tuple[Ints, Ints]:
        """Levels of relevance, a level being a query's documents of one grade.

        int64 [levels], the query's row; and int64 [judgements], the level of each.
        """
        grades = int(self.collection.grade.max(initial=0)) + 1
        levels, number = np.unique(self.collection.query * grades + self.collection.grade, return_inverse=True)
        return levels // grades, number

    @cached_property
    def top(self) -> Top:
        """The first `TOP_DEPTH` documents of every query and the one that follows, in trec_eval's order."""
        collection = self.collection
        return search(self.scorer, len(collection.queries), len(collection.corpus), TOP_DEPTH + 1, collection.tie_order)

    def counted(self, rows: Ints, values: npt.NDArray[np.float32]) -> tuple[Ints, Ints]:
        """int64 [rows, languages]: documents of each language that score above a query's value, and at it; rows ascending."""
        collection, languages = self.collection, len(self.collection.languages)
        above, equal = np.zeros((2, len(rows), languages), np.int64)
        for documents in document_blocks(len(collection.corpus), self.block_documents):
            block, language = self.scorer.against(documents), collection.corpus.language[documents]
            height = max(1, BLOCK_SCORES // len(language))
            for start in range(0, len(collection.queries), height):
                mine = slice(*np.searchsorted(rows, [start, start + height]))
                if mine.start == mine.stop:
                    continue
                scores = block(start, min(start + height, len(collection.queries))).cpu().numpy()[rows[mine] - start]
                for counts, found in ((above, scores > values[mine, None]), (equal, scores == values[mine, None])):
                    row, column = np.nonzero(found)
                    np.add.at(counts[mine], (row, language[column]), 1)
        return above, equal

    def blank(self) -> Floats:
        """float64 [queries] of nan."""
        return np.full(len(self.collection.queries), np.nan)

    def figure(self, name: str, value: float, query_language: str | None = None, corpus_language: str | None = None) -> Figure:
        """A figure of the pooled setting."""
        return Figure(self.collection.name, "multilingual", measure(name), query_language, corpus_language, value)

    def by_language(self, name: str, means: Mapping[str, float]) -> list[Figure]:
        """The macro mean, and the figure of each language."""
        macro = self.figure(name, float(np.mean(list(means.values()))))
        return [macro, *(self.figure(name, value, language) for language, value in means.items())]

    def query_means(self, values: Floats) -> dict[str, float]:
        """The mean over the queries of each language that have a value."""
        language = self.collection.queries.language
        means = {}
        for index, name in enumerate(self.collection.languages):
            mine = values[(language == index) & ~np.isnan(values)]
            if len(mine):
                means[name] = float(mine.mean())
        return means

    def of_queries(self, columns: Mapping[str, Floats], undefined: str = "no query has a value") -> Finding:
        """Means of values per query; `undefined` is said of a column without any value."""
        kept = {name: values for name, values in columns.items() if not np.isnan(values).all()}
        figures = [one for name, values in kept.items() for one in self.by_language(name, self.query_means(values))]
        return Finding(figures, kept, [f"{name}: {undefined}" for name in columns if name not in kept])
