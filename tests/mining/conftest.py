"""``prepare`` in this process, and a small set with every kind of coincidence."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra

from hybrid_retrieval import prepare as entry
from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.data.parallel import ParallelPairs
from hybrid_retrieval.data.sources.beir_parallel import BeirPairs
from tests.conftest import Command

Prepare = Callable[..., "subprocess.CompletedProcess[str]"]
SET = ["dataset=beir_parallel", "dataset.path=given", "dataset.validation_share=0.2", "dataset.test_share=0.2"]
TOPICS = ["apple", "bread", "cloud", "drum", "eagle", "fire", "glass", "honey"]


def write_given(folder: Path) -> None:
    """40 questions in three languages, a passage each; pages of five share a topic, so that BM25 finds others of the page.

    Question 1 is asked again as 11; passage 2 is there again as 12; question 3 has no second language, passage 4 no third.
    """
    for language in ("aa", "bb", "cc"):
        (folder / language / "qrels").mkdir(parents=True)
        asked = {n: f"{TOPICS[n // 5]} question {n}{language}" for n in range(40) if (n, language) != (3, "bb")}
        asked[11] = asked[1]
        told = {n: f"{TOPICS[n // 5]} answer {n}{language} with words{n % 3}" for n in range(40) if (n, language) != (4, "cc")}
        told[12] = told[2]
        for stem, rows in (("queries", asked), ("corpus", told)):
            lines = [json.dumps({"_id": f"{stem[0]}{n}", "text": text}) for n, text in rows.items()]
            (folder / language / f"{stem}.jsonl").write_text("\n".join(lines) + "\n")
        judged = [f"q{n}\tc{n}\t1" for n in told]
        (folder / language / "qrels" / "train.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *judged]) + "\n")


@pytest.fixture
def given(tmp_path: Path) -> Path:
    """The set's folder."""
    write_given(tmp_path / "given")
    return tmp_path / "given"


@pytest.fixture
def prepare(in_process: Command, given: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Prepare:
    """Runs ``python -m hybrid_retrieval.prepare ARGUMENTS`` beside the folder ``given``."""
    del in_process, given  # for the folder and the environment that it leaves
    monkeypatch.setattr(logging, "raiseExceptions", False)  # transformers writes to the error stream of its first import

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        monkeypatch.setenv("HYDRA_FULL_ERROR", "")
        monkeypatch.setattr(sys, "argv", ["prepare", *arguments])
        code, handlers = 0, list(logging.root.handlers)
        try:
            entry.main()
        except SystemExit as end:
            code = int(end.code or 0)
        finally:
            GlobalHydra.instance().clear()
            logging.root.handlers[:] = handlers  # those of the command write to what is closed soon
        printed = capsys.readouterr()
        return subprocess.CompletedProcess(["prepare", *arguments], code, printed.out, printed.err)

    return run


@pytest.fixture
def read(cache: Path, tmp_path: Path) -> Callable[..., ParallelPairs]:
    """A set in BEIR's files below the scratch folder."""

    def pairs(folder: str, **settings: float) -> ParallelPairs:
        return BeirPairs(PathsConfig(cache=str(cache)), str(tmp_path / folder), **settings).pairs()  # type: ignore[arg-type]

    return pairs
