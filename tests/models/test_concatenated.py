"""Encoders as one: a score is the weighted mean of the parts' cosines, whatever their tokenizers, sizes and lengths."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.models.concatenated import ConcatenatedEncoder
from hybrid_retrieval.models.published import PublishedModel
from tests.models.small_models import DIMENSIONS, TEXTS

QUERIES = [text[:30] for text in TEXTS[::7]]


@pytest.fixture
def parts(static_run: Path, xlmr_like: Path) -> list[dict[str, Any]]:
    """A static run, and a published transformer that does not normalise."""
    lengths = {"max_query_length": 40, "max_passage_length": 40}
    return [{"path": str(static_run)}, {"path": str(xlmr_like), "normalize": False, "query_prefix": "ask: ", **lengths}]


def cosines(part: dict[str, Any], paths: PathsConfig) -> np.ndarray:
    encoder = PublishedModel(paths, **part).load()
    queries, passages = encoder.encode(QUERIES, "query"), encoder.encode(TEXTS, "passage")
    lengths = np.linalg.norm(queries, axis=1)[:, None] * np.linalg.norm(passages, axis=1)[None]
    return np.asarray(queries @ passages.T / lengths)


@pytest.mark.parametrize("weights", [None, [3.0, 1.0], [0.0, 2.0]])
def test_a_score_is_the_weighted_mean_of_the_cosines(
    parts: list[dict[str, Any]], paths: PathsConfig, weights: list[float] | None
) -> None:
    encoder = ConcatenatedEncoder(paths, parts, weights)
    queries, passages = encoder.encode(QUERIES, "query"), encoder.encode(TEXTS, "passage")
    assert passages.dtype == np.float32
    assert passages.shape == (len(TEXTS), encoder.dimensions) == (len(TEXTS), DIMENSIONS + 32)
    np.testing.assert_allclose(np.linalg.norm(passages, axis=1), 1, rtol=0, atol=1e-6)
    expected = np.average([cosines(part, paths) for part in parts], axis=0, weights=weights)
    np.testing.assert_allclose(queries @ passages.T, expected, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(encoder)).encode(QUERIES, "query"), queries)


def test_a_text_that_one_part_knows_nothing_of_is_left_to_the_other(parts: list[dict[str, Any]], paths: PathsConfig) -> None:
    found = ConcatenatedEncoder(paths, parts).encode([""], "passage")[0]
    np.testing.assert_array_equal(found[:DIMENSIONS], 0)
    assert np.linalg.norm(found[DIMENSIONS:]) == pytest.approx(0.5**0.5)


def test_what_is_kept_goes_by_all_that_embeddings_depend_on(parts: list[dict[str, Any]], paths: PathsConfig) -> None:
    one = ConcatenatedEncoder(paths, parts)
    assert one.fingerprint("query") == ConcatenatedEncoder(paths, parts, [2.0, 2.0]).fingerprint("query")
    others = [ConcatenatedEncoder(paths, parts, [2.0, 1.0]), ConcatenatedEncoder(paths, parts[::-1])]
    strict = ConcatenatedEncoder(paths, parts)
    strict.strict = True
    found = {one.fingerprint("query"), one.fingerprint("passage"), *(each.fingerprint("query") for each in [*others, strict])}
    assert len(found) == 5


def test_what_is_strict_is_so_in_every_part(parts: list[dict[str, Any]], paths: PathsConfig) -> None:
    encoder = ConcatenatedEncoder(paths, parts)
    long = "the " * 50
    encoder.encode([long], "passage", "texts")
    encoder.strict = True
    with pytest.raises(InputError, match=r"strict=true: texts \(2 of 2\): 1 of 1 texts are cut"):
        encoder.encode([long], "passage", "texts")


def test_what_names_no_encoders_is_refused(parts: list[dict[str, Any]], paths: PathsConfig) -> None:
    for given, said in (
        ((parts[:1],), r"model\.parts=.*expected two or more"),
        ((parts, [1.0]), r"model\.weights=\[1\.0\]; expected 2 numbers"),
        ((parts, [0.0, 0.0]), r"model\.weights=\[0\.0, 0\.0\].*not all 0"),
        (([parts[0], {"path": "nowhere"}],), r"^model\.parts\[1\]: model\.path=nowhere"),
        (([parts[0], {"pth": "nowhere"}],), r"^model\.parts\[1\]: unknown config key model\.pth.*'path'"),
        (([{}, parts[0]],), r"^model\.parts\[0\]: model\.name=null and model\.path=null"),
    ):
        with pytest.raises(InputError, match=said):
            ConcatenatedEncoder(paths, *given)
