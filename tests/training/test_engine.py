"""The engine on one rank: exact whatever the chunks, the blocks and GradCache, and small in memory."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hybrid_retrieval.losses.loss import PassageIds, QueryIds
from hybrid_retrieval.models.encoder import BiEncoder, Tokens
from hybrid_retrieval.models.static import StaticBackbone
from hybrid_retrieval.models.transformer import TransformerBackbone
from hybrid_retrieval.sampling.batch import PairIndices
from hybrid_retrieval.training.collate import Chunk, PairBatch, TokenisedSet
from hybrid_retrieval.training.engine import Engine
from tests.training.ragged import batch_of, encoded, gradients, info_nce, largest_difference, small_encoder

LEARNED = {"directions": "both", "learn_temperature": True}
BUDGETS = [60, 300, 100_000]
TINY, STATIC = "tiny", "static"


def steps(engine: Engine, *batches: PairBatch) -> tuple[float, dict[str, Tensor]]:
    """The last loss, and the gradients after steps on all batches."""
    figures = [engine.step(batch) for batch in batches][-1]
    return float(figures.loss), gradients(engine)


def trained(engine: Engine) -> set[str]:
    """Names of all that ought to have a gradient."""
    parts = (engine.encoder, engine.loss)
    return {name for part in parts for name, value in part.named_parameters() if value.requires_grad}


@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("budget", BUDGETS, ids=lambda budget: f"budget {budget}")
def test_cached_equals_uncached_under_dropout(
    ragged: list[TokenisedSet], tokenizer: Tokenizer, budget: int, autocast: bool
) -> None:
    encoder, batch = small_encoder(tokenizer, TINY, 0.1), batch_of(ragged, budget)
    found = []
    for cached in (False, True):
        engine = Engine(encoder, info_nce(**LEARNED), 3, cached)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            found.append(steps(engine, batch))
    assert found[0][0] == found[1][0]
    assert largest_difference(found[1][1], found[0][1]) < 1e-6
    assert found[0][1].keys() == trained(engine), "cut off"
    assert all(value.abs().max() > 0 for value in found[0][1].values() if value.dim() > 1)


@pytest.mark.parametrize("cached", [False, True], ids=["uncached", "cached"])
def test_gradients_of_chunks_are_summed_in_float32_under_autocast(
    ragged: list[TokenisedSet], tokenizer: Tokenizer, cached: bool
) -> None:
    """A step is the sum of what each chunk alone gives, not of that rounded to bfloat16."""
    encoder, batch = small_encoder(tokenizer, TINY), batch_of(ragged, 100)
    engine = Engine(encoder, info_nce(), 3, cached)
    of_weight: list[Tensor] = []
    weight = encoder.get_parameter("backbone.model.encoder.layer.0.intermediate.dense.weight")
    weight.register_hook(of_weight.append)
    with torch.autocast("cpu", torch.bfloat16):
        engine.step(batch)
    assert len(of_weight) == len(batch.chunks) > 10
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad, torch.stack(of_weight).sum(0), atol=1e-6, rtol=1e-5)


def test_the_loss_is_computed_in_float32_under_autocast(ragged: list[TokenisedSet], tokenizer: Tokenizer) -> None:
    """A static encoder's means of rows are float32 either way, and so is the rest."""
    encoder, batch = small_encoder(tokenizer, STATIC), batch_of(ragged, 0)
    found = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            found.append(steps(Engine(encoder, info_nce(**LEARNED), 3), batch))
    assert found[0][0] == found[1][0]
    assert largest_difference(found[1][1], found[0][1]) == 0


@pytest.mark.parametrize("kind", [STATIC, TINY])
@pytest.mark.parametrize("cached", [False, True], ids=["uncached", "cached"])
@pytest.mark.parametrize("budget", BUDGETS, ids=lambda budget: f"budget {budget}")
def test_chunks_equal_brute_force(
    ragged: list[TokenisedSet], tokenizer: Tokenizer, kind: str, cached: bool, budget: int
) -> None:
    """All texts in one padded batch through the model as transformers has it, and a softmax over the whole square."""
    encoder, batch = small_encoder(tokenizer, kind), batch_of(ragged, budget)
    engine = Engine(encoder, info_nce(mask="keep", temperature=0.3), 3, cached)
    loss, found = steps(engine, batch)
    expected, by_hand = brute_force(encoder, encoded([batch]), batch.of_passages.group, 0.3)
    assert loss == pytest.approx(expected, rel=1e-5)
    assert largest_difference(found, by_hand) < 5e-6


