"""xSID as retrieval: translations are found by their English text, whatever the row; damage is named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.evaluation.benchmarks.xsid import Xsid

DATA = Path(os.environ.get("HYBRID_RETRIEVAL_DATA", "nowhere"))
ROWS = [("Call Ann", "call"), ("Stop", "stop"), ("Call Bob", "call"), ("stop", "stop"), ("Stop it", "stop")]


class Small(Xsid):
    utterances = dict.fromkeys(("de_ba", "en", "sr"), len(ROWS))


def conll(rows: list[tuple[str, str, str | None]]) -> str:
    """Blocks of (text, intent, English text), a blank line after each."""
    blocks = [
        f"# id = {number}\n"
        + (f"# text-en = {english}\n" if english else "")
        + f"# text = {text}\n# intent: {intent}\n1\tx\t{intent}\tO\n"
        for number, (text, intent, english) in enumerate(rows, 1)
    ]
    return "\n".join(blocks)


@pytest.fixture
def folder(write) -> None:
    write("xsid-0.7/en.test.conll.gz", conll([(text, intent, None) for text, intent in ROWS]))
    write("xsid-0.7/sr.test.conll.gz", conll([(f"sr {text}", intent, text.upper()) for text, intent in ROWS]))
    moved = [(f"ba {text}", intent, text) for text, intent in (ROWS[4], *ROWS[:3], ("Call Cy", "call"))]
    write("xsid-0.7/de-ba.test.conll.gz", conll(moved).replace("\n", "\r\n"))


def test_the_same_english_text_is_a_translation(folder, paths, judged) -> None:
    collection = Small(paths).load()
    meaning = {"en": [1, 2, 3, 4, 5], "sr": [1, 2, 3, 4, 5], "de_ba": [5, 1, 2, 3, "de_ba-5"]}
    intents = {1: "call", 2: "stop", 3: "call", 4: "stop", 5: "stop", "de_ba-5": "call"}
    every = [(language, one) for language, ids in meaning.items() for one in ids]
    expected = {(f"{a}:{i}", f"{b}:{j}") for a, i in every for b, j in every if i != j and intents[i] == intents[j]}
    assert set(judged(collection)) == expected
    texts = dict(zip(collection.full_ids(collection.corpus), collection.corpus.texts, strict=True))
    assert texts["de_ba:5"] == "ba Stop it"
    assert texts["sr:4"] == "sr stop"
    assert Small(paths, languages=["sr"]).load().queries.ids == ["1", "2", "3", "4", "5"]


def test_damage_and_other_counts_are_errors(folder, paths, write) -> None:
    with pytest.raises(InputError, match=r"xsid_intent: en has 5 utterances; published were 500"):
        Xsid(paths, languages=["sr"]).load()
    write("xsid-0.7/sr.test.conll.gz", "# text = a\n# intent = b\n1\ta\tb\tO\n\n# text-en = a\n# intent = b\n1\ta\tb\tO\n")
    with pytest.raises(InputError, match=r"sr\.test\.conll\.gz, line 5: no comment '# text = ' in lines 5 to 7"):
        Small(paths, languages=["sr"]).load()


@pytest.mark.skipif(not (DATA / "xsid-0.7").is_dir(), reason="xSID is not at hand")
def test_the_published_counts() -> None:
    collection = Xsid(PathsConfig(data=str(DATA))).load()
    assert len(collection.queries) == 17 * 500 + 250
    assert len(set(collection.queries.ids)) == 503  # three of the Bavarian file have no English counterpart
    assert len(set(collection.labels[0].tolist())) == 15
