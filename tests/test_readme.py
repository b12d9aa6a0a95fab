"""The scripts that README and docs show run as they stand."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import command_environment

ROOT = Path(__file__).parents[1]


def write_set(folder: Path) -> None:
    """300 parallel items in three languages, in BEIR's files: a question has the first words of its passage."""
    for language in ("de", "en", "th"):
        place = folder / language
        (place / "qrels").mkdir(parents=True)
        items = []
        for number in range(300):
            draw = random.Random(number)
            items.append([f"{language}{draw.randrange(400)}" for _ in range(12)])
        passages = [{"_id": f"p{i}", "title": "", "text": " ".join(words)} for i, words in enumerate(items)]
        queries = [{"_id": f"q{i}", "text": " ".join(words[:4])} for i, words in enumerate(items)]
        (place / "corpus.jsonl").write_text("\n".join(map(json.dumps, passages)))
        (place / "queries.jsonl").write_text("\n".join(map(json.dumps, queries)))
        lines = ["query-id\tcorpus-id\tscore", *(f"q{i}\tp{i}\t1" for i in range(300))]
        (place / "qrels" / "train.tsv").write_text("\n".join(lines))


def test_the_readme_shows_the_example_that_is_tested() -> None:
    (shown,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert (ROOT / "examples" / "sentence_transformers_hybrid.py").read_text().endswith(shown)


@pytest.mark.slow
def test_the_script_of_the_docs_runs_as_it_stands(cache: Path, tmp_path: Path) -> None:
    (script,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "howto" / "train.md").read_text(), re.DOTALL)
    assert len([line for line in script.splitlines() if line]) <= 16
    write_set(tmp_path / "my_set")
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=command_environment(cache),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith("]]")
