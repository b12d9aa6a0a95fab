"""Language identifiability: how well a linear probe tells the language of a text from its embedding.

One-vs-rest least squares with a ridge penalty, solved in closed form, languages weighing the same; cross-validated over five
folds that keep together what means the same, so that no probe is tested on translations of what it was fitted on: queries
by question, documents by the questions that they answer (a document that answers none is alone). Of larger sets `PER_LANGUAGE`
texts of each language are drawn.

``language_probe``: share of the queries whose language is found, per language and macro mean; ``language_probe_corpus``: of
documents. In [0, 1]; ``language_probe_chance`` and ``language_probe_corpus_chance`` = 1 / languages is what guessing gives. An
encoder may hold language linearly and still not rank by it: read it beside the score gap.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from hybrid_retrieval.evaluation.bias.evidence import Evidence, Finding
from hybrid_retrieval.evaluation.collection import Ints
from hybrid_retrieval.evaluation.measures import Floats

FOLDS = 5
PER_LANGUAGE = 2_000
RIDGE = 1e-3
"""Penalty, in mean variances of a dimension."""
SEED = 0


def language_probe(evidence: Evidence, per_language: int = PER_LANGUAGE, ridge: float = RIDGE) -> Finding:
    """Accuracies on queries and on documents."""
    if evidence.embeddings is None:
        return Finding(notes=["language_probe: the scorer has no embeddings"])
    queries, corpus = evidence.collection.queries, evidence.collection.corpus
    finding = Finding()
    everything = np.arange(len(corpus), dtype=np.int64)
    sides = (
        ("language_probe", evidence.embeddings[0], queries.language, evidence.question, evidence.judged),
        ("language_probe_corpus", evidence.embeddings[1], corpus.language, document_groups(evidence), everything),
    )
    for key, vectors, language, group, rows in sides:
        chosen = _drawn(rows, language[rows], per_language)
        found = identified(vectors[chosen].astype(np.float64), language[chosen], group[chosen], ridge)
        if found is None:
            finding.notes.append(f"{key}: fewer than two languages, or fewer than {FOLDS} groups of translations")
            continue
        accuracy = {
            evidence.collection.languages[index]: float(found[language[chosen] == index].mean())
            for index in np.unique(language[chosen]).tolist()
        }
        finding.figures.extend([*evidence.by_language(key, accuracy), evidence.figure(f"{key}_chance", 1 / len(accuracy))])
        if key == "language_probe":
            finding.per_query[key] = evidence.blank()
            finding.per_query[key][chosen] = found
    return finding


def document_groups(evidence: Evidence) -> Ints:
    """int64 [documents]: the same number for documents that answer the same questions."""
    collection = evidence.collection
    question = evidence.question[collection.query] + len(collection.corpus)
    nodes = len(collection.corpus) + int(evidence.question.max(initial=-1)) + 1
    edges = sparse.coo_matrix((np.ones(len(question)), (collection.document, question)), (nodes, nodes))
    return np.asarray(csgraph.connected_components(edges, directed=False)[1][: len(collection.corpus)], np.int64)


def identified(vectors: Floats, language: Ints, group: Ints, ridge: float = RIDGE) -> Floats | None:
    """float64 [rows]: 1 where the probe, fitted without the row's fold, finds its language; None where there is no telling."""
    names, label = np.unique(language, return_inverse=True)
    groups, number = np.unique(group, return_inverse=True)
    if len(names) < 2 or len(groups) < FOLDS:
        return None
    fold = (np.random.default_rng(SEED).permutation(len(groups)) % FOLDS)[number]
    weight = 1 / np.bincount(label)[label]
    centred = vectors - weight @ vectors / weight.sum()
    features = np.concatenate([centred, np.ones((len(vectors), 1))], 1)
    targets = np.eye(len(names))[label]
    products = [_products(features[fold == part], targets[fold == part], weight[fold == part]) for part in range(FOLDS)]
    gram, moment = (np.sum(parts, axis=0) for parts in zip(*products, strict=True))
    penalty = ridge * np.trace(gram[:-1, :-1]) / max(1, vectors.shape[1]) * np.eye(len(gram))
    found = np.zeros(len(vectors))
    for part in range(FOLDS):
        here = fold == part
        probe = np.linalg.lstsq(gram - products[part][0] + penalty, moment - products[part][1], rcond=None)[0]
        found[here] = (features[here] @ probe).argmax(1) == label[here]
    return found


def _products(features: Floats, targets: Floats, weight: Floats) -> tuple[Floats, Floats]:
    weighted = (features * weight[:, None]).T
    return weighted @ features, weighted @ targets


def _drawn(rows: Ints, language: Ints, per_language: int) -> Ints:
    """At most `per_language` rows of each language, ascending."""
    rng = np.random.default_rng(SEED)
    parts = [rows[language == index] for index in np.unique(language)]
    drawn = [part if len(part) <= per_language else rng.choice(part, per_language, replace=False) for part in parts]
    return np.sort(np.concatenate([*drawn, np.empty(0, np.int64)]))
