"""MIRACL, Mr. TyDi and MLDR in their published layouts: what is judged, what is stored, every way in which data can fail."""

from __future__ import annotations

import os

import pytest

from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.data.stored_texts import StoredTexts
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.evaluation.benchmarks.miracl import PUBLISHED, Miracl
from hybrid_retrieval.evaluation.benchmarks.mldr import Mldr
from hybrid_retrieval.evaluation.benchmarks.mr_tydi import MrTydi
from tests.small_layouts import small

DATA = os.environ.get("HYBRID_RETRIEVAL_DATA")

COUNTS = {"bn": (2, 3), "th": (1, 1)}
SmallMiracl = small(Miracl, published={"sw": (2, 3), "yo": (1, 2)}, shard=2)
SmallMrTydi, SmallMldr = small(MrTydi, published=COUNTS), small(Mldr, published=COUNTS)


@pytest.fixture
def small_miracl(write) -> None:
    passages = {
        "sw": [
            {"docid": "1#0", "title": "Ziwa", "text": "kubwa"},
            {"docid": "1#1", "title": "Ziwa", "text": "dogo"},
            {"docid": "2#0", "title": "", "text": "Mto"},
        ],
        "yo": [{"docid": "1#0", "title": "Odò", "text": "nla"}, {"docid": "9#9", "title": "Odò", "text": "kékeré"}],
    }
    for language, rows in passages.items():
        for shard in range(0, len(rows), 2):
            write(f"miracl/miracl-corpus-v1.0-{language}/docs-{shard // 2}.jsonl.gz", rows[shard : shard + 2])
    write("miracl/topics.miracl-v1.0-sw-dev.tsv", "7\tZiwa gani?\n3\tMto gani?\n")
    write("miracl/qrels.miracl-v1.0-sw-dev.tsv", "7\tQ0\t1#0\t1\n7\tQ0\t1#1\t0\n7\tQ0\t2#0\t2\n3\tQ0\t2#0\t1\n7\tQ0\t5#5\t0\n")
    write("miracl/topics.miracl-v1.0-yo-dev.tsv", "7\tKí ni odò?\n")
    write("miracl/qrels.miracl-v1.0-yo-dev.tsv", "7 Q0 9#9 1\n")


def test_miracl_is_judged_within_a_language(small_miracl, paths, judged, caplog) -> None:
    caplog.set_level("INFO")
    benchmark = SmallMiracl(paths)
    assert benchmark.at_hand()
    collection = benchmark.load()
    # The same query id in two languages is no translation here; grade 0 is not relevant.
    assert judged(collection) == {("sw:7", "sw:1#0"): 1, ("sw:7", "sw:2#0"): 2, ("sw:3", "sw:2#0"): 1, ("yo:7", "yo:9#9"): 1}
    assert isinstance(collection.corpus.texts, StoredTexts)
    assert list(collection.corpus.texts) == ["Ziwa kubwa", "Ziwa dogo", "Mto", "Odò nla", "Odò kékeré"]
    assert collection.measures == ("ndcg@10", "recall@100")
    assert collection.settings == {"monolingual", "multilingual"}
    assert "miracl sw: 3 judgements of a relevant passage; 2 others are not used" in caplog.text
    assert set(benchmark.provenance()["corpora"]["sha256"]) == {"sw/docs-0", "sw/docs-1", "yo/docs-0"}


def test_a_corpus_is_stored_once(small_miracl, paths, tmp_path) -> None:
    first = SmallMiracl(paths).load()
    stored = sorted((tmp_path / "cache" / "passages").iterdir())
    changed = [folder.stat().st_mtime_ns for folder in stored]
    again = SmallMiracl(paths).load()
    assert list(again.corpus.texts) == list(first.corpus.texts)
    assert [folder.stat().st_mtime_ns for folder in sorted((tmp_path / "cache" / "passages").iterdir())] == changed


