"""TyDi QA GoldP: the published counts, one passage for all questions that it answers, both layouts."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.evaluation.benchmarks.tydiqa import Tydiqa

DATA = os.environ.get("HYBRID_RETRIEVAL_DATA")
COUNTS = "ar 921/842 bn 113/105 en 440/429 fi 782/634 id 565/514 ko 276/228 ru 812/778 sw 499/357 te 669/601"


def squad(*rows: tuple[str, str, str]) -> str:
    """Of (question id, question, context)."""
    data = [{"paragraphs": [{"context": context, "qas": [{"id": id_, "question": asked}]}]} for id_, asked, context in rows]
    return json.dumps({"data": data})


AR = [("arabic-1-0", "A?", "one"), ("arabic-2-0", "B?", "two"), ("arabic-3-0", "C?", "one")]
KO = [("korean--1-0", "D?", "one")]


SMALL = {"ar": (3, 2, None), "ko": (1, 1, None)}


class Small(Tydiqa):
    published = SMALL


def test_counts_are_the_published_ones(tmp_path) -> None:
    benchmark = Tydiqa(PathsConfig(data=DATA, cache=str(tmp_path)))
    if not benchmark.at_hand():
        pytest.skip("tydiqa-goldp is not in HYBRID_RETRIEVAL_DATA")
    collection = benchmark.load()
    words = COUNTS.split()
    for index, (language, counts) in enumerate(zip(words[::2], words[1::2], strict=True)):
        queries, corpus = (side.rows(index) for side in (collection.queries, collection.corpus))
        assert collection.languages[index] == language
        assert f"{queries.stop - queries.start}/{corpus.stop - corpus.start}" == counts
    np.testing.assert_array_equal(collection.query, np.arange(5077))
    assert collection.settings == {"monolingual", "multilingual"}
    assert benchmark.provenance()["as_published"]
    context = json.loads((benchmark.files.path("sw")).read_text())["data"][7]["paragraphs"][0]
    row = list(collection.queries.ids).index(context["qas"][0]["id"])
    assert collection.corpus.texts[collection.document[row]] == context["context"]


@pytest.mark.parametrize("whole", [False, True])
def test_a_passage_of_several_questions_stands_once(whole: bool, paths, write, judged) -> None:
    if whole:
        write("tydiqa-goldp/tydiqa-goldp-v1.1-dev.json", squad(*AR[:1], *KO, *AR[1:]))
    else:
        write("tydiqa-goldp/tydiqa.goldp.ar.dev.json", squad(*AR))
        write("tydiqa-goldp/tydiqa.goldp.ko.dev.json", squad(*KO))
    benchmark = Small(paths)
    assert benchmark.at_hand()
    collection = benchmark.load()
    assert list(collection.corpus.texts) == ["one", "two", "one"]
    # The same text in another language is another passage.
    assert judged(collection) == {
        ("ar:arabic-1-0", "ar:0"): 1,
        ("ar:arabic-2-0", "ar:1"): 1,
        ("ar:arabic-3-0", "ar:0"): 1,
        ("ko:korean--1-0", "ko:0"): 1,
    }
    assert Small(paths, ["ko"]).load().languages == ("ko",)


def test_other_counts_and_damage_are_errors(paths, write) -> None:
    write("tydiqa-goldp/tydiqa.goldp.ko.dev.json", squad(*KO))
    write("tydiqa-goldp/tydiqa.goldp.ar.dev.json", squad(*AR[:2]))
    with pytest.raises(InputError, match=r"tydiqa: ar has 2 questions; published were 3"):
        Small(paths).load()
    write("tydiqa-goldp/tydiqa.goldp.ar.dev.json", squad(*AR)[:-9])
    with pytest.raises(InputError, match=r"tydiqa\.goldp\.ar\.dev\.json: not JSON"):
        Small(paths).load()
    write("tydiqa-goldp/tydiqa.goldp.ar.dev.json", squad(("klingon-1", "", "")))
    with pytest.raises(InputError, match=r"'klingon-1' starts with no known language"):
        Small(paths).load()
