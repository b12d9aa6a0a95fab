"""Retrieval drop when the query's language is removed from the pool.

Per query, average precision in the pooled corpus, less the same where the documents of the query's language are neither in the
pool nor relevant. In [-1, 1]; positive: what is found is mostly in the query's own language; negative: documents of the query's
language stood in the way. An encoder that ranks all translations of the answer first has 0; one that ignores language but errs
is a little below, since the smaller pool is easier (of n answers at ranks n + 1 .. 2n: -0.08 for two languages, -0.002 for
eleven). Measures at a fixed depth are not compared: without a language more answers fit in. For queries with a relevant
document in another language. Exact: the ranks are counted anew, in one further pass, under a scorer that hides those documents.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from hybrid_retrieval.evaluation.bias.evidence import Evidence, Finding
from hybrid_retrieval.evaluation.collection import Ints, RetrievalCollection
from hybrid_retrieval.evaluation.measures import Floats, Relevant, average_precision
from hybrid_retrieval.evaluation.scoring.ranks import count_ranks
from hybrid_retrieval.evaluation.scoring.scorer import Block, Scorer


def drop_without_own_language(evidence: Evidence) -> Finding:
    """``drop_without_own_language_map``."""
    collection = evidence.collection
    other = collection.queries.language[collection.query] != collection.corpus.language[collection.document]
    rest = replace(
        collection, query=collection.query[other], document=collection.document[other], grade=collection.grade[other]
    )
    undefined = "no query has a relevant document in another language"
    if not other.any():
        return Finding(notes=[f"drop_without_own_language: {undefined}"])
    hidden = OwnLanguageHidden(evidence.scorer, collection)
    without = count_ranks(hidden, rest, block_documents=evidence.block_documents).pool
    drop = _precision(evidence, collection, evidence.ranks.pool) - _precision(evidence, rest, without)
    return evidence.of_queries({"drop_without_own_language_map": drop}, undefined)


def _precision(evidence: Evidence, collection: RetrievalCollection, rank: Ints) -> Floats:
    """float64 [queries], nan where nothing is relevant."""
    values = evidence.blank()
    relevant, rows = Relevant.grouped(collection.query, rank, collection.grade)
    values[rows] = average_precision(relevant)
    return values


@dataclass(frozen=True)
class OwnLanguageHidden:
    """A scorer under which no query finds documents of its own language."""

    scorer: Scorer
    collection: RetrievalCollection

    def against(self, documents: slice) -> Block:
        inner = self.scorer.against(documents)
        language = torch.from_numpy(np.ascontiguousarray(self.collection.corpus.language[documents]))

        def block(start: int, stop: int) -> Tensor:
            asked = torch.from_numpy(np.ascontiguousarray(self.collection.queries.language[start:stop]))
            scores = inner(start, stop)
            return scores.masked_fill((asked[:, None] == language).to(scores.device), -torch.inf)

        return block
