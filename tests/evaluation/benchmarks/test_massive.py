"""MASSIVE's test partition as retrieval: judgements, exclusions and samples equal a brute force over ids and labels."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.data.massive import FILES, read_meta, read_utterances
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.evaluation.benchmarks.massive import Massive
from hybrid_retrieval.evaluation.knn import NAME, NEIGHBOURS
from hybrid_retrieval.evaluation.protocol import score
from hybrid_retrieval.evaluation.retrievers.retriever import Index
from hybrid_retrieval.evaluation.scoring.scorer import DenseScorer

LANGUAGES = ("de", "zh_tw", "zh")
COUNT = 30
DATA = Path(os.environ.get("HYBRID_RETRIEVAL_DATA", "nowhere"))


class Small(Massive):
    utterances = COUNT


@pytest.fixture
def meta(write) -> dict[str, tuple[str, str]]:
    """Write a folder of 60 utterances in three languages, half of them test; scenario and intent of these by id."""
    rng = np.random.default_rng(0)
    lines, found = ["id\tpartition\tscenario\tintent\tannot_utt_en"], {}
    for number in range(2 * COUNT):
        scenario, intent = (int(draw) for draw in rng.integers(0, (3, 2)))
        partition = "test" if number % 2 else ("train", "dev")[number % 4 // 2]
        lines.append(f"{number}\t{partition}\ts{scenario}\ts{scenario}_{intent}\tutterance [x : {number}]")
        if partition == "test":
            found[str(number)] = (f"s{scenario}", f"s{scenario}_{intent}")
    write("massive-1.1/meta.tsv.gz", "\n".join(lines) + "\n")
    for language in LANGUAGES:
        texts = [f'{number}\t{language} „{number}" text' for number in range(2 * COUNT)]
        write(f"massive-1.1/{FILES[language]}.tsv.gz", "\n".join(["id\tutt", *texts]) + "\n")
    return found


@pytest.mark.parametrize("task", ["intent", "scenario", "translation"])
@pytest.mark.parametrize("queries", [None, 7, 100])
def test_judgements_and_exclusions_are_those_of_a_brute_force(task, queries, meta, paths, judged) -> None:
    collection = Small(paths, task, languages=list(LANGUAGES), queries=queries).load()
    assert collection.name == f"massive_{task}"
    every = [(language, id_) for language in sorted(LANGUAGES) for id_ in meta]
    documents, asked = (collection.full_ids(side) for side in (collection.corpus, collection.queries))
    assert documents == [f"{language}:{id_}" for language, id_ in every]
    of_language = [{name.partition(":")[2] for name in asked if name.startswith(f"{one}:")} for one in LANGUAGES]
    assert all(left == right for left, right in pairwise(of_language))
    assert len(asked) == len(LANGUAGES) * min(queries or COUNT, COUNT)
    texts = dict(zip(documents, collection.corpus.texts, strict=True))
    assert dict(zip(asked, collection.queries.texts, strict=True)) == {name: texts[name] for name in asked}
    assert texts["zh_tw:1"] == 'zh_tw „1" text'
    place = ("scenario", "intent").index(task) if task != "translation" else 1
    expected, excluded = set(), set()
    for one in asked:
        language, id_ = one.split(":")
        for other_language, other in every:
            both = one, f"{other_language}:{other}"
            if task == "translation":
                (excluded if language == other_language else expected).update([both] if id_ == other else [])
            elif id_ == other:
                excluded.add(both)
            elif meta[id_][place] == meta[other][place]:
                expected.add(both)
    assert set(judged(collection)) == expected
    assert {(asked[query], documents[document]) for query, document in collection.excluded} == excluded
    assert (np.diff(collection.excluded[:, 0] * len(documents) + collection.excluded[:, 1]) > 0).all()
    if task == "translation":
        assert collection.measures == ("map", "recall@1")
        assert collection.labels is None
    else:
        label_of = dict(zip(documents, collection.labels[1].tolist(), strict=True))
        assert [label_of[one] for one in asked] == collection.labels[0].tolist()
        assert all((label_of[a] == label_of[b]) == ((a, b) in expected | excluded) for a in asked for b in documents)


@pytest.mark.parametrize("queries", [None, 9])
def test_map_and_knn_are_those_of_a_brute_force(queries, meta, paths) -> None:
    collection = Small(paths, "intent", languages=list(LANGUAGES), queries=queries).load()
    rng = np.random.default_rng(1)
    embedding = dict(zip(collection.full_ids(collection.corpus), rng.standard_normal((90, 4)).astype(np.float32), strict=True))
    asked, documents = (collection.full_ids(side) for side in (collection.queries, collection.corpus))
    vectors = [np.stack([embedding[name] for name in names]) for names in (asked, documents)]
    result = score(collection, Index(DenseScorer(*vectors)))
    for language, other in (("de", "de"), ("zh", "de"), ("de", None)):
        precisions, hits = [], []
        for one in [name for name in asked if name.startswith(f"{language}:")]:
            id_, pool = one.partition(":")[2], [name for name in documents if other is None or name.startswith(f"{other}:")]
            pool = [name for name in pool if name.partition(":")[2] != id_]
            pool.sort(key=lambda name: -float(embedding[one] @ embedding[name]))
            same = [meta[name.partition(":")[2]][1] == meta[id_][1] for name in pool]
            precisions.append(np.mean([(1 + sum(same[:place])) / (1 + place) for place, hit in enumerate(same) if hit]))
            votes: dict[str, tuple[int, float]] = {}
            for name in pool[:NEIGHBOURS]:
                count, total = votes.get(intent := meta[name.partition(":")[2]][1], (0, 0.0))
                votes[intent] = (count + 1, total + float(embedding[one] @ embedding[name]))
            hits.append(max(votes, key=votes.__getitem__) == meta[id_][1])
        setting = "multilingual" if other is None else "monolingual" if other == language else "crosslingual"
        name = language if setting != "crosslingual" else f"{language}-{other}"
        assert result.metrics[f"massive_intent/{setting}/map/{name}"] == pytest.approx(np.mean(precisions))
        assert result.metrics[f"massive_intent/{setting}/{NAME}/{name}"] == pytest.approx(np.mean(hits))


def test_damage_and_other_counts_are_errors(meta, paths, write) -> None:
    with pytest.raises(InputError, match=r"massive_intent has 30 utterances; published were 2,974"):
        Massive(paths, "intent", languages=["de"]).load()
    with pytest.raises(InputError, match=r"benchmark\.massive\.task='slot'"):
        Massive(paths, "slot")
    with pytest.raises(InputError, match=r"benchmark\.massive_intent\.languages asks for 'zh-CN'.*zh"):
        Massive(paths, "intent", languages=["zh-CN"])
    assert not Massive(paths, "intent", path="elsewhere").at_hand()
    with pytest.raises(InputError, match=r"reads the folder 'elsewhere' below paths\.data"):
        Massive(paths, "intent", path="elsewhere").load()
    for content, said in (
        ("id\tutt\n1\ta\n", r"de\.tsv\.gz lacks the id '3'"),
        ("id\tutt\n1\ta\n1\tb\n", r"de\.tsv\.gz, line 3: id '1' occurs twice"),
        ("id\tutt\n1\t \n", r"de\.tsv\.gz, line 2: the utterance of '1' is empty"),
        ("id\tutt\n1\n", r"de\.tsv\.gz, line 2: 1 fields; expected 2 \(id, utt\)"),
        ("1\ta\n", r"de\.tsv\.gz, line 1: the header is \['1', 'a'\]; expected id, utt"),
    ):
        write("massive-1.1/de.tsv.gz", content)
        with pytest.raises(InputError, match=said):
            Small(paths, "intent", languages=["de"]).load()
    write("massive-1.1/meta.tsv.gz", "id\tpartition\tscenario\tintent\tannot_utt_en\n1\teval\ta\tb\tc\n")
    with pytest.raises(InputError, match=r"meta\.tsv\.gz, line 2: 'eval' is no partition; expected train, dev, test"):
        Small(paths, "intent").load()


@pytest.mark.skipif(not (DATA / "massive-1.1").is_dir(), reason="MASSIVE is not at hand")
def test_the_published_counts() -> None:
    paths = PathsConfig(data=str(DATA))
    folder = Massive(paths, "intent").folder
    meta = read_meta(folder)
    assert [sum(one.partition == part for one in meta.values()) for part in ("train", "dev", "test")] == [11514, 2033, 2974]
    assert len({one.intent for one in meta.values()}) == 60
    assert len({one.scenario for one in meta.values()}) == 18
    assert len(FILES) == 52
    for language in ("zh", "zh_tw", "am"):
        assert read_utterances(folder, language).keys() == meta.keys()
    collection = Massive(paths, "intent", languages=["zh", "zh_tw"]).load()
    assert len(collection.queries) == 2 * 2974
    count = np.unique([one.intent for one in meta.values() if one.partition == "test"], return_counts=True)[1]
    assert len(collection.query) == 4 * (count * (count - 1)).sum()
