"""Batches hold the right texts, ids and answers; law 3 holds on whatever the samplers bring together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from torch.utils.data import DataLoader

from hybrid_retrieval.cache import Cache
from hybrid_retrieval.config import JobConfig
from hybrid_retrieval.data.parallel import PairsWriter, ParallelPairs, text_key
from hybrid_retrieval.data.tokens import tokenise
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.losses.candidates import answering
from hybrid_retrieval.models.tokenization import Tokenization
from hybrid_retrieval.sampling.batch import PairIndices
from hybrid_retrieval.training.collate import Collator, PairBatch, TokenisedSet
from hybrid_retrieval.training.datamodule import GlobalBatches
from hybrid_retrieval.training.fit import prepare
from tests.training.ragged import LONGEST, composed, encoded

SAMPLERS = ["sampler.XX", "sampler.XY", "sampler.XXMono", "hybrid.Hybrid", "hybrid.HybridWithinBatch"]
SIDES = ("queries", "passages")


@pytest.fixture
def collate(ragged: list[TokenisedSet]) -> Collator:
    return Collator(ragged, 1, chunk_tokens=100)


def text_of(pairs: ParallelPairs, side: str, group: int, language: str) -> str:
    """The text of a group in a language."""
    table = getattr(pairs, side)
    return str(table.texts([int(table.rows[group, pairs.languages.index(language)])])[0])


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_place_holds_its_text_and_ids(collate: Collator, tokenizer: Tokenizer, name: str) -> None:
    composer = composed(collate, name, 12, seed=3)
    negatives = 0
    for step in range(20):
        indices = composer.batch(step)
        batch = collate(step, indices)
        assert batch.step == step
        assert batch.pairs is indices
        negatives += check_texts(collate, batch, tokenizer, SIDES)
    assert negatives


def test_scores_are_those_of_the_pairs_own_passages_that_are_in_the_batch(ragged: list[TokenisedSet]) -> None:
    collate = Collator(ragged, 2, chunk_tokens=100, scored=True)
    batch = collate(0, composed(collate, "sampler.XY", 12, seed=3).batch(0))
    assert batch.scores is not None
    negatives = batch.of_passages.group[12:].view(2, 12)
    absent = 0
    for slot in range(12):
        pairs = ragged[int(batch.pairs.set_index[slot])].pairs
        assert pairs.scores is not None
        of_passage, of_negative = pairs.scores[int(batch.pairs.edge[slot])].tolist()
        there = bool(negatives[0, slot] >= 0)
        absent += not there
        expected = torch.tensor([of_passage, of_negative if there else torch.nan, torch.nan])  # the set has one negative each
        torch.testing.assert_close(batch.scores[slot], expected, equal_nan=True)
    assert 0 < absent < 12
    assert batch.to("cpu").scores is not None
    assert Collator(ragged, 1, chunk_tokens=100)(0, batch.pairs).scores is None
    bare = [replace(ragged[0], pairs=replace(ragged[0].pairs, scores=None))]
    with pytest.raises(InputError, match=r"loss\.targets=data: one has no scores; .* prepare score"):
        Collator(bare, 1, scored=True)


@pytest.mark.parametrize("sides", [("passage", "passage"), ("query", "query"), ("passage", "query")])
def test_either_side_of_a_pair_may_be_its_query_or_its_passage(
    ragged: list[TokenisedSet], tokenizer: Tokenizer, sides: tuple[str, str]
) -> None:
    collate = Collator(ragged, 1, sides, 100)
    of = {"query": "queries", "passage": "passages"}
    for sampler in ("sampler.XY", "sampler.XX"):
        composer = composed(collate, sampler, 12, seed=3)
        for step in range(5):
            batch = collate(step, composer.batch(step))
            check_texts(collate, batch, tokenizer, (of[sides[0]], of[sides[1]]))


def check_texts(collate: Collator, batch: PairBatch, tokenizer: Tokenizer, sides: tuple[str, str]) -> int:
    """Texts, fingerprints, groups, answers and languages of a batch, from the sets' own tables; how many hard negatives."""
    encode = Tokenization(tokenizer, "", LONGEST)
    indices, texts, negatives = batch.pairs, encoded([batch]), 0
    count = len(indices)
    assert len(texts) == 3 * count

    def check(place: int, text: str) -> None:
        assert texts[place] == next(iter(encode.chunks([[text]])))[0][0].tolist()

    for i in range(count):
        pairs = collate.sets[indices.set_index[i]].pairs
        shift = int(indices.set_index[i]) << 40
        query, passage, negative = pairs.edges[indices.edge[i]].tolist()
        asked = collate.languages[indices.query_language[i]]
        answered = collate.languages[indices.passage_language[i]]
        first = text_of(pairs, sides[0], passage if sides[0] == "passages" else query, asked)
        check(i, first)
        assert batch.of_queries.key[i] == batch.of_passages.query_key[i] == text_key(first)
        second = text_of(pairs, sides[1], passage if sides[1] == "passages" else query, answered)
        check(count + i, second)
        assert batch.of_passages.key[i] == batch.of_queries.answer_key[i] == text_key(second)
        assert batch.of_passages.group[i] == passage + shift
        answers = {p + shift for q, p, _ in pairs.edges.tolist() if q == query} & set(batch.of_passages.group.tolist())
        assert set(batch.of_queries.answers[i].tolist()) - {-1} == answers
        assert batch.of_queries.language[i] == indices.query_language[i]
        assert batch.of_passages.language[[i, count + i]].tolist() == [indices.passage_language[i]] * 2
        assert batch.of_passages.query_key[count + i] == -1
        if pairs.passages.rows[negative, pairs.languages.index(answered)] >= 0:
            text = text_of(pairs, "passages", negative, answered)
            check(2 * count + i, text)
            assert batch.of_passages.key[count + i] == text_key(text)
            assert batch.of_passages.group[count + i] == negative + shift
            negatives += 1
        else:
            assert batch.of_passages.group[count + i] == -1
    return negatives


