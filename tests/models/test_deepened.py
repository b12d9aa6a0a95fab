"""Layers above a static model: before training they change nothing, and they can be trained."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.random import default_rng
from torch import nn

from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.models.deepened import DeepenedModel, of_equal_norm
from hybrid_retrieval.models.encoder import BiEncoder, Tokens
from hybrid_retrieval.models.published import PublishedModel
from hybrid_retrieval.shipping.directory import check, ready, write
from tests.models.small_models import DIMENSIONS, TEXTS, write_run

LONG = " ".join(TEXTS)


def deepened(static_run: Path, paths: PathsConfig, **options: object) -> BiEncoder:
    torch.manual_seed(2)
    return DeepenedModel(paths, path=str(static_run), token_embeddings="sparse", **options).load()  # type: ignore[arg-type]


@pytest.mark.parametrize("layers", [1, 3])
def test_before_training_it_embeds_as_the_static_model_does(static_run: Path, paths: PathsConfig, layers: int) -> None:
    own = DeepenedModel(paths, path=str(static_run)).trained
    assert own is not None
    encoder = deepened(static_run, paths, layers=layers)
    assert len(encoder.backbone.layers) == layers
    for role in ("query", "passage"):
        expected = own.encode([*TEXTS, LONG, "", "?"], role)
        np.testing.assert_allclose(encoder.encode([*TEXTS, LONG, "", "?"], role), expected, rtol=0, atol=1e-6)


def test_a_decoder_of_the_experiments_embeds_so_too_and_trains_its_adapters_alone(
    static_run: Path, paths: PathsConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = Path(__file__).parents[2] / "experiments" / "llm_scale_miracl" / "grow.py"
    monkeypatch.setattr(sys, "argv", [str(script), str(static_run), str(tmp_path / "grown")])
    grow = runpy.run_path(str(script))["main"]
    assert grow() == 0
    own = DeepenedModel(paths, path=str(static_run)).trained
    assert own is not None
    for folder, layers in (("one_layer", 1), ("four_layers", 4)):
        settings: dict[str, Any] = {"pooling": "mean", "dimensions": DIMENSIONS, "bidirectional": True, "lora": {"rank": 4}}
        model = PublishedModel(paths, path=str(tmp_path / "grown" / folder), token_embeddings="frozen", **settings)
        encoder = model.build(model.own_tokenizer()).eval()
        assert len(encoder.backbone.layers) == layers
        np.testing.assert_allclose(encoder.encode(TEXTS, "passage"), own.encode(TEXTS, "passage"), rtol=0, atol=1e-6)
        trained = [name for name, parameter in encoder.named_parameters() if parameter.requires_grad]
        assert trained
        assert all("lora_" in name for name in trained)
    monkeypatch.setattr(sys, "argv", [str(script), str(tmp_path), str(tmp_path / "none")])
    capsys.readouterr()
    assert grow() == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_a_published_static_model_is_a_start_too(static_run: Path, paths: PathsConfig, tmp_path: Path) -> None:
    """It has no special tokens, so that a text may have no token at all."""
    texts = [*TEXTS, "", "?"]
    (tmp_path / "published").mkdir()
    static = PublishedModel(paths, path=str(static_run)).load()
    write(ready(static), tmp_path / "published")
    expected = PublishedModel(paths, path=str(tmp_path / "published")).load().encode(texts, "passage")
    encoder = deepened(tmp_path / "published", paths)
    np.testing.assert_allclose(encoder.encode(texts, "passage"), expected, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(encoder.encode([""], "passage"), 0)


@pytest.mark.parametrize("start", ["run", "published"])
def test_sentence_transformers_reads_it_when_it_is_trained(
    start: str, static_run: Path, paths: PathsConfig, tmp_path: Path
) -> None:
    for name in ("published", "exported"):
        (tmp_path / name).mkdir()
    write(ready(PublishedModel(paths, path=str(static_run)).load()), tmp_path / "published")
    encoder = deepened(tmp_path / start, paths)
    with torch.no_grad():
        for parameter in encoder.backbone.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    write(ready(encoder), tmp_path / "exported")
    assert " is " in check(encoder, tmp_path / "exported")


def test_its_layers_learn_the_order_of_words(static_run: Path, paths: PathsConfig) -> None:
    """A text and the same words the other way round are one to a static model; the layers learn to tell them apart."""
    encoder = deepened(static_run, paths).train()
    text = encoder.tokenise([TEXTS[5]], "passage").values
    tokens = Tokens.of(encoder.tokenise([TEXTS[5]], "passage"))
    other = Tokens(torch.from_numpy(text[::-1].copy()), tokens.offsets, tokens.longest)
    target = nn.functional.normalize(torch.randn(DIMENSIONS), dim=0)
    assert (encoder(tokens) * encoder(other)).sum().item() == pytest.approx(1, abs=1e-5)
    optimizer = torch.optim.Adam(encoder.backbone.layers[0].parameters(), lr=0.01)
    for _ in range(30):
        optimizer.zero_grad()
        loss = ((encoder(other) - encoder(tokens)) @ target).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert loss.item() < -0.5


def test_rows_of_equal_norm_and_a_mean_of_0() -> None:
    rows = default_rng(3).standard_normal((200, 7)) * default_rng(4).exponential(size=(200, 1)) + 1
    found = of_equal_norm(torch.from_numpy(rows)).numpy()
    np.testing.assert_array_equal(found[:, :7], rows)
    np.testing.assert_allclose(found.mean(1), 0, atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), np.linalg.norm(found[0]), rtol=1e-12)


def test_its_shape_is_known_before_it_has_weights(static_run: Path, paths: PathsConfig) -> None:
    with torch.device("meta"):
        encoder = deepened(static_run, paths)
    assert encoder.dimensions == DIMENSIONS
    assert encoder.backbone.table.weight.device.type == "meta"


def test_saved_and_read_again_it_is_the_same(static_run: Path, paths: PathsConfig, tmp_path: Path) -> None:
    encoder = deepened(static_run, paths)
    with torch.no_grad():
        for parameter in encoder.backbone.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    again = DeepenedModel(paths, path=str(write_run(encoder, tmp_path / "again"))).trained
    assert again is not None
    np.testing.assert_array_equal(again.encode(TEXTS, "query"), encoder.encode(TEXTS, "query"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dimensions": 17}, r"model.dimensions=17 is more than the static model's 16"),
        ({"normalize": False}, r"model.normalize=false: .* expected true"),
        ({"lora": {"rank": 4}}, r"model.lora=\{'rank': 4\}: .* leave it out"),
        ({"bidirectional": True}, r"model.bidirectional=True: .* leave it out"),
        ({"projection": 8}, r"model.projection=8: .* leave it out"),
        ({"layers": 0}, r"model.layers=0"),
    ],
)
def test_bad_options(options: dict[str, Any], said: str, static_run: Path, paths: PathsConfig) -> None:
    with pytest.raises(InputError, match=said):
        DeepenedModel(paths, path=str(static_run), **options).load()


def test_a_transformer_is_no_start(bert_like: Path, paths: PathsConfig) -> None:
    with pytest.raises(InputError, match="is a transformer; expected a static model"):
        deepened(bert_like, paths)
