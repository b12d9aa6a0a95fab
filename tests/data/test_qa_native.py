"""Questions and passages of one language each: what trains, what validates, and what is refused."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hybrid_retrieval.config import PathsConfig, choice_values
from hybrid_retrieval.data.parallel import ParallelPairs
from hybrid_retrieval.data.sources.qa_native import QaNative
from hybrid_retrieval.errors import InputError

DATA = os.environ.get("HYBRID_RETRIEVAL_DATA")
Write = Callable[..., Path]
INSTEAD = choice_values("dataset", "qa_native")["train_instead"]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a split of a set: a passage per article and `each` questions about it."""

    def write(folder: str, split: str, articles: int = 4, each: int = 2, **changes: Any) -> Path:
        root = tmp_path / "local" / "qa" / folder
        root.mkdir(parents=True, exist_ok=True)
        passages = [{"id": i, "title": f"T{split}{i}", "text": f"{folder} {split} passage {i}"} for i in range(articles)]
        questions = [
            {"id": f"{i}-{n}", "question": f"{folder} {split} question {i} {n}", "answers": [], "passage": i, **changes}
            for i in range(articles)
            for n in range(each)
        ]
        for side, records in (("passages", passages), ("questions", questions)):
            text = "".join(json.dumps(record) + "\n" for record in records)
            (root / f"{split}.{side}.jsonl.gz").write_bytes(gzip.compress(text.encode()))
        return root

    return write


def asked(pairs: ParallelPairs, split: str) -> dict[str, int]:
    """How many questions a split has by language."""
    queries, _ = pairs.split_rows(split)
    languages, counts = np.unique(pairs.queries.languages[queries], return_counts=True)
    return {pairs.languages[language]: count for language, count in zip(languages.tolist(), counts.tolist(), strict=True)}


def test_published_splits_are_kept_and_nothing_is_parallel(paths: PathsConfig, write: Write) -> None:
    for folder, split in (("a-ja", "train"), ("a-ja", "dev"), ("b-th", "train"), ("b-th", "valid"), ("b-th", "test")):
        write(folder, split)
    pairs = QaNative(paths, "qa").pairs()
    assert pairs.languages == ("ja", "th")
    assert [asked(pairs, split) for split in ("train", "validation", "test")] == [{"ja": 8, "th": 8}] * 2 + [{"th": 8}]
    assert ((pairs.queries.rows >= 0).sum(1) == 1).all()
    assert ((pairs.passages.rows >= 0).sum(1) == 1).all()
    query, passage = pairs.edges[3].tolist()
    question = pairs.queries.texts([pairs.queries.rows[query].max()])[0]
    text = pairs.passages.texts([pairs.passages.rows[passage].max()])[0]
    folder, split, _, number, _ = question.split()
    assert text == f"T{split}{number} {folder} {split} passage {number}"
    assert QaNative(paths, "qa/a-ja").pairs().languages == ("ja",)


def test_a_folder_without_a_training_split_trains_on_what_the_config_names(paths: PathsConfig, write: Write) -> None:
    for folder, split in (("c-zh", "dev"), ("c-zh", "trial"), ("d-zhtw", "dev"), ("d-zhtw", "test"), ("p-fa", "test")):
        write(folder, split)
    whole = QaNative(paths, "qa", train_instead=INSTEAD, validation_share=0.0).pairs()
    assert asked(whole, "train") == {"zh": 16, "zh_tw": 8}
    assert asked(whole, "test") == {"fa": 8, "zh_tw": 8}
    strict = QaNative(paths, "qa").pairs()
    assert [asked(strict, split) for split in ("train", "validation")] == [{}, {"zh": 16, "zh_tw": 8}]
    tested = QaNative(paths, "qa", train=["train", "test"], validation_share=0.0).pairs()
    assert asked(tested, "train") == {"fa": 8, "zh_tw": 8}