def brute_force(
    encoder: BiEncoder, texts: list[list[int]], group: Tensor, temperature: float
) -> tuple[float, dict[str, Tensor]]:
    """Loss and gradients of 16 pairs, in float64; what has no group is no candidate."""
    mask = nn.utils.rnn.pad_sequence([torch.ones(len(text)).double() for text in texts], batch_first=True)
    ids = nn.utils.rnn.pad_sequence([torch.tensor(text) for text in texts], batch_first=True, padding_value=1)
    model, states = plain(encoder)
    model.double()
    means = (states(ids, mask) * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    embeddings = nn.functional.normalize(means, dim=-1)
    scores = embeddings[:16] @ embeddings[16:].T / temperature
    loss = nn.functional.cross_entropy(scores.masked_fill(group < 0, -torch.inf), torch.arange(16))
    loss.backward()
    return loss.item(), {name: value.grad.float() for name, value in model.named_parameters() if value.grad is not None}


def plain(encoder: BiEncoder) -> tuple[nn.Module, Callable[[Tensor, Tensor], Tensor]]:
    """The same weights under the same names, with nothing of this package; and padded ids and mask to states."""
    from transformers import XLMRobertaConfig, XLMRobertaModel

    model, ours = nn.Module(), encoder.backbone
    backbone = model.backbone = nn.Module()
    if isinstance(ours, StaticBackbone):
        table = backbone.embedding = nn.Embedding(*ours.embedding.weight.shape)
        table.load_state_dict(ours.embedding.state_dict())
        return model, lambda ids, mask: table(ids)
    assert isinstance(ours, TransformerBackbone)
    settings: Any = ours.model.config
    config = XLMRobertaConfig(**settings.to_dict())
    config._attn_implementation = "eager"
    transformer = backbone.model = XLMRobertaModel(config, add_pooling_layer=False)
    transformer.load_state_dict(ours.model.state_dict())
    return model, lambda ids, mask: transformer(input_ids=ids, attention_mask=mask.long()).last_hidden_state


@pytest.mark.parametrize("settings", [{}, {"mask": "positive"}, LEARNED, {"pool": "same_language"}], ids=str)
def test_blocks_of_queries_equal_all_at_once(
    ragged: list[TokenisedSet], tokenizer: Tokenizer, settings: dict[str, Any]
) -> None:
    """In loss, accuracy, and the gradients of embeddings and of the learned temperature; also blocks of one query."""
    batch = batch_of(ragged, 0)
    engine = Engine(small_encoder(tokenizer, STATIC), info_nce(**settings), 3)
    whole, expected = engine.step(batch), gradients(engine)
    assert (settings is LEARNED) == ("log_temperature" in expected)
    for scores in (1, 32 * 3, 32 * 16):
        engine.block_scores = scores
        calls: list[slice] = []
        handle = engine.loss.register_forward_pre_hook(lambda _, given, calls=calls: calls.append(given[1]))
        figures = engine.step(batch)
        handle.remove()
        assert len(calls) == {1: 16, 32 * 3: 6, 32 * 16: 1}[scores]
        assert float(figures.loss) == pytest.approx(float(whole.loss), rel=1e-6)
        assert float(figures.accuracy) == pytest.approx(float(whole.accuracy))
        assert largest_difference(gradients(engine), expected) < 3e-6


class Live(TorchDispatchMode):
    """Counts the bytes of all tensors that operations make, for as long as these live."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, Tensor) and value.layout == torch.strided:
                storage = value.untyped_storage()
                known = self._known.get(id(storage))
                if known is None or known() is not storage:
                    self._watch(storage, id(storage), storage.nbytes())
        return result

    def _watch(self, storage: Any, key: int, size: int) -> None:
        self.now += size
        self.peak = max(self.peak, self.now)

        def gone(_: object) -> None:
            self.now -= size

        self._known[key] = weakref.ref(storage, gone)


def wide_batch(pairs: int, chunks: int = 4) -> PairBatch:
    """Pairs of four random tokens a text, in which nothing coincides."""
    generator = torch.Generator().manual_seed(0)
    size = 2 * pairs // chunks
    parts = [
        Chunk(i, Tokens(torch.randint(0, 300, (4 * size,), generator=generator), torch.arange(0, 4 * size + 1, 4), 4))
        for i in range(chunks)
    ]
    number, zeros = torch.arange(pairs), np.zeros(pairs, np.int64)
    queries = QueryIds(3 * number, number[:, None], 3 * number + 1, 0 * number)
    passages = PassageIds(number, 3 * number + 1, 3 * number, 0 * number)
    places = torch.arange(2 * pairs)
    return PairBatch(
        0, tuple(parts), (2 * pairs,), (chunks,), places, queries, passages, 0, PairIndices(zeros, zeros, zeros, zeros)
    )


def test_memory_does_not_grow_with_the_square(tokenizer: Tokenizer) -> None:
    peaks = {}
    for pairs in (1024, 2048, 4096):
        loss = info_nce(hard_negatives=0, directions="both")
        engine = Engine(small_encoder(tokenizer, STATIC), loss, 0, block_scores=1 << 17)
        with Live() as live:
            engine.step(wide_batch(pairs))
        peaks[pairs] = live.peak
    assert peaks[4096] < 4096 * 4096 * 4 / 6
    assert peaks[4096] < 2.1 * peaks[2048] < 4.5 * peaks[1024]


@pytest.mark.parametrize("cached", [False, True], ids=["uncached", "cached"])
def test_with_grad_cache_the_activations_are_those_of_one_chunk(
    ragged: list[TokenisedSet], tokenizer: Tokenizer, cached: bool
) -> None:
    """What autograd keeps for the backward pass, at its peak; without GradCache it is that of all chunks."""
    encoder, batch = small_encoder(tokenizer, TINY, 0.1), batch_of(ragged, 150)
    alone = [kept_bytes(encoder, lambda tokens=chunk.tokens: encoder(tokens).sum().backward()) for chunk in batch.chunks]
    assert len(alone) > 4
    peak = kept_bytes(encoder, lambda: Engine(encoder, info_nce(), 3, cached).step(batch))
    if cached:
        assert 0.9 * max(alone) < peak < 1.1 * max(alone)
    else:
        assert 0.9 * sum(alone) < peak < 1.1 * sum(alone)


def kept_bytes(encoder: nn.Module, work: Callable[[], object]) -> int:
    """Largest sum of bytes that autograd kept at any time, beside the weights."""
    weights = {value.data_ptr() for value in encoder.parameters()}
    now = peak = 0

    def release(size: int) -> None:
        nonlocal now
        now -= size

    def pack(value: Tensor) -> Callable[[], Tensor]:
        nonlocal now, peak

        def unpack() -> Tensor:
            return value

        if value.data_ptr() not in weights:
            size = value.numel() * value.element_size()
            now += size
            peak = max(peak, now)
            weakref.finalize(unpack, release, size)
        return unpack

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda unpack: unpack()):
        work()
    return peak


def test_evaluate_is_the_loss_of_a_step_and_leaves_no_gradient(ragged: list[TokenisedSet], tokenizer: Tokenizer) -> None:
    encoder, batch = small_encoder(tokenizer, TINY, 0.1).eval(), batch_of(ragged, 100, batch_size=7)
    engine = Engine(encoder, info_nce(**LEARNED), 3)
    figures = engine.evaluate(batch)
    assert not figures.loss.requires_grad
    assert gradients(engine) == {}
    for cached in (False, True):
        stepped = Engine(encoder, engine.loss, 3, cached).step(batch)
        torch.testing.assert_close(figures.loss, stepped.loss)
        torch.testing.assert_close(figures.accuracy, stepped.accuracy)
        assert gradients(engine).keys() == trained(engine)
    assert float(Engine(encoder.train(), engine.loss, 3).step(batch).loss) != pytest.approx(float(figures.loss), rel=1e-3)


def test_accuracy_is_the_share_of_queries_that_rank_their_passage_first(
    ragged: list[TokenisedSet], tokenizer: Tokenizer
) -> None:
    encoder, batch = small_encoder(tokenizer, STATIC), batch_of(ragged, 0, batch_size=20)
    engine = Engine(encoder, info_nce(mask="keep"), 3)
    optimizer = torch.optim.SparseAdam(list(encoder.parameters()), 0.05)
    while (accuracy := float(engine.evaluate(batch).accuracy)) < 0.5:
        optimizer.zero_grad()
        engine.step(batch)
        optimizer.step()
    embeddings = encoder(batch.chunks[0].tokens).detach()[batch.places]
    scores = (embeddings[:20] @ embeddings[20:].T)[:, batch.of_passages.group >= 0]
    right = [int(scores[i].argmax()) == i for i in range(20)]
    assert accuracy < 1
    assert accuracy == pytest.approx(sum(right) / 20)


@pytest.mark.parametrize("cached", [False, True], ids=["uncached", "cached"])
def test_dropout_is_a_function_of_seed_step_and_chunk(ragged: list[TokenisedSet], tokenizer: Tokenizer, cached: bool) -> None:
    """Not of earlier steps, nor of random numbers that something else draws."""
    batches = [batch_of(ragged, 200, step) for step in range(3)]
    fresh = Engine(small_encoder(tokenizer, TINY, 0.3), info_nce(), 3, cached)
    torch.manual_seed(1)
    expected = steps(fresh, batches[2])
    later = Engine(small_encoder(tokenizer, TINY, 0.3), info_nce(), 3, cached)
    for batch in batches[:2]:
        steps(later, batch)
        torch.rand(5)
        later.evaluate(batch)
    loss, found = steps(later, batches[2])
    assert loss == expected[0]
    assert all(torch.equal(found[name], value) for name, value in expected[1].items())


def test_no_two_chunks_share_random_numbers_but_the_two_passes_of_one_do(
    ragged: list[TokenisedSet], tokenizer: Tokenizer
) -> None:
    encoder, drawn = small_encoder(tokenizer, TINY, 0.1), []
    encoder.register_forward_pre_hook(lambda *_: drawn.append(tuple(torch.rand(4).tolist())))
    seen = []
    for seed in (0, 1, 2):
        for step in range(3):
            batch = batch_of(ragged, 200, step)
            Engine(encoder, info_nce(), seed, cached=True).step(batch)
            first, second = drawn[: len(batch.chunks)], drawn[len(batch.chunks) :]
            assert first == second
            seen += first
            drawn.clear()
    assert len(set(seen)) == len(seen) > 9 * 5


@pytest.mark.parametrize("kind", [STATIC, TINY])
@pytest.mark.parametrize("cached", [False, True], ids=["uncached", "cached"])
def test_gradients_accumulate_over_batches(ragged: list[TokenisedSet], tokenizer: Tokenizer, kind: str, cached: bool) -> None:
    first, second = (batch_of(ragged, 200, step) for step in (0, 1))
    engine = Engine(small_encoder(tokenizer, kind, 0.1), info_nce(**LEARNED), 3, cached)
    both = steps(engine, first, second)[1]
    alone = [steps(engine, batch)[1] for batch in (first, second)]
    dense = {name: value + alone[1][name] for name, value in alone[0].items()}
    assert largest_difference(both, dense) < 1e-6
    assert largest_difference(alone[0], dense) > 0.05


@pytest.mark.parametrize("cached", [False, True], ids=["uncached", "cached"])
def test_whatever_scales_a_loss_scales_every_gradient(ragged: list[TokenisedSet], tokenizer: Tokenizer, cached: bool) -> None:
    """As a precision plugin does with float16, and accumulation."""
    engine = Engine(small_encoder(tokenizer, TINY), info_nce(**LEARNED), 3, cached)
    batch = batch_of(ragged, 200)
    expected = {name: 1024 * value for name, value in steps(engine, batch)[1].items()}
    forward = engine.forward(batch)
    engine.backward(forward, 1024 * forward.loss)
    found = gradients(engine)
    assert all(torch.equal(found[name], value) for name, value in expected.items())


@pytest.mark.parametrize("cached", [False, True], ids=["uncached", "cached"])
def test_frozen_parameters_have_no_gradient_and_do_not_change_the_others(
    ragged: list[TokenisedSet], tokenizer: Tokenizer, cached: bool
) -> None:
    encoder, batch = small_encoder(tokenizer, TINY, 0.1), batch_of(ragged, 200)
    expected = steps(Engine(copy.deepcopy(encoder), info_nce(), 3, cached), batch)[1]
    table = encoder.get_parameter("backbone.model.embeddings.word_embeddings.weight").requires_grad_(False)
    found = steps(Engine(encoder, info_nce(), 3, cached), batch)[1]
    assert table.grad is None
    assert expected.keys() - found.keys() == {"backbone.model.embeddings.word_embeddings.weight"}
    assert all(torch.equal(expected[name], value) for name, value in found.items())
