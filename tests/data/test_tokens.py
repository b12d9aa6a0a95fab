"""The token store: rows in order, whatever the chunks; what was lost is counted by language; built once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hybrid_retrieval.cache import Cache
from hybrid_retrieval.data.parallel import PairsWriter, ParallelPairs
from hybrid_retrieval.data.tokens import tokenise
from hybrid_retrieval.ragged import Ragged

LANGUAGES = ("de", "en", "th")
LIMIT, UNKNOWN, FIRST_BYTE = 6, 3, 100


class Characters:
    """A tokenization of one id a character: unknown for "?", a byte for digits."""

    fingerprint: dict[str, Any] = {"tokenizer": "characters"}  # noqa: RUF012
    byte_ids = np.arange(FIRST_BYTE, FIRST_BYTE + 10)
    unknown_id = UNKNOWN
    asked = 0

    def ids(self, text: str) -> list[int]:
        of = {"?": UNKNOWN, **{str(digit): FIRST_BYTE + digit for digit in range(10)}}
        return [of.get(character, 4 + ord(character) % 90) for character in text]

    def chunks(self, texts: Iterable[Sequence[str]]) -> Iterator[tuple[Ragged, np.ndarray]]:
        for chunk in texts:
            self.asked += len(chunk)
            ids = [self.ids(text) for text in chunk]
            kept = [one[:LIMIT] for one in ids]
            yield Ragged.from_lists(kept), np.array([len(one) > LIMIT for one in ids])


@pytest.fixture
def pairs(tmp_path: Path) -> ParallelPairs:
    random = np.random.default_rng(0)
    (tmp_path / "set").mkdir()
    writer = PairsWriter(tmp_path / "set", "set", LANGUAGES)
    for language in LANGUAGES[:2]:
        rows = [(g, str(g), "".join(random.choice(list("abc?7"), random.integers(0, 9)))) for g in range(23)]
        writer.write("passages", language, rows)
    writer.write("queries", "en", [(g, str(g), "") for g in range(4)])
    writer.finish({}, {})
    return ParallelPairs.open(tmp_path / "set")


@pytest.mark.parametrize("chunk", [1, 7, 4096])
@pytest.mark.parametrize("vocabulary", [200, 1 << 17])
def test_the_store_holds_every_row_and_counts_what_is_lost(pairs, tmp_path, chunk: int, vocabulary: int) -> None:
    tokenization, cache = Characters(), Cache.at(tmp_path / "cache")
    store = tokenise(pairs, "passages", tokenization, vocabulary, cache, show=False, chunk=chunk)
    expected = [tokenization.ids(text)[:LIMIT] for text in pairs.passages.texts()]
    assert isinstance(store.tokens.values, np.memmap)
    assert store.tokens.values.dtype == (np.uint16 if vocabulary == 200 else np.int32)
    assert store.tokens.tolist() == expected
    for index, language in enumerate(LANGUAGES):
        mine = [text for row, text in enumerate(pairs.passages.texts()) if pairs.passages.languages[row] == index]
        kept, part = "".join(text[:LIMIT] for text in mine), store.coverage[language]
        assert (part.texts, part.tokens) == (len(mine), len(kept))
        assert (part.unknown, part.bytes) == (kept.count("?"), kept.count("7"))
        assert part.truncated == sum(len(text) > LIMIT for text in mine)
    assert store.coverage["de"].truncated


def test_a_finished_store_is_opened_and_not_built_again(pairs, tmp_path) -> None:
    tokenization, cache = Characters(), Cache.at(tmp_path / "cache")
    first = tokenise(pairs, "passages", tokenization, 200, cache, show=False)
    asked = tokenization.asked
    again = tokenise(pairs, "passages", tokenization, 200, cache, show=False)
    assert tokenization.asked == asked == 46
    assert again.tokens.tolist() == first.tokens.tolist()
    assert again.coverage == first.coverage


def test_texts_without_any_token_make_an_empty_store(pairs, tmp_path) -> None:
    store = tokenise(pairs, "queries", Characters(), 200, Cache.at(tmp_path / "cache"), show=False)
    assert store.tokens.tolist() == [[]] * 4


def test_other_texts_in_a_folder_of_the_same_name_have_tokens_of_their_own(pairs, tmp_path) -> None:
    """As where a set was deleted and built again from newer files."""
    cache, tokenization = Cache.at(tmp_path / "cache"), Characters()
    tokenise(pairs, "passages", tokenization, 200, cache, show=False)
    (tmp_path / "again" / "set").mkdir(parents=True)
    writer = PairsWriter(tmp_path / "again" / "set", "set", LANGUAGES)
    for language in LANGUAGES[:2]:
        writer.write("passages", language, [(g, str(g), "other") for g in range(23)])
    writer.write("queries", "en", [(g, str(g), "") for g in range(4)])
    writer.finish({}, {})
    store = tokenise(ParallelPairs.open(tmp_path / "again" / "set"), "passages", tokenization, 200, cache, show=False)
    assert store.tokens.tolist() == [tokenization.ids("other")] * 46
