"""Figures of the three settings, from the ranks of one pass, by query language and corpus language.

Mo.: macro mean over languages with query and corpus in that language. Cr.: macro mean over ordered pairs of different
languages. Mul.: the pooled corpus, every translation of the answer relevant; mean over query languages.
(arXiv 2408.10536, section 4.) Beside these, ``.../seen``: the mean without languages that the encoder was not trained on, in
Mo. and Mul. those of queries (the pool is the same), in Cr. those of either side; ``multilingual/micro_map``: over all queries.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle

import numpy as np
import pyarrow as pa

from hybrid_retrieval.data.languages import primary
from hybrid_retrieval.data.stored_texts import as_column
from hybrid_retrieval.evaluation.collection import Ints, Languages, RetrievalCollection
from hybrid_retrieval.evaluation.figures import CLUSTER, PER_QUERY_KEYS, SEEN, Figure
from hybrid_retrieval.evaluation.measures import MICRO, PHENOMENON, POOLED, SETTINGS, Floats, Relevant, measure
from hybrid_retrieval.evaluation.scoring.ranks import Ranks
from hybrid_retrieval.evaluation.statistics.resampling import bootstrap_intervals, with_exact_limits


@dataclass(frozen=True)
class LanguagePair(Languages):
    """The queries of one language against the documents of one language, or against the pool of all.

    Attributes:
        queries: int64 [queries], rows of the collection that have a relevant document there.
        left_out: queries of the language without one.
        values: float64 [queries] by name of measure, nan where it is not defined.
    """

    queries: Ints
    left_out: int
    values: dict[str, Floats]

    def within(self, languages: Sequence[str]) -> bool:
        """Whether it is of some languages alone; a pool may hold others."""
        return self.query_language in languages and self.corpus_language in (None, *languages)

    def mean(self, name: str) -> float | None:
        """Of a measure, over the queries for which it is defined; None where there is none."""
        values = self.values.get(name, np.empty(0))
        known = values[~np.isnan(values)]
        return float(known.mean()) if len(known) else None

    def adding(self, columns: Mapping[str, Floats]) -> LanguagePair:
        """The same with more values, of [queries of the collection]."""
        return replace(self, values=self.values | {name: values[self.queries] for name, values in columns.items()})


def language_pairs(collection: RetrievalCollection, ranks: Ranks) -> Iterator[LanguagePair]:
    """A pair for each of the collection's views."""
    measures = [measure(name) for name in collection.measures]
    for view in collection.views:
        part = collection.judged(view)
        rank = (ranks.pool if view.corpus_language is None else ranks.language)[part]
        relevant, queries = Relevant.grouped(collection.query[part], rank, collection.grade[part])
        yield LanguagePair(
            view.query_language,
            view.corpus_language,
            queries,
            view.queries.stop - view.queries.start - len(queries),
            {one.name: one.values(relevant) for one in measures},
        )


def per_query(collection: RetrievalCollection, pairs: Sequence[LanguagePair]) -> pa.Table:
    """One row for each query and corpus: `PER_QUERY_KEYS`, `CLUSTER`, and a column a measure."""
    ids, clusters = as_column(collection.queries.ids), as_column(collection.clusters)
    names = (*PER_QUERY_KEYS, CLUSTER)
    tables = [pa.schema([(name, pa.string()) for name in names]).empty_table()]
    for pair in pairs:
        about = (collection.name, pair.setting, pair.query_language, pair.corpus_language)
        columns = [pa.repeat(pa.scalar(text, pa.string()), len(pair.queries)) for text in about]
        columns += [of.take(pa.array(pair.queries)).cast(pa.string()) for of in (ids, clusters)]
        tables.append(pa.table(dict(zip(names, columns, strict=True)) | pair.values))
    return pa.concat_tables(tables, promote_options="default")


def aggregate(name: str, pairs: Sequence[LanguagePair]) -> Iterator[Figure]:
    """The figures of a benchmark: of every measure the mean of each language pair, and the macro mean.

    A pair without a judged query has no figure and no part in the mean; its queries are counted as left out.
    """
    for setting in SETTINGS:
        every = [pair for pair in pairs if pair.setting == setting]
        judged = [pair for pair in every if len(pair.queries)]
        if not judged:
            continue
        for one in judged[0].values:
            means = [float(pair.values[one].mean()) for pair in judged]
            yield Figure(name, setting, measure(one), None, None, float(np.mean(means)))
            for pair, value in zip(judged, means, strict=True):
                yield Figure(name, setting, measure(one), pair.query_language, pair.corpus_language, value)
        counts = {"queries": sum(len(pair.queries) for pair in judged), "left_out": sum(pair.left_out for pair in every)}
        yield from (Figure(name, setting, measure(one), None, None, float(count)) for one, count in counts.items())


def over_seen(figures: Sequence[Figure], pairs: Sequence[LanguagePair], trained_on: Sequence[str]) -> Iterator[Figure]:
    """The macro means that are means of `pairs`, without those in languages that the encoder was not trained on.

    A language is seen where text in it was, of whichever region or script: ``pt`` where ``pt_br`` was. Nothing where all are.
    Of each setting the queries are counted, if only to say that there are none.
    """
    known = {primary(language) for language in trained_on}
    every = {language for pair in pairs for language in (pair.query_language, pair.corpus_language) if language}
    seen = tuple(sorted(language for language in every if primary(language) in known))
    if len(seen) == len(every):
        return
    for figure in figures:
        if figure.query_language is None and figure.corpus_language is None:
            judged = [pair for pair in pairs if pair.setting == figure.setting and len(pair.queries) and pair.within(seen)]
            name = figure.measure.name
            if name == "queries":
                yield replace(figure, value=float(sum(len(pair.queries) for pair in judged)), seen=seen)
            elif means := [value for pair in judged if (value := pair.mean(name)) is not None]:
                yield replace(figure, value=float(np.mean(means)), seen=seen)


