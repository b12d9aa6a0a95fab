"""Directories of sentence-transformers: used as their files say, with sentence-transformers as the oracle, or not at all."""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.models.encoder import BiEncoder
from hybrid_retrieval.models.published import PublishedModel
from tests.models.small_models import SENTENCES, TEXTS, byte_pairs, write_decoder

Save = Callable[..., Path]
LIMIT = 16
OLD_FILES = {
    "sentence_bert_config.json": {"max_seq_length": LIMIT, "do_lower_case": False},
    "sentence_roberta_config.json": {"max_seq_length": LIMIT, "do_lower_case": False},
}
LONG = [" ".join(TEXTS[:3]), *SENTENCES]


def published(path: Path, **values: Any) -> BiEncoder:
    return PublishedModel(PathsConfig(), path=str(path), **values).load()


def theirs(path: Path) -> Any:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(path), device="cpu")


def assert_as_theirs(path: Path, **values: Any) -> BiEncoder:
    """Our embeddings of both roles are theirs."""
    ours, oracle = published(path, **values), theirs(path)
    for role, expected in (("query", oracle.encode_query(LONG)), ("passage", oracle.encode_document(LONG))):
        np.testing.assert_allclose(ours.encode(LONG, role), expected, rtol=0, atol=1e-5)  # type: ignore[arg-type]
    return ours


@pytest.fixture
def save(xlmr_like: Path, tmp_path: Path) -> Save:
    """A directory that sentence-transformers wrote: a transformer of `values`, pooling, and the modules that follow."""

    def make(pooling: str = "mean", after: tuple[Any, ...] | None = None, whole: Any = None, **values: Any) -> Path:
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.sentence_transformer import modules

        torch.manual_seed(7)
        layers = [modules.Transformer(str(xlmr_like), **values), modules.Pooling(32, pooling)]
        layers += [modules.Normalize()] if after is None else after
        SentenceTransformer(modules=layers, device="cpu", **(whole or {})).save(str(tmp_path / "saved"))
        return tmp_path / "saved"

    return make


def dense(*sizes: int, last: Any = None) -> tuple[Any, ...]:
    from sentence_transformers.sentence_transformer import modules

    torch.manual_seed(8)
    layers = [modules.Dense(one, other, activation_function=None) for one, other in itertools.pairwise(sizes)]
    if last is not None:
        layers[-1].activation_function = last
    return (*layers, modules.Normalize())


@pytest.mark.parametrize("pooling", ["mean", "cls", "lasttoken"])
@pytest.mark.parametrize("sizes", [(), (32, 24), (32, 48, 20)])
def test_everything_comes_from_its_own_files(save: Save, pooling: str, sizes: tuple[int, ...]) -> None:
    """Several dense layers with nothing between them are one."""
    prompts = {"query": "Query: ", "document": "Passage: "}
    last = torch.nn.Tanh() if len(sizes) == 2 else None
    path = save(pooling, dense(*sizes, last=last) if sizes else None, {"prompts": prompts}, max_seq_length=LIMIT)
    ours = assert_as_theirs(path)
    assert ours.dimensions == (sizes[-1] if sizes else 32)
    assert (ours.settings.query_prefix, ours.settings.max_passage_length) == ("Query: ", LIMIT)


def test_dot_products_lengths_by_role_and_truncation_are_kept(save: Save) -> None:
    """Embeddings that are cut off are at unit length here; there, their cosine is taken."""
    assert_as_theirs(save(after=(), whole={"similarity_fn_name": "dot"}, query_length=9, document_length=14))
    cut = save(whole={"truncate_dim": 12})
    ours, oracle = published(cut), theirs(cut).encode(LONG, normalize_embeddings=True)
    assert ours.dimensions == 12
    np.testing.assert_allclose(ours.encode(LONG, "query"), oracle, rtol=0, atol=1e-5)
    with pytest.raises(InputError, match=r"model\.dimensions=33 is more than the encoder's 32"):
        published(cut, dimensions=33)


