"""What retrievers need is missed before anything is encoded, and training text is drawn the same each time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hybrid_retrieval.benchmarking import LoadedBenchmark, check_retrievers, load_retrievers, training_passages
from hybrid_retrieval.config import JobConfig, PathsConfig, build
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.evaluation.collection import RetrievalCollection

Job = Callable[..., JobConfig]


def collection(*languages: str) -> dict[str, LoadedBenchmark]:
    rows = {language: [("0", "a")] for language in languages}
    judged = {language: [("0", "0", 1)] for language in languages}
    return {"own": LoadedBenchmark(RetrievalCollection.parallel("own", rows, rows, judged), {})}


@pytest.mark.parametrize("name", ["center", "lir", "whiten"])
def test_text_in_every_language_is_needed(job: Job, name: str) -> None:
    """With and without a method, embeddings would be ranked in one pool."""
    config = job(f"retriever={name}", "dataset.languages=[s0,s1]")
    retrievers, source = load_retrievers(config.retriever), build(config.dataset, "dataset", paths=config.paths)

    def check(*languages: str) -> None:
        check_retrievers(retrievers, collection(*languages), config.evaluation, source, encoder=True)

    check("s0")
    check("s0", "s1")
    with pytest.raises(InputError) as raised:
        check("s1", "s2", "th")
    assert f"retriever={name}: dataset= has no training text in s2, th, which own has" in str(raised.value)
    assert "dataset.languages, or benchmark.own.languages=[s1]" in str(raised.value)
    with pytest.raises(InputError, match=r"add them to dataset\.languages$"):
        check("th")
    with pytest.raises(InputError, match=f"retriever={name} is estimated on training text: name it with dataset="):
        check_retrievers(retrievers, collection("s0"), config.evaluation, None, encoder=True)


def test_what_needs_nothing_is_never_refused(job: Job) -> None:
    config = job("retriever=[bm25,random]", "evaluation.documents=chunks")
    check_retrievers(load_retrievers(config.retriever), collection("th"), config.evaluation, None, encoder=False)
    assert job().retriever == {}


def test_training_text_is_train_passages_of_each_language_and_always_the_same(job: Job, cache: Any) -> None:
    config = job()
    source = build(config.dataset, "dataset", paths=PathsConfig(cache=str(cache)))
    pairs = source.pairs()
    text = training_passages(source, 20)
    assert {language: len(texts) for language, texts in text.items()} == dict.fromkeys(pairs.languages, 20)
    assert text == training_passages(source, 20)
    train = set(pairs.passages.texts(pairs.split_rows("train")[1]))
    assert all(set(texts) <= train for texts in text.values())