def test_miracl_refuses_what_is_not_the_set(small_miracl, paths, write, tmp_path) -> None:
    shard = tmp_path / "data" / "miracl" / "miracl-corpus-v1.0-sw" / "docs-1.jsonl.gz"
    write(str(shard.relative_to(tmp_path / "data")), [{"docid": "1#0", "title": "", "text": "again"}])
    with pytest.raises(InputError, match=r"docs-0\.jsonl\.gz \.\. docs-1\.jsonl\.gz: id '1#0' occurs twice"):
        SmallMiracl(paths).load()
    write(str(shard.relative_to(tmp_path / "data")), [{"docid": "2#0", "text": "a"}, {"docid": "3#0", "text": "b"}])
    with pytest.raises(InputError, match=r"has 4 passages; published were 3"):
        SmallMiracl(paths).load()
    shard.write_bytes(shard.read_bytes()[:-9])
    with pytest.raises(InputError, match=r"docs-1\.jsonl\.gz: damaged or truncated"):
        SmallMiracl(paths).load()
    assert not list((tmp_path / "cache" / "passages").glob("[!.]*"))
    shard.unlink()
    assert not SmallMiracl(paths).at_hand()
    assert SmallMiracl(paths, ["yo"]).at_hand()
    assert SmallMiracl(paths, ["yo"]).load().languages == ("yo",)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("topics", "7 no tab\n", r"topics.*line 1: not an id, a tab and a text"),
        ("topics", "7\tone\n", r"miracl: sw has 1 queries; published were 2"),
        ("qrels", "7\tQ0\t1#0\n", r"qrels.*line 1: not query, Q0, passage and a grade"),
        ("qrels", "7\tQ0\t1#0\t1\n7\tQ0\t8#8\t1\n", r"a judgement names sw:8#8, which is not there"),
        ("qrels", "8\tQ0\t1#0\t1\n", r"a judgement names sw:8, which is not there"),
    ],
)
def test_damaged_topics_are_errors_of_one_line(file, content, message, small_miracl, paths, write) -> None:
    write(f"miracl/{file}.miracl-v1.0-sw-dev.tsv", content)
    with pytest.raises(InputError, match=message) as caught:
        SmallMiracl(paths).load()
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not DATA, reason="no HYBRID_RETRIEVAL_DATA")
def test_the_published_topics_are_read_whole(tmp_path) -> None:
    benchmark = Miracl(PathsConfig(data=DATA, cache=str(tmp_path)))
    if not benchmark.topics.at_hand():
        pytest.skip("miracl is not in HYBRID_RETRIEVAL_DATA")
    counts = {language: benchmark.read_topics(language) for language in benchmark.languages}
    assert {language: len(topics) for language, (topics, _) in counts.items()} == {
        language: queries for language, (queries, _) in PUBLISHED.items()
    }
    assert sum(len(topics) for topics, _ in counts.values()) == 13_495
    assert len(counts["ar"][1]) == 29_197
    assert all({query for query, _, grade in judged if grade > 0} <= dict(topics).keys() for topics, judged in counts.values())
    assert benchmark.topics.provenance()["as_published"]


def test_every_corpus_has_the_published_number_of_files() -> None:
    """As the hub lists them, by language."""
    shards = {"ar": 5, "bn": 1, "en": 66, "es": 21, "fa": 5, "fi": 4, "fr": 30, "hi": 2, "id": 3, "ja": 14, "ko": 3, "ru": 20}
    shards |= {"sw": 1, "te": 2, "th": 2, "zh": 10}
    benchmark = Miracl(PathsConfig())
    files = [key.partition("/")[0] for key in benchmark.corpora.files]
    assert {language: files.count(language) for language in shards} == shards
    assert len(benchmark.languages) == 18
    assert benchmark.corpora.files["en/docs-65"].path == "miracl-corpus-v1.0-en/docs-65.jsonl.gz"


def topic(query: str, *passages: str) -> dict[str, object]:
    positive = [{"docid": passage, "title": "T", "text": "x"} for passage in passages]
    return {"query_id": query, "query": f"{query}?", "positive_passages": positive, "negative_passages": []}


@pytest.fixture
def small_hub(write) -> None:
    for folder in ("mr_tydi/mrtydi-v1.1-bengali", "mldr/mldr-v1.0-bn"):
        write(f"{folder}/test.jsonl.gz", [topic("1", "5#0", "6#0", "5#0"), topic("2", "6#0")])
        write(f"{folder}/corpus.jsonl.gz", [{"docid": id_, "title": "T", "text": id_} for id_ in ("4#0", "5#0", "6#0")])
    for folder in ("mr_tydi/mrtydi-v1.1-thai", "mldr/mldr-v1.0-th"):
        write(f"{folder}/test.jsonl.gz", [topic("1", "5#0")])
        write(f"{folder}/corpus.jsonl.gz", [{"docid": "5#0", "text": "ก"}])


