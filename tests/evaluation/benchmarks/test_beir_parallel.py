"""A set of one's own: all passages are candidates, grades count, translations share answers."""

from __future__ import annotations

import os

import pytest

from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.evaluation.benchmarks.beir_parallel import BeirParallel

DATA = os.environ.get("HYBRID_RETRIEVAL_DATA")
HEADER = "query-id\tcorpus-id\tscore\n"


@pytest.fixture
def small(write) -> None:
    write("mine/de/corpus.jsonl", [{"_id": id_, "title": "T", "text": id_} for id_ in ("p1", "p2", "p3")])
    write(
        "mine/de/queries.jsonl", [{"_id": "q1", "text": "eins"}, {"_id": "q2", "text": "zwei"}, {"_id": "q9", "text": "neun"}]
    )
    write("mine/de/qrels/test.tsv", HEADER + "q1\tp1\t2\nq1\tp2\t0\nq3\tp3\t1\n")
    write("mine/de/qrels/train.tsv", HEADER + "q9\tp1\t1\n")
    write("mine/fr/corpus.jsonl.gz", [{"_id": "p1", "text": "un"}])
    write("mine/fr/qrels/test.tsv.gz", HEADER + "q1\tp1\t1\nq2\tp1\t1\n")
    write("mine/th/queries.jsonl.gz", [{"_id": "q1", "text": "1"}, {"_id": "q3", "text": "3"}])


def test_judgements_are_those_of_the_split(small, paths, judged, caplog) -> None:
    caplog.set_level("INFO")
    benchmark = BeirParallel(paths, "mine")
    assert benchmark.at_hand()
    collection = benchmark.load()
    assert judged(collection) == {
        ("de:q1", "de:p1"): 2,
        ("de:q1", "fr:p1"): 1,
        ("de:q2", "fr:p1"): 1,
        ("th:q1", "de:p1"): 2,
        ("th:q1", "fr:p1"): 1,
        ("th:q3", "de:p3"): 1,
    }
    # p2 answers nothing, and is a candidate; q9 is judged in another split only.
    assert collection.full_ids(collection.corpus) == ["de:p1", "de:p2", "de:p3", "fr:p1"]
    assert list(collection.corpus.texts) == ["T p1", "T p2", "T p3", "un"]
    assert collection.full_ids(collection.queries) == ["de:q1", "de:q2", "th:q1", "th:q3"]
    assert "queries without a judgement 1, judgements below 1 1" in caplog.text
    train = BeirParallel(paths, "mine", split="train", name="old").load()
    assert (train.name, judged(train)) == ("old", {("de:q9", "de:p1"): 1})


def test_languages_may_be_chosen(small, paths, judged, caplog) -> None:
    collection = BeirParallel(paths, "mine", languages=["de"]).load()
    assert judged(collection) == {("de:q1", "de:p1"): 2}
    assert "beir_parallel de: 1 judgements are of queries in none of the chosen languages" in caplog.text


def test_changed_files_are_read_again(small, paths, write) -> None:
    before = BeirParallel(paths, "mine").provenance()
    assert list(BeirParallel(paths, "mine").load().corpus.texts)[:3] == ["T p1", "T p2", "T p3"]
    write("mine/de/corpus.jsonl", [{"_id": id_, "text": f"{id_}!"} for id_ in ("p1", "p2", "p3")])
    assert BeirParallel(paths, "mine").provenance()["state"] != before["state"]
    assert list(BeirParallel(paths, "mine").load().corpus.texts)[:3] == ["p1!", "p2!", "p3!"]


@pytest.mark.parametrize("file", ["corpus.jsonl.gz", "corpus.parquet", "queries.jsonl.gz", "qrels/test.tsv.gz"])
def test_a_file_in_two_forms_is_refused(file, small, paths, write) -> None:
    copy = write(f"mine/de/{file}", HEADER)
    with pytest.raises(InputError, match=rf"de/.*\.(jsonl|tsv) lies beside {copy.name}: keep one of them"):
        BeirParallel(paths, "mine").load()


def test_what_does_not_fit_is_an_error(small, paths, write, tmp_path) -> None:
    with pytest.raises(InputError, match=r"benchmark\.mine\.path is missing"):
        BeirParallel(paths, name="mine")
    with pytest.raises(InputError, match=r"path=.*nowhere is not a folder"):
        BeirParallel(paths, "nowhere").load()
    with pytest.raises(InputError, match=r"no judgement in qrels/dev\.tsv of de, fr, th"):
        BeirParallel(paths, "mine", split="dev").load()
    (tmp_path / "data" / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty has no sub-folder"):
        BeirParallel(paths, "empty").load()
    write("mine/fr/qrels/test.tsv.gz", HEADER + "q1\tp7\t1\n")
    with pytest.raises(InputError, match=r"an answer names fr:p7, which is not there"):
        BeirParallel(paths, "mine").load()
    write("mine/fr/qrels/test.tsv.gz", HEADER + "q7\tp1\t1\n")
    with pytest.raises(InputError, match=r"test\.tsv\.gz, line 2: query 'q7' is in no language's queries\.jsonl"):
        BeirParallel(paths, "mine").load()


@pytest.mark.skipif(not DATA, reason="no HYBRID_RETRIEVAL_DATA")
def test_a_ragged_real_set(tmp_path) -> None:
    benchmark = BeirParallel(PathsConfig(data=DATA, cache=str(tmp_path)), "mlqa-test", split="train")
    if not benchmark.at_hand():
        pytest.skip("mlqa-test is not in HYBRID_RETRIEVAL_DATA")
    collection = benchmark.load()
    assert collection.languages == ("ar", "de", "es", "hi", "vi", "zh")
    assert (len(collection.queries), len(collection.corpus), len(collection.query)) == (22_724, 14_580, 41_904)
    assert collection.settings == {"monolingual", "crosslingual", "multilingual"}