def test_no_pair_is_a_negative_of_its_translation_its_duplicate_or_another_answer(collate: Collator) -> None:
    """Law 3 by brute force over texts and edges, on the mask that the loss uses."""
    composer = composed(collate, "sampler.XX", 24)
    masked = 0
    for step in range(10):
        indices = composer.batch(step)
        batch = collate(step, indices)
        mask = answering(batch.of_queries, batch.of_passages)
        for i in range(len(indices)):
            for j in range(len(indices)):
                assert bool(mask[i, j]) == answers_by_hand(collate, indices, i, j), (step, i, j)
                masked += i != j and bool(mask[i, j])
    assert masked > 20


def answers_by_hand(collate: Collator, indices: PairIndices, i: int, j: int) -> bool:
    """Whether pair j's passage answers pair i's question, from the files' point of view."""
    first, second = (collate.sets[indices.set_index[k]].pairs for k in (i, j))
    (query_i, passage_i, _), (query_j, passage_j, _) = first.edges[indices.edge[i]], second.edges[indices.edge[j]]
    languages = [(collate.languages[indices.query_language[k]], collate.languages[indices.passage_language[k]]) for k in (i, j)]
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


@pytest.mark.parametrize("budget", [0, 1, 60, 200, 100_000], ids=lambda budget: f"budget {budget}")
def test_ranks_share_out_one_global_batch(ragged: list[TokenisedSet], budget: int) -> None:
    """Laws 1 and 4: whatever the number of ranks, the same texts, ids and (with a budget) chunks, each encoded once."""
    collate = Collator(ragged, 1, chunk_tokens=budget)
    composer = composed(collate, "hybrid.Hybrid", 16)
    for step in (0, 1, 5):
        indices = composer.batch(step)
        whole = collate(step, indices)
        plan = {chunk.number: (chunk.tokens.ids.tolist(), chunk.tokens.offsets.tolist()) for chunk in whole.chunks}
        assert list(plan) == list(range(len(plan)))
        for ranks in (2, 4):
            parts = [collate(step, indices, rank, ranks) for rank in range(ranks)]
            assert encoded(parts) == encoded([whole])
            shared = {c.number: (c.tokens.ids.tolist(), c.tokens.offsets.tolist()) for part in parts for c in part.chunks}
            assert len(shared) == sum(len(part.chunks) for part in parts)
            assert not budget or shared == plan
            for rank, part in enumerate(parts):
                check_share(part, whole, rank, ranks)


