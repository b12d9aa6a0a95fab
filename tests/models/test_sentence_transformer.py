"""Directories of sentence-transformers: limits, lower-casing and prompts are kept to, or the difference is said."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.models.encoder import EncoderSettings
from hybrid_retrieval.models.sentence_transformer import as_saved
from tests.models.small_models import SENTENCES, TEXTS, load

Save = Callable[..., Path]
LIMIT = 16
WITHIN = EncoderSettings(pooling="mean", max_query_length=LIMIT, max_passage_length=LIMIT)
OLD_FILES = {
    "sentence_bert_config.json": {"max_seq_length": LIMIT, "do_lower_case": False},
    "sentence_roberta_config.json": {"max_seq_length": LIMIT, "do_lower_case": False},
}


@pytest.fixture
def save(xlmr_like: Path, tmp_path: Path) -> Save:
    """A directory that sentence-transformers wrote; with `old`, as versions before 6 did."""

    def make(old: str | None = None, prompts: dict[str, str] | None = None, **values: Any) -> Path:
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.sentence_transformer import modules

        path = tmp_path / "saved"
        layers = [modules.Transformer(str(xlmr_like), **values), modules.Pooling(32, "mean"), modules.Normalize()]
        SentenceTransformer(modules=layers, device="cpu", prompts=prompts).save(str(path))
        if old:
            (path / "sentence_bert_config.json").unlink()
            (path / old).write_text(json.dumps(OLD_FILES[old]))
            tokenizer = json.loads((path / "tokenizer_config.json").read_text())
            (path / "tokenizer_config.json").write_text(json.dumps({**tokenizer, "model_max_length": 64}))
        return path

    return make


@pytest.mark.parametrize("old", [None, *OLD_FILES])
def test_no_more_of_a_text_is_read_than_was_saved(save: Save, old: str | None) -> None:
    from sentence_transformers import SentenceTransformer

    path = save(old) if old else save(max_seq_length=LIMIT)
    theirs = SentenceTransformer(str(path), device="cpu")
    assert theirs.max_seq_length == LIMIT
    long = [" ".join(TEXTS[:3]), SENTENCES[0]]
    expected = theirs.encode(long)
    same, longer = (
        load(path, max_query_length=length, max_passage_length=length).encode(long, "passage") for length in (16, 17)
    )
    np.testing.assert_allclose(same, expected, rtol=0, atol=1e-5)
    assert np.abs(longer - expected).max() > 1e-3
    assert as_saved(path, WITHIN) == WITHIN
    assert as_saved(path, replace(WITHIN, max_query_length=9)).max_query_length == 9
    for key, other in (("max_query_length", "max_passage_length"), ("max_passage_length", "max_query_length")):
        with pytest.raises(InputError, match=f"^model.{key}=17, but .*max_seq_length=16") as caught:
            as_saved(path, replace(WITHIN, **{key: 17}))
        assert other not in str(caught.value)
    with pytest.raises(InputError, match=r"model.max_query_length=17 and model.max_passage_length=18, but"):
        as_saved(path, replace(WITHIN, max_query_length=17, max_passage_length=18))


def test_capitals_that_are_not_to_be_seen_are_refused_or_lower_cased(save: Save) -> None:
    path = save(max_seq_length=LIMIT, do_lower_case=True)
    config = path / "sentence_bert_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "do_lower_case": True}))
    assert as_saved(path, WITHIN) == WITHIN
    tokenizer = json.loads((path / "tokenizer.json").read_text())
    normalizers = tokenizer["normalizer"]["normalizers"]
    rest = [step for step in normalizers if step != {"type": "Lowercase"}]
    assert rest != normalizers
    for normalizer in (None, {"type": "Sequence", "normalizers": rest}):
        (path / "tokenizer.json").write_text(json.dumps({**tokenizer, "normalizer": normalizer}))
        with pytest.raises(InputError, match="do_lower_case=true, but its tokenizer keeps capitals"):
            as_saved(path, WITHIN)


def test_prefixes_are_named_where_no_prompts_were_saved(save: Save, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    prefixed = replace(WITHIN, query_prefix="Query: ", passage_prefix="Passage: ")
    path = save(max_seq_length=LIMIT)
    as_saved(path, WITHIN)
    assert not [record for record in caplog.records if record.name.startswith("hybrid_retrieval")]
    as_saved(path, prefixed)
    (said,) = [record.getMessage() for record in caplog.records if record.name.startswith("hybrid_retrieval")]
    assert "model.query_prefix='Query: ' and model.passage_prefix='Passage: '" in said
    assert str(path) in said


def test_prompts_that_were_saved_are_not_named(save: Save, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    path = save(max_seq_length=LIMIT, prompts={"query": "Query: ", "document": "Passage: "})
    as_saved(path, replace(WITHIN, query_prefix="Query: ", passage_prefix="Passage: "))
    assert not [record for record in caplog.records if record.name.startswith("hybrid_retrieval")]
