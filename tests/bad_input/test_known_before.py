"""What cannot come to anything is said before any training; and a reader that leaves does not end a run."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hybrid_retrieval import benchmarking
from hybrid_retrieval.config import EvaluationConfig, JobConfig, PathsConfig
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.evaluation.benchmarks.benchmark import Benchmark
from hybrid_retrieval.evaluation.collection import RetrievalCollection
from hybrid_retrieval.training import fit
from tests.command_output import assert_one_line
from tests.conftest import SMALL, Command, command_environment

BEFORE = [
    (["retriever=lir", "retriever.lir.rank=300"], "retriever.lir.rank=300: expected at most"),
    (["retriever=whiten", "retriever.whiten.texts=20"], "retriever.whiten: 80 texts are too few for 256 dimensions"),
    (["evaluation.documents=chunks", "evaluation.overlap=200"], "evaluation.overlap=200 leaves no room"),
    (["sampler=x_x_mono", "loss.pool=other_languages"], "loss.pool=other_languages no query has a passage to be told from"),
    (["sampler.batch_size=1"], "sampler.batch_size=1 and loss.pool=all no query has a passage"),
    (["sampler.batch_size=1", "loss=supcon"], "sampler.batch_size=1 no query has a passage"),
    (["+experiment=hybrid_vs_baselines"], "sampler=x_x_mono,x_y,hybrid is a sweep: add -m"),
    (["-m", "seed=range(3,1)", "hydra.sweep.dir=sweep"], "the sweep has no job"),
    (["sampler=[1]"], "cannot be composed"),
]


@pytest.mark.parametrize(("arguments", "part"), BEFORE, ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_it_is_said_before_training(in_process: Command, tmp_path: Path, arguments: list[str], part: str) -> None:
    assert_one_line(in_process("run", *SMALL, "hydra.run.dir=run", *arguments), part)
    assert not list(tmp_path.glob("**/checkpoints"))


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["sampler=x_x", "loss=simcse"], "an encoder without dropout encodes alike"),
        (["loss.pool=other_languages"], "in the monolingual batches: nothing is learnt"),
    ],
)
def test_so_is_what_may_be_meant(
    job: Callable[..., JobConfig], caplog: pytest.LogCaptureFixture, arguments: list[str], part: str
) -> None:
    with caplog.at_level(logging.WARNING):
        fit.prepare(job(*arguments))
    assert part in caplog.text


class Unjudged(Benchmark):
    """A benchmark whose reader lets judgements pass that say nothing."""

    def __init__(self, paths: PathsConfig) -> None:
        pass

    def at_hand(self) -> bool:
        return True

    def provenance(self) -> dict[str, Any]:
        return {}

    def load(self) -> RetrievalCollection:
        texts = {"en": [("a", "some text")]}
        return RetrievalCollection.parallel("one", texts, texts, {"en": [("a", "a", 0)]})


def test_judgements_that_are_all_0_or_below_are_refused(in_process: Command, tmp_path: Path) -> None:
    folder = tmp_path / "set" / "en"
    (folder / "qrels").mkdir(parents=True)
    for name in ("corpus", "queries"):
        (folder / f"{name}.jsonl").write_text(json.dumps({"_id": "a", "text": "some text"}))
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\na\ta\t0\n")
    chosen = ["benchmark=beir_parallel", "benchmark.beir_parallel.path=set", "retriever=random", "hydra.run.dir=run"]
    assert_one_line(in_process("evaluate", *chosen), "every grade in qrels/test.tsv of en is 0 or below")
    node = {"_target_": f"{__name__}.Unjudged"}
    with pytest.raises(InputError, match=r"benchmark\.one: no judgement is above 0"):
        benchmarking.load_benchmarks({"one": node}, EvaluationConfig(), PathsConfig(), True)


@pytest.mark.slow
def test_a_run_goes_on_when_nobody_reads_its_output(cache: Path, tmp_path: Path) -> None:
    arguments = [sys.executable, "-m", "hybrid_retrieval.run", *SMALL, "hydra.run.dir=run"]
    started = subprocess.Popen(
        arguments, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=command_environment(cache)
    )
    assert started.stdout is not None
    started.stdout.close()
    assert started.wait(200) == 0
    assert (tmp_path / "run" / "report.html").exists()
