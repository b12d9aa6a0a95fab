"""A run that is gone on with has the data that it began with: training sets and benchmarks, by what they hold."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.run_record import ENVIRONMENT, check_data, write_environment
from tests.command_output import assert_one_line
from tests.conftest import Command

JOB = [
    *("dataset=beir_parallel", "dataset.path=texts", "dataset.validation_share=0.2", "benchmark=beir_parallel"),
    *("benchmark.beir_parallel.path=asked", "model=static", "model.vocabulary=400", "sampler.batch_size=8"),
    *("trainer.max_steps=4", "trainer.val_check_interval=2", "training.validation_queries=0", "trainer.accelerator=cpu"),
    *("trainer.enable_progress_bar=false", "audit.allow=true", "evaluation.bias=[]", "evaluation.replicates=0"),
    *("hydra.run.dir=run", "resume=auto"),
]


def write_set(folder: Path, split: str, word: str) -> None:
    """A set of 60 questions and passages in two languages."""
    for language in ("de", "en"):
        (folder / language / "qrels").mkdir(parents=True, exist_ok=True)
        for stem, mark in (("queries", "?"), ("corpus", ".")):
            rows = [{"_id": str(i), "text": f"{word} {language} {i * 7919} {i}{mark}"} for i in range(60)]
            (folder / language / f"{stem}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        judged = "".join(f"{i}\t{i}\t1\n" for i in range(60))
        (folder / language / "qrels" / f"{split}.tsv").write_text("query-id\tcorpus-id\tscore\n" + judged)


def test_changed_files_are_refused_by_the_name_of_their_set(command: Command, in_process: Command, tmp_path: Path) -> None:
    write_set(tmp_path / "texts", "train", "eins")
    write_set(tmp_path / "asked", "test", "frage")
    done = command("run", *JOB)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "run"
    (run / "metrics.json").unlink()
    record = json.loads((run / ENVIRONMENT).read_text())
    assert len(record["data"][0]["fingerprint"]) == len(record["benchmarks"]["beir_parallel"]["fingerprint"]) == 64
    before = {file: file.read_bytes() for file in run.rglob("[!.]*.*") if file.is_file() and file.name != "run.log"}

    for folder, named in (
        ("texts", "the training set texts has changed"),
        ("asked", "the benchmark beir_parallel has changed"),
    ):
        shutil.copytree(tmp_path / folder, tmp_path / "kept")
        queries = tmp_path / folder / "de" / "queries.jsonl"
        queries.write_text(queries.read_text().replace("de 0", "de eins"))
        assert_one_line(in_process("run", *JOB), f"resume=auto: {named} since", str(run))
        shutil.rmtree(tmp_path / folder)
        (tmp_path / "kept").rename(tmp_path / folder)
    changed = {file for file, content in before.items() if file.read_bytes() != content}
    assert {file.parent.name for file in changed} <= {".hydra"}

    # A finished run would show them as its own.
    (run / "metrics.json").write_text("{}")
    queries = tmp_path / "texts" / "de" / "queries.jsonl"
    text = queries.read_text()
    queries.write_text(text.replace("de 0", "de eins"))
    assert_one_line(in_process("run", *JOB), "resume=auto: the training set texts has changed")
    queries.write_text(text)
    (run / "metrics.json").unlink()

    # The same text in newer files is the same set.
    for file in tmp_path.glob("texts/*/*.jsonl"):
        os.utime(file, ns=(0, 0))
    done = command("run", *JOB)
    assert done.returncode == 0, done.stderr
    assert json.loads((run / "metrics.json").read_text())


def test_sets_that_come_or_go_are_refused_and_so_is_a_record_without_them(tmp_path: Path) -> None:
    sets = [{"name": "a", "fingerprint": "1"}, {"name": "b", "fingerprint": "2"}]
    write_environment(tmp_path, {"data": sets, "benchmarks": {"x": {"fingerprint": "3"}}})
    check_data(tmp_path, {"data": list(reversed(sets))})
    check_data(tmp_path, {"data": sets, "benchmarks": {"x": {"fingerprint": "3", "path": "elsewhere"}}})
    check_data(tmp_path / "nowhere", {"data": sets})
    for facts, named in (
        ({"data": sets[:1]}, "the training set b is gone"),
        ({"data": [*sets, {"name": "c", "fingerprint": "1"}]}, "the training set c is new"),
        ({"data": sets, "benchmarks": {"y": {"fingerprint": "3"}}}, "the benchmark x is gone"),
    ):
        with pytest.raises(InputError, match=named):
            check_data(tmp_path, facts)
    for damage in ("", "\0", "[]", "{" * 100_000, '{"data": [{"name": "a"}]}', '{"data": 7}'):
        (tmp_path / ENVIRONMENT).write_text(damage)
        with pytest.raises(InputError, match="does not say what data the run began with") as caught:
            check_data(tmp_path, {"data": sets})
        assert "\n" not in str(caught.value)
