"""Options of a transformer: token embeddings, checkpointing, compiling, depth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.models import kernels
from hybrid_retrieval.models.encoder import Tokens
from hybrid_retrieval.models.published import PublishedModel
from hybrid_retrieval.models.transformer import (
    ScratchTransformer,
    TransformerBackbone,
    TransformerOptions,
)
from hybrid_retrieval.training.optimizers import AdamW
from tests.models.small_models import (
    TrainingSample,
    byte_pairs,
    load,
    load_decoder,
    random_tokens,
    sped_up,
    write_decoder,
    xlmr,
)


def scratch(cache: Path, **options: Any) -> TransformerBackbone:
    model = ScratchTransformer(PathsConfig(cache=str(cache)), layers=2, hidden=16, heads=2, vocabulary=500, **options)
    torch.manual_seed(0)
    backbone = model.build(model.tokenizer(TrainingSample())).backbone
    assert isinstance(backbone, TransformerBackbone)
    return backbone


def with_options(seed: int = 0, dropout: float = 0.1, **options: Any) -> TransformerBackbone:
    return sped_up(xlmr(50, seed, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout), 1, **options)


def step(backbone: TransformerBackbone, tokens: Tokens) -> None:
    optimizer, _ = AdamW(lr=0.01, weight_decay=0.5, warmup=0.0).configure(backbone, 100)
    for seed in (0, 1):
        optimizer.zero_grad()
        torch.manual_seed(seed)
        backbone.pooled(tokens if seed else random_tokens(9, [4]), "mean").square().sum().backward()
        optimizer.step()


@pytest.mark.parametrize("kind", ["scratch", "published"])
@pytest.mark.parametrize("choice", ["dense", "sparse", "frozen"])
def test_token_embeddings_are_trained_as_asked(choice: str, kind: str, tmp_path: Path, xlmr_like: Path) -> None:
    """dense: decay moves every row; sparse: only rows that were looked up move; frozen: none does, and none has a state."""
    backbone: Any = (
        scratch(tmp_path, token_embeddings=choice) if kind == "scratch" else load(xlmr_like, token_embeddings=choice).backbone
    )
    table = backbone.model.get_input_embeddings()
    before = table.weight.detach().clone()
    tokens = random_tokens(0, [5, 3])
    other = {name: parameter.detach().clone() for name, parameter in backbone.named_parameters()}
    step(backbone.train(), tokens)
    moved = (table.weight != before).any(1).nonzero().flatten().tolist()
    seen = sorted({*tokens.ids.tolist(), *random_tokens(9, [4]).ids.tolist()})
    everything = [row for row in range(len(before)) if before[row].any()]
    assert moved == {"dense": everything, "sparse": seen, "frozen": []}[choice]
    assert table.weight.requires_grad == (choice != "frozen")
    layers = {name for name in other if ".layer." in name}
    assert layers
    assert all(not torch.equal(parameter, other[name]) for name, parameter in backbone.named_parameters() if name in layers)


def test_dense_token_embeddings_are_trained_as_torch_trains_them() -> None:
    """Row-sparse gradients and their optimizer, against transformers' own table and torch's own AdamW."""
    backbone, peer = with_options(dropout=0.0), with_options(dropout=0.0)
    kernels.remove(peer)
    optimizer, _ = AdamW(lr=0.01, weight_decay=0.5, warmup=0.0, schedule="constant").configure(backbone, 100)
    decayed = [p for p in peer.parameters() if p.ndim > 1]
    plain = [p for p in peer.parameters() if p.ndim < 2]
    theirs = torch.optim.AdamW([{"params": decayed}, {"params": plain, "weight_decay": 0.0}], lr=0.01, weight_decay=0.5)
    for seed in range(3):
        tokens = random_tokens(seed, [4, 7])
        for model, one in ((backbone, optimizer), (peer, theirs)):
            one.zero_grad()
            model.pooled(tokens, "mean").square().sum().backward()
            one.step()
    torch.testing.assert_close(backbone.model.get_input_embeddings().weight, peer.model.get_input_embeddings().weight)


def test_a_kind_of_training_that_does_not_exist_is_refused() -> None:
    with pytest.raises(InputError, match=r"model\.token_embeddings='lazy'"):
        TransformerOptions(token_embeddings="lazy")


def test_a_table_that_is_more_than_a_table_cannot_be_sparse() -> None:
    class Scaled(torch.nn.Embedding):
        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return super().forward(ids) * 3

    model = xlmr()
    model.set_input_embeddings(Scaled(50, 32))
    with pytest.raises(InputError, match=r"model\.token_embeddings=sparse: the table is a Scaled"):
        sped_up(model, 1, token_embeddings="sparse")
    assert type(sped_up(model, 1).table) is Scaled


@pytest.mark.parametrize("kind", ["encoder", "decoder", "lora"])
def test_checkpointing_changes_no_gradient_under_dropout(kind: str, tmp_path: Path) -> None:
    tokens = random_tokens(3, [3, 17, 9, 9])
    weights = torch.randn(4, 32)
    directory = write_decoder(tmp_path, "qwen3", byte_pairs(), attention_dropout=0.2)
    found, kept = [], []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        if kind == "encoder":
            backbone: Any = with_options(gradient_checkpointing=checkpointing)
        else:
            lora = {"rank": 2, "dropout": 0.3} if kind == "lora" else None
            backbone = load_decoder(directory, gradient_checkpointing=checkpointing, lora=lora).backbone.train()
        calls = 0

        def count(*_: Any) -> None:
            nonlocal calls
            calls += 1

        layer = next(part for part in backbone.modules() if isinstance(part, torch.nn.ModuleList))[0]
        next(layer.children()).register_forward_hook(count)
        torch.manual_seed(7)
        (backbone.pooled(tokens, "mean") * weights).sum().backward()
        torch.manual_seed(8)
        (backbone.pooled(tokens, "mean") * weights).sum().backward()
        found.append({n: p.grad.to_dense() for n, p in backbone.named_parameters() if p.grad is not None})
        kept.append(calls)
    assert kept == [2, 4]
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        assert torch.equal(gradient, found[1][name]), name


@pytest.mark.parametrize("lora", [None, {"rank": 2}])
def test_layers_above_a_parameter(lora: dict[str, Any] | None, xlmr_like: Path, tmp_path: Path) -> None:
    encoder: Any = load(xlmr_like, lora=lora).backbone
    decoder: Any = load_decoder(write_decoder(tmp_path, "qwen3", byte_pairs()), lora=lora).backbone
    base = ".base_layer" if lora else ""
    expected = {
        encoder: {
            "model.embeddings.word_embeddings.weight": 3,
            "model.embeddings.LayerNorm.bias": 3,
            f"model.encoder.layer.0.attention.self.query{base}.weight": 2,
            "model.encoder.layer.1.output.LayerNorm.weight": 1,
        },
        decoder: {
            "model.embed_tokens.weight": 4,
            f"model.layers.0.self_attn.q_proj{base}.weight": 3,
            f"model.layers.2.mlp.down_proj{base}.weight": 1,
            "model.norm.weight": 0,
        },
    }
    for backbone, levels in expected.items():
        names = {name for name, _ in backbone.named_parameters()}
        assert levels.keys() <= names
        above = backbone.layers_above()
        assert {name: above[backbone.get_parameter(name)] for name in levels} == levels
        assert set(above.values()) <= set(range(5))


def test_published_and_scratch_models_take_the_same_options() -> None:
    """No option of one is forgotten in the other, but for those that a model from scratch has no use for."""
    import inspect

    names = set(inspect.signature(TransformerOptions).parameters)
    assert names <= set(inspect.signature(PublishedModel).parameters)
    assert names - {"lora", "bidirectional"} <= set(inspect.signature(ScratchTransformer).parameters)


def lengths_of_a_run() -> list[list[int]]:
    generator = np.random.default_rng(0)
    return [generator.integers(2, 60, size=int(generator.integers(2, 12))).tolist() for _ in range(12)]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_compiled_layers_equal_eager_ones_and_are_compiled_once_for_all_lengths(kind: str, tmp_path: Path) -> None:
    from torch._dynamo.utils import counters

    directory = write_decoder(tmp_path, "qwen3", byte_pairs())
    made: list[Any] = []
    for compiled in (False, True):
        if kind == "encoder":
            made.append(with_options(dropout=0.0, compile=compiled))
        else:
            made.append(load_decoder(directory, compile=compiled).backbone.train())
    assert made[0].state_dict().keys() == made[1].state_dict().keys()
    for backbone in made:
        kernels.install(backbone, linear="onednn")
    torch._dynamo.reset()
    counters.clear()
    graphs = []
    for seed, lengths in enumerate(lengths_of_a_run()):
        tokens = random_tokens(seed, lengths)
        found = []
        for backbone in made:
            backbone.zero_grad()
            states = backbone(tokens)
            states.square().sum().backward()
            found.append(
                (states.detach(), {n: p.grad.to_dense() for n, p in backbone.named_parameters() if p.grad is not None})
            )
        torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-4, atol=1e-4)
        for name, gradient in found[0][1].items():
            torch.testing.assert_close(gradient, found[1][1][name], rtol=1e-3, atol=1e-2)
        graphs.append(counters["stats"]["unique_graphs"])
    assert 1 <= graphs[-1] <= 3
    assert graphs[3] == graphs[-1]


@pytest.mark.slow
def test_compiled_layers_with_dropout_and_checkpoints_draw_what_the_seed_says_twice() -> None:
    """The backward pass computes them again: with other masks, gradients would not be those of the loss by differences."""
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    counters.clear()
    tokens = random_tokens(0, [9, 4, 30])
    weights = torch.randn(43, 32)
    backbone = with_options(dropout=0.3, compile=True, gradient_checkpointing=True)

    def loss(seed: int = 1) -> torch.Tensor:
        torch.manual_seed(seed)
        return (backbone(tokens) * weights).sum()

    assert loss().item() == loss().item() != loss(2).item()
    loss().backward()
    for name in ("0.attention.self.query", "0.attention.self.value", "0.intermediate.dense", "1.attention.output.dense"):
        parameter = backbone.model.get_parameter(f"encoder.layer.{name}.weight")
        start, along = parameter.detach().clone(), parameter.grad / parameter.grad.norm()
        ends = []
        for side in (0.02, -0.02):
            parameter.data.copy_(start + side * along)
            ends.append(loss().item())
        parameter.data.copy_(start)
        assert (ends[0] - ends[1]) / 0.04 == pytest.approx(float(parameter.grad.norm()), rel=5e-3)
    assert counters["stats"]["unique_graphs"] == 1
