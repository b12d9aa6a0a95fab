"""BEIR's layout per language: what is one group, what is an edge, and what is refused."""

from __future__ import annotations

import gzip
import os
import re
from collections.abc import Callable
from pathlib import Path

import datasets
import pytest

from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.data.parallel import ParallelPairs
from hybrid_retrieval.data.source import split_of
from hybrid_retrieval.data.sources.beir_parallel import BeirPairs
from hybrid_retrieval.errors import InputError

Write = Callable[..., Path]
DATA = os.environ.get("HYBRID_RETRIEVAL_DATA")

QUERIES = {"de": {"q1": "eins?", "q2": "zwei?"}, "en": {"q1": "one?", "q3": "three?"}}
PASSAGES = {"de": {"d1": "Das erste.", "d2": "Das zweite."}, "en": {"e1": "The first.", "e3": "The third."}}
JUDGED = {"de": [("q1", "d1", 1), ("q2", "d2", 1)], "en": [("q1", "e1", 1), ("q3", "e3", 1)]}


def edges(pairs: ParallelPairs, split: str = "train") -> set[tuple[frozenset[str], frozenset[str]]]:
    """Edges of a split as (texts of the query group, texts of the passage group)."""

    def texts(side: str, group: int) -> frozenset[str]:
        table = getattr(pairs, side)
        return frozenset(table.texts([row for row in table.rows[group].tolist() if row >= 0]))

    return {(texts("queries", query), texts("passages", passage)) for query, passage, *_ in pairs.split_edges(split).tolist()}


def test_a_ragged_set_becomes_groups_and_edges(paths: PathsConfig, write_beir: Write) -> None:
    pairs = BeirPairs(paths, str(write_beir(QUERIES, PASSAGES, JUDGED)), validation_share=0.0).pairs()
    assert pairs.languages == ("de", "en")
    assert edges(pairs) == {
        (frozenset({"eins?", "one?"}), frozenset({"Das erste.", "The first."})),
        (frozenset({"zwei?"}), frozenset({"Das zweite."})),
        (frozenset({"three?"}), frozenset({"The third."})),
    }
    assert len(pairs.split_edges("train")) == 3
    assert pairs.meta["counts"]["queries"] == {"de": 2, "en": 2}


def test_gzip_and_a_title_read_the_same(paths: PathsConfig, write_beir: Write) -> None:
    plain = write_beir(QUERIES, PASSAGES, JUDGED)
    zipped = write_beir(QUERIES, PASSAGES, JUDGED, folder="zipped", zipped=True)
    (zipped / "de" / "corpus.jsonl.gz").unlink()
    titled = '{"_id": "d1", "title": "Das", "text": " erste."}\n{"_id": "d2", "title": "", "text": "Das\\n zweite."}\n'
    (zipped / "de" / "corpus.jsonl").write_text(titled)
    first, second = (BeirPairs(paths, str(root), validation_share=0.0).pairs() for root in (plain, zipped))
    assert edges(first) == edges(second)


