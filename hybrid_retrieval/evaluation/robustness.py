"""How much a retriever loses when queries are perturbed: every measure against that of the clean query, in pairs.

The corpus is read once, for the clean queries; of a perturbation only the queries that it changes are asked again, and all
others keep their values. A language in which fewer than `LEAST` of the queries change at the largest severity is left out of
that perturbation: no mean is taken over languages that it does not touch, as case does not touch Thai.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from hybrid_retrieval.evaluation.bias.evidence import Evidence
from hybrid_retrieval.evaluation.bias.suite import bias_suite
from hybrid_retrieval.evaluation.collection import Ints, RetrievalCollection, Side
from hybrid_retrieval.evaluation.degradation import CONDITION, Degradation, condition
from hybrid_retrieval.evaluation.language_pairs import LanguagePair, language_pairs, numbered, panel_of_pairs, per_query
from hybrid_retrieval.evaluation.measures import SETTINGS, measure
from hybrid_retrieval.evaluation.perturbations.perturbation import Perturbation, perturb
from hybrid_retrieval.evaluation.protocol import Evaluation, Wanted, ranked
from hybrid_retrieval.evaluation.retrievers.retriever import AskedAgain, Retriever
from hybrid_retrieval.evaluation.statistics.resampling import bootstrap_intervals
from hybrid_retrieval.progress import track

log = logging.getLogger(__name__)

LEAST = 0.02
"""Of the queries of a language: fewer change by a foreign name in them."""
RANK_DISTANCE = "rank_distance"
PER_QUERY_BIAS = (RANK_DISTANCE, "rank_distance_normalised")
"""Measures of bias that are means over queries, which can be compared query by query."""


def degradations(
    retriever: Retriever,
    clean: Evaluation,
    perturbations: Sequence[Perturbation],
    severities: Sequence[float],
    seed: int,
    wanted: Wanted,
    label: str = "",
) -> tuple[list[Degradation], list[pa.Table]]:
    """Every perturbation at every severity; nothing of a retriever that cannot be asked again without reading the corpus.

    Returns:
        The figures, and a table a condition of what changes query by query, in the form of `degradation.CHANGES`.
    """
    collection = clean.collection
    if collection.contrasts is not None:
        log.info("%s: not perturbed: it is no test of retrieval", label)
        return [], []
    if not isinstance(retriever, AskedAgain):
        log.info("%s: not perturbed: %s cannot be asked again", label, type(retriever).__name__)
        return [], []
    bias = [name for name in wanted.bias if name in PER_QUERY_BIAS]
    names = {measure(name).name for name in collection.measures} | {*bias}
    before = [replace(pair, values={name: of for name, of in pair.values.items() if name in names}) for pair in clean.pairs]
    found: list[Degradation] = []
    changes: list[pa.Table] = []
    every = ((one, perturbed_texts(collection, one, severities, seed)) for one in perturbations)
    work = ((one, *applies, *at) for one, made in every for applies in [_applies(collection, made)] for at in made)
    count = len(perturbations) * len(severities)
    for one, known, untouched, severity, texts, emptied in track(work, f"{label}: perturbed queries", count, show=bool(label)):
        if untouched and label and severity == max(severities):
            log.info("%s: %s does not apply to %s", label, one.name, ", ".join(untouched))
        if emptied and label:
            log.info("%s: %s at %g would have left nothing of %d queries, which are kept", label, one.name, severity, emptied)
        rows = np.array([row for row in texts if collection.languages[collection.queries.language[row]] in known], np.int64)
        if not known:
            continue
        pairs = []
        if len(rows):
            asked = asking(collection, rows, [texts[int(row)] for row in rows])
            index = retriever.asking(clean.asked, asked)
            scored, ranks = ranked(asked, index)
            pairs = list(language_pairs(asked, ranks))
            if bias:
                columns = bias_suite(Evidence(asked, scored.pool, ranks, None), bias).per_query
                pairs = [pair if pair.corpus_language else pair.adding(columns) for pair in pairs]
        both = list(_beside(before, pairs, rows, known))
        found += paired(collection, one.name, severity, both, set(rows.tolist()), wanted)
        changes.append(_by_query(collection, condition(one.name, severity), both))
    return found, changes


def perturbed_texts(
    collection: RetrievalCollection, perturbation: Perturbation, severities: Sequence[float], seed: int
) -> list[tuple[float, dict[int, str], int]]:
    """Of each severity: itself, the new texts by the rows of the judged queries that change, and how many would be empty."""
    texts: list[dict[int, str]] = [{} for _ in severities]
    emptied = [0 for _ in severities]
    queries = collection.queries
    for row in np.unique(collection.query).tolist():
        language = collection.languages[queries.language[row]]
        every = perturb(perturbation, queries.texts[row], language, severities, seed, queries.ids[row])
        for at, made in enumerate(every):
            emptied[at] += made.emptied
            if made.text != queries.texts[row]:
                texts[at][row] = made.text
    return list(zip(severities, texts, emptied, strict=True))


def asking(collection: RetrievalCollection, rows: Ints, texts: Sequence[str]) -> RetrievalCollection:
    """The same corpus, asked by some of the queries alone, in other words.

    Args:
        rows: int64, ascending.
        texts: of each.
    """
    place = np.full(len(collection.queries), -1, np.int64)
    place[rows] = np.arange(len(rows))
    judged = place[collection.query] >= 0
    excluded = collection.excluded[place[collection.excluded[:, 0]] >= 0]
    queries = Side(
        texts,
        [collection.queries.ids[row] for row in rows.tolist()],
        collection.queries.language[rows],
        collection.queries.prompt,
    )
    asked = collection.asked
    if asked is not None:
        bounds = [(np.searchsorted(rows, [of.start, of.stop]).tolist(), among) for of, among in asked]
        asked = tuple((slice(*ends), among) for ends, among in bounds if ends[0] < ends[1])
    return replace(
        collection,
        queries=queries,
        query=place[collection.query[judged]],
        document=collection.document[judged],
        grade=collection.grade[judged],
        excluded=np.column_stack([place[excluded[:, 0]], excluded[:, 1]]),
        labels=None,
        cluster=None if collection.cluster is None else [collection.cluster[row] for row in rows.tolist()],
        asked=asked,
    )


def _applies(collection: RetrievalCollection, made: Sequence[tuple[float, dict[int, str], int]]) -> tuple[list[str], list[str]]:
    """The languages in which enough queries change at the largest severity, for all of them, and the others that ask."""
    _, texts, _ = max(made, key=lambda one: one[0])
    judged = np.unique(collection.query)
    counts = np.bincount(collection.queries.language[judged], minlength=len(collection.languages))
    changed = np.bincount(collection.queries.language[np.array(list(texts), np.int64)], minlength=len(counts))
    there = np.flatnonzero(counts)
    enough = changed[there] >= LEAST * counts[there]
    return ([collection.languages[at] for at in there[enough]], [collection.languages[at] for at in there[~enough]])


def _beside(
    clean: Sequence[LanguagePair], perturbed: Sequence[LanguagePair], rows: Ints, known: Sequence[str]
) -> Iterator[tuple[LanguagePair, LanguagePair]]:
    """The clean pairs of the languages that a perturbation touches, and these with the values of the changed queries."""
    new = {(pair.query_language, pair.corpus_language): pair for pair in perturbed}
    for pair in clean:
        if pair.query_language not in known or not len(pair.queries):
            continue
        other = new.get((pair.query_language, pair.corpus_language))
        values = {name: of.copy() for name, of in pair.values.items() if other is None or name in other.values}
        if other is not None:
            place = np.searchsorted(pair.queries, rows[other.queries])
            for name in values:
                values[name][place] = other.values[name]
        yield replace(pair, values={name: pair.values[name] for name in values}), replace(pair, values=values)


def _by_query(collection: RetrievalCollection, name: str, both: Sequence[tuple[LanguagePair, LanguagePair]]) -> pa.Table:
    """What changes in each query: of the collection's headline, and of rank distance."""
    first = min(collection.measures, key=lambda one: measure(one).order)
    apart = [
        replace(
            noisy,
            values={kept: noisy.values[kept] - clean.values[kept] for kept in (first, RANK_DISTANCE) if kept in noisy.values},
        )
        for clean, noisy in both
    ]
    table = per_query(collection, apart)
    table = table.append_column(CONDITION, pa.repeat(pa.scalar(name), len(table)))
    for at, one in enumerate(table.schema):
        if pa.types.is_string(one.type):  # few texts in many rows, of many tables
            table = table.set_column(at, one.name, table.column(at).dictionary_encode())
    return table


