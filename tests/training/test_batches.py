"""Batches hold the right texts, ids and answers; law 3 holds on whatever the samplers bring together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from hybrid_retrieval.cache import Cache
from hybrid_retrieval.config import JobConfig, build
from hybrid_retrieval.data.parallel import PairsWriter, ParallelPairs, text_key
from hybrid_retrieval.data.tokens import tokenise
from hybrid_retrieval.losses.masks import answering
from hybrid_retrieval.models.tokenization import Tokenization, train_unigram
from hybrid_retrieval.sampling.batch import PairIndices
from hybrid_retrieval.sampling.sampler import Sampler
from hybrid_retrieval.training.batches import BatchBuilder, StepBatches, TokenisedSet
from hybrid_retrieval.training.fit import prepare

LANGUAGES = ("aa", "bb", "cc")


def ragged_set(directory: Path, name: str, seed: int) -> ParallelPairs:
    """40 questions, 25 passages, several answers and negatives each, a third of the texts missing, some texts shared."""
    random = np.random.default_rng(seed)
    directory.mkdir(parents=True)
    writer = PairsWriter(directory, name, LANGUAGES)
    for side, count in (("queries", 40), ("passages", 25)):
        for index, language in enumerate(LANGUAGES):
            present = np.flatnonzero(random.random(count) < 0.7)
            writer.write(side, language, ((i, f"{i}", f"{side} {i % (count - 5)} in {language} {index}") for i in present))
    pairs = {(int(q), int(p)) for q, p in zip(random.integers(0, 40, 90), random.integers(0, 25, 90), strict=True)}
    edges = np.array([(q, p, int(random.integers(0, 25))) for q, p in sorted(pairs)])
    writer.finish({"train": edges}, {"provenance": {}})
    return ParallelPairs.open(directory)


@pytest.fixture(scope="module")
def tokenizer() -> object:
    texts = [f"{side} {i} in {language}" for side in ("queries", "passages") for i in range(40) for language in LANGUAGES]
    return train_unigram(texts, 400)


@pytest.fixture
def builder(tmp_path: Path, tokenizer: object) -> BatchBuilder:
    tokenization = Tokenization(tokenizer, "", 64)  # type: ignore[arg-type]
    cache = Cache.at(tmp_path / "cache")
    sets = []
    for name, seed in (("one", 0), ("two", 1)):
        pairs = ragged_set(tmp_path / f"{name}-{seed}", name, seed)
        stores = [tokenise(pairs, side, tokenization, 500, cache, show=False) for side in ("queries", "passages")]
        sets.append(TokenisedSet(pairs, *stores, 1.0))
    return BatchBuilder(sets, hard_negatives=1)


SAMPLERS = ["x_x.XX", "x_y.XY", "x_x_mono.XXMono", "hybrid.Hybrid", "hybrid_within_batch.HybridWithinBatch"]


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_place_holds_its_text_and_ids(builder: BatchBuilder, tokenizer: object, name: str) -> None:
    sampler: Sampler = build({"_target_": f"hybrid_retrieval.sampling.{name}", "batch_size": 12}, "sampler")
    composer = sampler.compose(builder.availability("train"), seed=3)
    encode = Tokenization(tokenizer, "", 64)  # type: ignore[arg-type]

    def tokens(text: str) -> list[int]:
        return next(iter(encode.chunks([[text]])))[0][0]

    negatives = 0
    for step in range(20):
        indices = composer.batch(step)
        batch = builder.build(step, indices)
        count = len(indices)
        for i in range(count):
            pairs = builder.sets[indices.set_index[i]].pairs
            query, passage, negative = pairs.edges[indices.edge[i]].tolist()
            asked = builder.languages[indices.query_language[i]]
            answered = builder.languages[indices.passage_language[i]]
            text = text_of(pairs, "queries", query, asked)
            assert batch.queries.ids[batch.queries.offsets[i] : batch.queries.offsets[i + 1]].tolist() == tokens(text)
            assert batch.of_queries.key[i] == text_key(text)
            own = text_of(pairs, "passages", passage, answered)
            place = slice(batch.passages.offsets[i], batch.passages.offsets[i + 1])
            assert batch.passages.ids[place].tolist() == tokens(own)
            assert batch.of_passages.key[i] == batch.of_queries.answer_key[i] == text_key(own)
            shift = int(indices.set_index[i]) << 40
            answers = {p + shift for q, p, _ in pairs.edges.tolist() if q == query}
            assert set(batch.of_queries.answers[i].tolist()) - {-1} == answers
            place = slice(batch.passages.offsets[count + i], batch.passages.offsets[count + i + 1])
            other = pairs.passages.rows[negative, pairs.languages.index(answered)]
            if other >= 0:
                assert batch.passages.ids[place].tolist() == tokens(text_of(pairs, "passages", negative, answered))
                assert batch.of_passages.group[count + i] == negative + shift
                negatives += 1
            else:
                assert batch.of_passages.group[count + i] == -1
    assert negatives


def text_of(pairs: ParallelPairs, side: str, group: int, language: str) -> str:
    """The text of a group in a language."""
    table = getattr(pairs, side)
    return str(table.texts([int(table.rows[group, pairs.languages.index(language)])])[0])


def test_no_pair_is_a_negative_of_its_translation_its_duplicate_or_another_answer(builder: BatchBuilder) -> None:
    """Law 3 by brute force over texts and edges, on the mask that the loss uses."""
    sampler: Sampler = build({"_target_": "hybrid_retrieval.sampling.x_x.XX", "batch_size": 24}, "sampler")
    composer = sampler.compose(builder.availability("train"), seed=0)
    masked = 0
    for step in range(10):
        indices = composer.batch(step)
        batch = builder.build(step, indices)
        mask = answering(batch.of_queries, batch.of_passages)
        for i in range(len(indices)):
            for j in range(len(indices)):
                assert bool(mask[i, j]) == answers_by_hand(builder, indices, i, j), (step, i, j)
                masked += i != j and bool(mask[i, j])
    assert masked > 20


def answers_by_hand(builder: BatchBuilder, indices: PairIndices, i: int, j: int) -> bool:
    """Whether pair j's passage answers pair i's question, from the files' point of view."""
    first, second = (builder.sets[indices.set_index[k]].pairs for k in (i, j))
    (query_i, passage_i, _), (query_j, passage_j, _) = first.edges[indices.edge[i]], second.edges[indices.edge[j]]
    languages = [(builder.languages[indices.query_language[k]], builder.languages[indices.passage_language[k]]) for k in (i, j)]
    same_set = indices.set_index[i] == indices.set_index[j]
    known = same_set and any(q == query_i and p == passage_j for q, p, _ in first.edges.tolist())
    questions = [
        text_of(s, "queries", q, lang[0]) for s, q, lang in zip((first, second), (query_i, query_j), languages, strict=True)
    ]
    passages = [
        text_of(s, "passages", p, lang[1])
        for s, p, lang in zip((first, second), (passage_i, passage_j), languages, strict=True)
    ]
    return bool(known or questions[0] == questions[1] or passages[0] == passages[1])


