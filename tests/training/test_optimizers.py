"""Row-sparse AdamW is AdamW where AdamW is defined; clipping treats sparse gradients as dense ones."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.models.static import StaticBackbone
from hybrid_retrieval.training.optimizers import AdamW, RowSparseAdamW, clip_gradients
from tests.models.small_models import small_transformer


def as_sparse(gradient: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """A row-sparse copy of the given rows of a dense gradient, its entries split in two (not coalesced)."""
    twice = torch.cat([rows, rows])
    values = torch.cat([gradient[rows] * 0.25, gradient[rows] * 0.75])
    return torch.sparse_coo_tensor(twice[None], values, gradient.shape, check_invariants=True)


def test_equals_adamw_when_every_row_has_a_gradient() -> None:
    torch.manual_seed(0)
    start = torch.randn(7, 5)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    settings = {"lr": 0.03, "betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.2}
    sparse, dense = RowSparseAdamW([ours], **settings), torch.optim.AdamW([theirs], **settings)
    for _ in range(20):
        theirs.grad = torch.randn(7, 5)
        ours.grad = as_sparse(theirs.grad, torch.randperm(7))
        sparse.step()
        dense.step()
    torch.testing.assert_close(ours, theirs)


def test_a_row_stands_still_without_a_gradient_and_goes_on_as_if_nothing_had_been() -> None:
    torch.manual_seed(0)
    start = torch.randn(4, 3)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    sparse, dense = RowSparseAdamW([ours], lr=0.1, weight_decay=0.5), torch.optim.AdamW([theirs], lr=0.1, weight_decay=0.5)
    for step in range(10):
        gradient = torch.randn(4, 3)
        rows = torch.tensor([1, 2]) if step % 2 else torch.tensor([1])
        ours.grad = as_sparse(gradient, rows)
        sparse.step()
        if step % 2:
            theirs.grad = gradient
            dense.step()
    assert torch.equal(ours[[0, 3]], start[[0, 3]])
    torch.testing.assert_close(ours[2], theirs[2])  # five updates with five empty steps between, or none
    assert not torch.allclose(ours[1], theirs[1])


def test_sparse_and_dense_parameters_share_one_optimizer_and_its_state_is_plain() -> None:
    torch.manual_seed(0)
    table, layer = nn.Embedding(6, 4, sparse=True), nn.Linear(4, 2)
    optimizer = RowSparseAdamW([*table.parameters(), *layer.parameters()], lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        layer(table(torch.tensor([1, 3, 3]))).square().sum().backward()
        optimizer.step()
    copy = RowSparseAdamW([*table.parameters(), *layer.parameters()], lr=0.1)
    copy.load_state_dict(optimizer.state_dict())
    kept = copy.state[table.weight]
    assert kept["row_steps"].tolist() == [0, 3, 0, 3, 0, 0]
    assert torch.equal(kept["exp_avg"], optimizer.state[table.weight]["exp_avg"])


def test_clipping_sparse_gradients_equals_clipping_dense_ones() -> None:
    torch.manual_seed(0)
    dense = [nn.Parameter(torch.randn(5, 3)), nn.Parameter(torch.randn(4))]
    sparse = [nn.Parameter(parameter.detach().clone()) for parameter in dense]
    dense[0].grad, dense[1].grad = torch.zeros(5, 3), torch.randn(4)
    dense[0].grad[[0, 4]] = torch.randn(2, 3)
    sparse[0].grad, sparse[1].grad = as_sparse(dense[0].grad, torch.tensor([0, 4])), dense[1].grad.clone()
    for largest in (100.0, 0.5):
        ours, theirs = clip_gradients(sparse, largest), torch.nn.utils.clip_grad_norm_(dense, largest)
        torch.testing.assert_close(ours, theirs)
        for mine, other in zip(sparse, dense, strict=True):
            torch.testing.assert_close(mine.grad.to_dense(), other.grad)


class ScaledNorm(nn.Module):
    """As decoders bring their own."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))


def test_no_decay_on_biases_norms_and_scalars() -> None:
    module = nn.ModuleDict({"linear": nn.Linear(3, 3), "norm": nn.LayerNorm(3), "own": ScaledNorm()})
    module.register_parameter("temperature", nn.Parameter(torch.tensor(0.5)))
    optimizer, _ = AdamW(lr=0.1, weight_decay=0.3).configure(module, 10)
    decay = {id(parameter): group["weight_decay"] for group in optimizer.param_groups for parameter in group["params"]}
    found = {name: decay[id(parameter)] for name, parameter in module.named_parameters()}
    without = ["linear.bias", "norm.weight", "norm.bias", "own.weight", "temperature"]
    assert found == {"linear.weight": 0.3, **dict.fromkeys(without, 0.0)}


def test_lower_layers_learn_more_slowly_by_a_factor_a_layer() -> None:
    """The first step of Adam moves every weight by its learning rate."""
    module = nn.ModuleDict({"backbone": small_transformer(50), "projection": nn.Linear(32, 4)})
    layers = ["encoder.layer.0.attention.self.key.weight", "encoder.layer.1.output.dense.weight"]
    names = [f"backbone.model.{name}" for name in ("embeddings.position_embeddings.weight", *layers)]
    for decay in (1.0, 0.5):
        optimizer, _ = AdamW(lr=0.01, weight_decay=0.0, warmup=0.0, eps=1e-30, layer_decay=decay).configure(module, 10)
        weights = {name: module.get_parameter(name) for name in (*names, "projection.weight")}
        before = {name: weight.detach().clone() for name, weight in weights.items()}
        for parameter in module.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        moved = {name: (before[name] - weight).abs().mean().item() for name, weight in weights.items()}
        rates = [0.01 * decay**above for above in (3, 2, 1, 0)]
        assert list(moved.values()) == pytest.approx(rates, rel=1e-3)
        assert optimizer.param_groups[0]["lr"] == 0.01


def test_layer_decay_leaves_a_model_without_layers_alone() -> None:
    optimizer, _ = AdamW(lr=0.1, warmup=0.0, layer_decay=0.5).configure(StaticBackbone(5, 3), 10)
    assert [group["lr"] for group in optimizer.param_groups] == [0.1]


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
def test_schedules_rise_from_zero_and_fall_as_named(schedule: str) -> None:
    recipe = AdamW(lr=1.0, warmup=0.2, schedule=schedule)
    rates = [recipe.factor(step, 100) for step in range(100)]
    assert rates[:20] == pytest.approx([(step + 1) / 20 for step in range(20)])
    shapes = {"linear": lambda p: 1 - p, "cosine": lambda p: (1 + math.cos(math.pi * p)) / 2, "constant": lambda p: 1.0}
    assert rates[20:] == pytest.approx([shapes[schedule](step / 80) for step in range(80)])


@pytest.mark.parametrize(
    ("key", "value"),
    [("lr", 0.0), ("warmup", 1.5), ("schedule", "cosin"), ("weight_decay", -1.0), ("layer_decay", 0.0), ("layer_decay", 1.5)],
)
def test_bad_values_name_their_key(key: str, value: object) -> None:
    with pytest.raises(InputError, match=rf"optimizer\.{key}"):
        AdamW(**{"lr": 0.1, key: value})  # type: ignore[arg-type]
