"""A teacher's targets are its embeddings of each text, computed once; a killed build goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from tokenizers import Tokenizer

from hybrid_retrieval.cache import Cache
from hybrid_retrieval.config import PathsConfig, config_directory
from hybrid_retrieval.data.parallel import PairsWriter, ParallelPairs
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.models.encoder import BiEncoder, EncoderSettings
from hybrid_retrieval.models.static import StaticBackbone
from hybrid_retrieval.models.tokenization import train_unigram
from hybrid_retrieval.models.transformer import TransformerBackbone
from hybrid_retrieval.training.teacher import Teacher
from hybrid_retrieval.values import construct

LANGUAGES = ("aa", "bb", "cc")
TABLES = {"query": "queries", "passage": "passages"}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_unigram(
        [f"{side} number {i} in {language}" for side in TABLES.values() for i in range(60) for language in LANGUAGES], 300
    )


@pytest.fixture
def pairs(tmp_path: Path) -> ParallelPairs:
    """Thirty questions and twenty passages, a third of the texts missing."""
    random = np.random.default_rng(1)
    directory = tmp_path / "set"
    directory.mkdir()
    writer = PairsWriter(directory, "set", LANGUAGES)
    for side, count in (("queries", 30), ("passages", 20)):
        for language in LANGUAGES:
            present = np.flatnonzero(random.random(count) < 0.7)
            writer.write(side, language, ((i, f"{i}", f"{side} number {i} in {language}") for i in present))
    writer.finish({"train": np.array([(i, i % 20) for i in range(30)])}, {"provenance": {}})
    return ParallelPairs.open(directory)


def save_run(encoder: BiEncoder, run: Path) -> Path:
    (run / "checkpoints").mkdir(parents=True)
    save_weights(encoder, run)
    return run


def save_weights(encoder: BiEncoder, run: Path) -> None:
    state = {f"encoder.{name}": value for name, value in encoder.state_dict().items()}
    content = {"state_dict": state, "hyper_parameters": {"encoder": encoder.description()}}
    torch.save(content, run / "checkpoints" / "best.ckpt")


@pytest.fixture
def trained(tokenizer: Tokenizer) -> BiEncoder:
    torch.manual_seed(3)
    settings = EncoderSettings(query_prefix="number: ", max_query_length=24)
    return BiEncoder(StaticBackbone(tokenizer.get_vocab_size(), 8), tokenizer, settings).eval()


@pytest.fixture
def make(trained: BiEncoder, tmp_path: Path) -> Callable[..., Teacher]:
    run = save_run(trained, tmp_path / "run")
    given = {"run": str(run), "precision": "float32"}

    def teacher(texts_at_once: int = Teacher.texts_at_once, **values: Any) -> Teacher:
        made = Teacher(PathsConfig(), accelerator="cpu", **{**given, **values})
        made.texts_at_once = texts_at_once
        return made

    return teacher


@pytest.fixture
def store(tmp_path: Path) -> Cache:
    return Cache.at(tmp_path / "cache")


def expected(encoder: BiEncoder, pairs: ParallelPairs, role: Any, rows: Any) -> Any:
    return np.stack([encoder.encode(getattr(pairs, TABLES[role]).texts([int(row)]), role)[0] for row in rows])


@pytest.mark.parametrize("chunk", [7, 65_536])
@pytest.mark.parametrize("role", TABLES)
def test_targets_are_the_teachers_embeddings_of_each_text(
    role: Any,
    chunk: int,
    make: Callable[..., Teacher],
    trained: BiEncoder,
    pairs: ParallelPairs,
    store: Cache,
) -> None:
    other = make().embeddings(pairs, "query" if role == "passage" else "passage", store)
    targets = make(chunk).embeddings(pairs, role, store)
    assert len(targets.places) != len(other.places)
    rows = np.random.default_rng(2).integers(0, len(getattr(pairs, TABLES[role])), 40)
    found = targets.gather(rows)
    assert found.dtype == np.float32
    assert found.shape == (40, targets.dimensions) == (40, 8)
    np.testing.assert_allclose(found, expected(trained, pairs, role, rows), atol=1e-6)
    halves = make(precision="float16").embeddings(pairs, role, store)
    assert halves.embeddings.dtype == np.float16
    np.testing.assert_allclose(halves.gather(rows), found, atol=1e-3)


@pytest.mark.parametrize("role", TABLES)
def test_a_source_language_stands_for_its_translations(
    role: Any, make: Callable[..., Teacher], trained: BiEncoder, pairs: ParallelPairs, store: Cache
) -> None:
    make().embeddings(pairs, role, store)
    targets, table = make(source_language="bb").embeddings(pairs, role, store), getattr(pairs, TABLES[role])
    read = [int(table.rows[table.groups[row], 1]) for row in range(len(table))]
    read = [source if source >= 0 else row for row, source in enumerate(read)]
    assert 0 < sum(source != row for row, source in enumerate(read)) < len(table)
    np.testing.assert_allclose(targets.gather(np.arange(len(table))), expected(trained, pairs, role, read), atol=1e-6)
    assert len(targets.embeddings) == len(set(read))
    with pytest.raises(InputError, match=r"loss\.teacher\.source_language='dd'"):
        make(source_language="dd").embeddings(pairs, role, store)


def test_a_finished_cache_is_opened_without_the_teacher(
    make: Callable[..., Teacher], trained: BiEncoder, pairs: ParallelPairs, store: Cache, tmp_path: Path
) -> None:
    first = make()
    before = first.embeddings(pairs, "query", store)
    again = make()
    after = again.embeddings(pairs, "query", store)
    assert "encoder" in first.__dict__
    assert "encoder" not in again.__dict__
    assert isinstance(after.embeddings, np.memmap)
    np.testing.assert_array_equal(after.embeddings, before.embeddings)
    with torch.no_grad():
        trained.backbone.embedding.weight.mul_(-1)  # type: ignore[operator, union-attr]
    save_weights(trained, tmp_path / "run")
    np.testing.assert_allclose(make().embeddings(pairs, "query", store).embeddings, -before.embeddings, atol=1e-6)


def test_a_killed_build_goes_on(
    make: Callable[..., Teacher], pairs: ParallelPairs, store: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, encode, calls = make(precision="float16"), BiEncoder.encode, []

    def interrupted(self: BiEncoder, *arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return encode(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(BiEncoder, "encode", interrupted)
        with pytest.raises(KeyboardInterrupt):
            make(10).embeddings(pairs, "passage", store)
        blocks = -(-len(pairs.passages) // 10)
        assert blocks > 3
        found = make(10).embeddings(pairs, "passage", store)
        assert len(calls) == blocks + 1  # the one that was interrupted, again
    rows = np.arange(len(pairs.passages))
    other = whole.embeddings(pairs, "passage", store).gather(rows)
    np.testing.assert_allclose(found.gather(rows), other, atol=1e-3)


def test_reading_a_teacher_draws_no_random_numbers(make: Callable[..., Teacher], pairs: ParallelPairs, store: Cache) -> None:
    """Else a run whose cache is built would start from other weights than one that built it (law 6)."""
    torch.manual_seed(5)
    before = torch.get_rng_state()
    make().embeddings(pairs, "query", store)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_published_model_can_teach(tokenizer: Tokenizer, pairs: ParallelPairs, store: Cache, tmp_path: Path) -> None:
    from transformers import XLMRobertaConfig, XLMRobertaModel

    config = XLMRobertaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
    )
    torch.manual_seed(4)
    transformer = XLMRobertaModel(config, add_pooling_layer=False).eval()
    transformer.save_pretrained(tmp_path / "published")
    tokenizer.save(str(tmp_path / "published" / "tokenizer.json"))
    node = {
        "_target_": "hybrid_retrieval.models.published.PublishedModel",
        "name": "some/model",
        "path": str(tmp_path / "published"),
        "max_query_length": 32,
        "max_passage_length": 32,
        "query_prefix": "in ",
        "recipe": {"lr": 1.0},
    }
    found = Teacher(PathsConfig(), accelerator="cpu", model=node).embeddings(pairs, "query", store)
    settings = EncoderSettings(max_query_length=32, max_passage_length=32, query_prefix="in ")
    encoder = BiEncoder(TransformerBackbone(transformer, 1), tokenizer, settings)
    rows = np.arange(len(pairs.queries))
    np.testing.assert_allclose(found.gather(rows), expected(encoder, pairs, "query", rows), atol=2e-3)
    plain = Teacher(PathsConfig(), accelerator="cpu", model={**node, "query_prefix": ""}).embeddings(pairs, "query", store)
    assert np.abs(plain.gather(rows) - found.gather(rows)).max() > 1e-2


def test_strict_refuses_what_the_teacher_cuts(
    make: Callable[..., Teacher], trained: BiEncoder, pairs: ParallelPairs, store: Cache, tmp_path: Path
) -> None:
    short = BiEncoder(trained.backbone, trained.tokenizer, EncoderSettings(max_query_length=4))
    run = save_run(short, tmp_path / "short")
    make(run=str(run)).embeddings(pairs, "query", store)
    with pytest.raises(InputError, match="strict=true: set, each query to the teacher"):
        make(run=str(run), strict=True).embeddings(pairs, "query", store)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"run": None}, r"loss\.teacher\.run=None and loss\.teacher\.model=None; expected exactly one"),
        ({"model": {"name": "labse"}}, r"loss\.teacher\.model=labse; expected exactly one"),
        ({"run": "nowhere"}, r"loss\.teacher\.run=nowhere is no run directory"),
        ({"checkpoint": "first"}, r"loss\.teacher\.checkpoint='first'"),
        ({"precision": "int8"}, r"loss\.teacher\.precision='int8'"),
        (
            {"run": None, "model": {"_target_": "hybrid_retrieval.models.static.StaticModel"}},
            r"loss\.teacher\.model\._target_='hybrid_.*\.StaticModel' is of the wrong kind; expected a PublishedModel",
        ),
        (
            {
                "run": None,
                "model": {
                    "_target_": "hybrid_retrieval.models.published.PublishedModel",
                    "name": "some/model",
                    "projection": 8,
                },
            },
            r"loss\.teacher\.model\.projection=8 is a new layer",
        ),
    ],
)
def test_bad_values_are_refused_by_name(values: dict[str, Any], message: str, make: Callable[..., Teacher]) -> None:
    with pytest.raises(InputError, match=message):
        make(**values)


@pytest.mark.parametrize("loss", ["distill_embeddings", "distill_scores"])
def test_the_configs_of_distillation_name_a_teachers_settings(loss: str, make: Callable[..., Teacher], tmp_path: Path) -> None:
    with hydra.initialize_config_dir(str(config_directory()), version_base="1.3"):
        node = OmegaConf.to_container(hydra.compose("config", [f"loss={loss}"]).loss.teacher)
    construct(Teacher, {**node, "run": str(tmp_path / "run")}, "loss.teacher", paths=PathsConfig(), accelerator="cpu")
