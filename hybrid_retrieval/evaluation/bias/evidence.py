"""What measures of language bias may look at, and what is worked out once for several of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hybrid_retrieval.evaluation.collection import Ints, RetrievalCollection
from hybrid_retrieval.evaluation.scoring.ranks import Ranks
from hybrid_retrieval.evaluation.scoring.scorer import Scorer
from hybrid_retrieval.evaluation.scoring.search import Top, search
from hybrid_retrieval.evaluation.scoring.vectors import Vectors

TOP_DEPTH = 100
"""Depth of the lists that measures of the top look at."""


@dataclass(frozen=True)
class Evidence:
    """One collection under one scorer.

    Attributes:
        scorer: documents that a query must not find have a score of minus infinity.
        ranks: of the judged documents.
        embeddings: of queries and corpus, one row a text; None where the scorer has none.
    """

    collection: RetrievalCollection
    scorer: Scorer
    ranks: Ranks
    embeddings: tuple[Vectors, Vectors] | None

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
        """The first `TOP_DEPTH` documents of every query, in trec_eval's order."""
        collection = self.collection
        return search(self.scorer, len(collection.queries), len(collection.corpus), TOP_DEPTH, collection.tie_order)
