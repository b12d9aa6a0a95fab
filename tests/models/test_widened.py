"""Random dimensions beside a static model's own: they add what its texts have in common, word for word, and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix

from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.models.encoder import BiEncoder
from hybrid_retrieval.models.trained_tokenizer import information
from hybrid_retrieval.models.widened import WidenedModel
from tests.models.small_models import DIMENSIONS, TEXTS


def widened(static_run: Path, paths: PathsConfig, **options: float) -> BiEncoder:
    torch.manual_seed(2)
    return WidenedModel(paths, path=str(static_run), **options).load()  # type: ignore[arg-type]


def test_without_length_the_random_dimensions_change_nothing(static_run: Path, paths: PathsConfig) -> None:
    wide = widened(static_run, paths, random_dimensions=48, random_scale=0.0).encode(TEXTS, "passage")
    own = WidenedModel(paths, path=str(static_run)).trained
    assert own is not None
    np.testing.assert_array_equal(wide[:, DIMENSIONS:], 0)
    np.testing.assert_allclose(wide[:, :DIMENSIONS], own.encode(TEXTS, "passage"), rtol=0, atol=1e-6)


def test_the_random_part_is_a_projection_of_tf_idf(static_run: Path, paths: PathsConfig) -> None:
    """Its cosines are those of counts of tokens, weighted by how much a token says, within a few 1 / sqrt(dimensions)."""
    size = 4096
    encoder = widened(static_run, paths, random_dimensions=size, random_scale=1e6)
    found = encoder.encode(TEXTS, "passage")
    ids = [encoder.tokenizer.encode(text).ids for text in TEXTS]
    ones = [(1.0, row, id_) for row, one in enumerate(ids) for id_ in one]
    values, rows, columns = zip(*ones, strict=True)
    weights = np.array(information(encoder.tokenizer))
    counts = csr_matrix((values, (rows, columns)), shape=(len(TEXTS), len(weights))).multiply(weights).toarray()
    counts /= np.linalg.norm(counts, axis=1, keepdims=True)
    expected = counts @ counts.T
    assert expected[~np.eye(len(TEXTS), dtype=bool)].max() > 0.2  # some texts share words
    np.testing.assert_allclose(found @ found.T, expected, rtol=0, atol=6 / size**0.5)


def test_the_length_of_the_rarest_token_is_in_median_rows(static_run: Path, paths: PathsConfig) -> None:
    encoder = widened(static_run, paths, random_dimensions=4096, random_scale=0.5)
    table = encoder.backbone.table.weight.detach()
    own, random = table[:, :DIMENSIONS].norm(dim=1), table[:, DIMENSIONS:].norm(dim=1)
    says = torch.tensor(information(encoder.tokenizer))
    assert random.max().item() == pytest.approx(0.5 * own[says > 0].median().item(), rel=0.05)
    np.testing.assert_allclose(random / random.max(), says / says.max(), rtol=0, atol=0.1)


def test_its_shape_is_known_before_it_has_weights(static_run: Path, paths: PathsConfig) -> None:
    with torch.device("meta"):
        encoder = WidenedModel(paths, path=str(static_run), random_dimensions=48).load()
    assert encoder.dimensions == DIMENSIONS + 48
    assert encoder.backbone.table.weight.device.type == "meta"


def test_a_transformer_is_refused(bert_like: Path, paths: PathsConfig) -> None:
    with pytest.raises(InputError, match="is a transformer; expected a static model"):
        WidenedModel(paths, path=str(bert_like), max_query_length=40, max_passage_length=40).load()
