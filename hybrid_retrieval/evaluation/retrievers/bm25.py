"""BM25 (Robertson et al., TREC-3), in Lucene's form, by bm25s: the lexical baseline.

The pool is one index over the documents of all languages, and each language is an index of its own, with its own idf and mean
length. Documents and queries are analysed by their own language, in both: a German question meets English text in the terms
that German and English analysis agree on, such as names and numbers.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from hybrid_retrieval.evaluation.collection import Ints, RetrievalCollection, Side
from hybrid_retrieval.evaluation.retrievers.retriever import AskedAgain, Index
from hybrid_retrieval.evaluation.retrievers.text_analysis import Analyser
from hybrid_retrieval.evaluation.scoring.scorer import Block
from hybrid_retrieval.progress import track
from hybrid_retrieval.ragged import Ragged
from hybrid_retrieval.values import Count, NotNegative, Share, check

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BM25(AskedAgain):
    """Retrieval by weighted terms.

    Attributes:
        k1: how fast a term's weight saturates with its frequency.
        b: how far the length of a document counts, 0..1. The defaults are those of Anserini and Pyserini, and so of the
            published baselines of MIRACL and Mr. TyDi.
        characters: of a term, in place of stems: names are alike in part where their spellings differ.
        romanize: spell alphabets in Latin letters first: names meet across scripts.
    """

    k1: NotNegative = 0.9
    b: Share = 0.4
    characters: Count | None = None
    romanize: bool = False

    def __post_init__(self) -> None:
        check(type(self), vars(self), "retriever.bm25")

    def index(self, collection: RetrievalCollection, label: str = "") -> Index:
        seen: defaultdict[str, int] = defaultdict(lambda: len(seen), {"": 0})
        said = f"{label}: terms" if label else ""
        documents = list(self._numbers(collection, collection.corpus, seen.__getitem__, said))
        vocabulary = dict(seen)
        pool = self._weights(documents, vocabulary)
        by_language = [documents[collection.corpus.rows(index)] for index in range(len(collection.languages))]
        parts = [self._weights(part, vocabulary) for part in by_language if part] if len(collection.languages) > 1 else [pool]
        queries = self._queries(collection, vocabulary)
        without = int((np.diff(queries.indptr) == 0).sum())
        if without and label:
            log.info("%s: %d of %d queries have no term that is in the corpus", label, without, len(collection.queries))
        language = LexicalScorer(queries, sparse.vstack(parts, "csr"), vocabulary) if len(parts) > 1 else None
        return Index(LexicalScorer(queries, pool, vocabulary), language)

    def asking(self, index: Index, collection: RetrievalCollection) -> Index:
        pool, language = (cast("LexicalScorer | None", one) for one in (index.pool, index.language))
        assert pool is not None
        queries = self._queries(collection, pool.vocabulary)
        return Index(replace(pool, queries=queries), language and replace(language, queries=queries))

    def _queries(self, collection: RetrievalCollection, vocabulary: Mapping[str, int]) -> sparse.csr_matrix:
        return counts(list(self._numbers(collection, collection.queries, vocabulary.get)), len(vocabulary))

    def _numbers(
        self, collection: RetrievalCollection, side: Side, number_of: Callable[[str], int | None], label: str = ""
    ) -> Iterator[list[int]]:
        """The terms of every text as numbers; those without one are left out."""
        for index, language in enumerate(collection.languages):
            analyser, texts = Analyser(language, self.characters, self.romanize), side.texts[side.rows(index)]
            for text in track(texts, f"{label} {language}", len(texts), show=bool(label)):
                found = (number_of(term) for term in analyser.terms(text))
                yield [number for number in found if number is not None]

    def _weights(self, documents: Sequence[list[int]], vocabulary: Mapping[str, int]) -> sparse.csr_matrix:
        """float32 [documents, vocabulary]: what a term adds to a document's score, by bm25s."""
        import bm25s

        logging.getLogger("bm25s").setLevel(logging.WARNING)
        model = bm25s.BM25(k1=self.k1, b=self.b, method="lucene", csc_backend="scipy")
        with np.errstate(invalid="ignore"):  # a corpus without a single term has no mean length
            model.index((list(documents), vocabulary), create_empty_token=False, show_progress=False)
        arrays = tuple(model.scores[name] for name in ("data", "indices", "indptr"))
        return sparse.csc_matrix(arrays, shape=(len(documents), len(vocabulary))).tocsr()


@dataclass(frozen=True)
class LexicalScorer:
    """Sums of the weights of a query's terms, each as often as the query has it; without a term in common nothing is found.

    Attributes:
        queries: float32 [queries, vocabulary], how often each query has each term.
        weights: float32 [documents, vocabulary].
        vocabulary: the numbers of terms.
    """

    queries: sparse.csr_matrix
    weights: sparse.csr_matrix
    vocabulary: Mapping[str, int]

    def against(self, documents: slice) -> Block:
        postings = self.weights[documents].T.tocsr()

        def block(start: int, stop: int) -> Tensor:
            scores = (self.queries[start:stop] @ postings).toarray()
            scores[scores == 0] = -np.inf
            return torch.from_numpy(scores)

        return block

    def pairs(self, queries: Ints, documents: Ints) -> Tensor:
        """float32 [pairs]: the score of each query with the document beside it, 0 without a term in common."""
        return torch.from_numpy(np.asarray(self.queries[queries].multiply(self.weights[documents]).sum(1), np.float32).ravel())


def counts(texts: Sequence[Sequence[int]], size: int) -> sparse.csr_matrix:
    """float32 [texts, size]: how often each text has each term."""
    terms = Ragged.from_lists(texts)
    found = sparse.csr_matrix((np.ones(len(terms.values), np.float32), terms.values, terms.offsets), (len(terms), size))
    found.sum_duplicates()
    return found
