"""The bi-encoder: `encode` is `forward` for any number of texts, says what it lost, and is saved whole."""

from __future__ import annotations

import itertools
import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.models.encoder import BiEncoder, EncoderSettings, Tokens
from hybrid_retrieval.models.static import StaticModel
from hybrid_retrieval.models.transformer import ScratchTransformer
from tests.models.small_models import SENTENCES, TEXTS, TrainingSample, saved_and_read

KINDS = ["static", "transformer"]
VARIANTS = [
    {"pooling": "mean"},
    {"pooling": "cls", "projection": 7, "activation": "tanh"},
    {"pooling": "last", "normalize": False, "projection": 40},
]


def one_by_one(encoder: BiEncoder, texts: list[str], role: str) -> np.ndarray:
    rows = []
    for text in texts:
        ((ids,),) = (part for part, _ in encoder.tokenization(role).chunks([[text]]))
        with torch.no_grad():
            rows.append(encoder(Tokens(torch.tensor(ids), torch.tensor([0, len(ids)])))[0].numpy())
    return np.stack(rows)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("settings", VARIANTS, ids=["mean", "cls", "last"])
def test_encode_equals_forward_in_the_order_given(kind, settings, make_encoder) -> None:
    encoder = make_encoder(kind, **settings)
    texts = [*SENTENCES, "a", " ".join(SENTENCES), "", SENTENCES[0]]
    for role in ("query", "passage"):
        found = encoder.encode(texts, role)
        assert found.dtype == np.float32
        assert found.shape == (len(texts), encoder.dimensions)
        expected = one_by_one(encoder, texts, role)
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(encoder.encode(texts, role, chunk_tokens=100), expected, rtol=1e-3, atol=1e-5)
    if encoder.settings.normalize:
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


def test_more_texts_than_are_tokenised_at_once(make_encoder) -> None:
    once = make_encoder().tokenise(SENTENCES, "query").tolist()
    assert make_encoder().tokenise(SENTENCES * 600, "query").tolist() == once * 600


def test_no_texts_give_no_rows(make_encoder) -> None:
    assert make_encoder().encode([], "query", "nothing").shape == (0, 32)


def test_prefixes_are_those_of_the_role(make_encoder) -> None:
    encoder = make_encoder(query_prefix="Query: ", passage_prefix="")
    np.testing.assert_array_equal(encoder.encode(["copy"], "query"), encoder.encode(["Query: copy"], "passage"))
    assert (encoder.encode(["copy"], "query") != encoder.encode(["copy"], "passage")).any()


def test_encode_uses_no_dropout_and_leaves_the_mode_as_it_was(make_encoder) -> None:
    encoder = make_encoder("transformer").train()
    np.testing.assert_array_equal(encoder.encode(SENTENCES, "query"), encoder.encode(SENTENCES, "query"))
    assert encoder.training
    encoder.backbone.model.embeddings.word_embeddings.weight.data[:] = torch.nan
    with pytest.raises(InputError, match="8 of 8 query embeddings are not finite"):
        encoder.encode(SENTENCES, "query")
    assert encoder.training


def test_what_is_cut_or_spelt_in_bytes_is_in_the_log(make_encoder, caplog: pytest.LogCaptureFixture) -> None:
    encoder = make_encoder()
    long = " ".join(SENTENCES)
    with caplog.at_level(logging.INFO):
        encoder.encode(SENTENCES[:2], "passage", "set de")
        assert not caplog.records
        encoder.encode([long, long + long, "short"], "passage")
        assert not caplog.records
        encoder.encode([long, long + long, "short"], "passage", "set de")
        encoder.encode(["สวัสดี"], "query", "set th")
    assert len(caplog.records) == 2
    assert "set de: 2 of 3 texts are cut to 64 tokens" in caplog.text
    assert "set th" in caplog.text
    assert "% of the tokens are single bytes" in caplog.text


def test_a_cut_text_is_that_of_its_first_tokens(make_encoder) -> None:
    encoder = make_encoder(max_query_length=12, query_prefix="")
    ((ids,),) = (part for part, _ in encoder.tokenization("query").chunks([[TEXTS[0]]]))
    whole = encoder.tokenizer.encode(TEXTS[0]).ids
    assert len(ids) == 12 < len(whole)
    assert ids.tolist() == [*whole[:11], whole[-1]]


