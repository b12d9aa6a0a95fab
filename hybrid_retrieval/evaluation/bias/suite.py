"""The measures of language bias by the names that ``evaluation.bias`` takes; all of the pooled setting."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from hybrid_retrieval.errors import InputError, choice
from hybrid_retrieval.evaluation.bias.centroid_distance import centroid_distance
from hybrid_retrieval.evaluation.bias.evidence import TOP_DEPTH, Evidence, Finding
from hybrid_retrieval.evaluation.bias.friedman import friedman
from hybrid_retrieval.evaluation.bias.language_probe import language_probe
from hybrid_retrieval.evaluation.bias.language_share import language_share, own_language_preference
from hybrid_retrieval.evaluation.bias.mrc import mrc
from hybrid_retrieval.evaluation.bias.peer import peer
from hybrid_retrieval.evaluation.bias.query_language_removed import drop_without_own_language
from hybrid_retrieval.evaluation.bias.rank_distance import rank_distance, rank_distance_normalised
from hybrid_retrieval.evaluation.bias.score_gap import score_gap
from hybrid_retrieval.evaluation.measures import measure

BiasMeasure = Callable[[Evidence], Finding]

BIAS: dict[str, BiasMeasure] = {
    "rank_distance": rank_distance,
    "rank_distance_normalised": rank_distance_normalised,
    "peer": peer,
    "friedman": friedman,
    "mrc": mrc,
    "share@10": partial(language_share, depth=10),
    "share@100": partial(language_share, depth=100),
    "own_language_preference@10": partial(own_language_preference, depth=10),
    "own_language_preference@100": partial(own_language_preference, depth=100),
    "score_gap": score_gap,
    "drop_without_own_language": drop_without_own_language,
    "language_probe": language_probe,
    "centroid_distance": centroid_distance,
}
"""The measures of ``all``."""

AT_DEPTH: dict[str, tuple[Callable[..., Finding], float]] = {
    "share": (language_share, TOP_DEPTH),
    "own_language_preference": (own_language_preference, TOP_DEPTH),
    "peer": (peer, float("inf")),
}
"""Measures that take another depth, as in ``share@20``, with the largest depth."""


def chosen(value: str | Sequence[str]) -> list[str]:
    """The names that ``evaluation.bias`` asks for: one, a list, ``all`` or ``none``; checked."""
    names = [name for name in ([value] if isinstance(value, str) else value) if name != "none"]
    bias_measures(names)
    return names


def bias_measures(names: Sequence[str]) -> dict[str, BiasMeasure]:
    """The measures of these names, in their order; ``all`` is every one of `BIAS`.

    Raises:
        InputError: a name is unknown, or a depth is too large.
    """
    found: dict[str, BiasMeasure] = {}
    for name in names:
        asked = measure(name)
        if name == "all":
            found |= BIAS
        elif name in BIAS:
            found[name] = BIAS[name]
        elif asked.depth and asked.stem in AT_DEPTH:
            function, largest = AT_DEPTH[asked.stem]
            if asked.depth > largest:
                raise InputError(f"evaluation.bias={name!r}: the depth must be at most {largest}")
            found[name] = partial(function, depth=asked.depth)
        else:
            choice("evaluation.bias", name, ["all", "none", *BIAS])
    return found


def bias_suite(evidence: Evidence, names: Sequence[str]) -> Finding:
    """The findings of the measures of these names; all are of the pool, and without one there are none."""
    if evidence.collection.asked is not None:
        return Finding(notes=["language bias: not printed: queries are asked of one language at a time"] if names else [])
    return Finding.joined([one(evidence) for one in bias_measures(names).values()])
