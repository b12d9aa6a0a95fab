"""BM25 (Robertson et al., TREC-3), in Lucene's form, by bm25s: the lexical baseline.

The pool is one index over the documents of all languages, and each language is an index of its own, with its own idf and mean
length. Documents and queries are analysed by their own language, in both: a German question meets English text in the terms
that German and English analysis agree on, such as names and numbers.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from hybrid_retrieval.config import not_negative, share
from hybrid_retrieval.evaluation.collection import RetrievalCollection, Side
from hybrid_retrieval.evaluation.retrievers.retriever import Index, Retriever
from hybrid_retrieval.evaluation.retrievers.text_analysis import Analyser
from hybrid_retrieval.evaluation.scoring.scorer import Block
from hybrid_retrieval.progress import track

log = logging.getLogger(__name__)

Vocabulary = dict[str, int]


@dataclass(frozen=True)
class BM25(Retriever):
    """Retrieval by weighted terms.

    Attributes:
        k1: how fast a term's weight saturates with its frequency.
        b: how far the length of a document counts, 0..1. The defaults are those of Anserini and Pyserini, and so of the
            published baselines of MIRACL and Mr. TyDi.
    """

    k1: float = 0.9
    b: float = 0.4

    def __post_init__(self) -> None:
        not_negative("retriever.bm25.k1", self.k1)
        share("retriever.bm25.b", self.b)

    def index(self, collection: RetrievalCollection, label: str = "") -> Index:
        vocabulary: Vocabulary = {"": 0}
        documents = list(analysed(collection, collection.corpus, vocabulary, f"{label}: terms" if label else ""))
        pool = self._weights(documents, vocabulary)
        by_language = [documents[collection.corpus.rows(index)] for index in range(len(collection.languages))]
        parts = [self._weights(part, vocabulary) for part in by_language if part] if len(collection.languages) > 1 else [pool]
        queries = counts(known(collection, collection.queries, vocabulary), len(vocabulary))
        without = int((np.diff(queries.indptr) == 0).sum())
        if without and label:
            log.info("%s: %d of %d queries have no term that is in the corpus", label, without, len(collection.queries))
        language = LexicalScorer(queries, sparse.vstack(parts, "csr")) if len(parts) > 1 else None
        return Index(LexicalScorer(queries, pool), language)

    def _weights(self, documents: Sequence[list[int]], vocabulary: Vocabulary) -> sparse.csr_matrix:
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
    """Sums of the weights of a query's terms, each as often as the query has it.

    Attributes:
        queries: float32 [queries, vocabulary], how often each query has each term.
        weights: float32 [documents, vocabulary].
    """

    queries: sparse.csr_matrix
    weights: sparse.csr_matrix

    def against(self, documents: slice) -> Block:
        postings = self.weights[documents].T.tocsr()

        def block(start: int, stop: int) -> Tensor:
            return torch.from_numpy((self.queries[start:stop] @ postings).toarray())

        return block


def analysed(collection: RetrievalCollection, side: Side, vocabulary: Vocabulary, label: str = "") -> Iterator[list[int]]:
    """The terms of every text, as numbers; the `vocabulary` grows."""
    for terms in _terms(collection, side, label):
        yield [vocabulary.setdefault(term, len(vocabulary)) for term in terms]


def known(collection: RetrievalCollection, side: Side, vocabulary: Vocabulary) -> Iterator[list[int]]:
    """The terms of every text that are in the vocabulary, as numbers."""
    for terms in _terms(collection, side):
        yield [vocabulary[term] for term in terms if term in vocabulary]


def _terms(collection: RetrievalCollection, side: Side, label: str = "") -> Iterator[list[str]]:
    for index, language in enumerate(collection.languages):
        analyser, rows = Analyser(language), side.rows(index)
        texts = side.texts[rows]
        for text in track(texts, f"{label} {language}", len(texts), show=bool(label)):
            yield analyser.terms(text)


def counts(texts: Iterable[Sequence[int]], size: int) -> sparse.csr_matrix:
    """float32 [texts, size]: how often each text has each term."""
    rows = [np.array(text, np.int64) for text in texts]
    terms = np.concatenate([np.empty(0, np.int64), *rows])
    found = sparse.csr_matrix((np.ones(len(terms), np.float32), terms, np.cumsum([0, *map(len, rows)])), (len(rows), size))
    found.sum_duplicates()
    return found
