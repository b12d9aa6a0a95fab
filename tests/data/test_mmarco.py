"""mMARCO's published layout: groups are ids, every triple an edge with its negative."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.data.parallel import ParallelPairs
from hybrid_retrieval.data.source import split_of
from hybrid_retrieval.data.sources import mmarco
from hybrid_retrieval.data.sources.mmarco import Mmarco
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.hub import Hub
from tests.stand_in_hub import REVISION, stand_in_hub

Write = Callable[..., Path]
QUERIES = {"english": {7: "seven?", 1000: "thousand?", 3: "unused?"}, "german": {1000: "tausend?", 7: "sieben?"}}
PASSAGES = {
    "english": {0: "zero\u2028", 50: "fifty", 9: "nine", 8: "in no triple"},
    "german": {9: "neun", 0: "null  nichts", 50: ""},
}
TRIPLES = [(7, 0, 9), (1000, 50, 0), (7, 0, 50), (7, 9, 50)]


def source(paths: PathsConfig, path: str | None = "mmarco", **options: Any) -> Mmarco:
    return Mmarco(paths, **{"languages": ["en", "de"], "revision": REVISION, "path": path, "validation_share": 0.0, **options})


def group_of(pairs: ParallelPairs, side: str) -> dict[str, int]:
    table = getattr(pairs, side)
    return {id_: int(table.groups[row]) for row, id_ in enumerate(table.ids(range(len(table))))}


def test_triples_become_edges_between_groups_of_ids(paths: PathsConfig, write_mmarco: Write) -> None:
    write_mmarco(QUERIES, PASSAGES, TRIPLES)
    pairs = source(paths).pairs()
    assert pairs.languages == ("de", "en")
    queries, passages = group_of(pairs, "queries"), group_of(pairs, "passages")
    expected = [[queries[str(q)], passages[str(p)], passages[str(n)]] for q, p, n in TRIPLES]
    assert sorted(pairs.split_edges("train").tolist()) == sorted(expected)
    texts = {}
    for group, (german, english) in enumerate(pairs.passages.rows.tolist()):
        texts[group] = [pairs.passages.texts([row])[0] if row >= 0 else None for row in (german, english)]
    assert texts == {passages["0"]: ["null nichts", "zero"], passages["9"]: ["neun", "nine"], passages["50"]: [None, "fifty"]}
    assert sorted(pairs.queries.texts()) == ["seven?", "sieben?", "tausend?", "thousand?"]


def test_what_is_left_out_is_counted(paths: PathsConfig, write_mmarco: Write, caplog: pytest.LogCaptureFixture) -> None:
    write_mmarco(QUERIES, PASSAGES, TRIPLES)
    with caplog.at_level("INFO"):
        dropped = source(paths).pairs().meta["dropped"]
    assert dropped["queries in no triple"] == {"de": 0, "en": 1}
    assert dropped["passages in no triple"] == {"de": 0, "en": 1}
    assert dropped["passages with an empty text"] == {"de": 1, "en": 0}
    assert "passages in no triple: de 0, en 1" in caplog.text


def test_the_leading_data_folder_is_optional(paths: PathsConfig, write_mmarco: Write) -> None:
    write_mmarco(QUERIES, PASSAGES, TRIPLES)
    first = source(paths).pairs()
    second = source(paths, "mmarco/data").pairs()
    assert first.passages.texts() == second.passages.texts()
    assert first.edges.tolist() == second.edges.tolist()


def test_validation_is_cut_by_positive_passage(paths: PathsConfig, write_mmarco: Write) -> None:
    queries = {"english": {i: f"q{i}" for i in range(400)}}
    passages = {"english": {3 * i: f"p{i}" for i in range(200)}}
    triples = [(i, 3 * (i * 7 % 100), 300 + 3 * (i % 100)) for i in range(400)]
    write_mmarco(queries, passages, triples)
    pairs = source(paths, languages=["en"], validation_share=0.2).pairs()
    for split in ("train", "validation"):
        groups = pairs.split_edges(split)[:, 1]
        found = list(map(int, pairs.passages.ids(pairs.passages.rows[groups, 0])))
        expected = [positive for _, positive, _ in triples if split_of(str(positive), 0.2, 0.0) == split]
        assert sorted(found) == sorted(expected)
        assert found


def test_chunks_of_triples_are_all_read(paths: PathsConfig, write_mmarco: Write) -> None:
    count = 200_000
    root = write_mmarco({}, {}, [(i, i + 1, i + 2) for i in range(count)])
    # More than one 16 MiB block would be needed to see a boundary with short ids: lengthen the file.
    file = root / "triples.train.ids.small.tsv"
    line = "2147483647\t2147483646\t2147483645\n"
    with file.open("a") as out:
        out.write(line * (17 * 2**20 // len(line)))
    triples = mmarco.read_triples(file)
    assert len(triples) == count + 17 * 2**20 // len(line)
    assert triples[count - 1].tolist() == [count - 1, count, count + 1]
    assert (triples[count:] == [2147483647, 2147483646, 2147483645]).all()


COLLECTION = "google/collections/german_collection.tsv"
TRAIN_QUERIES = "google/queries/train/german_queries.train.tsv"
FILE = "triples.train.ids.small.tsv"
DAMAGE = {
    "empty texts": (COLLECTION, "", "german_collection.tsv is empty"),
    "empty triples": (FILE, "", "ids.small.tsv is empty"),
    "truncated text line": (COLLECTION, "0\tnull\n50\tf\n9", "german_collection.tsv, line 3: not an integer id, a tab"),
    "cut after the tab": (COLLECTION, "0\tnull\n50\tf\n9\t", "german_collection.tsv, line 3: not an integer id, a tab"),
    "three columns": (TRAIN_QUERIES, "7\tsieben?\tmore\n", "german_queries.train.tsv, line 1: not an integer id"),
    "id no number": (TRAIN_QUERIES, "7\tsieben?\nx\ty\n", "german_queries.train.tsv, line 2: not an integer id"),
    "id too large": (TRAIN_QUERIES, "2147483648\tsieben?\n", "german_queries.train.tsv, line 1: not an integer id"),
    "duplicate id": (
        COLLECTION,
        "4\ta\n9\tneun\n0\tb\n9\tneun\n4\ta\n",
        "german_collection.tsv, line 4: id 9 is already on line 2",
    ),
    "truncated triple": (FILE, "7\t0\t9\n7\t0", "ids.small.tsv, line 2: '7.*is not 3 tab-separated integers"),
    "four columns": (FILE, "7\t0\t9\t9\n", "ids.small.tsv, line 1: .*is not 3 tab-separated integers"),
    "blank line": (FILE, "7\t0\t9\n\n7\t0\t9\n", "ids.small.tsv, line 2: '' is not 3 tab-separated"),
    "missing id": (FILE, "7\t\t9\n", "ids.small.tsv, line 1: .*is not 3 tab-separated integers"),
    "word for an id": (FILE, "7\t0\t9\n7\tzero\t9\n", "ids.small.tsv, line 2: .*is not 3 tab-separated integers"),
    "query nowhere": (FILE, "7\t0\t9\n8\t0\t9\n", "ids.small.tsv, line 2: id 8 is among the queries of no chosen language"),
    "positive nowhere": (FILE, "7\t11\t9\n", "ids.small.tsv, line 1: id 11 is among the passages of no chosen language"),
    "negative nowhere": (FILE, "7\t0\t9\n7\t0\t-9\n", "ids.small.tsv, line 2: id -9 is among the passages of no chosen"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_named_with_file_and_line(case: str, paths: PathsConfig, write_mmarco: Write) -> None:
    root = write_mmarco(QUERIES, PASSAGES, TRIPLES)
    name, content, message = DAMAGE[case]
    (root / name).write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        source(paths).pairs()
    assert "\n" not in str(caught.value)


def test_text_that_is_no_utf8_is_damage(paths: PathsConfig, write_mmarco: Write) -> None:
    root = write_mmarco(QUERIES, PASSAGES, TRIPLES)
    (root / COLLECTION).write_bytes(b"0\tnull\n50\t\xff\xfe\n")
    with pytest.raises(InputError, match=r"german_collection\.tsv, line 2: not UTF-8 \(byte 4 of the line\)"):
        source(paths).pairs()


def test_a_carriage_return_inside_a_text_is_no_line_end(paths: PathsConfig, write_mmarco: Write) -> None:
    root = write_mmarco(QUERIES, PASSAGES, TRIPLES)
    (root / COLLECTION).write_bytes(b"0\tnull\rnichts\r\n9\tneun\r\n")
    assert {"null nichts", "neun"} <= set(source(paths).pairs().passages.texts())


def test_a_place_without_the_files_is_named(paths: PathsConfig, write_mmarco: Write, tmp_path: Path) -> None:
    root = write_mmarco(QUERIES, PASSAGES, TRIPLES)
    assert source(paths).at_hand()
    assert not source(paths, "nowhere").at_hand()
    with pytest.raises(InputError, match=r"dataset\.path=nowhere is not a folder"):
        source(paths, "nowhere").pairs()
    with pytest.raises(InputError, match=r"lacks .*french_queries\.train\.tsv"):
        source(paths, languages=["en", "fr"]).pairs()
    (root / FILE).unlink()
    with pytest.raises(InputError, match=r"lacks .*triples\.train\.ids\.small\.tsv"):
        source(paths).pairs()
    with pytest.raises(InputError, match=r"dataset\.languages asks for 'eng', which the data lacks; did you mean 'en'"):
        source(paths, languages=["eng"])


def test_without_the_hub_it_fails_at_once_and_says_what_to_do(paths: PathsConfig, tmp_path: Path) -> None:
    one = source(paths, None)
    one.hub = Hub("http://127.0.0.1:9", tmp_path)
    assert not one.at_hand()
    with pytest.raises(InputError, match=r"cannot be reached.*: name a local copy with dataset\.path=$"):
        one.pairs()
    assert not any((Path(paths.cache) / "datasets" / "mmarco").iterdir())


def test_the_hub_is_asked_for_the_pinned_files_once(
    paths: PathsConfig, write_mmarco: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    root = write_mmarco(QUERIES, PASSAGES, TRIPLES)
    files = {f"data/{file.relative_to(root)}": file.read_bytes() for file in root.rglob("*.tsv")}
    with stand_in_hub({"unicamp-dl/mmarco": files}) as server:
        one, other = source(paths, None), source(paths, None, validation_share=0.5)
        one.hub = other.hub = server.hub(tmp_path / "hub")
        assert one.pairs().edges.tolist() == source(paths).pairs().edges.tolist()
        assert sorted(server.asked) == sorted(files)
        assert one.at_hand()
        other.pairs()
        assert len(server.asked) == len(files) == 5
        [record] = one.provenance()
    assert (record["hub"], record["revision"], len(record["checksums"])) == ("unicamp-dl/mmarco", REVISION, 5)
