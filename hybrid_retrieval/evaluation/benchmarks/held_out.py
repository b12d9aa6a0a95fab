"""The held-out part of a parallel set as a benchmark: help_r, or a company's own data."""

from __future__ import annotations

from typing import Any

import numpy as np

from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.data.parallel import ParallelPairs, TextTable
from hybrid_retrieval.data.source import Source
from hybrid_retrieval.errors import InputError, choice
from hybrid_retrieval.evaluation.benchmarks.benchmark import Benchmark
from hybrid_retrieval.evaluation.collection import Ints, RetrievalCollection, Side
from hybrid_retrieval.values import Name, build


class HeldOut(Benchmark):
    """Queries of a split against the split's passages in every language."""

    def __init__(
        self, paths: PathsConfig, name: Name, source: dict[str, Any], split: str = "test", cluster: str | None = None
    ) -> None:
        """
        Args:
            name: in metric keys.
            source: config of the data set, with ``_target_``.
            split: train, validation or test.
            cluster: a mark in the ids of queries; those that are alike before it are one cluster, as of a page.
        """
        choice(f"benchmark.{name}.split", split, ["train", "validation", "test"])
        self.name, self.split, self.cluster = name, split, cluster
        self.source: Source = build(source, Source, f"benchmark.{name}.source", paths=paths)

    def at_hand(self) -> bool:
        return self.source.at_hand()

    def load(self) -> RetrievalCollection:
        collection = split_collection(self.source.pairs(), self.split, self.name)
        return collection if self.cluster is None else collection.clustered_before(self.cluster)

    def provenance(self) -> dict[str, Any]:
        pairs = self.source.pairs()
        return {"set": pairs.name, "split": self.split, **pairs.meta["provenance"]}


def split_collection(pairs: ParallelPairs, split: str, name: str, items: int | None = None) -> RetrievalCollection:
    """The collection of a split's edges.

    Args:
        items: keep so many query groups, always the same, for a quick look during training.

    Raises:
        InputError: the split is empty.
    """
    edges = pairs.split_edges(split)[:, :2]
    if not len(edges):
        raise InputError(f"benchmark {name}: {pairs.name} has no {split} split (dataset.{split}_share=0?)")
    if items is not None:
        spread = np.random.default_rng(0).permutation(np.unique(edges[:, 0]))
        edges = edges[np.isin(edges[:, 0], spread[:items])]
    # A pair may stand in several edges that differ in their hard negatives.
    edges = np.unique(edges, axis=0)
    query_groups, asking = np.unique(edges[:, 0], return_inverse=True)
    passage_groups, answering = np.unique(edges[:, 1], return_inverse=True)
    queries, query_row = _side(pairs, "queries", query_groups.astype(np.int64))
    corpus, corpus_row = _side(pairs, "passages", passage_groups.astype(np.int64))
    # Every language of an edge's query against every language of its passage.
    asked, answered = query_row[asking], corpus_row[answering]
    edge, left, right = np.nonzero((asked[:, :, None] >= 0) & (answered[:, None, :] >= 0))
    query, document = asked[edge, left], answered[edge, right]
    order = np.lexsort((document, query))
    return RetrievalCollection(
        name=name,
        languages=pairs.languages,
        queries=queries,
        corpus=corpus,
        query=query[order],
        document=document[order],
        grade=np.ones(len(order), np.int64),
    )


def _side(pairs: ParallelPairs, name: str, groups: Ints) -> tuple[Side, Ints]:
    """The rows of `groups` of a side, and the place among them of each, int64 [groups, languages], or -1."""
    table: TextTable = getattr(pairs, name)
    of_groups = table.rows[groups].astype(np.int64)
    rows = np.sort(of_groups[of_groups >= 0])
    side = Side(table.texts(rows), table.ids(rows), table.languages[rows], pairs.prompts.get(name, ""))
    return side, np.where(of_groups >= 0, np.searchsorted(rows, of_groups), -1)