def test_records_may_be_rows_of_parquet(paths: PathsConfig, write_beir: Write) -> None:
    plain, rows = write_beir(QUERIES, PASSAGES, JUDGED), write_beir(QUERIES, PASSAGES, JUDGED, folder="rows")
    for language, texts in PASSAGES.items():
        (rows / language / "corpus.jsonl").unlink()
        columns = {"_id": list(texts), "text": list(texts.values())}
        datasets.Dataset.from_dict(columns).to_parquet(rows / language / "corpus.parquet")
    first, second = (BeirPairs(paths, str(root), validation_share=0.0).pairs() for root in (plain, rows))
    assert edges(first) == edges(second)
    (rows / "de" / "corpus.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(InputError, match=r"corpus\.parquet: not a readable Parquet file") as caught:
        BeirPairs(paths, str(rows)).pairs()
    assert "\n" not in str(caught.value)


def test_shared_ids_are_one_group_even_where_judged_in_one_language(paths: PathsConfig, write_beir: Write) -> None:
    passages = {"de": {"p": "Text"}, "en": {"p": "text"}}
    pairs = BeirPairs(paths, str(write_beir(QUERIES, passages, {"en": [("q2", "p", 1)]})), validation_share=0.0).pairs()
    assert edges(pairs) == {(frozenset({"zwei?"}), frozenset({"Text", "text"}))}


def test_passages_of_one_query_are_one_group_across_a_chain_of_queries(paths: PathsConfig, write_beir: Write) -> None:
    queries = {"en": {"q1": "one?", "q2": "two?"}}
    passages = {"de": {"d": "Text"}, "en": {"e": "text"}, "es": {"s": "texto"}}
    judged = {"de": [("q1", "d", 1)], "en": [("q1", "e", 1), ("q2", "e", 1)], "es": [("q2", "s", 1)]}
    pairs = BeirPairs(paths, str(write_beir(queries, passages, judged)), validation_share=0.0).pairs()
    group = frozenset({"Text", "text", "texto"})
    assert edges(pairs) == {(frozenset({"one?"}), group), (frozenset({"two?"}), group)}


def test_several_answers_in_one_language_are_not_joined(paths: PathsConfig, write_beir: Write) -> None:
    passages = {"de": {"d1": "eins", "d2": "zwei"}, "en": {"e1": "one"}}
    judged = {"de": [("q1", "d1", 1), ("q1", "d2", 1)], "en": [("q1", "e1", 1)]}
    pairs = BeirPairs(paths, str(write_beir(QUERIES, passages, judged)), validation_share=0.0).pairs()
    assert {passage for _, passage in edges(pairs)} == {frozenset({"eins"}), frozenset({"zwei"}), frozenset({"one"})}
    query = int(pairs.split_edges("train")[0, 0])
    assert len(pairs.answers_by_query[query]) == 3


def test_a_union_that_brings_two_passages_of_a_language_together_is_left_out_and_counted(
    paths: PathsConfig, write_beir: Write
) -> None:
    passages = {"de": {"x": "eins", "y": "zwei"}, "en": {"x": "one"}}
    judged = {"de": [("q1", "y", 1)], "en": [("q1", "x", 1)]}
    pairs = BeirPairs(paths, str(write_beir(QUERIES, passages, judged)), validation_share=0.0).pairs()
    assert {passage for _, passage in edges(pairs)} == {frozenset({"zwei"}), frozenset({"eins", "one"})}
    assert pairs.meta["dropped"]["passages kept apart in their group's language"] == 1


def test_grade_0_is_a_hard_negative_and_never_one_of_an_answers_group(paths: PathsConfig, write_beir: Write) -> None:
    passages = {**PASSAGES, "en": {**PASSAGES["en"], "d1": "The first again."}}
    judged = {"de": [("q1", "d1", 1), ("q1", "d2", 0), ("q2", "d2", 0)], "en": [("q1", "d1", 0), ("q1", "e3", -1)]}
    root = write_beir(QUERIES, passages, judged)
    pairs = BeirPairs(paths, str(root), validation_share=0.0).pairs()
    assert edges(pairs) == {(frozenset({"eins?", "one?"}), frozenset({"Das erste.", "The first again."}))}
    [[_, answer, *negatives]] = pairs.edges.tolist()
    assert answer not in negatives
    rows = [max(row) for row in pairs.passages.rows[negatives].tolist()]
    assert pairs.passages.texts(rows) == ["Das zweite.", "The third."]
    assert pairs.meta["dropped"]["hard negatives that answer their query"] == 1
    assert pairs.meta["dropped"]["hard negatives of queries without an answer"] == 1
    few = BeirPairs(paths, str(root), validation_share=0.0, max_negatives=1).pairs()
    assert few.edges.shape == (1, 3)
    assert few.meta["dropped"]["hard negatives after the first 1 (dataset.max_negatives)"] == 1


def test_languages_take_turns_among_the_hard_negatives_of_a_query(paths: PathsConfig, write_beir: Write) -> None:
    passages = {"de": {"a": "A", "d1": "eins", "d2": "zwei"}, "en": {"e1": "one", "e2": "two", "e3": "three"}}
    judged = {"de": [("q1", "d2", 0), ("q1", "a", 1), ("q1", "d1", 0)], "en": [("q1", name, 0) for name in ("e3", "e1", "e2")]}
    pairs = BeirPairs(paths, str(write_beir(QUERIES, passages, judged)), validation_share=0.0).pairs()
    rows = pairs.passages.rows[pairs.edges[0, 2:]].max(1)
    assert pairs.passages.texts(rows) == ["zwei", "three", "eins", "one", "two"]


def test_queries_of_languages_that_are_not_chosen_are_counted_not_refused(paths: PathsConfig, write_beir: Write) -> None:
    root = write_beir(QUERIES, PASSAGES, {"de": [("q1", "d1", 1), ("q3", "d2", 1)]})
    pairs = BeirPairs(paths, str(root), ["de"], validation_share=0.0).pairs()
    assert edges(pairs) == {(frozenset({"eins?"}), frozenset({"Das erste."}))}
    assert pairs.meta["dropped"]["queries in none of the chosen languages"] == 1


def test_validation_is_cut_by_passage_group_and_only_where_the_files_lack_it(paths: PathsConfig, write_beir: Write) -> None:
    queries = {"en": {f"q{i}": f"question {i}?" for i in range(300)}}
    passages = {"en": {f"p{i}": f"passage {i}" for i in range(100)}, "de": {f"p{i}": f"Absatz {i}" for i in range(100)}}
    judged = {"en": [(f"q{i}", f"p{i % 100}", 1) for i in range(300)]}
    root = write_beir(queries, passages, judged)
    pairs = BeirPairs(paths, str(root), validation_share=0.3, test_share=0.2).pairs()
    found = {split: {passage for _, passage in edges(pairs, split)} for split in ("train", "validation", "test")}
    for split, groups in found.items():
        assert groups == {
            frozenset({f"passage {i}", f"Absatz {i}"}) for i in range(100) if split_of(f"p{i}", 0.3, 0.2) == split
        }
        assert len(pairs.split_edges(split)) == 3 * len(groups)
        assert groups
    write_beir({}, {}, {"en": [("q0", "p7", 1)]}, split="dev")
    given = BeirPairs(paths, str(root), validation_share=0.3).pairs()
    assert len(given.split_edges("train")) == 300
    assert edges(given, "validation") == {(frozenset({"question 0?"}), frozenset({"passage 7", "Absatz 7"}))}


def test_no_text_of_a_split_that_is_cut_is_in_another_one(paths: PathsConfig, write_beir: Write) -> None:
    # Half of the paragraphs recur, in another writing; the German ones chain groups that have no English text in common.
    english = {f"p{i}": f"Is passage {i % 200} so?" if i < 200 else f"IS  passage {i % 100}, so" for i in range(300)}
    german = {f"p{i}": f"Absatz {i // 2}" for i in range(200, 300)}
    queries = {"en": {f"q{i}": f"question {i}?" for i in range(300)}}
    judged = {"en": [(f"q{i}", f"p{i}", 1) for i in range(300)]}
    root = write_beir(queries, {"en": english, "de": german}, judged)
    pairs = BeirPairs(paths, str(root), validation_share=0.3, test_share=0.3).pairs()
    words: dict[str, set[str]] = {}
    for split in ("train", "validation", "test"):
        texts = pairs.passages.texts(pairs.split_rows(split)[1])
        words[split] = {" ".join(re.findall(r"\w+", text.lower())) for text in texts}
        assert len(words[split]) > 20
    assert not words["train"] & words["test"]
    assert not words["train"] & words["validation"]
    assert not words["validation"] & words["test"]


def test_a_relative_path_is_looked_for_under_the_data_folder_and_a_change_is_seen(
    paths: PathsConfig, write_beir: Write
) -> None:
    root = write_beir(QUERIES, PASSAGES, JUDGED)
    source = BeirPairs(paths, "set")
    assert source.at_hand()
    assert source.name == "set"
    first = source.pairs()
    assert source.pairs().directory == first.directory
    (root / "de" / "queries.jsonl").write_text('{"_id": "q1", "text": "changed?"}\n{"_id": "q2", "text": "zwei?"}\n')
    assert "changed?" in source.pairs().queries.texts()


def test_a_folder_named_by_a_dot_has_its_own_name(
    paths: PathsConfig, write_beir: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(write_beir(QUERIES, PASSAGES, JUDGED))
    assert BeirPairs(paths, ".").pairs().name == "set"


def test_provenance_names_the_folder(paths: PathsConfig, write_beir: Write) -> None:
    root = write_beir(QUERIES, PASSAGES, JUDGED)
    [record] = BeirPairs(paths, str(root), name="mine").provenance()
    assert (record["name"], record["path"]) == ("mine", str(root))


RECORD = '{"_id": "q1", "text": "eins?"}\n{"_id": "q2", "text": "zwei?"}\n'
HEADER = "query-id\tcorpus-id\tscore\n"
DAMAGE = {
    "empty records": ("de/queries.jsonl", "", r"queries\.jsonl is empty"),
    "empty qrels": ("de/qrels/train.tsv", "", r"train\.tsv is empty"),
    "truncated record": ("de/queries.jsonl", RECORD[:-10], r"queries\.jsonl, line 2: .*truncated"),
    "blank line": ("de/queries.jsonl", RECORD + "\n", r"queries\.jsonl, line 3: .*truncated"),
    "no id": ("de/corpus.jsonl", '{"text": "x"}\n', r"corpus\.jsonl, line 1: _id is missing; expected an id"),
    "null text": ("de/corpus.jsonl", '{"_id": "d1", "text": null}\n', r"corpus\.jsonl, line 1: text is null; expected a text"),
    "not an object": ("de/corpus.jsonl", "[1]\n", r"corpus\.jsonl, line 1: not a JSON object"),
    "empty text": ("de/corpus.jsonl", '{"_id": "d1", "text": " "}\n', r"corpus\.jsonl, line 1: the text of 'd1' is empty"),
    "duplicate id": ("de/queries.jsonl", RECORD + RECORD[:31], r"queries\.jsonl, line 3: id 'q1' is already in record 1"),
    "unknown query": (
        "de/qrels/train.tsv",
        HEADER + "q1\td1\t1\nq9\td1\t1\n",
        r"train\.tsv, line 3: query 'q9' is in no language",
    ),
    "unknown passage": ("de/qrels/train.tsv", HEADER + "q1\te1\t1\n", r"train\.tsv, line 2: passage 'e1' is not in de/corpus"),
    "no header": ("de/qrels/train.tsv", "q1\td1\t1\n", r"train\.tsv, line 1: .* is not the header query-id, corpus-id, score"),
    "truncated qrels": ("de/qrels/train.tsv", HEADER + "q1\td1\t1\nq2\td2", r"train\.tsv, line 3: not three .*truncated"),
    "four columns": ("de/qrels/train.tsv", HEADER + "q1\t0\td1\t1\n", r"train\.tsv, line 2: not three tab-separated"),
    "infinite grade": ("de/qrels/train.tsv", HEADER + "q1\td1\tinf\n", r"train\.tsv, line 2: 'inf' is not a grade"),
    "unknown split": ("de/qrels/trian.tsv", HEADER + "q1\td1\t1\n", r"trian\.tsv: unknown split; expected one of: train"),
    "not text": ("de/queries.jsonl.gz", None, r"queries\.jsonl\.gz: damaged or truncated"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_named_with_file_and_line(case: str, paths: PathsConfig, write_beir: Write) -> None:
    root = write_beir(QUERIES, PASSAGES, JUDGED)
    name, content, message = DAMAGE[case]
    if content is None:
        (root / "de" / "queries.jsonl").unlink()
        (root / name).write_bytes(b"no gzip at all")
    else:
        (root / name).write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        BeirPairs(paths, str(root)).pairs()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.95])
def test_a_truncated_gzip_is_damage(kept: float, paths: PathsConfig, write_beir: Write) -> None:
    root = write_beir(QUERIES, PASSAGES, JUDGED, zipped=True)
    lines = "".join(f'{{"_id": "d{i}", "text": "{os.urandom(20).hex()}"}}\n' for i in range(2000))
    content = gzip.compress(lines.encode())
    (root / "de" / "corpus.jsonl.gz").write_bytes(content[: int(kept * len(content))])
    with pytest.raises(InputError, match=r"corpus\.jsonl\.gz: damaged or truncated after line \d+"):
        BeirPairs(paths, str(root)).pairs()


def test_what_the_config_gets_wrong_is_named(paths: PathsConfig, write_beir: Write, tmp_path: Path) -> None:
    root = write_beir(QUERIES, PASSAGES, JUDGED)
    with pytest.raises(InputError, match=r"dataset\.path is missing"):
        BeirPairs(paths)
    with pytest.raises(InputError, match=r"dataset\.languages asks for 'dee', which the data lacks; did you mean 'de'\?"):
        BeirPairs(paths, str(root), ["dee", "en"]).pairs()
    with pytest.raises(InputError, match=r"dataset\.languages is empty"):
        BeirPairs(paths, str(root), []).pairs()
    with pytest.raises(InputError, match=r"dataset\.validation_share=1.5 is outside"):
        BeirPairs(paths, str(root), validation_share=1.5)
    for place in (root / "de" / "queries.jsonl", tmp_path / "nowhere"):
        assert not BeirPairs(paths, str(place)).at_hand()
        with pytest.raises(InputError, match=r"dataset\.path=.* is not a folder"):
            BeirPairs(paths, str(place)).pairs()
    (tmp_path / "bare").mkdir()
    with pytest.raises(InputError, match="has no sub-folder with queries"):
        BeirPairs(paths, str(tmp_path / "bare")).pairs()
    write_beir(QUERIES, PASSAGES, {}, folder="unjudged")
    with pytest.raises(InputError, match="no passage of de, en is judged"):
        BeirPairs(paths, "unjudged").pairs()


@pytest.mark.skipif(DATA is None, reason="HYBRID_RETRIEVAL_DATA is not set")
def test_counts_of_mlqa_test(tmp_path: Path) -> None:
    pairs = BeirPairs(PathsConfig(data=DATA, cache=str(tmp_path)), "mlqa-test", validation_share=0.0).pairs()
    assert pairs.languages == ("ar", "de", "es", "hi", "vi", "zh")
    assert pairs.meta["counts"]["queries"] == {"ar": 4252, "de": 3821, "es": 3283, "hi": 3875, "vi": 4365, "zh": 3128}
    assert pairs.meta["counts"]["passages"] == {"ar": 0, "de": 3963, "es": 4671, "hi": 0, "vi": 1508, "zh": 4438}
    ragged = (pairs.queries.rows[pairs.edges[:, 0]] >= 0) != (pairs.passages.rows[pairs.edges[:, 1]] >= 0)
    assert ragged.any()


@pytest.mark.skipif(DATA is None, reason="HYBRID_RETRIEVAL_DATA is not set")
@pytest.mark.slow
def test_counts_of_squad2_parallel(tmp_path: Path) -> None:
    pairs = BeirPairs(PathsConfig(data=DATA, cache=str(tmp_path)), "squad2-parallel", validation_share=0.05).pairs()
    assert pairs.queries.rows.shape == (86_821, 3)
    assert pairs.passages.rows.shape == (18_882, 3)
    assert (pairs.queries.rows >= 0).all()
    assert (pairs.passages.rows >= 0).all()
    assert len(pairs.edges) == 86_821
    train, held_out = (set(pairs.split_edges(split)[:, 1].tolist()) for split in ("train", "validation"))
    assert not train & held_out
    assert len(train) + len(held_out) == 18_882
