"""Utterances with labels as retrieval: one finds those of its label, over all pairs of languages.

An utterance never finds itself, nor its translations, which have its id. Or the other way round: it finds its translations and
nothing else.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hybrid_retrieval.cache import folder_state
from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.data.source import choose_languages, find_folder
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.evaluation.benchmarks.benchmark import Benchmark
from hybrid_retrieval.evaluation.collection import Ints, RetrievalCollection, Side, join
from hybrid_retrieval.hashing import text_hash

Utterance = tuple[str, str, str]
"""Id, text, label."""
Utterances = Mapping[str, Sequence[Utterance]]
"""By language; translations share an id, and nothing else does."""


class LabelledUtterances(Benchmark):
    """Utterances out of a folder of the user's, as they are published."""

    def __init__(
        self, paths: PathsConfig, name: str, path: str, present: Sequence[str], languages: list[str] | None, queries: int | None
    ) -> None:
        """
        Args:
            path: the folder; a relative one is looked for under ``paths.data``.
            present: the languages that were published.
            languages: those to use; all by default.
            queries: how many utterances of each language ask, as of `by_label`.
        """
        self.name, self.path, self.queries = name, path, queries
        self.folder = find_folder(path, paths.data, f"benchmark.{name}.path")
        self.languages = choose_languages(languages, present, f"benchmark.{name}.languages")

    def at_hand(self) -> bool:
        return self.folder.is_dir()

    def provenance(self) -> dict[str, Any]:
        return {"path": str(self.folder), "state": folder_state(self.folder)[1]}

    def load(self) -> RetrievalCollection:
        if not self.folder.is_dir():
            raise InputError(
                f"benchmark={self.name} reads the folder {self.path!r} below paths.data (HYBRID_RETRIEVAL_DATA), which is not "
                f"there; benchmark.{self.name}.path names another one"
            )
        return self.collection(self.read())

    def collection(self, utterances: Utterances) -> RetrievalCollection:
        """What is asked of the utterances."""
        return by_label(self.name, utterances, self.queries)

    @abstractmethod
    def read(self) -> Utterances:
        """The test part in the languages that were chosen.

        Raises:
            InputError: damaged, or not as many as were published.
        """


def by_label(name: str, utterances: Utterances, queries: int | None = None) -> RetrievalCollection:
    """Relevant are the utterances of the same label, in every language, without the utterance and its translations.

    Args:
        queries: how many of each language ask, those with the smallest hashes of ids (so the same ones in all languages); all
            of them by default. The corpus holds all in any case.
    """
    collection, asked = _without_judgements(name, utterances, queries)
    label = numbers([label for language in collection.languages for _, _, label in utterances[language]])
    excluded = _pairs(collection)
    query, document = related(label[asked], label, excluded)
    return replace(_judged(collection, query, document), excluded=excluded, labels=(label[asked], label))


def by_translation(name: str, utterances: Utterances, queries: int | None = None) -> RetrievalCollection:
    """Relevant are an utterance's translations; it does not find itself. Otherwise as `by_label`."""
    collection, asked = _without_judgements(name, utterances, queries)
    pairs = _pairs(collection)
    itself = asked[pairs[:, 0]] == pairs[:, 1]
    judged = _judged(collection, *pairs[~itself].T)
    return replace(judged, excluded=pairs[itself], measures=("map", "recall@1"))


def same_ids(queries: Side, corpus: Side) -> Ints:
    """int64 [pairs, 2], sorted: the rows of every query and each utterance that has the same id."""
    ids = numbers([*queries.ids, *corpus.ids])
    return np.stack(join(ids[: len(queries)], ids[len(queries) :]), 1)


def related(asked: Ints, label: Ints, excluded: Ints) -> tuple[Ints, Ints]:
    """All (query, document) of the same label but the `excluded`, sorted.

    Args:
        asked: int64 [queries], their labels.
        label: int64 [documents], likewise.
    """
    query, document = join(asked, label)  # int64 [pairs]: 35 million or more for the 11 domains of MTOP
    left_out = excluded[asked[excluded[:, 0]] == label[excluded[:, 1]]]
    keep = np.ones(len(query), bool)
    keep[np.searchsorted(query * len(label) + document, left_out[:, 0] * len(label) + left_out[:, 1])] = False
    return query[keep], document[keep]


def numbers(values: Sequence[str]) -> Ints:
    """The same number for the same string, from 0."""
    encoded: Ints = pc.dictionary_encode(pa.array(values, pa.string())).indices.to_numpy().astype(np.int64)
    return encoded


def _without_judgements(name: str, utterances: Utterances, queries: int | None) -> tuple[RetrievalCollection, Ints]:
    """Queries and corpus, and the row in the corpus of each query."""
    languages = tuple(sorted(utterances))
    corpus = Side.of(
        name, languages, {language: [(id_, text) for id_, text, _ in utterances[language]] for language in languages}
    )
    asked, asking = np.arange(len(corpus)), corpus
    if queries is not None:
        order = np.array([text_hash(id_) for id_ in corpus.ids], np.uint64)
        parts = [corpus.rows(index) for index in range(len(languages))]
        asked = np.concatenate([np.sort(part.start + np.argsort(order[part], kind="stable")[:queries]) for part in parts])
        texts, ids = ([column[row] for row in asked.tolist()] for column in (corpus.texts, corpus.ids))
        asking = Side(texts, ids, corpus.language[asked])
    none = np.empty(0, np.int64)
    return RetrievalCollection(name, languages, asking, corpus, none, none, none, measures=("map",)), asked


def _pairs(collection: RetrievalCollection) -> Ints:
    return same_ids(collection.queries, collection.corpus)


def _judged(collection: RetrievalCollection, query: Ints, document: Ints) -> RetrievalCollection:
    return replace(collection, query=query, document=document, grade=np.broadcast_to(np.int64(1), len(query)))
