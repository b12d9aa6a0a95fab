"""The registry, and what holds for every measure."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.evaluation.bias.suite import BIAS, bias_measures, bias_suite
from tests.evaluation.bias.brute_force import flat, macro

NOT_OF_QUERIES = ("share@10/", "share@100/")
KEY = {
    "share@10": "share_deviation@10",
    "share@100": "share_deviation@100",
    "drop_without_own_language": "drop_without_own_language_map",
}
"""The macro mean of a measure that has none under its own name."""


def test_all_is_every_measure_and_figures_are_means_of_the_columns(make_collection, tied_scorer, gather) -> None:
    collection = make_collection(0)
    evidence = gather(collection, tied_scorer(collection, 0, dimensions=5))
    found = bias_suite(evidence, ["all"])
    for name in BIAS:
        assert KEY.get(name, name) in flat(found)
    assert all(np.isfinite(value) for value in flat(found).values())
    for key, column in found.per_query.items():
        assert column.shape == (len(collection.queries),)
        known = {row: column[row] for row in np.flatnonzero(~np.isnan(column)).tolist()}
        assert set(known) <= set(collection.query.tolist())
        assert flat(found)[key] == pytest.approx(macro(evidence, known)[""])
        if not key.startswith(NOT_OF_QUERIES):
            for language, mean in macro(evidence, known).items():
                assert flat(found)[f"{key}/{language}" if language else key] == pytest.approx(mean)


def test_measures_alone_find_what_they_find_together(make_collection, tied_scorer, gather) -> None:
    collection = make_collection(1)
    together = flat(bias_suite(gather(collection, tied_scorer(collection, 1)), list(BIAS)))
    alone: dict[str, float] = {}
    for name in BIAS:
        alone |= flat(bias_suite(gather(collection, tied_scorer(collection, 1)), [name]))
    assert alone == together


def test_depths_of_ones_own_and_names_that_are_unknown() -> None:
    assert list(bias_measures(["share@7", "peer@1000", "mrc"])) == ["share@7", "peer@1000", "mrc"]
    assert list(bias_measures(["mrc", "all"])) == ["mrc", *(name for name in BIAS if name != "mrc")]
    with pytest.raises(InputError, match=r"evaluation.bias='rank_distanse' is unknown; did you mean 'rank_distance'"):
        bias_measures(["rank_distanse"])
    with pytest.raises(InputError, match="depth must be at most 100"):
        bias_measures(["share@101"])
    for name in ("mrc@10", "share@0", "share@ten", "share"):
        with pytest.raises(InputError):
            bias_measures([name])


def test_a_collection_without_judgements_has_no_figures_of_queries(make_collection, tied_scorer, gather) -> None:
    collection = make_collection(0)
    nothing = np.empty(0, np.int64)
    bare = replace(collection, query=nothing, document=nothing, grade=nothing)
    found = bias_suite(gather(bare, tied_scorer(bare)), ["all"])
    assert not found.per_query
    assert {key.split("/")[0] for key in flat(found)} <= {
        "centroid_distance",
        "centroid_distance_corpus",
        "language_probe_corpus",
        "language_probe_corpus_chance",
    }
