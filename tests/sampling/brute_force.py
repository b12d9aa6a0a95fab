"""Sets to draw from: full, ragged and tiny sets, with a brute-force record of what exists where."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hybrid_retrieval.sampling.availability import Availability, SetAvailability


@dataclass(frozen=True)
class Truth:
    """What exists: (set, edge) -> languages of the query, languages of the passage."""

    available: Availability
    queries: dict[tuple[int, int], set[str]]
    passages: dict[tuple[int, int], set[str]]

    def exists(self, set_index: int, edge: int, query_language: int, passage_language: int) -> bool:
        languages, item = self.available.languages, (set_index, edge)
        return languages[query_language] in self.queries.get(item, ()) and languages[passage_language] in self.passages[item]

    def cell(self, set_index: int, query_language: int, passage_language: int) -> list[int]:
        edges = [edge for index, edge in self.queries if index == set_index]
        return [edge for edge in edges if self.exists(set_index, edge, query_language, passage_language)]


def build(*sets):
    """Sets given as (languages, rows, weight, first edge); a row is (query languages, passage languages, how many edges)."""
    parts, queries, passages = [], {}, {}
    for index, (languages, rows, weight, first) in enumerate(sets):
        bounds = first + np.cumsum([0, *(count for *_, count in rows)])
        masks = [[sum(1 << languages.index(language) for language in row[side]) for row in rows] for side in (0, 1)]
        parts.append(SetAvailability(f"set{index}", tuple(languages), *np.uint64(masks), bounds[:-1], bounds[1:], weight))
        for (left, right, _), start, stop in zip(rows, bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            for edge in range(start, stop):
                queries[index, edge], passages[index, edge] = set(left), set(right)
    return Truth(Availability(parts), queries, passages)


def full(languages, count, weight=1.0):
    """One set of which everything exists in every language."""
    return languages, [(languages, languages, count)], weight, 0


def ragged(seed, sets=2, patterns=12, most=40):
    """Random sets with overlapping edge numbers, whose languages are in no order."""
    rng = np.random.default_rng(seed)

    def some(languages):
        return rng.choice(languages, size=rng.integers(1, len(languages) + 1), replace=False).tolist()

    made = []
    for _ in range(sets):
        languages = rng.permutation(["en", "de", "th", *some(["ar", "zh", "hi"])]).tolist()
        rows = [(languages, languages, 40)]
        rows += [(some(languages), some(languages), int(rng.integers(1, most))) for _ in range(patterns)]
        made.append((languages, rows, float(rng.integers(1, 4)), int(rng.integers(0, 5))))
    return build(*made)
