"""How much of a figure hangs on the order of documents with equal scores, which says nothing about the retriever.

Measures of ranks are in trec_eval's order of ties. Where the opposite order gives another value by more than `WORTH_SAYING` of
it, the figure ``ties_<measure>`` says by how much: the difference as a part of the value.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hybrid_retrieval.evaluation.collection import RetrievalCollection
from hybrid_retrieval.evaluation.figures import Figure
from hybrid_retrieval.evaluation.language_pairs import aggregate, language_pairs
from hybrid_retrieval.evaluation.measures import TIES, measure
from hybrid_retrieval.evaluation.scoring.ranks import Ranks

WORTH_SAYING = 0.01


def hanging_on_ties(collection: RetrievalCollection, ranks: Ranks, figures: Sequence[Figure]) -> Iterator[Figure]:
    """Of the macro means among `figures`, those that ties move.

    Args:
        ranks: that the figures come from.
    """
    if not ranks.pool_ties.tied.any() and not ranks.language_ties.tied.any():
        return
    opposite = {one.key: one.value for one in aggregate(collection.name, list(language_pairs(collection, ranks.opposite())))}
    for one in figures:
        whole = one.query_language is None and one.corpus_language is None
        if whole and one.measure.of_ranks and one.value and one.key in opposite:
            part = abs(opposite[one.key] - one.value) / one.value
            if part > WORTH_SAYING:
                yield Figure(one.benchmark, one.setting, measure(f"{TIES}{one.measure.name}"), None, None, part)