@pytest.mark.parametrize("old", OLD_FILES)
def test_no_more_of_a_text_is_read_than_was_saved(save: Save, old: str) -> None:
    path = save()
    (path / "sentence_bert_config.json").unlink()
    (path / old).write_text(json.dumps(OLD_FILES[old]))
    tokenizer = json.loads((path / "tokenizer_config.json").read_text())
    (path / "tokenizer_config.json").write_text(json.dumps({**tokenizer, "model_max_length": 64}))
    flags = {"word_embedding_dimension": 32, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    (path / "1_Pooling" / "config.json").write_text(json.dumps(flags))
    settings = assert_as_theirs(path).settings
    assert (settings.longest, settings.pooling) == (LIMIT, "cls")


def test_capitals_that_are_not_to_be_seen_are_lower_cased(save: Save) -> None:
    path = save(max_seq_length=LIMIT)
    config = path / "sentence_bert_config.json"
    tokenizer = json.loads((path / "tokenizer.json").read_text())
    rest = [step for step in tokenizer["normalizer"]["normalizers"] if step != {"type": "Lowercase"}]
    assert rest != tokenizer["normalizer"]["normalizers"]
    for normalizer in (None, {"type": "Sequence", "normalizers": rest}):
        (path / "tokenizer.json").write_text(json.dumps({**tokenizer, "normalizer": normalizer}))
        kept = published(path).encode(LONG, "query")
        before = config.read_text()
        config.write_text(json.dumps({**json.loads(before), "do_lower_case": True}))
        assert np.abs(assert_as_theirs(path).encode(LONG, "query") - kept).max() > 1e-3
        config.write_text(before)


@pytest.mark.parametrize("kind", ["plain", "decoder", "static", "model2vec"])
def test_plain_transformers_decoders_and_static_models(kind: str, xlmr_like: Path, tmp_path: Path) -> None:
    if kind == "plain":
        assert assert_as_theirs(xlmr_like, normalize=False).settings.longest == 64  # its tokenizer's
    elif kind == "decoder":
        path = write_decoder(tmp_path, "qwen3", byte_pairs())
        assert published(path).settings.pooling == "mean"
        config = json.loads((path / "config.json").read_text())
        (path / "config.json").write_text(json.dumps({**config, "architectures": ["Qwen3ForCausalLM"]}))
        assert published(path).settings.pooling == "last"
    else:
        from safetensors.torch import save_file
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.sentence_transformer import modules

        torch.manual_seed(4)
        tokenizer = Tokenizer.from_file(str(xlmr_like / "tokenizer.json"))
        rows = torch.randn(tokenizer.get_vocab_size(), 24)
        tokenizer.enable_truncation(LIMIT)
        SentenceTransformer(modules=[modules.StaticEmbedding(tokenizer, rows)], device="cpu").save(str(tmp_path))
        (folder,) = (file.parent for file in tmp_path.rglob("model.safetensors"))
        if kind == "model2vec":
            weights = torch.rand(len(rows))
            save_file(
                {"embeddings": rows[:9], "mapping": torch.arange(len(rows)) % 9, "weights": weights},
                folder / "model.safetensors",
            )
        assert assert_as_theirs(tmp_path, normalize=False).settings.longest == LIMIT
        with pytest.raises(InputError, match="is a static model; expected no option"):
            published(tmp_path, bidirectional=True)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    ours = [record for record in caplog.records if record.name.startswith("hybrid_retrieval")]
    return [record.getMessage() for record in ours if record.levelno == logging.WARNING]


def test_what_the_config_says_wins_and_is_told(save: Save, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    path = save("cls", dense(32, 24), {"prompts": {"query": "Query: "}}, max_seq_length=LIMIT)
    own = {"pooling": "mean", "query_prefix": "", "normalize": False, "max_query_length": 40, "max_passage_length": 8}
    settings = published(path, projection="none", **own).settings
    assert {name: getattr(settings, name) for name in own} == own
    assert settings.projection is None
    (said,) = warnings(caplog)
    assert f"{path} is not used as it was saved: " in said
    for part in ("pooling='mean' (saved: 'cls')", "query_prefix='' (saved: 'Query: ')", "max_query_length=40 (saved: 16)"):
        assert part in said
    assert "max_passage_length" not in said
    caplog.clear()
    published(path)
    assert not warnings(caplog)
    assert "pooling='cls'" in caplog.text


MODULE = "sentence_transformers.models."


@pytest.mark.parametrize(
    ("modules", "part"),
    [
        ([("0", "", MODULE + "Transformer"), ("1", "1_Pooling", MODULE + "LSTM")], "its module LSTM is unknown here; expected"),
        (
            [("0", "", "custom_st.Transformer"), ("1", "1_Pooling", MODULE + "Pooling")],
            "its module custom_st.Transformer is unknown",
        ),
        ([("0", "", MODULE + "Transformer")], "is a chain of Transformer; expected"),
        ([("0", "1_Pooling", MODULE + "Pooling"), ("1", "", MODULE + "Transformer")], "is a chain of Pooling, Transformer;"),
        ([], "is a chain of ; expected"),
    ],
)
def test_unknown_modules_are_named(save: Save, modules: list[tuple[str, str, str]], part: str) -> None:
    path = save()
    chain = [{"idx": at, "name": name, "path": folder, "type": kind} for at, (name, folder, kind) in enumerate(modules)]
    (path / "modules.json").write_text(json.dumps(chain))
    with pytest.raises(InputError) as caught:
        published(path)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_ways_to_use_a_module_that_are_unknown_are_named(save: Save) -> None:
    path = save(after=dense(32, 24, 8, last=torch.nn.GELU()))
    for file, changes, part in (
        ("3_Dense/config.json", {}, "model.activation='gelu' is unknown"),
        ("2_Dense/config.json", {"activation_function": "torch.nn.modules.activation.Tanh"}, "follows one that ends with tanh"),
        ("2_Dense/config.json", {"use_residual": True}, "use_residual=True"),
        ("1_Pooling/config.json", {"pooling_mode": ["mean", "max"]}, "pools by mean and max"),
        ("sentence_bert_config.json", {"transformer_task": "any-to-any"}, "transformer_task='any-to-any'"),
        ("sentence_bert_config.json", {"max_seq_length": "many"}, "model.path="),
        ("config.json", {"is_encoder_decoder": True}, "is_encoder_decoder"),
    ):
        before = (path / file).read_text()
        (path / file).write_text(json.dumps({**json.loads(before), **changes}))
        with pytest.raises(InputError) as caught:
            published(path)
        assert part in str(caught.value)
        (path / file).write_text(before)


def test_a_model_is_named_or_has_a_path() -> None:
    with pytest.raises(InputError, match=r"model\.name=null and model\.path=null: name a model of the hub"):
        PublishedModel(PathsConfig())
