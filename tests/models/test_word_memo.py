"""Ids from remembered words are the tokenizer's own, whatever the text; only tokenizers for which that holds take this way."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from hybrid_retrieval.models.tokenization import Tokenization, train_unigram
from hybrid_retrieval.models.word_memo import WordMemo, words_suffice
from tests.models.small_models import SENTENCES, TEXTS

SPACES = [" ", " ", " ", " ", "  ", "\t", "\n", "\u00a0", "\u3000", "\u200b", "\u2009", ""]
ODD = (
    *("\u00a8\u00b4\u2017\u203e\ufe49\u0301\u0308\u0e33\u0eb3\u200d\u200c\u0600\u06dd\u0d4e\ufdfa\ufc5e\ufe70\uff9e"),
    *("\U0001f3fb\U0001f468\U000110bd\u00ad\u00aa\u1100\u1161\u309b\u037a\U000111c2\x00"),
)
ENDS = (*".,()`^", *ODD, "<s>", "</s>", "<mask>", "[SEP]")


def precompiled() -> normalizers.Normalizer:
    """SentencePiece's own character map, which XLM-R's tokenizer carries."""
    sentencepiece.set_min_log_level(2)
    spec = sentencepiece.SentencePieceNormalizer(rule_name="nmt_nfkc")
    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(spec.serialized_model_proto())
    return normalizers.Precompiled(proto.normalizer_spec.precompiled_charsmap)


def trained() -> Tokenizer:
    return train_unigram(TEXTS, 500)


def xlm_r() -> Tokenizer:
    """XLM-R's pipeline: runs of spaces stay, and the mask token takes the space before it."""
    tokenizer = trained()
    tokenizer.normalizer = precompiled()
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True)])
    return tokenizer


def e5() -> Tokenizer:
    tokenizer = trained()
    tokenizer.normalizer = normalizers.Sequence([precompiled(), normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    return tokenizer


def bert() -> Tokenizer:
    pieces = sorted({character for text in TEXTS for character in text if not character.isspace()})
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *pieces, *(f"##{one}" for one in pieces), "sheet", "text", "##eet"]
    tokenizer = Tokenizer(models.WordPiece({name: index for index, name in enumerate(names)}, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in names[:4]])
    return tokenizer


PIPELINES = [trained, xlm_r, e5, bert]


def texts(seed: int, count: int = 3000) -> list[str]:
    """Words of many scripts with odd characters at their ends, and odd spaces between them."""
    draw = random.Random(seed)
    words = sorted({word for text in TEXTS for word in text.split()})

    def word() -> str:
        ends = [draw.choice(ENDS) if draw.random() < 0.12 else "" for _ in range(2)]
        return ends[0] + draw.choice(words) * draw.choice([0, 1, 1, 1, 1, 1, 1, 6]) + ends[1]

    odd = 0.0 if seed % 2 else 0.3
    made = []
    for _ in range(count):
        parts = [word() + (draw.choice(SPACES) if draw.random() < odd else " ") for _ in range(draw.randrange(14))]
        made.append("".join(parts).strip(" " if draw.random() < 0.8 else ""))
    return made


@pytest.mark.parametrize("make", PIPELINES)
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("prefix", ["", "query: "])
def test_ids_and_cuts_are_the_tokenizers_own(make: Callable[[], Tokenizer], seed: int, prefix: str) -> None:
    tokenizer = make()
    assert words_suffice(tokenizer)
    limit, given = 24, texts(seed)
    chunks = [given[start : start + 500] for start in range(0, len(given), 500)]
    found = list(Tokenization(tokenizer, prefix, limit).chunks(chunks))
    ids = [one for part, _ in found for one in part.tolist()]
    cut = [bool(one) for _, part in found for one in part]
    whole = [tokenizer.encode(prefix + text) for text in given]
    tokenizer.enable_truncation(limit)
    for text, mine, own in zip(given, ids, (tokenizer.encode(prefix + text).ids for text in given), strict=True):
        assert mine == own, repr(text)
    assert cut == [len(one.ids) > limit for one in whole]
    assert 0.01 < sum(cut) / len(cut) < 0.99


@pytest.mark.parametrize("make", PIPELINES)
def test_ordinary_text_is_not_encoded_whole(make: Callable[[], Tokenizer]) -> None:
    _, _, whole = WordMemo(make()).encode(SENTENCES)
    assert not whole.any()


def test_forgetting_changes_nothing(tokenizer: Tokenizer) -> None:
    remembers, forgets = WordMemo(tokenizer), WordMemo(tokenizer, kept=40)
    for start in range(0, 1000, 100):
        chunk = texts(3)[start : start + 100]
        for once, again in zip(remembers.encode(chunk), forgets.encode(chunk), strict=True):
            np.testing.assert_array_equal(once, again)
        assert len(forgets._number) <= 40 + len({word for text in chunk for word in text.split(" ")})
    assert len(remembers._number) > 200


def test_a_known_word_is_not_tokenised_again() -> None:
    class Counting:
        def __init__(self, tokenizer: Tokenizer) -> None:
            self._tokenizer, self.asked = tokenizer, []
            self.get_added_tokens_decoder = tokenizer.get_added_tokens_decoder

        def encode_batch_fast(self, words: list[str], add_special_tokens: bool) -> object:
            self.asked += words
            return self._tokenizer.encode_batch_fast(words, add_special_tokens=add_special_tokens)

    counting = Counting(trained())
    memo = WordMemo(counting)  # type: ignore[arg-type]
    for _ in range(3):
        memo.encode(SENTENCES)
    assert sorted(counting.asked) == sorted({word for text in SENTENCES for word in text.split()})


def changed(**parts: object) -> Tokenizer:
    tokenizer = trained()
    for name, part in parts.items():
        setattr(tokenizer, name, part)
    return tokenizer


LOOKING_ACROSS_SPACES = {
    "bytes": changed(pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=False)),
    "no split": changed(pre_tokenizer=pre_tokenizers.Metaspace(split=False)),
    "first word differs": changed(pre_tokenizer=pre_tokenizers.Metaspace(prepend_scheme="first")),
    "no pre-tokenizer": changed(pre_tokenizer=pre_tokenizers.Sequence([])),
    "prepend": changed(normalizer=normalizers.Prepend("x")),
    "replace": changed(normalizer=normalizers.Replace("e t", "x")),
}


@pytest.mark.parametrize("case", LOOKING_ACROSS_SPACES)
def test_other_tokenizers_see_the_whole_text(case: str) -> None:
    tokenizer = LOOKING_ACROSS_SPACES[case]
    assert not words_suffice(tokenizer)
    ((found, _),) = Tokenization(tokenizer, "", 512).chunks([TEXTS])
    assert found.tolist() == [tokenizer.encode(text).ids for text in TEXTS]


def test_an_added_token_with_a_space_needs_the_whole_text() -> None:
    tokenizer = trained()
    tokenizer.add_tokens(["keeps its"])
    assert not words_suffice(tokenizer)
