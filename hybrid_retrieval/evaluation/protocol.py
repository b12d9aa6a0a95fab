"""Read each text once, score once, and derive every setting and measure."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from hybrid_retrieval.data.stored_texts import as_column
from hybrid_retrieval.evaluation.bias.evidence import Evidence
from hybrid_retrieval.evaluation.bias.suite import bias_suite
from hybrid_retrieval.evaluation.collection import Ints, RetrievalCollection
from hybrid_retrieval.evaluation.knn import with_knn
from hybrid_retrieval.evaluation.measures import Floats
from hybrid_retrieval.evaluation.retrievers.retriever import Index, Retriever
from hybrid_retrieval.evaluation.scoring.ranks import count_ranks
from hybrid_retrieval.evaluation.scoring.scorer import Excluding
from hybrid_retrieval.evaluation.settings import Slice, aggregate, slices
from hybrid_retrieval.evaluation.statistics.intervals import interval_figures

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluation:
    """The figures of one benchmark, and what they came from."""

    collection: RetrievalCollection
    index: Index
    views: list[Slice]
    metrics: dict[str, float]

    def per_query(self) -> pa.Table:
        """One row for each query and corpus: benchmark, setting, languages, query id, and a column a measure."""
        names = sorted({name for view in self.views for name in view.values})
        languages = np.array([*self.collection.languages, None], dtype=object)
        sizes = [len(view.queries) for view in self.views]
        rows = np.concatenate([np.empty(0, np.int64), *(view.queries for view in self.views)])

        def of_views(values: Sequence[str | int | None]) -> pa.Array:
            """One value a view, in each of its rows."""
            return pa.array(values).dictionary_encode().take(pa.array(np.repeat(np.arange(len(sizes)), sizes)))

        texts = {
            "benchmark": of_views([self.collection.name] * len(sizes)),
            "setting": of_views([view.setting for view in self.views]),
            "query_language": of_views([languages[view.query_language] for view in self.views]),
            "corpus_language": of_views(
                [languages[-1 if view.corpus_language is None else view.corpus_language] for view in self.views]
            ),
            "query_id": as_column(self.collection.queries.ids).take(pa.array(rows)),
        }
        figures = {
            name: pa.chunked_array(
                [
                    pa.array(view.values[name]) if name in view.values else pa.nulls(size, pa.float64())
                    for view, size in zip(self.views, sizes, strict=True)
                ],
                pa.float64(),
            )
            for name in names
        }
        return pa.table({name: column.cast(pa.string()) for name, column in texts.items()} | figures)


@dataclass(frozen=True)
class Wanted:
    """What is reported beside the collection's measures.

    Attributes:
        bias: names of `hybrid_retrieval.evaluation.bias.suite`.
        replicates: of the bootstrap that intervals come from; 0: none.
        seed: of the bootstrap.
    """

    bias: Sequence[str] = ("rank_distance",)
    replicates: int = 0
    seed: int = 0


def evaluate(
    retriever: Retriever, collection: RetrievalCollection, label: str = "", wanted: Wanted | None = None
) -> Evaluation:
    """Read a collection's texts once and score it; with a `label`, progress and lost text are shown."""
    return score(collection, retriever.index(collection, label), label, wanted)


def score(collection: RetrievalCollection, index: Index, label: str = "", wanted: Wanted | None = None) -> Evaluation:
    """All settings and measures of a collection that is indexed."""
    wanted = wanted or Wanted()
    index = without(index, collection.excluded)
    ranks = count_ranks(index.pool, collection, f"{label}: ranking" if label else "")
    if index.language is not None:
        own = count_ranks(index.language, collection, f"{label}: ranking by language" if label else "")
        ranks = replace(ranks, language=own.language)
    views = with_knn(collection, index, list(slices(collection, ranks)))
    judged = collection.settings - {"multilingual"}
    left_out = sum(view.left_out for view in views if view.setting in judged)
    if left_out and label:
        log.info("%s: %d queries have no relevant document in a target corpus and are left out of that pair", label, left_out)
    figures = aggregate(collection, views)
    found = bias_suite(Evidence(collection, index.pool, ranks, index.embeddings), wanted.bias)
    figures |= {f"{collection.name}/multilingual/{name}": value for name, value in found.figures.items()}
    for note in found.notes if label else ():
        log.info("%s: %s", label, note)
    views = [with_columns(view, found.per_query) for view in views]
    if wanted.replicates:
        bounds = interval_figures(collection, views, wanted.replicates, wanted.seed)
        figures |= {name: value for name, value in bounds.items() if name.rpartition(".")[0] in figures}
    return Evaluation(collection, index, views, figures)


def with_columns(view: Slice, columns: Mapping[str, Floats]) -> Slice:
    """The pooled views with what the bias suite found per query; others as they are."""
    if view.setting != "multilingual":
        return view
    return replace(view, values=view.values | {name: values[view.queries] for name, values in columns.items()})


def without(index: Index, excluded: Ints) -> Index:
    """The same index, where some queries do not find some documents: `RetrievalCollection.excluded`."""
    if not len(excluded):
        return index
    language = Excluding(index.language, excluded) if index.language else None
    return replace(index, pool=Excluding(index.pool, excluded), language=language)
