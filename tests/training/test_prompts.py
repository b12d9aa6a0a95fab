"""A set's prompts: before each of its texts, in training and in a benchmark that is made of it, and of no other set's."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hybrid_retrieval.config import JobConfig, PathsConfig
from hybrid_retrieval.data.sources.mixture import Mixture
from hybrid_retrieval.data.sources.synthetic import Synthetic
from hybrid_retrieval.evaluation.benchmarks.held_out import HeldOut
from hybrid_retrieval.evaluation.retrievers.dense import Dense
from hybrid_retrieval.training import fit

ASK, TELL = "abc ", "cba "


def test_training_reads_each_set_with_its_own_prompts(job: Callable[..., JobConfig]) -> None:
    plain = {"name": "plain", "dataset": "synthetic", "items": 200}
    sources = [{**plain, "name": "asked", "query_prompt": ASK, "passage_prompt": TELL}, plain]
    dataset = {"_target_": f"{Mixture.__module__}.Mixture", "sources": sources}
    parts = fit.prepare(dataclasses.replace(job("benchmark=[]"), dataset=dataset))
    encoder = parts.module.encoder
    first, second = parts.data.collate.sets
    assert first.pairs.directory == second.pairs.directory, "a prompt is no reason to build a set again"
    for role, store, other, table, prompt in (
        ("query", first.queries, second.queries, first.pairs.queries, ASK),
        ("passage", first.passages, second.passages, first.pairs.passages, TELL),
    ):
        texts = table.texts()
        assert store.tokens.tolist() == encoder.tokenise([prompt + text for text in texts], role).tolist()
        assert other.tokens.tolist() == encoder.tokenise(texts, role).tolist()
        assert store.tokens.tolist() != other.tokens.tolist()
    collection = parts.data.validation
    assert collection is not None
    assert (collection.queries.prompt, collection.corpus.prompt) == (ASK, TELL)


class Listening:
    """An encoder that keeps what it is given."""

    def __init__(self) -> None:
        self.given: dict[str, list[str]] = {"query": [], "passage": []}

    def encode(self, texts: Any, role: str, label: str = "") -> Any:
        self.given[role] += texts
        return np.ones((len(texts), 2), np.float32)


def test_a_benchmark_of_the_set_is_given_its_prompts(tmp_path: Path) -> None:
    paths = PathsConfig(cache=str(tmp_path))
    source = {"_target_": f"{Synthetic.__module__}.Synthetic", "items": 100, "query_prompt": ASK}
    collection = HeldOut(paths, "held_out", source).load()
    encoder = Listening()
    Dense(encoder).index(collection)
    assert encoder.given["query"] == [ASK + text for text in collection.queries.texts]
    assert encoder.given["passage"] == list(collection.corpus.texts)
    assert not any(text.startswith(ASK) for text in collection.queries.texts), "retrievers by words see the texts alone"


def test_a_mixture_of_one_set_is_a_benchmark_with_its_prompts(tmp_path: Path) -> None:
    mixture = Mixture(PathsConfig(cache=str(tmp_path)), [{"dataset": "synthetic", "items": 50, "query_prompt": ASK}])
    assert mixture.pairs().prompts == {"queries": ASK}
