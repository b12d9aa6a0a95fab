"""Tokenising words instead of texts: a word that comes again is looked up.

A tokenizer that splits at spaces, and whose normalisation does not look across them, makes of a text what it makes of its
words, end to end. `words_suffice` names such tokenizers; others, and texts with a word for which it may not hold (see
`WordMemo`), are left to the tokenizer itself, so that the ids are always its own.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from tokenizers import Tokenizer

from hybrid_retrieval.ragged import Ragged

Ints = npt.NDArray[np.int64]

KEPT = 1 << 19
"""Words to remember: some 100 MB."""
LONGEST = 40
"""Characters of a word; longer ones hardly come again (scripts without spaces)."""

LOCAL_NORMALIZERS = {"NFC", "NFD", "NFKC", "NFKD", "Precompiled", "BertNormalizer", "Lowercase", "StripAccents", "Strip"}
SPACES = ({"Regex": "\\s+"}, {"Regex": " {2,}"})
SPLITTERS = {"BertPreTokenizer", "WhitespaceSplit", "Whitespace"}
POST_PROCESSORS = {"TemplateProcessing", "RobertaProcessing", "BertProcessing"}


def words_suffice(tokenizer: Tokenizer) -> bool:
    """True where the ids of a text are those of its words, end to end, whatever the words are (but for `boundary_is_safe`)."""
    config: dict[str, Any] = json.loads(tokenizer.to_str())
    post, splitters = config["post_processor"], _steps(config["pre_tokenizer"], "pretokenizers")
    return (
        all(map(_is_local, _steps(config["normalizer"], "normalizers")))
        and bool(splitters)
        and all(map(_splits, splitters))
        and (post is None or post["type"] in POST_PROCESSORS)
        and not config["model"].get("dropout")
        and not any(any(map(str.isspace, token["content"])) for token in config["added_tokens"])
    )


def _steps(node: dict[str, Any] | None, parts: str) -> list[dict[str, Any]]:
    """A normalizer or pre-tokenizer as the list of its steps."""
    if node is None:
        return []
    return [step for part in node[parts] for step in _steps(part, parts)] if node["type"] == "Sequence" else [node]


def _is_local(step: dict[str, Any]) -> bool:
    """A normalisation that does not look beyond a space between two ordinary characters."""
    if step["type"] == "Replace":
        return step["content"] == " " and step["pattern"] in SPACES
    return step["type"] in LOCAL_NORMALIZERS


def _splits(step: dict[str, Any]) -> bool:
    """A pre-tokenizer that splits at spaces and begins each word in the same way."""
    if step["type"] == "Metaspace":
        return bool(step.get("split", True)) and step.get("prepend_scheme") == "always"
    return step["type"] in SPLITTERS


@lru_cache(maxsize=1 << 16)
def boundary_is_safe(character: str) -> bool:
    """True where a character beside a space keeps to its side.

    Unsafe are marks and joiners (they combine with the space), prepended signs, whatever becomes or begins with a space when
    normalised, and whatever a normalizer may delete: a character must be a letter, number, punctuation mark or symbol, and so
    must the first one of its compatibility decomposition. Unicode's exceptions: modifiers (Lm, Sk), the Thai and Lao vowel
    signs AM, and letters that cling to what follows (Malayalam dot reph and some of U+11000-11FFF); UAX 29, table 1c.
    """
    if "!" <= character <= "~":
        return True
    if character in "\u0e33\u0eb3\u0d4e" or "\U00011000" <= character <= "\U00011fff":
        return False
    own, first = (unicodedata.category(one) for one in (character, unicodedata.normalize("NFKD", character)[0]))
    return own not in ("Lm", "Sk") and own[0] in "LNPS" and first[0] in "LNPS"


class WordMemo:
    """Ids of words, without special tokens.

    A text is to be encoded whole when one of its words is empty (two spaces in a row), very long, has an unsafe character at
    an end, or holds an added token (which may swallow the space, or not).
    """

    def __init__(self, tokenizer: Tokenizer, kept: int = KEPT) -> None:
        """
        Args:
            tokenizer: one for which `words_suffice`, without padding and truncation.
            kept: words to remember; when there are more, all are forgotten.
        """
        self._tokenizer, self._kept = tokenizer, kept
        self._added = np.array(sorted(tokenizer.get_added_tokens_decoder()), np.int64)
        self._forget()

    def _forget(self) -> None:
        self._number: dict[str, int] = {}
        self._ids = Ragged.from_lists([])

    def encode(self, texts: Sequence[str]) -> tuple[Ints, Ints, npt.NDArray[np.bool_]]:
        """Ids end to end, int64 [tokens]; their number by text, int64 [texts]; bool [texts], left out: to be encoded whole."""
        split = pc.split_pattern(pa.array(texts, pa.large_string()), " ")
        words = split.values.dictionary_encode()
        numbers = self._numbers(words.dictionary.to_pylist())[np.asarray(words.indices)]
        by_text = Ragged(numbers, np.asarray(split.offsets, np.int64))
        whole = np.zeros(len(texts), dtype=bool)
        whole[by_text.rows()[numbers < 0]] = True
        found = self._ids.gather(numbers[np.repeat(~whole, by_text.lengths)])
        ends = np.concatenate([[0], np.cumsum(np.where(whole, 0, by_text.lengths))])
        return found.values, np.diff(found.offsets[ends]), whole

    def _numbers(self, words: list[str]) -> Ints:
        """The place of each word in the memo; -1 for a word that asks for its text to be encoded whole."""
        if len(self._number) > self._kept:
            self._forget()
        fresh = [word for word in words if word not in self._number and 0 < len(word) <= LONGEST]
        known = [word for word in fresh if boundary_is_safe(word[0]) and boundary_is_safe(word[-1])]
        self._number |= dict.fromkeys(fresh, -1)
        if known:
            encoded = self._tokenizer.encode_batch_fast(known, add_special_tokens=False)
            ids = Ragged.from_lists([one.ids for one in encoded])
            has_added = np.zeros(len(ids), dtype=bool)
            has_added[ids.rows()[np.isin(ids.values, self._added)]] = True
            places = np.where(has_added, -1, len(self._ids) + np.arange(len(ids)))
            self._number.update(zip(known, places.tolist(), strict=True))
            self._ids = Ragged.join([self._ids, ids])
        return np.fromiter((self._number.get(word, -1) for word in words), np.int64, len(words))