def over_queries(name: str, pairs: Sequence[LanguagePair]) -> Iterator[Figure]:
    """The means of `_flat`; of measures in the pool, where languages have different numbers of queries."""
    for setting in SETTINGS:
        judged = [pair for pair in pairs if pair.setting == setting and len(pair.queries)]
        uneven = len({len(pair.queries) for pair in judged}) > 1
        for one, values in _flat(setting, judged).items():
            known = values[~np.isnan(values)]
            if len(known) and (uneven or not one.startswith(MICRO)):
                yield Figure(name, setting, measure(one), None, None, float(known.mean()))


def _flat(setting: str, judged: Sequence[LanguagePair]) -> dict[str, Floats]:
    """Values of all queries, whatever their language: of ranks in the pool, and of what is wrong with passages."""
    named = {one: f"{MICRO}{one}" for one in judged[0].values if measure(one).of_ranks and setting in POOLED} if judged else {}
    named |= {one: one for pair in judged for one in pair.values if one.startswith(PHENOMENON)}
    return {name: np.concatenate([pair.values[one] for pair in judged]) for one, name in named.items()}


def with_intervals(
    figures: Sequence[Figure],
    collection: RetrievalCollection,
    pairs: Sequence[LanguagePair],
    replicates: int,
    seed: int,
    confidence: float = 0.95,
) -> Iterator[Figure]:
    """The figures with the bounds of those that are means over queries, from one bootstrap over clusters a setting.

    Queries with the same id are translations of one question and are drawn together, as are those of a cluster. Where a
    benchmark gives the same id to unrelated questions of different languages, intervals stay valid: independent questions in
    one cluster cost some precision. A figure of fewer than two clusters, and one that is not a number, has no bounds.
    """
    questions, names = (numbered(of) for of in (collection.queries.ids, collection.clusters))
    of_question = np.zeros(int(questions.max(initial=-1)) + 1, np.int64)
    of_question[questions] = names
    bounds: dict[str, tuple[float, float]] = {}
    for setting in SETTINGS:
        judged = [pair for pair in pairs if pair.setting == setting and len(pair.queries)]
        if not judged:
            continue
        asked, panels = panel_of_pairs(judged, questions)
        clusters = None if collection.cluster is None else of_question[asked]
        seen = next((one.seen for one in figures if one.setting == setting and one.seen is not None), ())
        part = np.array([pair.within(seen) for pair in judged])
        keys = [
            [f"{collection.name}/{setting}/{one}{end}" for end in (*(f"/{pair.name}" for pair in judged), "")] for one in panels
        ]
        wanted = list(panels.values())
        if part.any():
            keys += [[*[""] * part.sum(), f"{collection.name}/{setting}/{one}/{SEEN}"] for one in panels]
            wanted += [panel[:, part] for panel in panels.values()]
        found = bootstrap_intervals(wanted, replicates, seed, confidence, clusters=clusters)
        found = [
            _exact(one, both, panel, clusters, confidence)
            for one, panel, both in zip(cycle(panels), wanted, found, strict=False)
        ]
        if flat := {one: values[:, None] for one, values in _flat(setting, judged).items()}:  # drawn by the same clusters
            of_query = np.concatenate([(questions if collection.cluster is None else names)[pair.queries] for pair in judged])
            keys += [["", f"{collection.name}/{setting}/{one}"] for one in flat]
            resampled = bootstrap_intervals(list(flat.values()), replicates, seed, confidence, clusters=of_query)
            found += [
                _exact(one, both, panel, of_query, confidence)
                for (one, panel), both in zip(flat.items(), resampled, strict=True)
            ]
        for names_, both in zip(keys, found, strict=True):
            bounds |= {key: (low, high) for key, low, high in zip(names_, *both.tolist(), strict=True) if np.isfinite(low)}
    for figure in figures:
        low, high = bounds.get(figure.key, (None, None))
        yield replace(figure, low=low, high=high)


def _exact(name: str, bounds: Floats, panel: Floats, clusters: Ints | None, confidence: float) -> Floats:
    least = measure(name).least
    return bounds if least is None else with_exact_limits(bounds, panel, clusters, confidence, least)


def numbered(names: Sequence[str]) -> Ints:
    """int64: the same number for the same name."""
    numbers: Ints = pa.array(list(names), pa.large_string()).dictionary_encode().indices.to_numpy().astype(np.int64)
    return numbers


def panel_of_pairs(pairs: Sequence[LanguagePair], questions: Ints) -> tuple[Ints, dict[str, Floats]]:
    """The questions that any of the pairs has, and values by measure, float64 [questions, pairs]."""
    asked, row = np.unique(np.concatenate([questions[pair.queries] for pair in pairs]), return_inverse=True)
    column = np.repeat(np.arange(len(pairs)), [len(pair.queries) for pair in pairs])
    panels = {}
    for one in (name for name in pairs[0].values if not name.startswith(PHENOMENON)):
        panels[one] = np.full((len(asked), len(pairs)), np.nan)
        panels[one][row, column] = np.concatenate([pair.values[one] for pair in pairs])
    return asked, panels
