"""Parallel sets on disk: what is read back is what was written, and patterns and answers follow from groups and edges."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from hybrid_retrieval.data.parallel import SIDES, SPLITS, PairsWriter, ParallelPairs, text_key
from hybrid_retrieval.errors import InputError

LANGUAGES = ("ar", "de", "en", "zh")


@dataclass
class Written:
    """A random ragged set, as plain Python, and the set that was read back."""

    texts: dict[str, dict[tuple[int, str], tuple[str, str]]]
    edges: dict[str, npt.NDArray[np.int64]]
    pairs: ParallelPairs


@pytest.fixture(params=[0, 1, 2])
def written(request: pytest.FixtureRequest, tmp_path: Path) -> Written:
    random = np.random.default_rng(request.param)
    groups = {"queries": 60, "passages": 25}
    texts: dict[str, dict[tuple[int, str], tuple[str, str]]] = {}
    writer = PairsWriter(tmp_path, "ragged", LANGUAGES)
    for side in SIDES:
        texts[side] = {}
        for language in LANGUAGES:
            present = np.flatnonzero(random.random(groups[side]) < 0.6)
            rows = [(int(g), f"{side[0]}{g}", f"{language} text {g} é") for g in random.permutation(present)]
            texts[side] |= {(group, language): (id_, text) for group, id_, text in rows}
            writer.write(side, language, rows)
    edges = {}
    for split, count in zip(SPLITS, (80, 15, 0), strict=True):
        edges[split] = np.stack(
            [random.integers(0, 60, count), random.integers(0, 25, count), random.integers(0, 25, count)], 1
        )
    writer.finish(edges, {"provenance": {"made": "here"}, "dropped": {}})
    return Written(texts, edges, ParallelPairs.open(tmp_path))


def test_what_is_read_back_is_what_was_written(written: Written) -> None:
    pairs = written.pairs
    assert (pairs.name, pairs.languages) == ("ragged", LANGUAGES)
    for side in SIDES:
        table = getattr(pairs, side)
        found = {}
        for group, language in np.argwhere(table.rows >= 0).tolist():
            row = table.rows[group, language]
            found[group, LANGUAGES[language]] = (table.ids([row])[0], table.texts([row])[0])
            assert table.groups[row] == group
            assert table.keys[row] == text_key(table.texts([row])[0])
        assert found == written.texts[side]
        assert len(table) == len(found)
        for language in LANGUAGES:
            assert pairs.meta["counts"][side][language] == sum(key[1] == language for key in found)


def test_texts_of_scattered_rows_across_chunks_equal_all_texts(tmp_path: Path) -> None:
    writer = PairsWriter(tmp_path, "chunks", ["en"], chunk=3)
    writer.write("queries", "en", ((g, str(g), f"query {g}") for g in range(20)))
    writer.write("passages", "en", ((g, str(g), f"passage {g}") for g in range(20)))
    writer.finish({"train": np.repeat(np.arange(20)[:, None], 2, 1)}, {})
    table = ParallelPairs.open(tmp_path).passages
    rows = np.array([19, 0, 3, 3, 2, 8, 17])
    assert table.texts(rows) == [f"passage {row}" for row in rows]
    assert table.ids(rows) == [str(row) for row in rows]
    assert (
        table.texts()
        == [text for chunk in table.column("text").batches(4) for text in chunk]
        == [f"passage {g}" for g in range(20)]
    )
    assert table.texts([]) == []
    with pytest.raises(IndexError):
        table.texts([-1])
    with pytest.raises(IndexError):
        table.texts([20])


def test_edges_of_a_split_are_the_written_ones_with_their_negatives(written: Written) -> None:
    for split in SPLITS:
        assert sorted(written.pairs.split_edges(split).tolist()) == sorted(written.edges[split].tolist())
        assert written.pairs.meta["counts"]["edges"][split] == len(written.edges[split])


def test_hard_negatives_are_the_first_that_exist_in_the_language(tmp_path: Path) -> None:
    writer = PairsWriter(tmp_path, "mined", ["de", "en"])
    writer.write("queries", "en", [(0, "q", "query")])
    writer.write("passages", "de", [(0, "p", "Antwort"), (1, "d1", "eins"), (3, "d3", "drei")])
    writer.write("passages", "en", [(0, "p", "answer"), (2, "e2", "two"), (3, "e3", "three")])
    writer.finish({"train": np.array([[0, 0, 1, 2, 3, -1]])}, {})
    pairs = ParallelPairs.open(tmp_path)
    assert [pairs.negatives(pairs.edges, np.array([language]), 3)[:, 0].tolist() for language in (0, 1)] == [
        [2, 4, -1],
        [3, 4, -1],
    ]
    assert pairs.negatives(pairs.edges, np.array([0]), 1).tolist() == [[2]]


def test_patterns_partition_a_split_and_carry_the_masks_of_their_edges(written: Written) -> None:
    pairs, tiled = written.pairs, 0
    for split in SPLITS:
        patterns = pairs.patterns(split)
        ranges = sorted(zip(patterns.starts.tolist(), patterns.stops.tolist(), strict=True))
        assert sum(stop - start for start, stop in ranges) == len(written.edges[split])
        for start, stop in ranges:
            assert start == tiled
            tiled = stop
        masks = set()
        for query_mask, passage_mask, start, stop in zip(
            patterns.queries.tolist(), patterns.passages.tolist(), patterns.starts, patterns.stops, strict=True
        ):
            masks.add((query_mask, passage_mask))
            assert start < stop
            for query, passage, _ in pairs.edges[start:stop].tolist():
                assert query_mask == sum(
                    1 << i for i, name in enumerate(LANGUAGES) if (query, name) in written.texts["queries"]
                )
                assert passage_mask == sum(
                    1 << i for i, name in enumerate(LANGUAGES) if (passage, name) in written.texts["passages"]
                )
        assert len(masks) == len(patterns.starts), "a pattern is one run"
    assert len(pairs.edges) == tiled


def test_answers_are_the_distinct_passages_of_every_split(written: Written) -> None:
    expected = defaultdict(set)
    for edges in written.edges.values():
        for query, passage, _ in edges.tolist():
            expected[query].add(passage)
    pairs = written.pairs
    assert pairs.answers_by_query.tolist() == [sorted(expected[query]) for query in range(len(pairs.queries.rows))]


def test_rows_of_a_split_are_those_its_edges_touch(written: Written) -> None:
    pairs = written.pairs
    for split in SPLITS:
        for column, side, rows in zip((0, 1), SIDES, pairs.split_rows(split), strict=True):
            touched = set(written.edges[split][:, column].tolist())
            groups = getattr(pairs, side).groups
            assert rows.tolist() == [row for row in range(len(groups)) if groups[row] in touched]


def test_opening_reads_no_text(tmp_path: Path) -> None:
    writer = PairsWriter(tmp_path, "long", ["en"])
    for side in SIDES:
        writer.write(side, "en", ((g, str(g), f"{g} " + "x" * 100_000) for g in range(50)))
    writer.finish({"train": np.repeat(np.arange(50)[:, None], 2, 1)}, {})
    before = pa.total_allocated_bytes()
    pairs = ParallelPairs.open(tmp_path)
    assert pa.total_allocated_bytes() - before < 100_000
    assert isinstance(pairs.edges, np.memmap)
    assert isinstance(pairs.passages.rows, np.memmap)
    assert pairs.passages.texts([49])[0].startswith("49 x")


def test_scores_stay_with_their_edges(written: Written, tmp_path: Path) -> None:
    writer = PairsWriter(tmp_path / "scored", "scored", LANGUAGES)
    writer.directory.mkdir()
    for side in SIDES:
        for language in LANGUAGES:
            rows = [(group, *text) for (group, one), text in written.texts[side].items() if one == language]
            writer.write(side, language, rows)
    scores = {split: edges[:, 1:] + edges[:, :1] / 100 for split, edges in written.edges.items()}
    scores["train"][0, 1] = np.nan
    writer.finish(written.edges, {}, scores)
    pairs = ParallelPairs.open(tmp_path / "scored")
    assert pairs.scores is not None
    assert pairs.scores.dtype == np.float32
    expected = (pairs.edges[:, 1:] + pairs.edges[:, :1] / 100).astype(np.float32)
    unknown = np.isnan(pairs.scores)
    assert unknown.sum() == 1
    np.testing.assert_array_equal(pairs.scores[~unknown], expected[~unknown])
    assert written.pairs.scores is None
    assert pairs.meta["fingerprint"] != written.pairs.meta["fingerprint"]
    with pytest.raises(ValueError, match="expected one for each passage"):
        PairsWriter(tmp_path / "scored", "scored", []).finish({"train": np.zeros((2, 3))}, {}, {"train": np.zeros((2, 3))})


def test_a_set_without_edges_opens(tmp_path: Path) -> None:
    writer = PairsWriter(tmp_path, "none", ["en"])
    writer.write("passages", "en", [(0, "a", "text")])
    writer.finish({}, {})
    pairs = ParallelPairs.open(tmp_path)
    assert len(pairs.split_edges("train")) == 0
    assert len(pairs.answers_by_query.values) == 0
    assert pairs.passages.texts() == ["text"]


def test_more_languages_than_a_mask_holds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="65 languages"):
        PairsWriter(tmp_path, "many", [f"l{i}" for i in range(65)])


def test_keys_ignore_unicode_form_and_spacing_and_nothing_else() -> None:
    text = "Çà et là, ｆｕｌｌ é"
    same = [unicodedata.normalize(form, text) for form in ("NFC", "NFD", "NFKC", "NFKD")]
    same += [f"  {text}\n", text.replace(" ", "\t \u3000")]
    assert len(set(same)) > 3
    assert len({text_key(other) for other in same}) == 1
    different = [text, text.lower(), text + ".", text.replace("é", "e"), text.replace(" ", "")]
    assert len({text_key(other) for other in different}) == len(different)
    assert all(0 <= text_key(str(number)) < 2**63 for number in range(1000))
