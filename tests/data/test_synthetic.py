"""Generated items: the same for the same seed, sharing nothing between languages but meaning."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.data.sources.synthetic import ALPHABETS, Synthetic
from hybrid_retrieval.errors import InputError


def test_a_seed_decides_every_text_and_split(tmp_path: Path) -> None:
    sets = []
    for place, seed in (("a", 1), ("b", 1), ("c", 2)):
        pairs = Synthetic(PathsConfig(cache=str(tmp_path / place)), items=50, concepts=40, missing=0.3, seed=seed).pairs()
        sets.append((pairs.queries.texts(), pairs.passages.texts(), pairs.edges.tolist(), pairs.passages.rows.tolist()))
    assert sets[0] == sets[1]
    assert all(left != right for left, right in zip(sets[0], sets[2], strict=True))


def test_alphabets_are_disjoint(paths: PathsConfig) -> None:
    languages = [f"s{index}" for index in range(len(ALPHABETS))]
    pairs = Synthetic(paths, items=200, languages=languages, concepts=200).pairs()
    letters = {}
    for index, language in enumerate(pairs.languages):
        letters[language] = set("".join(pairs.passages.texts(pairs.passages.rows[:, index]))) - {" "}
    assert sum(map(len, letters.values())) == len(set().union(*letters.values()))
    assert all(len(found) > 10 for found in letters.values())


def test_translations_spell_the_same_concepts_one_to_one(paths: PathsConfig) -> None:
    pairs = Synthetic(paths, items=100, languages=["s0", "s3"], concepts=60).pairs()
    dictionary: dict[str, str] = {}
    for side in (pairs.queries, pairs.passages):
        for left, right in side.rows.tolist():
            words = [text.split() for text in side.texts([left, right])]
            assert len(words[0]) == len(words[1])
            for one, other in zip(*words, strict=True):
                assert dictionary.setdefault(one, other) == other
    assert len(set(dictionary.values())) == len(dictionary)


def test_a_question_names_concepts_of_its_own_passage(paths: PathsConfig) -> None:
    pairs = Synthetic(paths, items=100, languages=["s0"], question_words=3).pairs()
    for query, passage in pairs.edges.tolist():
        question = pairs.queries.texts(pairs.queries.rows[query])[0].split()
        assert len(question) == 3
        assert set(question) <= set(pairs.passages.texts(pairs.passages.rows[passage])[0].split())


def test_missing_makes_a_ragged_set(paths: PathsConfig) -> None:
    pairs = Synthetic(paths, items=1000, missing=0.25).pairs()
    for side in (pairs.queries, pairs.passages):
        assert abs(float(np.mean(side.rows < 0)) - 0.25) < 0.03
    assert ((pairs.queries.rows >= 0) != (pairs.passages.rows >= 0)).any()
    assert len(Synthetic(paths, items=1000).pairs().queries) == 4000


def test_every_item_falls_in_one_split_by_the_shares(paths: PathsConfig) -> None:
    pairs = Synthetic(paths, items=2000, validation_share=0.1, test_share=0.3).pairs()
    assert sorted(pairs.edges[:, 0].tolist()) == list(range(2000))
    for split, share in (("train", 0.6), ("validation", 0.1), ("test", 0.3)):
        assert abs(len(pairs.split_edges(split)) / 2000 - share) < 0.03


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"items": 0}, r"dataset\.items=0 must be above 0"),
        ({"question_words": 0}, r"dataset\.question_words=0 must be above 0"),
        ({"missing": 1.1}, r"dataset\.missing=1.1 is outside"),
        ({"test_share": -0.1}, r"dataset\.test_share=-0.1 is outside"),
        ({"languages": ["s99"]}, r"dataset\.languages asks for 's99'.*did you mean 's9'"),
    ],
)
def test_bad_values_are_named(options: dict[str, object], message: str, paths: PathsConfig) -> None:
    with pytest.raises(InputError, match=message):
        Synthetic(paths, **options)  # type: ignore[arg-type]
