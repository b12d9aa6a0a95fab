"""What all tests of training share: a tokenizer, small ragged sets, and processes of a group."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tokenizers import Tokenizer

from hybrid_retrieval.cache import Cache
from hybrid_retrieval.data.tokens import tokenise
from hybrid_retrieval.models.tokenization import Tokenization, train_unigram
from hybrid_retrieval.training.collate import TokenisedSet
from tests.training.ragged import LONGEST, SETS, ragged_set, text
from tests.training.ranks import Ranks


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    texts = [
        text(side, i, language, index)
        for side in ("queries", "passages")
        for i in range(40)
        for languages in SETS.values()
        for index, language in enumerate(languages)
    ]
    return train_unigram(texts, 400)


@pytest.fixture(scope="session")
def ragged(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> list[TokenisedSet]:
    """Two sets, with languages that only one of them has."""
    directory = tmp_path_factory.mktemp("ragged")
    tokenization = Tokenization(tokenizer, "", LONGEST)
    cache = Cache.at(directory / "cache")
    sets = []
    for seed, name in enumerate(SETS):
        pairs = ragged_set(directory / name, name, seed)
        queries, passages = (tokenise(pairs, side, tokenization, 500, cache, show=False) for side in ("queries", "passages"))
        sets.append(TokenisedSet(pairs, queries, passages))
    return sets


@pytest.fixture(scope="session")
def two_ranks() -> Iterator[Ranks]:
    with Ranks(2) as ranks:
        yield ranks


@pytest.fixture(scope="session")
def four_ranks() -> Iterator[Ranks]:
    with Ranks(4) as ranks:
        yield ranks
