"""Any data set: which columns hold what, which files are read, what is one group, and what is refused."""

from __future__ import annotations

import csv
import gzip
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hybrid_retrieval.config import PathsConfig, choice_values, config_directory
from hybrid_retrieval.data.parallel import ParallelPairs
from hybrid_retrieval.data.source import Source
from hybrid_retrieval.data.sources.beir_parallel import BeirPairs
from hybrid_retrieval.data.sources.hub import HubPairs
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.hub import Hub
from hybrid_retrieval.sampling.availability import Availability, SetAvailability
from hybrid_retrieval.sampling.hybrid import Hybrid
from hybrid_retrieval.values import build
from tests.stand_in_hub import REVISION, stand_in_hub

Write = Callable[..., Path]
Records = Sequence[Mapping[str, Any]]
PAIRS = [{"query": "one?", "passage": "The first."}, {"query": "two?", "passage": "The second."}]


def lines(records: Records) -> bytes:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes records below ``paths.data``, in the form that the name says."""

    def put(records: Records, name: str = "set.jsonl") -> Path:
        file = tmp_path / "local" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".parquet":
            pq.write_table(pa.Table.from_pylist(list(records)), file)
        elif file.suffix == ".arrow":
            table = pa.Table.from_pylist(list(records))
            with pa.ipc.new_stream(file, table.schema) as stream:
                stream.write_table(table)
        elif file.suffix in (".csv", ".tsv"):
            with file.open("w", newline="") as opened:
                writer = csv.DictWriter(opened, list(records[0]), delimiter="," if file.suffix == ".csv" else "\t")
                writer.writeheader()
                writer.writerows(records)
        else:
            file.write_bytes(json.dumps(records).encode() if file.suffix == ".json" else lines(records))
        return file

    return put


@pytest.fixture
def read(paths: PathsConfig, write: Write) -> Callable[..., ParallelPairs]:
    """The set that some records make."""

    def made(records: Records, name: str = "set.jsonl", **settings: Any) -> ParallelPairs:
        write(records, name)
        return HubPairs(paths, path=name, **{"language": "en", "validation_share": 0.0, **settings}).pairs()

    return made


Edge = tuple[frozenset[str], frozenset[str], tuple[frozenset[str], ...]]


def edges(pairs: ParallelPairs, split: str = "train") -> set[Edge]:
    """Edges of a split, each side as ``language:text`` of its group, with their negatives in order."""

    def texts(side: str, group: int) -> frozenset[str]:
        table = getattr(pairs, side)
        rows = [row for row in table.rows[group].tolist() if row >= 0]
        return frozenset(f"{pairs.languages[table.languages[row]]}:{table.texts([row])[0]}" for row in rows)

    return {
        (texts("queries", query), texts("passages", passage), tuple(texts("passages", one) for one in rest if one >= 0))
        for query, passage, *rest in pairs.split_edges(split).tolist()
    }


def edge(query: str, passage: str, *negatives: str, language: str = "en") -> Edge:
    every = [frozenset({f"{language}:{text}"}) for text in (query, passage, *negatives)]
    return every[0], every[1], tuple(every[2:])


TWO = {edge("one?", "The first."), edge("two?", "The second.")}


@pytest.mark.parametrize("name", ["set.jsonl", "set.json", "set.csv", "set.tsv", "set.parquet", "set.arrow"])
def test_every_form_of_file_reads_the_same(name: str, read: Callable[..., ParallelPairs]) -> None:
    pairs = read(PAIRS, name)
    assert edges(pairs) == TWO
    assert pairs.name == "set"
    assert pairs.queries.ids([0, 1]) == ["0", "1"]


def test_a_csv_field_may_be_quoted_and_damage_is_named(
    read: Callable[..., ParallelPairs], write: Write, paths: PathsConfig
) -> None:
    assert edges(read([{"query": 'one,\n"two"?', "passage": "x"}], "q.csv")) == {edge('one, "two"?', "x")}
    write(PAIRS, "short.csv").write_text("query,passage\none?,x\ntwo?\n")
    with pytest.raises(InputError, match=r"short\.csv, line 3: 1 fields; expected 2 \(query, passage\)"):
        HubPairs(paths, path="short.csv", language="en").pairs()
    write(PAIRS, "twice.csv").write_text("query,query,passage\none?,two?,x\n")
    with pytest.raises(InputError, match=r"twice\.csv, line 1: 'query' names two columns"):
        HubPairs(paths, path="twice.csv", language="en").pairs()


TEVATRON = {
    "query_id": "1",
    "query": "one?",
    "positive_passages": [{"docid": "a", "title": "T", "text": "first"}],
    "negative_passages": [{"docid": "b", "title": "", "text": "no"}, {"docid": "c", "title": "", "text": "nor this"}],
}
LAYOUTS = {
    "pair": [{"anchor": "one?", "positive": "T first"}],
    "question and answer": [{"question": "one?", "answer": "T first"}],
    "triplet": [{"anchor": "one?", "positive": "T first", "negative": "no"}],
    "n-tuple": [{"anchor": "one?", "positive": "T first", "negative_1": "no", "negative_2": "nor this"}],
    "list of negatives": [{"query": "one?", "passage": "T first", "negatives": ["no", "nor this"]}],
    "flag_embedding": [{"query": "one?", "pos": ["T first"], "neg": ["no", "nor this"]}],
    "tevatron": [TEVATRON],
    "labels": [
        {"query": "one?", "passage": "T first", "label": 1},
        {"query": "one?", "passage": "no", "label": 0},
        {"query": "one?", "passage": "nor this", "label": 0},
    ],
}


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_layouts_are_known_by_their_columns(name: str, form: str, read: Callable[..., ParallelPairs]) -> None:
    count = {"pair": 0, "question and answer": 0, "triplet": 1}.get(name, 2)
    assert edges(read(LAYOUTS[name], f"set.{form}")) == {edge("one?", "T first", *["no", "nor this"][:count])}


def test_a_layout_may_be_named_and_columns_too(read: Callable[..., ParallelPairs]) -> None:
    records = [{**TEVATRON, "anchor": "other?", "positive": "other", "extra": {"title": "A", "body": "B"}}]
    assert edges(read(records)) == {edge("one?", "T first", "no", "nor this")}
    assert edges(read(records, layout="sentence_transformers")) == {edge("other?", "other")}
    named = {"query": "anchor", "passage": ["extra.title", "extra.body"], "negatives": ["positive"]}
    assert edges(read(records, columns=named)) == {edge("other?", "A B", "other")}


def test_scores_lie_beside_their_edges(read: Callable[..., ParallelPairs]) -> None:
    flag = {"query": "one?", "pos": ["a"], "neg": ["b", "c"], "pos_scores": [3.5], "neg_scores": [1.5, -2]}
    pairs = read([flag, {"query": "two?", "pos": ["b"], "neg": ["c"], "pos_scores": [1.0], "neg_scores": [0.25]}])
    assert pairs.scores is not None
    assert pairs.scores[:, :2].tolist() == [[3.5, 1.5], [1.0, 0.25]]
    assert pairs.scores[0, 2] == -2
    assert np.isnan(pairs.scores[1, 2])
    single = read(
        [{"query": "one?", "passage": "a", "score": 0.5}, {"query": "two?", "passage": "b", "score": None}], "s.jsonl"
    )
    assert single.scores is not None
    assert single.scores[0].tolist() == [0.5]
    assert np.isnan(single.scores[1]).all()
    assert read(PAIRS, "none.jsonl").scores is None
    with pytest.raises(
        InputError, match=r"line 1: pos_scores and neg_scores has 2 scores; expected one for each of 3 passages"
    ):
        read([{**flag, "neg_scores": [1]}], "few.jsonl")


PARALLEL = [
    {"id": 1, "lang": "en", "query": "one?", "passage": "first"},
    {"id": 1, "lang": "de", "query": "eins?", "passage": "erster"},
    {"id": 2, "lang": "de", "query": "zwei?", "passage": "zweiter"},
]


def test_rows_that_share_an_id_are_translations(read: Callable[..., ParallelPairs]) -> None:
    pairs = read(PARALLEL, language=None, columns={"id": "id"})
    both = frozenset({"de:eins?", "en:one?"}), frozenset({"de:erster", "en:first"}), ()
    assert edges(pairs) == {both, edge("zwei?", "zweiter", language="de")}
    assert pairs.languages == ("de", "en")
    alone = read(PARALLEL, language=None)
    assert len(edges(alone)) == 3
    german = read(PARALLEL, language=None, languages=["de"], columns={"id": "id"})
    assert german.languages == ("de",)
    assert german.meta["dropped"]["rows in languages that were not chosen"] == {"en": 1}


def test_the_sides_of_a_row_may_have_languages_of_their_own(read: Callable[..., ParallelPairs]) -> None:
    records = [{"ql": "de", "lang": "xx", "query": "eins?", "passage": "first"}]
    expected = {(frozenset({"de:eins?"}), frozenset({"en:first"}), ())}
    assert edges(read(records, language=None, columns={"query_language": "ql"}, passage_language="en")) == expected
    coded = [{"lang": "german", "query": "eins?", "passage": "first"}]
    assert edges(read(coded, language=None, passage_language="en", codes={"german": "de"})) == expected


def test_a_record_may_hold_every_language(read: Callable[..., ParallelPairs]) -> None:
    record = {
        "n": 7,
        "queries": {"en": "one?", "de": "eins?"},
        "answers": {"en": [{"text": "first"}, {"text": None}], "de": []},
    }
    columns: dict[str, Any] = {"id": "n", "query": "queries.{language}", "passage": "answers.{language}.text"}
    other = {"n": 8, "queries": {"de": "zwei?"}, "answers": {"de": {"text": "zweiter"}}}
    found = read([record, other], languages=["de", "en"], columns=columns)
    assert edges(found) == {edge("one?", "first"), edge("zwei?", "zweiter", language="de")}
    whole = {**record, "answers": {"en": "first", "de": "erster"}}
    columns["passage"] = "answers.{language}"
    assert len(edges(read([whole], languages=["de", "en"], columns=columns))) == 1


def test_columns_may_be_named_by_what_stands_for_languages(read: Callable[..., ParallelPairs]) -> None:
    record = {"n": 7, "q_german": "eins?", "q_english": "one?", "p_german": "erster", "p_english": "first"}
    columns = {"id": "n", "query": "q_{language}", "passage": "p_{language}"}
    pairs = read([record], columns=columns, languages=["de", "en"], codes={"german": "de", "english": "en"})
    assert edges(pairs) == {(frozenset({"de:eins?", "en:one?"}), frozenset({"de:erster", "en:first"}), ())}


def test_lines_may_have_columns_that_the_first_lacks(read: Callable[..., ParallelPairs]) -> None:
    pairs = read([PAIRS[0], {**PAIRS[1], "negatives": ["no"], "score": [2, 1]}])
    assert edges(pairs) == {edge("one?", "The first."), edge("two?", "The second.", "no")}
    assert pairs.scores is not None


def test_a_json_file_may_be_one_object_of_many_lines(write: Write, paths: PathsConfig) -> None:
    write(PAIRS, "whole.json").write_text(json.dumps({"data": PAIRS}, indent=1))
    assert edges(HubPairs(paths, path="whole.json", rows="data", language="en", validation_share=0.0).pairs()) == TWO


def test_a_field_of_csv_may_be_long_and_a_label_may_have_a_point(read: Callable[..., ParallelPairs]) -> None:
    long = "x" * 200_000
    records = [{"query": "one?", "passage": long, "label": "1.0"}, {"query": "one?", "passage": "no", "label": "0.0"}]
    assert edges(read(records, "long.csv")) == {edge("one?", long, "no")}


def test_files_of_a_folder_that_are_not_read_are_counted(
    write: Write, paths: PathsConfig, caplog: pytest.LogCaptureFixture
) -> None:
    write(PAIRS, "folder/a.jsonl")
    assert edges(HubPairs(paths, path="folder", language="en", validation_share=0.0).pairs()) == TWO
    assert "are not read" not in caplog.text
    write(PAIRS, "folder/b.csv")
    HubPairs(paths, path="folder", language="en", validation_share=0.0).pairs()
    assert "1 files are of no split that its files' names or forms tell, b.csv first" in caplog.text


def test_a_saved_folder_names_the_splits_that_it_has(write: Write, paths: PathsConfig) -> None:
    saved = Path(str(paths.data)) / "saved"
    datasets.DatasetDict({"train": datasets.Dataset.from_list(PAIRS)}).save_to_disk(saved)
    with pytest.raises(InputError, match=r"dataset\.validation_split='dev' is unknown in .*saved.*train"):
        HubPairs(paths, path="saved", language="en", validation_split="dev").pairs()


def test_rows_may_lie_in_a_list(read: Callable[..., ParallelPairs]) -> None:
    record = {
        "domain": "x",
        "qa_pairs": [{"question": "one?", "answer": "The first."}, {"question": "two?", "answer": "The second."}],
    }
    for name in ("set.jsonl", "set.parquet"):
        assert edges(read([record], name, rows="qa_pairs")) == TWO


def test_an_answer_of_the_query_is_no_negative_of_it(read: Callable[..., ParallelPairs]) -> None:
    pairs = read([{"query": "one?", "passage": "a", "negative": "b"}, {"query": "one?", "passage": "b", "negative": "c"}])
    assert edges(pairs) == {edge("one?", "a", "c"), edge("one?", "b", "c")}
    assert pairs.meta["dropped"]["hard negatives that answer their query"] == 1


def test_empty_texts_are_counted(read: Callable[..., ParallelPairs]) -> None:
    records = [*PAIRS, {"query": " ", "passage": "x"}, {"query": "three?", "passage": None}]
    pairs = read(records)
    assert edges(pairs) == TWO
    assert pairs.meta["dropped"]["queries with an empty text"] == {"en": 1}
    assert pairs.meta["dropped"]["passages with an empty text"] == {"en": 1}
    assert pairs.empty == 2


def test_files_and_folders_say_the_language_and_the_split(paths: PathsConfig, write: Write) -> None:
    for language in ("english", "german"):
        for split in ("train", "dev"):
            write(
                [{"id": split, "query": f"{language} {split}?", "passage": f"{language} {split}"}],
                f"set/{language}/{split}.jsonl",
            )
    settings: dict[str, Any] = {"codes": {"english": "en", "german": "de"}, "columns": {"id": "id"}}
    source = HubPairs(paths, path="set", files="{language}/{split}.jsonl", validation_split="dev", **settings)
    pairs = source.pairs()
    assert pairs.languages == ("de", "en")
    for split, name in (("train", "train"), ("validation", "dev")):
        assert edges(pairs, split) == {
            (
                frozenset({f"en:english {name}?", f"de:german {name}?"}),
                frozenset({f"en:english {name}", f"de:german {name}"}),
                (),
            )
        }
    one = HubPairs(
        paths, path="set", files="{language}/train.jsonl", languages=["de"], validation_share=0.0, **settings
    ).pairs()
    assert one.languages == ("de",)
    with pytest.raises(
        InputError, match=r"dataset\.languages asks for 'fr', which dataset\.path=.* lacks; expected one of: de, en"
    ):
        HubPairs(paths, path="set", files="{language}/train.jsonl", languages=["fr"], **settings).pairs()
    with pytest.raises(InputError, match=r"dataset\.files='x/\*' matches none of the 4 files of .*, such as english/dev.jsonl"):
        HubPairs(paths, path="set", files="x/*", language="en").pairs()


CARD = """---
configs:
{}
---
"""
CONFIG = "- config_name: {0}\n  data_files:\n  - split: train\n    path: {0}/train-*"


def test_subsets_and_splits_are_those_of_the_card(paths: PathsConfig, write: Write) -> None:
    for language in ("de", "en"):
        for shard in range(2):
            name = f"set/{language}/train-{shard:05}-of-00002.parquet"
            write([{"id": shard, "query": f"{language} {shard}?", "passage": f"{language} {shard}"}], name)
    card = CARD.format("\n".join(CONFIG.format(language) for language in ("de", "en")))
    (Path(str(paths.data)) / "set" / "README.md").write_text(card)
    settings: dict[str, Any] = {"columns": {"id": "id"}, "validation_share": 0.0}
    pairs = HubPairs(paths, path="set", subset="{language}", **settings).pairs()
    assert {len(query) for query, _, _ in edges(pairs)} == {2}
    assert len(edges(HubPairs(paths, path="set", subset="de", language="de", **settings).pairs())) == 2
    for wrong, said in (
        ({}, r"dataset\.subset is missing; dataset\.path=.* has: de, en"),
        ({"subset": "dee"}, r"dataset\.subset='dee' is unknown in .*; expected one of: de, en|did you mean 'de'"),
        ({"subset": "de", "split": "trian"}, r"dataset\.split='trian' is unknown in .*; did you mean 'train'\?"),
    ):
        with pytest.raises(InputError, match=said) as caught:
            HubPairs(paths, path="set", language="en", **wrong).pairs()
        assert "\n" not in str(caught.value)
    (Path(str(paths.data)) / "set" / "de" / "train-00001-of-00002.parquet").unlink()
    with pytest.raises(InputError, match=r"lacks de/train-00001-of-00002\.parquet, one of 2 files"):
        HubPairs(paths, path="set", subset="de", language="de").pairs()


def test_a_folder_that_datasets_saved_is_read(paths: PathsConfig) -> None:
    whole = datasets.Dataset.from_list(list(PAIRS))
    folder = Path(str(paths.data))
    whole.save_to_disk(folder / "one")
    datasets.DatasetDict({"train": whole, "test": whole.select([0])}).save_to_disk(folder / "several")
    settings: dict[str, Any] = {"language": "en", "validation_share": 0.0}
    assert edges(HubPairs(paths, path="one", **settings).pairs()) == TWO
    pairs = HubPairs(paths, path="several", test_split="test", **settings).pairs()
    assert edges(pairs) == TWO
    assert edges(pairs, "test") == {edge("one?", "The first.")}


def parquet(records: Records) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(list(records)), sink)
    return bytes(sink.getvalue())


def test_a_set_of_the_hub_is_fetched_at_one_commit_and_then_needs_no_network(
    paths: PathsConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    card = CARD.format("\n".join(CONFIG.format(name) for name in ("pair", "other"))).encode()
    files = {
        "README.md": card,
        "pair/train-00000-of-00001.parquet": parquet(PAIRS),
        "other/train-00000-of-00001.parquet": b"no",
    }
    settings: dict[str, Any] = {"repository": "some/set", "subset": "pair", "language": "en", "validation_share": 0.0}
    with stand_in_hub({"some/set": files}) as server:
        monkeypatch.setattr(HubPairs, "hub", server.hub(tmp_path / "hub"))
        source = HubPairs(paths, **settings)
        assert not source.at_hand()
        assert edges(source.pairs()) == TWO
        assert source.name == "set"
        assert sorted(server.asked) == ["README.md", "pair/train-00000-of-00001.parquet"]
    [origin] = source.provenance()
    assert (origin["hub"], origin["revision"], origin["subset"]) == ("some/set", REVISION, "pair")
    assert source.at_hand()
    monkeypatch.setattr(HubPairs, "hub", Hub("http://127.0.0.1:9", tmp_path / "hub"))
    assert edges(HubPairs(paths, **settings).pairs()) == TWO
    # Another use of the same files: out of the hub's cache; and with a cache of ours that knows nothing of them.
    assert edges(HubPairs(paths, **settings, max_negatives=1).pairs()) == TWO
    bare = PathsConfig(cache=str(tmp_path / "bare"))
    assert edges(HubPairs(bare, **settings, revision=REVISION).pairs()) == TWO


WRONG = {
    "another column": (
        {"columns": {"query": "quetion"}},
        r"dataset\.columns\.query='quetion' is no column; the columns of .*set\.jsonl, line 1 are: query, passage$",
    ),
    "no column": (
        {"records": [{"a": "x", "b": "y"}]},
        r"dataset\.columns\.query is not known: name the column; the columns of .* are: a, b$",
    ),
    "a role": ({"columns": {"querry": "a"}}, r"unknown config key dataset\.columns\.querry; did you mean 'query'\?"),
    "a layout": ({"layout": "tevatrom"}, r"dataset\.layout='tevatrom' is unknown; did you mean 'tevatron'\?"),
    "no language": ({"language": None}, r"dataset\.language is missing: .* the columns of .* are: query, passage$"),
    "codes": (
        {"records": [{**PAIRS[0], "lang": one} for one in ("english", "english", "", "de")], "language": None},
        r"set: no codes of languages: 'english' 2 times, '' 1 times; say what they are with dataset\.codes=",
    ),
    "jp": ({"records": [{**PAIRS[0], "lang": "jp"}], "language": None}, "'jp' 1 times"),
    "no text": (
        {"records": [{"query": "", "passage": "x"}]},
        r"no row has a query and a passage that answers it \(dataset\.columns\.query=query, .*\); left out: 1 queries with",
    ),
    "a number": ({"records": [{"query": 7, "passage": "x"}]}, r"set\.jsonl, line 1: query is a number \(7\); expected a text"),
    "missing later": ({"records": [PAIRS[0], {"passage": "x"}]}, None),
    "an id": (
        {"records": [{**PAIRS[0], "id": 1}, {**PAIRS[1], "id": 2}, {**PAIRS[1], "id": 1}], "columns": {"id": "id"}},
        r"set: 1 rows repeat an id with a different text, the first is id '1', .*set\.jsonl, line 3$",
    ),
    "an id of a passage": (
        {"records": [TEVATRON, {**TEVATRON, "query": "two?", "negative_passages": [{"docid": "b", "text": "other"}]}]},
        r"1 rows repeat an id with a different text, the first is .*line 2$",
    ),
    "positive as negative": (
        {"records": [{**PAIRS[0], "negatives": ["x", "The  first."]}, PAIRS[1]]},
        r"set: 1 rows have their positive among their negatives, as 'The first\.' \(.*set\.jsonl, line 1\)$",
    ),
    "a label": ({"records": [{**PAIRS[0], "label": 0.5}]}, r"line 1: label is '0\.5'; expected a label of 0 or 1"),
    "no label": (
        {"records": [{**PAIRS[0], "label": 1}, {**PAIRS[1], "label": None}]},
        r"line 2: label is 'None'; expected a label of 0 or 1",
    ),
    "an endless score": ({"records": [{**PAIRS[0], "score": 1e300}]}, r"line 1: score is 1e\+300; expected a finite number"),
    "an object as id": (
        {"records": [{**PAIRS[0], "key": {"a": 1}}], "columns": {"id": "key"}},
        r"line 1: key is an object; expected an id$",
    ),
    "a language that is none": ({"language": "english"}, r"dataset\.language='english' is no code of a language"),
    "a code that is none": ({"codes": {"en": "english"}}, r"dataset\.codes\.en='english' is no code of a language"),
    "no code in a file's name": (
        {"name": "a/german/train.jsonl", "files": "{language}/{split}.jsonl", "folder": "a"},
        r"'german' stands for \{language\} of german/train\.jsonl and is no code .* dataset\.codes=\{german: de\}$",
    ),
    "a split of a pattern": (
        {"name": "a/de/train.jsonl", "files": "{language}/{split}.jsonl", "folder": "a", "validation_split": "dv"},
        r"dataset\.files=.* matches no file of dataset\.validation_split='dv' in dataset\.path=",
    ),
    "shares": (
        {"validation_share": 0.5, "test_share": 0.6},
        r"dataset\.validation_share=0\.5 and .* are more than 1 together",
    ),
    "a language without rows": (
        {"records": [{**PAIRS[0], "lang": "de"}], "language": None, "languages": ["de", "fr"]},
        r"dataset\.languages asks for 'fr', which set lacks; expected one of: de$",
    ),
    "another wide column": (
        {"records": [{"q_de": "eins?", "p_de": "x"}], "columns": {"query": "q_{language}", "passage": "pp_{language}"}}
        | {"languages": ["de"]},
        r"dataset\.columns\.passage='pp_\{language\}' is no column; the columns of .* are: q_de, p_de$",
    ),
    "another path": (
        {"records": [{"query": "one?", "answers": {"text": "x"}}], "columns": {"query": "query", "passage": "answers.txt"}},
        r"no row has a query and a passage that answers it \(.*dataset\.columns\.passage=answers\.txt\)",
    ),
    "one split twice": ({"test_split": "train"}, r"dataset\.split='train' and the other splits are one"),
    "a split of a file": ({"test_split": "test"}, r"dataset\.test_split='test' is not in dataset\.path=.*, which is one file"),
    "a score": ({"records": [{**PAIRS[0], "score": "good"}]}, r"line 1: score must hold numbers"),
    "labels of 0": ({"records": [{**PAIRS[0], "label": 0}]}, "no row has a query and a passage that answers it"),
    "wide without languages": ({"columns": {"query": "q.{language}"}}, r"dataset\.languages is missing"),
    "a form": ({"name": "set.txt"}, r"set\.txt is of unknown form; expected \.jsonl, \.json, \.csv"),
    "nothing": ({"path": "nowhere"}, r"dataset\.path=nowhere is not there; expected a file, or a folder of files"),
    "neither": ({"path": None}, r"dataset\.path is missing: name a file or a folder, or dataset\.repository=OWNER/NAME"),
    "a type": ({"codes": {"a": 1}}, r"dataset\.codes\.a=1 has the wrong type"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_in_one_line(case: str, paths: PathsConfig, write: Write) -> None:
    settings, said = WRONG[case]
    given: dict[str, Any] = {"language": "en", "path": "set.jsonl", **settings}
    name = given.pop("name", "set.jsonl")
    write(given.pop("records", PAIRS), name)
    given["path"] = given.pop("folder", name if name != "set.jsonl" else given["path"])
    if said is None:
        assert HubPairs(paths, **given).pairs().meta["dropped"]["queries with an empty text"] == {"en": 1}
        return
    with pytest.raises(InputError, match=said) as caught:
        HubPairs(paths, **given).pairs()
    assert "\n" not in str(caught.value)


def test_what_the_hub_refuses_is_said_in_one_line(paths: PathsConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("HF_TOKEN", raising=False)

    def refused(name: str) -> str:
        with pytest.raises(InputError) as caught:
            HubPairs(paths, repository=name, language="en").pairs()
        assert re.fullmatch(r".*: name a local copy with dataset\.path=", str(caught.value))
        return str(caught.value)

    with stand_in_hub({"some/set": {"train.jsonl": lines(PAIRS)}}, token="hf_mine") as server:
        monkeypatch.setattr(HubPairs, "hub", server.hub(tmp_path / "hub"))
        assert "some/set is gated" in refused("some/set")
    with stand_in_hub({"some/set": {"train.jsonl": lines(PAIRS)}}) as server:
        monkeypatch.setattr(HubPairs, "hub", server.hub(tmp_path / "hub"))
        assert "some/other is not on the hub for everybody" in refused("some/other")
    monkeypatch.setattr(HubPairs, "hub", Hub("http://127.0.0.1:9", tmp_path / "hub", patience=0.5))
    assert "cannot be reached" in refused("some/set")
    assert "'not a name' is no name of a data set on the hub" in refused("not a name")


def test_equal_data_gives_equal_batches_through_the_hub_and_through_beir(
    paths: PathsConfig, write: Write, write_beir: Callable[..., Path]
) -> None:
    random = np.random.default_rng(0)
    languages, items = ("de", "en", "fr"), 80
    there = {language: np.flatnonzero(random.random(items) < 0.8).tolist() for language in languages}
    negative = {item: int((item + random.integers(1, items)) % items) for item in range(items)}
    queries = {one: {f"q{i}": f"{one} question {i}?" for i in there[one]} for one in languages}
    passages = {one: {f"q{i}": f"{one} passage {i % 60}" for i in there[one]} for one in languages}
    records = []
    judged: dict[str, list[tuple[str, str, int]]] = {one: [] for one in languages}
    for one in languages:
        # A text that comes again is the passage that is there already.
        named: dict[str, str] = {}
        for i in there[one]:
            named.setdefault(passages[one][f"q{i}"], f"q{i}")
        for i in there[one]:
            text, bad = passages[one][f"q{i}"], passages[one].get(f"q{negative[i]}")
            wrong = [bad] if bad not in (None, text) else []
            records.append({"id": f"q{i}", "lang": one, "query": queries[one][f"q{i}"], "passage": text, "negatives": wrong})
            judged[one] += [(f"q{i}", named[text], 1), *((f"q{i}", named[str(bad)], 0) for bad in wrong)]
        order: dict[str, str] = {}
        for record in records:
            if record["lang"] == one:
                for text in (record["passage"], *record["negatives"]):
                    order.setdefault(str(text), named[str(text)])
        passages[one] = {id_: text for text, id_ in order.items()}
    write_beir(queries, passages, judged, folder="beir")
    write(records, "rows.jsonl")
    shares: dict[str, Any] = {"validation_share": 0.0}
    first = BeirPairs(paths, "beir", **shares).pairs()
    second = HubPairs(paths, path="rows.jsonl", columns={"id": "id"}, **shares).pairs()
    assert first.edges.shape[1] > 2

    def batches(pairs: ParallelPairs) -> list[list[tuple[str, ...]]]:
        runs = pairs.patterns("train")
        found = SetAvailability("set", pairs.languages, runs.queries, runs.passages, runs.starts, runs.stops)
        composer = Hybrid(16).compose(Availability([found]), 3)
        return [texts_of(pairs, composer.batch(step)) for step in range(12)]

    def texts_of(pairs: ParallelPairs, batch: Any) -> list[tuple[str, ...]]:
        chosen = pairs.edges[batch.edge]
        columns = pairs.negatives(chosen, batch.passage_language, 1)[0]
        groups = np.where(columns >= 0, chosen[np.arange(len(chosen)), np.maximum(columns, 1)], -1)
        sides = (
            (pairs.queries, chosen[:, 0], batch.query_language),
            (pairs.passages, chosen[:, 1], batch.passage_language),
            (pairs.passages, groups, batch.passage_language),
        )
        rows = [np.where(one >= 0, table.rows[np.maximum(one, 0), language], 0) for table, one, language in sides]
        texts = [table.texts(found) for (table, _, _), found in zip(sides, rows, strict=True)]
        return [(*said, str(group >= 0)) for *said, group in zip(*texts, groups, strict=True)]

    one, other = batches(first), batches(second)
    assert any(row[-1] == "True" for batch in one for row in batch)
    assert one == other


def card(*subsets: str) -> bytes:
    return CARD.format("\n".join(CONFIG.format(name) for name in subsets)).encode()


SWIM = {"_id": "1", "lang": "German", "code": "de", "query": "one?", "title": "T", "text": "first"}
ANSWERS = {one: [{"type": "entity", "entity": "Q1", "text": f"{one} answer", "aliases": ["x"]}] for one in ("de", "en")}
MKQA = {"example_id": 5, "queries": {"de": "eins?", "en": "one?"}, "answers": ANSWERS}
PUBLISHED: dict[str, tuple[dict[str, bytes], dict[str, Any], set[Edge]]] = {
    "natural_questions": (
        {"README.md": card("pair"), "pair/train-00000-of-00001.parquet": parquet([{"query": "one?", "answer": "first"}])},
        {},
        {edge("one?", "first")},
    ),
    "trivia_qa": (
        {"README.md": card("pair"), "pair/train-00000-of-00001.parquet": parquet([{"query": "one?", "answer": "first"}])},
        {},
        {edge("one?", "first")},
    ),
    "squad": (
        {
            "README.md": card("plain_text"),
            "plain_text/train-00000-of-00001.parquet": parquet(
                [
                    {"id": str(number), "title": "T", "context": "first", "question": question, "answers": {"text": ["f"]}}
                    for number, question in enumerate(("one?", "two?"))
                ]
            ),
            "plain_text/validation-00000-of-00001.parquet": b"not read",
        },
        {},
        {edge("one?", "T first"), edge("two?", "T first")},
    ),
    "miracl": (
        {
            "README.md": card("de-triplet", "de-triplet-all", "sw-triplet"),
            "de-triplet/train-00000-of-00001.parquet": parquet([{"anchor": "eins?", "positive": "erster", "negative": "kein"}]),
            "de-triplet-all/train-00000-of-00001.parquet": b"not read",
            "sw-triplet/train-00000-of-00001.parquet": parquet([{"anchor": "moja?", "positive": "kwanza", "negative": "si"}]),
        },
        {},
        {edge("eins?", "erster", "kein", language="de"), edge("moja?", "kwanza", "si", language="sw")},
    ),
    "mr_tydi": (
        {
            "mr-tydi.py": b"no script is run",
            "mrtydi-v1.1-english/train.jsonl.gz": gzip.compress(lines([TEVATRON])),
            "mrtydi-v1.1-english/dev.jsonl.gz": b"not read",
            "mrtydi-v1.1-thai/train.jsonl.gz": gzip.compress(lines([{**TEVATRON, "query": "th?"}])),
        },
        {},
        {edge("one?", "T first", "no", "nor this"), edge("th?", "T first", "no", "nor this", language="th")},
    ),
    "swim_ir": (
        {"README.md": card("de", "ko"), **{f"{one}/train-00000-of-00001.parquet": parquet([SWIM]) for one in ("de", "ko")}},
        {"languages": ["de"]},
        {edge("one?", "T first", language="de")},
    ),
    "swim_ir_cross_lingual": (
        {"README.md": card("de"), "de/train-00000-of-00001.parquet": parquet([SWIM])},
        {"languages": ["de"]},
        {(frozenset({"de:one?"}), frozenset({"en:T first"}), ())},
    ),
    "mkqa": (
        {"mkqa.jsonl.gz": gzip.compress(lines([MKQA]))},
        {"path": "mkqa/mkqa.jsonl.gz", "languages": ["de", "en"]},
        {(frozenset({"de:eins?", "en:one?"}), frozenset({"de:de answer", "en:en answer"}), ())},
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sets_are_read_in_their_layout(name: str, paths: PathsConfig) -> None:
    files, settings, expected = PUBLISHED[name]
    for place, content in files.items():
        file = Path(str(paths.data)) / name / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    node = {**choice_values("dataset", name), "path": name, "validation_share": 0.0, **settings}
    source: Source = build(node, Source, "dataset", paths=paths)
    pairs = source.pairs()
    assert edges(pairs) == expected
    assert pairs.name == name


def test_every_config_of_this_source_is_tried_here() -> None:
    target = choice_values("dataset", "hub")["_target_"]
    names = [file.stem for file in (config_directory() / "dataset").glob("*.yaml")]
    assert {name for name in names if choice_values("dataset", name)["_target_"] == target} == {"hub", *PUBLISHED}