def test_articles_are_cut_where_no_split_validates(paths: PathsConfig, write: Write) -> None:
    write("a-fr", "train", articles=200)
    write("b-ja", "train")
    write("b-ja", "dev")
    pairs = QaNative(paths, "qa", validation_share=0.2).pairs()
    assert asked(pairs, "validation")["ja"] == 8
    assert asked(pairs, "train")["ja"] == 8
    assert 40 < asked(pairs, "validation")["fr"] < 120
    train, held_out = (set(pairs.split_edges(split)[:, 1].tolist()) for split in ("train", "validation"))
    assert not train & held_out


def test_empty_questions_are_counted(paths: PathsConfig, write: Write) -> None:
    write("a-fr", "train")
    write("b-zh", "train", articles=1, question=" ")
    pairs = QaNative(paths, "qa").pairs()
    assert pairs.meta["dropped"] == {"queries with an empty text": {"zh": 2}}
    assert pairs.empty == 2


@pytest.mark.parametrize(
    ("folder", "split", "changes", "message"),
    [
        ("set", "train", {}, r"qa/set does not end in a language; expected a name such as jaquad-ja"),
        ("a-fr", "final", {}, r"qa/a-fr: unknown split 'final'; expected one of: train, dev"),
        (
            "a-fr",
            "train",
            {"passage": 9},
            r"train\.questions\.jsonl\.gz, line 1: passage '9' is not in train\.passages\.jsonl\.gz",
        ),
        ("a-fr", "train", {"question": 9}, r"questions\.jsonl\.gz, line 1: question is a number \(9\); expected a text"),
        ("a-fr", "train", {"passage": None}, r"line 1: passage is null; expected an id"),
    ],
)
def test_bad_input_is_named(
    folder: str, split: str, changes: dict[str, Any], message: str, paths: PathsConfig, write: Write
) -> None:
    write(folder, split, **changes)
    with pytest.raises(InputError, match=message):
        QaNative(paths, "qa").pairs()


def test_missing_folders_and_files_are_named(paths: PathsConfig, write: Write, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"dataset\.path is missing"):
        QaNative(paths)
    with pytest.raises(InputError, match=r"qa is not a folder; expected <set>-<language>/<split>\.questions\.jsonl"):
        QaNative(paths, "qa").pairs()
    (tmp_path / "local" / "qa").mkdir(parents=True)
    with pytest.raises(InputError, match=r"qa has no questions"):
        QaNative(paths, "qa").pairs()
    (write("a-fr", "train") / "train.passages.jsonl.gz").unlink()
    with pytest.raises(InputError, match=r"a-fr lacks train\.passages\.jsonl"):
        QaNative(paths, "qa").pairs()
    write("a-fr", "train")
    with pytest.raises(InputError, match=r"dataset\.languages asks for 'de', which the data lacks"):
        QaNative(paths, "qa", languages=["de"]).pairs()


@pytest.mark.skipif(DATA is None, reason="HYBRID_RETRIEVAL_DATA is not set")
def test_counts_of_the_published_sets(tmp_path: Path) -> None:
    source = QaNative(PathsConfig(data=DATA, cache=str(tmp_path)), "qa-native", train_instead=INSTEAD, validation_share=0.0)
    if not source.at_hand():
        pytest.skip("qa-native is not in HYBRID_RETRIEVAL_DATA")
    pairs = source.pairs()
    assert asked(pairs, "train") == {
        "ar": 693, "fr": 7569, "ja": 31748, "pt": 837, "th": 5761, "zh": 3219 + 1002 - 2, "zh_tw": 3524,
    }  # fmt: skip
    assert asked(pairs, "validation") == {"ja": 3939, "pt": 63, "th": 742}
    assert asked(pairs, "test") == {"ar": 702, "fa": 930, "th": 739, "zh_tw": 3493}
    passages = {"ar": 465, "fa": 93, "fr": 1518, "ja": 11144, "pt": 249, "th": 1905, "zh": 1104, "zh_tw": 2000}
    assert pairs.meta["counts"]["passages"] == passages
    assert pairs.meta["dropped"] == {"queries with an empty text": {"zh": 2}}
