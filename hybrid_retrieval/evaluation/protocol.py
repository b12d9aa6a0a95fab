"""Read each text once, score once, and derive every setting and measure."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from hybrid_retrieval.evaluation.bias.evidence import Evidence
from hybrid_retrieval.evaluation.bias.suite import bias_suite
from hybrid_retrieval.evaluation.collection import RetrievalCollection
from hybrid_retrieval.evaluation.contrasts import by_contrast, by_phenomenon
from hybrid_retrieval.evaluation.figures import Figures
from hybrid_retrieval.evaluation.knn import with_knn
from hybrid_retrieval.evaluation.language_pairs import (
    LanguagePair,
    aggregate,
    language_pairs,
    over_queries,
    over_seen,
    per_query,
    with_intervals,
)
from hybrid_retrieval.evaluation.retrievers.retriever import Index, Retriever
from hybrid_retrieval.evaluation.scoring.ranks import Ranks, count_ranks
from hybrid_retrieval.evaluation.scoring.scorer import Checked, DenseScorer, Excluding
from hybrid_retrieval.evaluation.ties import hanging_on_ties

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluation:
    """The figures of one benchmark, and what they came from.

    Attributes:
        scored: whose queries have the values of `pairs`: the collection, or one with a query a contrast.
    """

    collection: RetrievalCollection
    index: Index
    pairs: list[LanguagePair]
    figures: Figures
    scored: RetrievalCollection
    ranks: Ranks
    asked: Index
    """The index as its retriever made it, for other queries."""

    @property
    def metrics(self) -> dict[str, float]:
        """The figures as in ``metrics.json``."""
        return self.figures.metrics()

    def per_query(self) -> pa.Table:
        """As `hybrid_retrieval.evaluation.language_pairs.per_query`."""
        return per_query(self.scored, self.pairs)


@dataclass(frozen=True)
class Wanted:
    """Measures of bias and intervals, reported beside the collection's measures.

    Attributes:
        bias: names of `hybrid_retrieval.evaluation.bias.suite`.
        replicates: of the bootstrap that intervals come from; 0: none.
        seed: of the bootstrap.
        trained_on: the languages of the text that the encoder was trained on; None where that is not known.
    """

    bias: Sequence[str] = ("rank_distance",)
    replicates: int = 0
    seed: int = 0
    trained_on: Sequence[str] | None = None


def evaluate(
    retriever: Retriever, collection: RetrievalCollection, label: str = "", wanted: Wanted | None = None
) -> Evaluation:
    """Read a collection's texts once and score it; with a `label`, progress and lost text are shown."""
    return score(collection, retriever.index(collection, label), label, wanted)


def score(collection: RetrievalCollection, index: Index, label: str = "", wanted: Wanted | None = None) -> Evaluation:
    """All settings and measures of a collection that is indexed."""
    wanted = wanted or Wanted()
    plain = index
    index, ranks = ranked(collection, index, label)
    pairs = with_knn(collection, index, list(language_pairs(collection, ranks)))
    scored = collection
    if collection.contrasts is not None:
        scored, pairs = by_contrast(collection, collection.contrasts, index)
    figures = list(aggregate(collection.name, pairs))
    figures += list(hanging_on_ties(collection, ranks, figures))
    found = bias_suite(Evidence(collection, index.pool, ranks, index.embeddings), wanted.bias)
    figures += found.figures
    pairs = [pair if pair.corpus_language else pair.adding(found.per_query) for pair in pairs]
    if collection.contrasts is not None:
        pairs = by_phenomenon(collection.contrasts, pairs)
    if label:
        settings = collection.settings - {"multilingual"}
        left_out = sum(pair.left_out for pair in pairs if pair.setting in settings)
        if left_out:
            text = "%s: %d queries have no relevant document in a target corpus and are left out of that pair"
            log.info(text, label, left_out)
        for note in found.notes:
            log.info("%s: %s", label, note)
    if wanted.trained_on is not None:
        figures += list(over_seen(figures, pairs, wanted.trained_on))
    figures += list(over_queries(collection.name, pairs))
    if wanted.replicates:
        figures = list(with_intervals(figures, scored, pairs, wanted.replicates, wanted.seed))
    return Evaluation(collection, index, pairs, Figures(tuple(figures)), scored, ranks, plain)


def ranked(collection: RetrievalCollection, index: Index, label: str = "") -> tuple[Index, Ranks]:
    """An index whose scores are checked, without what queries must not find; and the ranks of the judged documents."""
    if not isinstance(index.pool, DenseScorer):  # which checks its embeddings
        index = replace(index, pool=Checked(index.pool), language=Checked(index.language) if index.language else None)
    if len(collection.excluded):
        language = Excluding(index.language, collection.excluded) if index.language else None
        index = replace(index, pool=Excluding(index.pool, collection.excluded), language=language)
    ranks = count_ranks(index.pool, collection, f"{label}: ranking" if label else "")
    if index.language is not None:
        own = count_ranks(index.language, collection, f"{label}: ranking by language" if label else "")
        ranks = replace(ranks, language=own.language, language_ties=own.language_ties)
    return index, ranks
