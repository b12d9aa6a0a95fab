"""The trained tokenizer: nothing is unknown to it, training is repeatable, text comes back, the layout is XLM-R's."""

from __future__ import annotations

import unicodedata

import pytest

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.models.tokenization import Tokenization, pad_id, train_unigram
from tests.models.small_models import SENTENCES, TEXTS

UNSEEN = ["สเปรดชีตเก็บสูตรไว้", "جدول البيانات يحتفظ بالصيغ", "表格保留公式", "👩‍💻 🎉 naïve", "\U0001f1ea\U0001f1fa\x00x"]


@pytest.mark.parametrize("text", UNSEEN)
def test_no_script_is_unknown(text: str, tokenizer) -> None:
    tokenization = Tokenization(tokenizer, "", 512)
    ((ids,),) = (part for part, _ in tokenization.chunks([[text]]))
    assert tokenization.unknown_id == 3
    assert 3 not in ids
    assert len(tokenization.byte_ids) == 256
    assert set(ids.tolist()) & set(tokenization.byte_ids.tolist())


def test_known_text_needs_no_bytes(tokenizer) -> None:
    tokenization = Tokenization(tokenizer, "", 512)
    for part, _ in tokenization.chunks([SENTENCES]):
        for ids in part:
            assert not set(ids.tolist()) & set(tokenization.byte_ids.tolist())


@pytest.mark.parametrize("text", [*SENTENCES, *UNSEEN[:4], "  two\t spaces\n", "ﬁ ① Å"])
def test_text_comes_back(text: str, tokenizer) -> None:
    """Up to Unicode's compatibility form, case and spacing, which the tokenizer makes equal on purpose."""
    ids = tokenizer.encode(text).ids
    assert tokenizer.decode(ids) == " ".join(unicodedata.normalize("NFKC", text).lower().split())


def test_two_trainings_are_equal(tokenizer) -> None:
    assert train_unigram(iter(TEXTS), 500).to_str() == tokenizer.to_str()


def test_special_tokens_lie_as_in_xlm_r(tokenizer) -> None:
    assert [tokenizer.token_to_id(token) for token in ("<s>", "<pad>", "</s>", "<unk>")] == [0, 1, 2, 3]
    assert tokenizer.token_to_id("<mask>") == tokenizer.get_vocab_size() - 1
    assert pad_id(tokenizer) == 1
    ids = tokenizer.encode("copied").ids
    assert (ids[0], ids[-1]) == (0, 2)
    assert tokenizer.encode("").ids == [0, 2]


def test_the_prefix_is_put_before_every_text(tokenizer) -> None:
    bare, prefixed = Tokenization(tokenizer, "", 64), Tokenization(tokenizer, "Query: ", 64)
    ((with_prefix, _),) = prefixed.chunks([["a sheet", "text"]])
    ((spelt_out, _),) = bare.chunks([["Query: a sheet", "Query: text"]])
    assert with_prefix.tolist() == spelt_out.tolist()
    assert bare.fingerprint != prefixed.fingerprint


def test_what_is_cut_is_marked(tokenizer) -> None:
    exactly = len(tokenizer.encode(SENTENCES[0]).ids)
    for limit, cut in ((exactly, False), (exactly - 1, True)):
        (((ids,), (was_cut,)),) = Tokenization(tokenizer, "", limit).chunks([[SENTENCES[0]]])
        assert was_cut == cut
        assert len(ids) == limit


def test_tokenizing_leaves_the_tokenizer_as_it_was(tokenizer) -> None:
    before = tokenizer.to_str()
    list(Tokenization(tokenizer, "x", 8).chunks([TEXTS]))
    assert tokenizer.to_str() == before


def test_a_vocabulary_too_small_for_the_alphabet_is_an_error() -> None:
    with pytest.raises(InputError, match=r"model\.vocabulary=100: this text needs 314 or more, ") as caught:
        train_unigram(TEXTS, 100)
    assert "\n" not in str(caught.value)
