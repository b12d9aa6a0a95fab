"""What retrievers need is missed before anything is encoded, and training text is drawn the same each time."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from hybrid_retrieval.benchmarking import LoadedBenchmark, check_retrievers, load_retrievers, training_passages
from hybrid_retrieval.config import EvaluationConfig, PathsConfig, config_directory
from hybrid_retrieval.data.sources.synthetic import Synthetic
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.evaluation.collection import RetrievalCollection
from hybrid_retrieval.evaluation.retrievers.retriever import Retriever


@pytest.fixture
def source(cache: Path) -> Synthetic:
    return Synthetic(PathsConfig(cache=str(cache)), items=300, concepts=200, languages=["s0", "s1"])


def retrievers(*names: str) -> dict[str, Retriever]:
    """With the options of their configs."""
    return load_retrievers(
        {name: yaml.safe_load((config_directory() / "retriever" / f"{name}.yaml").read_text()) for name in names},
        EvaluationConfig(),
    )


def collection(*languages: str) -> dict[str, LoadedBenchmark]:
    rows = {language: [("0", "a")] for language in languages}
    judged = {language: [("0", "0", 1)] for language in languages}
    return {"own": LoadedBenchmark(RetrievalCollection.parallel("own", rows, rows, judged), {})}


@pytest.mark.parametrize("name", ["center", "lir", "whiten"])
def test_text_in_every_language_is_needed(source: Synthetic, name: str) -> None:
    """With and without a method, embeddings would be ranked in one pool."""

    def check(*languages: str) -> None:
        check_retrievers(retrievers(name), collection(*languages), EvaluationConfig(), source, encoder=True)

    check("s0")
    check("s0", "s1")
    with pytest.raises(InputError) as raised:
        check("s1", "s2", "th")
    assert f"retriever={name}: dataset= has no training text in s2, th, which own has" in str(raised.value)
    assert "dataset.languages, or benchmark.own.languages=[s1]" in str(raised.value)
    with pytest.raises(InputError, match=r"add them to dataset\.languages$"):
        check("th")
    with pytest.raises(InputError, match=f"retriever={name} is estimated on training text: name it with dataset="):
        check_retrievers(retrievers(name), collection("s0"), EvaluationConfig(), None, encoder=True)


def test_what_needs_nothing_is_never_refused() -> None:
    check_retrievers(retrievers("bm25", "random"), collection("th"), EvaluationConfig(documents="chunks"), None, encoder=False)


def test_training_text_is_train_passages_of_each_language_and_always_the_same(source: Synthetic) -> None:
    pairs = source.pairs()
    text = training_passages(source, 20)
    assert {language: len(texts) for language, texts in text.items()} == {"s0": 20, "s1": 20}
    assert text == training_passages(source, 20)
    train = set(pairs.passages.texts(pairs.split_rows("train")[1]))
    assert all(set(texts) <= train for texts in text.values())