@pytest.mark.parametrize(("make", "first"), [(SmallMrTydi, "mrr@100"), (SmallMldr, "ndcg@10")])
def test_positive_passages_are_relevant(make, first, small_hub, paths, judged, caplog) -> None:
    caplog.set_level("INFO")
    benchmark = make(paths)
    assert benchmark.at_hand()
    collection = benchmark.load()
    assert judged(collection) == {("bn:1", "bn:5#0"): 1, ("bn:1", "bn:6#0"): 1, ("bn:2", "bn:6#0"): 1, ("th:1", "th:5#0"): 1}
    assert list(collection.corpus.texts) == ["T 4#0", "T 5#0", "T 6#0", "ก"]
    assert collection.measures == (first, "recall@100")
    assert "1 passages are named twice for a query" in caplog.text


def test_translated_questions_are_asked_across_languages(small_hub, paths, write, judged, caplog) -> None:
    caplog.set_level("INFO")
    write("mldr/mldr-v1.0-th/test.jsonl.gz", [topic("th-1", "5#0")])
    write("mine/bn/queries.jsonl", [{"_id": "th-1", "text": "in Bengali"}])
    write("mine/th/queries.jsonl", [{"_id": "1", "text": "in Thai"}, {"_id": "th-1", "text": "its own"}])
    collection = SmallMldr(paths, translations="mine").load()
    own = {("bn:1", "bn:5#0"): 1, ("bn:1", "bn:6#0"): 1, ("bn:2", "bn:6#0"): 1, ("th:th-1", "th:5#0"): 1}
    assert judged(collection) == own | {("bn:th-1", "th:5#0"): 1, ("th:1", "bn:5#0"): 1, ("th:1", "bn:6#0"): 1}
    assert collection.settings == {"monolingual", "crosslingual", "multilingual"}
    assert "mldr: translated queries: bn 1, th 1" in caplog.text
    write("mine/th/queries.jsonl", [{"_id": "8", "text": "nobody asked"}])
    with pytest.raises(InputError, match=r"mine/th/queries\.jsonl: '8' is no query of benchmark mldr"):
        SmallMldr(paths, translations="mine").load()
    write("mldr/mldr-v1.0-th/test.jsonl.gz", [topic("1", "5#0")])
    with pytest.raises(InputError, match="'1' is a query of bn and of th: no id for translations"):
        SmallMldr(paths, translations="mine").load()
    write("mldr/mldr-v1.0-th/test.jsonl.gz", [topic("th-1", "5#0")])
    with pytest.raises(InputError, match=r"benchmark\.mldr\.translations=nowhere"):
        SmallMldr(paths, translations="nowhere").load()


def test_damaged_topics_on_the_hub_are_errors(small_hub, paths, write) -> None:
    write("mldr/mldr-v1.0-th/test.jsonl.gz", [{"query_id": "1", "query": "a"}])
    with pytest.raises(InputError, match=r"test\.jsonl\.gz, line 1: positive_passages is missing; expected a list"):
        SmallMldr(paths).load()
    write("mldr/mldr-v1.0-th/test.jsonl.gz", "")
    with pytest.raises(InputError, match=r"test\.jsonl\.gz is empty"):
        SmallMldr(paths).load()
    write("mldr/mldr-v1.0-th/test.jsonl.gz", [topic("1", "5#0")])
    for damage, message in (
        ("{", "line 1: not JSON"),
        ('{"docid": "5#0"}\n', "line 1: text is missing; expected a text"),
        ("[]\n", "not a JSON object"),
    ):
        write("mldr/mldr-v1.0-th/corpus.jsonl.gz", damage)
        with pytest.raises(InputError, match=message):
            SmallMldr(paths).load()


def test_empty_passages_stay_and_are_counted(small_hub, paths, write, caplog) -> None:
    write("mldr/mldr-v1.0-bn/corpus.jsonl.gz", [{"docid": id_, "text": ""} for id_ in ("4#0", "5#0", "6#0")])
    for _ in range(2):
        caplog.clear()
        assert len(SmallMldr(paths).load().corpus) == 4
        assert "mldr bn: storing passages: 3 of 3 passages are empty" in caplog.text
