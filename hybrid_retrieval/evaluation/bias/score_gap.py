"""Same-language score gap: how much more a document scores for being in the query's language.

- ``score_gap``: mean score of the relevant documents in the query's language less that of those in other languages, at
  equal grades: per grade that has both, then the mean over grades.
- ``score_gap_non_relevant``: the same for all documents that are not judged relevant; the bias towards a language itself,
  whatever is said in it.
- ``.._standardised``: each in standard deviations of the query's scores over the pool, to compare encoders whose scores have
  different ranges.

Any value; 0 is no gap, positive favours the query's language. The first is the difference that arXiv 2004.05484 draws as
histograms of same-language and cross-language scores. Documents that a query must not find take no part; one that a lexical
scorer does not find scores 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from hybrid_retrieval.evaluation.bias.evidence import Evidence, Finding
from hybrid_retrieval.evaluation.collection import Ints
from hybrid_retrieval.evaluation.measures import Floats
from hybrid_retrieval.evaluation.scoring.ranks import BLOCK_DOCUMENTS, BLOCK_SCORES, document_blocks


def score_gap(evidence: Evidence, block_documents: int = BLOCK_DOCUMENTS) -> Finding:
    """Gaps of relevant and of other documents, in scores and in standard deviations."""
    totals = _totals(evidence, block_documents)
    gap, rest = _relevant_gap(evidence), _rest_gap(evidence, totals)
    spread = totals.deviation()
    spread[spread == 0] = np.nan
    columns = {
        "score_gap": gap,
        "score_gap_non_relevant": rest,
        "score_gap_standardised": gap / spread,
        "score_gap_non_relevant_standardised": rest / spread,
    }
    return evidence.of_queries(columns, "no query has documents of one kind in its own and in another language")


@dataclass(frozen=True)
class _Totals:
    """Moments of every query's finite scores.

    Attributes:
        sum, count: [queries, languages], over the documents of each language.
        squares: [queries], the sum of squares over the pool.
    """

    sum: Floats
    count: Ints
    squares: Floats

    def deviation(self) -> Floats:
        """Standard deviation of a query's scores over the pool."""
        count = np.maximum(self.count.sum(1), 1)
        mean = self.sum.sum(1) / count
        return np.asarray(np.sqrt(np.maximum(self.squares / count - np.square(mean), 0)), np.float64)


def _totals(evidence: Evidence, block_documents: int) -> _Totals:
    """One pass over the scores."""
    collection = evidence.collection
    queries, languages = len(collection.queries), len(collection.languages)
    totals = _Totals(np.zeros((queries, languages)), np.zeros((queries, languages), np.int64), np.zeros(queries))
    totals.count[:] = np.bincount(collection.corpus.language, minlength=languages)
    np.subtract.at(totals.count, (collection.excluded[:, 0], collection.corpus.language[collection.excluded[:, 1]]), 1)
    for documents in document_blocks(len(collection.corpus), block_documents):
        block = evidence.scorer.against(documents)
        language = torch.from_numpy(np.ascontiguousarray(collection.corpus.language[documents]))
        of_language = nn.functional.one_hot(language, languages).double()  # [documents, languages]
        height = max(1, BLOCK_SCORES // len(language))
        for start in range(0, queries, height):
            rows = slice(start, min(start + height, queries))
            scores = block(rows.start, rows.stop).double()
            scores[torch.isneginf(scores)] = 0
            totals.sum[rows] += (scores @ of_language.to(scores.device)).cpu().numpy()
            totals.squares[rows] += scores.square().sum(1).cpu().numpy()
    return totals


def _judged_scores(evidence: Evidence) -> tuple[npt.NDArray[np.bool_], Floats]:
    """[judgements]: whether the query may find the document, and its score, 0 where it does not."""
    collection, documents = evidence.collection, len(evidence.collection.corpus)
    hidden = collection.excluded[:, 0] * documents + collection.excluded[:, 1]
    allowed = ~np.isin(collection.query * documents + collection.document, hidden)
    score = evidence.ranks.score.astype(np.float64)
    return allowed, np.where(np.isneginf(score), 0, score)


def _relevant_gap(evidence: Evidence) -> Floats:
    """float64 [queries]."""
    collection = evidence.collection
    query, (found, score) = collection.query, _judged_scores(evidence)
    own = collection.queries.language[query] == collection.corpus.language[collection.document]
    of_level, level = evidence.levels
    means = []
    for side in (own & found, ~own & found):
        count = np.bincount(level[side], minlength=len(of_level))
        total = np.bincount(level[side], score[side], minlength=len(of_level))
        with np.errstate(invalid="ignore"):
            means.append(total / count)
    gap = means[0] - means[1]
    defined = ~np.isnan(gap)
    rows, values = of_level[defined], evidence.blank()
    count = np.bincount(rows, minlength=len(values))
    some = count > 0
    values[some] = np.bincount(rows, gap[defined], minlength=len(values))[some] / count[some]
    return values


def _rest_gap(evidence: Evidence, totals: _Totals) -> Floats:
    """float64 [queries]: of the documents that are not judged relevant."""
    collection = evidence.collection
    total, count = totals.sum.copy(), totals.count.copy()
    found, score = _judged_scores(evidence)
    place = (collection.query[found], collection.corpus.language[collection.document[found]])
    np.subtract.at(total, place, score[found])
    np.subtract.at(count, place, 1)
    rows, values = evidence.judged, evidence.blank()
    asked = collection.queries.language[rows]
    own, own_count = total[rows, asked], count[rows, asked]
    with np.errstate(invalid="ignore", divide="ignore"):
        gap = own / own_count - (total[rows].sum(1) - own) / (count[rows].sum(1) - own_count)
    values[rows] = np.where(np.isfinite(gap), gap, np.nan)
    return values