def test_ranks_take_slices_of_one_global_batch(job: Callable[..., JobConfig]) -> None:
    """Law 1: the slices of 1, 2 and 4 ranks are the same batch, with answers as wide as the whole batch needs."""
    data = prepare(job("sampler=hybrid")).data
    for step in (0, 1, 5):
        whole = StepBatches(data.builder, data.train_composer, 10)[step]
        for ranks in (2, 4):
            parts = [StepBatches(data.builder, data.train_composer, 10, rank, ranks)[step] for rank in range(ranks)]
            assert torch.equal(torch.cat([part.queries.ids for part in parts]), whole.queries.ids)
            assert torch.equal(torch.cat([part.passages.ids for part in parts]), whole.passages.ids)
            assert torch.equal(torch.cat([part.of_queries.answers for part in parts]), whole.of_queries.answers)
            assert torch.equal(torch.cat([part.of_passages.group for part in parts]), whole.of_passages.group)


def test_workers_do_not_change_the_batches(job: Callable[..., JobConfig]) -> None:
    """Law 1: prefetching in other processes brings the same steps in the same order."""
    streams = []
    for workers in (0, 2):
        data = prepare(job("sampler=hybrid", f"trainer.workers={workers}", "trainer.max_steps=6")).data
        streams.append([(batch.step, batch.queries.ids.tolist()) for batch in data.train_dataloader()])
    assert streams[0] == streams[1]
    assert [step for step, _ in streams[0]] == list(range(6))