def paired(
    collection: RetrievalCollection,
    perturbation: str,
    severity: float,
    both: Sequence[tuple[LanguagePair, LanguagePair]],
    changed: set[int],
    wanted: Wanted,
) -> Iterator[Degradation]:
    """Of every measure that both have, by language pair, and the macro mean of these."""
    questions, clusters = (numbered(of) for of in (collection.queries.ids, collection.clusters))
    of_question = np.zeros(int(questions.max(initial=-1)) + 1, np.int64)
    of_question[questions] = clusters
    for setting in SETTINGS:
        mine = [(clean, noisy) for clean, noisy in both if clean.setting == setting]
        if not mine:
            continue
        names = set.intersection(*(set(noisy.values) for _, noisy in mine))
        plain = [replace(clean, values={name: clean.values[name] for name in sorted(names)}) for clean, _ in mine]
        apart = [
            replace(clean, values={name: noisy.values[name] - clean.values[name] for name in sorted(names)})
            for clean, noisy in mine
        ]
        asked, differences = panel_of_pairs(apart, questions)
        counts = [len(pair.queries) for pair in plain]
        shares = [float(np.isin(pair.queries, list(changed)).mean()) for pair in plain]
        bounds = [np.full((2, len(mine) + 1), np.nan)] * len(differences)
        if wanted.replicates:
            drawn = None if collection.cluster is None else of_question[asked]
            bounds = bootstrap_intervals(list(differences.values()), wanted.replicates, wanted.seed, clusters=drawn)
        for name, ends in zip(differences, bounds, strict=True):
            cleans = [pair.mean(name) for pair in plain]
            moves = [pair.mean(name) for pair in apart]
            known = [
                (at, was, move)
                for at, (was, move) in enumerate(zip(cleans, moves, strict=True))
                if was is not None and move is not None
            ]
            if not known:
                continue
            rows = [
                (plain[at].query_language, plain[at].corpus_language, counts[at], shares[at], was, move, ends[:, at])
                for at, was, move in known
            ]
            mean = [
                float(np.mean(part))
                for part in zip(*((share, was, move) for _, _, _, share, was, move, _ in rows), strict=True)
            ]
            rows.insert(0, (None, None, sum(counts), *mean, ends[:, -1]))  # type: ignore[arg-type]
            for asking_, answering, count, share, was, move, (low, high) in rows:
                interval = (float(low), float(high)) if np.isfinite(low) else (None, None)
                yield Degradation(
                    collection.name,
                    perturbation,
                    severity,
                    setting,
                    measure(name),
                    asking_,
                    answering,
                    count,
                    share,
                    was,
                    was + move,
                    *interval,
                )
