"""Passages that a set has in two splits because whoever made it has declared so.

A company's set often is one corpus, with some questions of each passage to train on and others to test on: the passages are
the same, what is to be found out is not. Such a benchmark is known by its queries: the training set's own files hold them
all, by language, id and text. Where the training split has them too, they are matches of their own.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hybrid_retrieval.audit.texts import EvaluationPart, Texts, TrainingPart
from hybrid_retrieval.audit.units import Ints
from hybrid_retrieval.data.parallel import TextTable


def declared_texts(evaluation: Texts[EvaluationPart], training: Texts[TrainingPart], numbers: set[int]) -> set[int]:
    """Those of the texts `numbers` that are passages of a set that is trained on and that the benchmark is a split of."""
    found: set[int] = set()
    for queries, passages in zip(evaluation.parts[::2], evaluation.parts[1::2], strict=True):
        mine = {n: int(passages.rows[n - passages.start]) for n in numbers if 0 <= n - passages.start < len(passages)}
        for taught in training.parts:
            if mine and taught.side == "passages" and _is_split_of(queries, taught):
                rows = np.intersect1d(_rows(taught.pairs.passages, [passages.ids[row] for row in mine.values()]), taught.rows)
                trained = set(taught.pairs.passages.ids(rows))
                found |= {number for number, row in mine.items() if passages.ids[row] in trained}
    return found


def _is_split_of(queries: EvaluationPart, taught: TrainingPart) -> bool:
    """True where a set holds every query that a benchmark has in the set's languages, and there are some."""
    every = zip(map(queries.language_of, range(len(queries.ids))), queries.ids, queries.texts, strict=True)
    asked = {query for query in every if query[0] in taught.languages}
    table = taught.pairs.queries
    rows = _rows(table, [id_ for _, id_, _ in asked])
    languages = [taught.languages[language] for language in table.languages[rows].tolist()]
    return bool(asked) and asked <= set(zip(languages, table.ids(rows), table.texts(rows), strict=True))


def _rows(table: TextTable, ids: list[str]) -> Ints:
    """The rows of a set that have one of `ids`."""
    has_one: Ints = np.flatnonzero(pc.is_in(table.table.column("id"), value_set=pa.array(ids, pa.large_string())).to_numpy())
    return has_one
