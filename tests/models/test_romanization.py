"""Romanised tokenizers: names have the same tokens in every script, and all else of a tokenizer holds."""

from __future__ import annotations

import numpy as np
import pytest
from anyascii import anyascii
from tokenizers import Tokenizer

from hybrid_retrieval.models.romanization import romanizer
from hybrid_retrieval.models.tokenization import Tokenization, train_unigram
from tests.models.small_models import TEXTS

NAMES = ["Москва", "Αθήνα", "दिल्ली", "القاهرة", "กรุงเทพ", "서울", "さくら", "Ереван", "ירושלים"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_unigram([*TEXTS, *NAMES], 400, romanize=True)


@pytest.mark.parametrize("name", NAMES)
def test_alphabets_are_spelt_as_anyascii_spells_them(name: str, tokenizer: Tokenizer) -> None:
    assert romanizer().normalize_str(name) == anyascii(name)
    assert tokenizer.encode(name).ids == tokenizer.encode(anyascii(name)).ids


@pytest.mark.parametrize("text", ["Ærøskøbing", "Việt Nam", "東京", "São Paulo", "2 < 3, 50%"])
def test_latin_letters_han_characters_and_signs_stay(text: str) -> None:
    assert romanizer().normalize_str(text) == text


def test_words_that_are_looked_up_are_the_tokenizers_own(tokenizer: Tokenizer) -> None:
    texts = [*TEXTS, *NAMES, " ".join(NAMES), "e\u0301 \u0915\u093e  x"]
    found, _ = next(Tokenization(tokenizer, "", 100).chunks([texts]))
    for ids, text in zip(found.tolist(), texts, strict=True):
        np.testing.assert_array_equal(ids, tokenizer.encode(text).ids)


def test_a_romanised_tokenizer_is_read_back(tokenizer: Tokenizer) -> None:
    again = Tokenizer.from_str(tokenizer.to_str())
    assert [again.encode(name).ids for name in NAMES] == [tokenizer.encode(name).ids for name in NAMES]