def check_share(part: PairBatch, whole: PairBatch, rank: int, ranks: int) -> None:
    """What a rank knows of a batch beside its texts."""
    assert part.rank == rank
    assert (part.rows.start, part.rows.stop) == (rank * 16 // ranks, (rank + 1) * 16 // ranks)
    assert part.counts[rank] == sum(len(chunk.tokens) for chunk in part.chunks) == part.own_places.stop - part.own_places.start
    assert part.own_places.start == sum(part.counts[:rank])
    assert sum(part.counts) == 48
    for name in ("of_queries", "of_passages"):
        mine, all_ = getattr(part, name), getattr(whole, name)
        for field in fields(all_):
            assert torch.equal(getattr(mine, field.name), getattr(all_, field.name))


def test_chunks_keep_to_their_budget_and_pad_little(ragged: list[TokenisedSet]) -> None:
    collate = Collator(ragged, 1, chunk_tokens=160)
    composer = composed(collate, "sampler.XX", 24)
    for step in range(5):
        batch = collate(step, composer.batch(step))
        lengths = [np.diff(chunk.tokens.offsets.numpy()) for chunk in batch.chunks]
        assert all(len(one) * one.max() <= 160 for one in lengths)
        assert [chunk.tokens.longest for chunk in batch.chunks] == [one.max() for one in lengths]
        whole = np.concatenate(lengths)
        padding = sum(len(one) * one.max() for one in lengths) - whole.sum()
        assert padding < 0.25 * (len(whole) * whole.max() - whole.sum())


def test_ranks_carry_similar_loads(ragged: list[TokenisedSet]) -> None:
    """No rank has more than a chunk's tokens above the least."""
    collate = Collator(ragged, 1, chunk_tokens=100)
    composer = composed(collate, "sampler.XY", 24)
    for step in range(5):
        parts = [collate(step, composer.batch(step), rank, 4) for rank in range(4)]
        loads = [sum(len(chunk.tokens) * chunk.tokens.longest for chunk in part.chunks) for part in parts]
        assert max(loads) - min(loads) <= 100


def test_loader_processes_do_not_change_the_batches(job: Callable[..., JobConfig]) -> None:
    """Law 1: prefetching in other processes brings the same steps in the same order."""
    data = prepare(job("sampler=hybrid")).data
    batches = GlobalBatches(data.collate, data.train_batches, 6)
    streams = [
        [(batch.step, encoded([batch])) for batch in DataLoader(batches, batch_size=None, num_workers=workers)]
        for workers in (0, 2)
    ]
    assert streams[0] == streams[1]
    assert [step for step, _ in streams[0]] == list(range(6))


@pytest.mark.parametrize(("size", "devices", "named"), [(100, 8, "96 or 104"), (15, 2, "14 or 16"), (4, 8, "sizes are 8")])
def test_a_global_batch_that_devices_do_not_divide_is_refused(
    job: Callable[..., JobConfig], size: int, devices: int, named: str
) -> None:
    """Law 1: at once, with the nearest sizes named."""
    with pytest.raises(InputError, match=f"sampler.batch_size={size} .*number of devices={devices};.*{named}$"):
        prepare(job(f"sampler.batch_size={size}", f"trainer.devices={devices}"))


@pytest.mark.parametrize("sides", [("query", "passage"), ("passage", "passage")])
def test_labels_are_answers_of_which_a_batch_holds_those_that_it_needs(
    sides: tuple[str, str], tmp_path: Path, tokenizer: Tokenizer
) -> None:
    """Law 3 where what answers a query is all that has its label, though few of these are its pairs."""
    random = np.random.default_rng(0)
    label = random.integers(0, 5, 400)
    (tmp_path / "labelled").mkdir()
    writer = PairsWriter(tmp_path / "labelled", "labelled", ["aa", "bb"])
    for side in SIDES:
        for language in writer.languages:
            writer.write(side, language, ((i, str(i), f"{side} {i} in {language}") for i in range(400)))
    drawn = [(i, random.choice(np.flatnonzero(label == label[i])), random.integers(0, 400)) for i in range(400)]
    writer.finish({"train": np.array(drawn)}, {"provenance": {}}, answers=np.argwhere(label[:, None] == label))
    pairs = ParallelPairs.open(tmp_path / "labelled")
    cache, tokenization = Cache.at(tmp_path / "cache"), Tokenization(tokenizer, "", LONGEST)
    stores = (tokenise(pairs, side, tokenization, 500, cache, show=False) for side in SIDES)
    collate = Collator([TokenisedSet(pairs, *stores)], 1, sides)
    for step in range(5):
        batch = collate(step, composed(collate, "sampler.XY", 24, seed=3).batch(step))
        asked, passages = pairs.edges[batch.pairs.edge, 0], batch.of_passages.group.numpy()
        mask = answering(batch.of_queries, batch.of_passages).numpy()
        np.testing.assert_array_equal(mask, label[asked][:, None] == label[passages])
        assert 24 < mask[:, :24].sum() < 24 * 24
        assert mask[:, 24:].any()
        assert not mask[:, 24:].all()
        assert batch.of_queries.answers.shape[1] <= 48 < np.bincount(label).min()
