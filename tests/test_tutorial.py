"""The tutorial is followed to the letter, in a folder that has nothing but the example set."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hybrid_retrieval.__main__ import COMMANDS
from hybrid_retrieval.config import config_directory
from tests.conftest import command_environment

ROOT = Path(__file__).parents[1]
TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
INSTALL, *BLOCKS = re.findall(r"```sh\n(.*?)```", TUTORIAL, re.DOTALL)
FAQ = ROOT / "examples" / "faq"
LANGUAGES = ("de", "en", "es", "fr", "ja")
ROWS = {"hybrid": "", "BM25": "baselines/bm25/"}
COLUMNS = ["monolingual/map", "crosslingual/map", "multilingual/map", "monolingual/recall@1", "crosslingual/recall@1"]
COLUMNS += ["multilingual/recall@10", "multilingual/rank_distance"]


def at_hand(block: str) -> bool:
    """True where the package has every command and data set that a block names."""
    commands = re.findall(r"^hybrid-retrieval (\w+)", block, re.MULTILINE)
    datasets = re.findall(r" dataset=(\w+)", block)
    exports = "export" in COMMANDS or "faq_model" not in block
    return (
        exports
        and all(name in COMMANDS for name in commands)
        and all((config_directory() / "dataset" / f"{name}.yaml").exists() for name in datasets)
    )


def test_the_tutorial_installs_by_the_makefile() -> None:
    assert INSTALL.splitlines() == ["make install", ". .venv/bin/activate"]
    assert re.search(r"^install:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.slow
def test_the_tutorial_is_followed_word_by_word(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    shutil.copytree(FAQ, tmp_path / "examples" / "faq")
    programs = tmp_path_factory.mktemp("bin")
    for name, command in (("python", ""), ("hybrid-retrieval", " -m hybrid_retrieval")):
        (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable}{command} "$@"\n')
        (programs / name).chmod(0o755)
    environment = command_environment(tmp_path_factory.mktemp("cache"), PATH=f"{programs}{os.pathsep}{os.environ['PATH']}")
    for block in filter(at_hand, BLOCKS):
        followed = ["bash", "-euo", "pipefail", "-c", block]
        done = subprocess.run(followed, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, f"{block}\n{done.stderr}"
    metrics = json.loads((tmp_path / "runs" / "faq" / "metrics.json").read_text())
    for name, prefix in ROWS.items():
        (row,) = re.findall(rf"^\| {name} \| (.*) \|$", TUTORIAL, re.MULTILINE)
        shown = [float(cell.split()[0]) for cell in row.split(" | ")]
        assert shown == pytest.approx([metrics[f"{prefix}held_out/{column}"] for column in COLUMNS], abs=0.02, rel=0.1)


def records(language: str, name: str) -> dict[str, str]:
    lines = (FAQ / language / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    found = {record["_id"]: record["text"] for record in map(json.loads, lines)}
    assert len(found) == len(lines)
    return found


def test_the_faq_is_parallel_and_its_test_is_no_training() -> None:
    ids = {name: set(records("en", name)) for name in ("queries", "corpus")}
    assert len(ids["corpus"]) >= 64
    for language in LANGUAGES:
        texts = [*records(language, "queries").values(), *records(language, "corpus").values()]
        assert {name: set(records(language, name)) for name in ids} == ids
        assert all(text.strip() for text in texts)
        assert len({re.sub(r"\W", "", text.casefold()) for text in texts}) == len(texts)
        judged = {}
        for split in ("train", "test"):
            lines = (FAQ / language / "qrels" / f"{split}.tsv").read_text().splitlines()[1:]
            judged[split] = [line.split("\t")[:2] for line in lines]
            assert {passage for _, passage in judged[split]} == ids["corpus"]
            assert all(query.partition(".")[0] == passage for query, passage in judged[split])
        train, test = ({query for query, _ in judged[split]} for split in ("train", "test"))
        assert train | test == ids["queries"]
        assert not train & test
