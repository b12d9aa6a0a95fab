"""Whose documents fill the top of the pooled list, against whose would by size.

``share@k/<language>``: share of the *documents'* language in the first k, macro mean over query languages; in [0, 1], they
sum to 1. ``share_deviation@k``: per query language, half the sum over document languages of |share - expected| (total
variation), the expected share of a language being its part of the corpus; ``share_deviation_uniform@k``: the same against equal
shares. In [0, 1]; 0 is no bias, up to chance: the shares of few queries deviate by themselves.
``own_language_preference@k``: share of the query's own language in the first k, less its part of the corpus. In [-1, 1]; 0 is
no preference. Where the languages hold the same answers, a fair list has none of these; elsewhere a language that holds more
answers rightly has a larger share.
"""

from __future__ import annotations

import numpy as np

from hybrid_retrieval.evaluation.bias.evidence import Evidence, Finding
from hybrid_retrieval.evaluation.measures import Floats


def language_share(evidence: Evidence, depth: int) -> Finding:
    """Shares of the document languages, and how far they are from what is expected."""
    if not len(evidence.judged):
        return Finding(notes=[f"share@{depth}: no query has a relevant document"])
    languages, found, expected = evidence.collection.languages, _found(evidence, depth), _expected(evidence)
    holding = np.flatnonzero(expected).tolist()
    finding = Finding()
    for index in holding:
        values = evidence.blank()
        values[evidence.judged] = found[:, index]
        finding.per_query[f"share@{depth}/{languages[index]}"] = values
        mean = float(np.mean(list(evidence.query_means(values).values())))
        finding.figures.append(evidence.figure(f"share@{depth}", mean, None, languages[index]))
    uniform = np.where(expected > 0, 1 / len(holding), 0)
    asked = evidence.collection.queries.language[evidence.judged]
    for key, wanted in ((f"share_deviation@{depth}", expected), (f"share_deviation_uniform@{depth}", uniform)):
        deviation = {
            languages[index]: float(np.abs(found[asked == index].mean(0) - wanted).sum() / 2)
            for index in np.unique(asked).tolist()
        }
        finding.figures.extend(evidence.by_language(key, deviation))
    return finding


def own_language_preference(evidence: Evidence, depth: int) -> Finding:
    """Share of the query's own language, less what is expected."""
    values = evidence.blank()
    asked = evidence.collection.queries.language[evidence.judged]
    expected = _expected(evidence)[asked]
    own = _found(evidence, depth)[np.arange(len(asked)), asked] - expected
    values[evidence.judged] = np.where(expected > 0, own, np.nan)
    undefined = "no query is in a language of the corpus"
    return evidence.of_queries({f"own_language_preference@{depth}": values}, undefined)


def _found(evidence: Evidence, depth: int) -> Floats:
    """float64 [judged queries, languages]: how much of the first documents each language has.

    Where the list ends among equal scores, each of their documents has an equal part in the places that are left.
    """
    language, count = evidence.collection.corpus.language, len(evidence.collection.languages)
    scores = evidence.top.scores[evidence.judged]
    found = scores[:, :depth] > -np.inf
    place = np.arange(len(evidence.judged))[:, None] * count + language[evidence.top.documents[evidence.judged, :depth]]
    counts = np.bincount(place[found], minlength=len(evidence.judged) * count).reshape(-1, count).astype(np.float64)
    if scores.shape[1] > depth:
        cut = np.flatnonzero(found[:, -1] & (scores[:, depth - 1] == scores[:, depth]))
        above, equal = evidence.counted(evidence.judged[cut], scores[cut, depth - 1])
        tied, left = equal.sum(1, keepdims=True), depth - above.sum(1, keepdims=True)
        same = ((left > 0) & (left <= tied))[:, 0]  # scores of another pass may be rounded otherwise
        counts[cut[same]] = (above + left * equal / np.maximum(tied, 1))[same]
    return np.asarray(counts / np.maximum(counts.sum(1, keepdims=True), 1), np.float64)


def _expected(evidence: Evidence) -> Floats:
    """float64 [languages]: how much of the corpus each language has."""
    sizes = np.bincount(evidence.collection.corpus.language, minlength=len(evidence.collection.languages))
    return np.asarray(sizes / sizes.sum(), np.float64)
