"""The test part of a parallel set as a benchmark: its judgements are those of a brute force over the edges."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.data.parallel import PairsWriter, ParallelPairs
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.evaluation.benchmarks.held_out import HeldOut, split_collection
from hybrid_retrieval.evaluation.collection import RetrievalCollection

LANGUAGES = ("de", "en", "th")


def ragged(folder: Path, seed: int) -> ParallelPairs:
    """Groups with rows in some languages; queries with several answers, passages of several queries, repeated pairs."""
    rng = np.random.default_rng(seed)
    folder.mkdir()
    writer = PairsWriter(folder, "ragged", LANGUAGES)
    for side, groups in (("queries", 30), ("passages", 20)):
        there = rng.random((groups, len(LANGUAGES))) < 0.6
        there[np.arange(groups), rng.integers(0, len(LANGUAGES), groups)] = True
        for index, language in enumerate(LANGUAGES):
            chosen = rng.permutation(np.flatnonzero(there[:, index])).tolist()
            writer.write(side, language, [(group, f"{side[0]}{group}", f"{side} {group} {language}") for group in chosen])
    edges = np.stack([rng.integers(0, 30, 70), rng.integers(0, 20, 70), rng.integers(0, 20, 70)], 1)
    writer.finish({"train": edges[:30], "test": np.concatenate([edges[30:], edges[30:35]])}, {"provenance": {}})
    return ParallelPairs.open(folder)


def judgements(collection: RetrievalCollection) -> list[tuple[str, str]]:
    queries, documents = collection.full_ids(collection.queries), collection.full_ids(collection.corpus)
    return [
        (queries[query], documents[document]) for query, document in zip(collection.query, collection.document, strict=True)
    ]


@pytest.mark.parametrize("seed", range(3))
def test_judgements_equal_a_brute_force_over_edges(seed: int, tmp_path: Path) -> None:
    pairs = ragged(tmp_path / "set", seed)
    collection = split_collection(pairs, "test", "ragged")
    expected = {
        (f"{asked}:q{query}", f"{answered}:p{passage}")
        for query, passage, *_ in np.asarray(pairs.split_edges("test")).tolist()
        for left, asked in enumerate(LANGUAGES)
        for right, answered in enumerate(LANGUAGES)
        if pairs.queries.rows[query, left] >= 0 and pairs.passages.rows[passage, right] >= 0
    }
    found = judgements(collection)
    assert len(found) == len(set(found))
    assert set(found) == expected
    assert (np.diff(collection.query) >= 0).all()
    for side, name in ((collection.queries, "queries"), (collection.corpus, "passages")):
        assert list(side.texts) == [
            f"{name} {id_[1:]} {LANGUAGES[language]}" for id_, language in zip(side.ids, side.language, strict=True)
        ]
    # Nothing of the other splits alone, and no query or passage of this one missing.
    edges = np.asarray(pairs.split_edges("test"))
    for side, column, table in ((collection.queries, 0, pairs.queries), (collection.corpus, 1, pairs.passages)):
        groups = set(edges[:, column].tolist())
        assert {int(id_[1:]) for id_ in side.ids} == groups
        assert len(side) == sum(int((table.rows[group] >= 0).sum()) for group in groups)


def test_a_quick_look_takes_whole_query_groups_and_always_the_same(tmp_path: Path) -> None:
    pairs = ragged(tmp_path / "set", 1)
    whole = set(judgements(split_collection(pairs, "test", "ragged")))
    few = split_collection(pairs, "test", "ragged", items=4)
    assert len(set(few.queries.ids)) == 4
    assert set(judgements(few)) == {pair for pair in whole if pair[0].split(":")[1] in few.queries.ids}
    assert judgements(few) == judgements(split_collection(pairs, "test", "ragged", items=4))


def test_a_split_that_is_empty_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ragged has no validation split"):
        split_collection(ragged(tmp_path / "set", 1), "validation", "ragged")


def test_the_benchmark_reads_its_source_and_says_where_it_came_from(tmp_path: Path) -> None:
    source = {"_target_": "hybrid_retrieval.data.sources.synthetic.Synthetic", "items": 60, "missing": 0.2}
    paths = PathsConfig(cache=str(tmp_path))
    benchmark = HeldOut(paths, "mine", source)
    assert benchmark.at_hand()
    collection = benchmark.load()
    assert collection.name == "mine"
    assert collection.languages == ("s0", "s1", "s2", "s3")
    assert len(collection.queries) > 0
    assert benchmark.provenance()["split"] == "test"
    with pytest.raises(InputError, match=r"benchmark\.mine\.split='tset'.*'test'"):
        HeldOut(paths, "mine", source, "tset")