def test_strict_makes_an_error_of_it(make_encoder, tokenizer) -> None:
    encoder = make_encoder()
    encoder.strict = True
    encoder.encode(SENTENCES[:2], "passage", "set")
    encoder.encode(["สวัสดี"], "passage", "set")
    encoder.encode([" ".join(TEXTS)], "passage")
    with pytest.raises(InputError, match=r"strict=true: set: 1 of 2 texts are cut to model\.max_passage_length=64"):
        encoder.encode([" ".join(TEXTS), "short"], "passage", "set")
    with pytest.raises(InputError, match=r"strict=true: set: 0 of 1 .* 2 tokens are unknown"):
        encoder.encode(["<unk> and <unk>"], "query", "set")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("settings", VARIANTS, ids=["mean", "cls", "last"])
def test_a_saved_encoder_gives_the_same_embeddings_to_the_bit(kind, settings, make_encoder, tmp_path: Path) -> None:
    encoder = make_encoder(kind, **settings)
    torch.manual_seed(99)
    again = saved_and_read(encoder, tmp_path)
    assert again.settings == encoder.settings
    for role in ("query", "passage"):
        np.testing.assert_array_equal(again.encode(TEXTS, role), encoder.encode(TEXTS, role))


def test_models_from_scratch_are_built_from_their_config(tmp_path: Path) -> None:
    paths = PathsConfig(cache=str(tmp_path))
    static = StaticModel(paths, dimensions=16, vocabulary=500)
    scratch = ScratchTransformer(
        paths, layers=1, hidden=16, heads=2, vocabulary=500, projection=9, max_query_length=20, max_passage_length=40
    )
    for model, dimensions in ((static, 16), (scratch, 9)):
        torch.manual_seed(1)
        encoder = model.build(model.tokenizer(TrainingSample()))
        torch.manual_seed(1)
        again = model.build(model.tokenizer(TrainingSample()))
        long = [" ".join(TEXTS)]
        assert encoder.encode(long, "passage").shape == (1, dimensions)  # as long as positions go
        np.testing.assert_array_equal(encoder.encode(long, "query"), again.encode(long, "query"))
    assert len(list((tmp_path / "tokenizers").iterdir())) == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"pooling": "max"}, r"model\.pooling='max'"),
        ({"activation": "relu"}, r"model\.activation='relu'"),
        ({"max_query_length": 0}, r"model\.max_query_length=0"),
        ({"projection": 0}, r"model\.projection=0"),
    ],
)
def test_bad_settings_are_refused_by_name(values: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        EncoderSettings(**values)


def test_a_length_limit_without_room_for_text_is_refused(make_encoder) -> None:
    with pytest.raises(InputError, match=r"max_\*_length=2 leaves no room"):
        make_encoder(max_query_length=2).encode(["a"], "query")


def test_a_transformer_whose_heads_do_not_divide_it_is_refused() -> None:
    with pytest.raises(InputError, match=r"model\.heads=3 does not divide model\.hidden=16"):
        ScratchTransformer(PathsConfig(), layers=1, hidden=16, heads=3)


def test_an_untrained_static_encoder_weighs_the_tokens_that_texts_share_by_their_information(tmp_path: Path) -> None:
    """Random rows are almost at right angles: the cosine is that of bags of tokens, each weighed by -log p."""
    torch.manual_seed(0)
    model = StaticModel(PathsConfig(cache=str(tmp_path)), dimensions=4096, vocabulary=500)
    encoder = model.encoder(TrainingSample())
    texts = [*SENTENCES, *(f"{one} {other}" for one, other in itertools.pairwise(SENTENCES))]
    vocabulary = json.loads(encoder.tokenizer.to_str())["model"]["vocab"]
    weight = np.array([-score for _, score in vocabulary])
    bags = np.stack([np.bincount(encoder.tokenizer.encode(text).ids, minlength=len(weight)) * weight for text in texts])
    bags /= np.linalg.norm(bags, axis=1, keepdims=True)
    found = encoder.encode(texts, "passage")
    np.testing.assert_allclose(found @ found.T, bags @ bags.T, atol=0.08)
