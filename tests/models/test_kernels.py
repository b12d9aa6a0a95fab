"""The parts that stand in for torch's own: dropout, linear layers by oneDNN, tables with row-sparse gradients."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from torch import nn

from hybrid_retrieval.models import kernels
from hybrid_retrieval.models.encoder import BiEncoder, EncoderSettings
from hybrid_retrieval.models.kernels.dropout import LEVELS, Dropout, drawn, dropout
from hybrid_retrieval.models.kernels.linear import OneDnnLinear, available, preferred
from hybrid_retrieval.models.kernels.row_sparse import RowSparseEmbedding, row_gradient
from tests.models.small_models import random_tokens, sped_up, xlmr
from tests.training.runs import DROPOUT, Compose, Killed, checkpoint, ending, train

needs_onednn = pytest.mark.skipif(not available(), reason="this build of torch has no oneDNN")


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9, 1 / 3])
def test_dropout_keeps_the_share_it_should_and_the_mean(probability: float) -> None:
    """Within five standard deviations; neighbours, and elements that share a 64-bit draw, are independent."""
    torch.manual_seed(0)
    values = torch.full((500, 401), 2.0)
    dropped = dropout(values, probability)
    kept = dropped != 0
    deviation = math.sqrt(probability * (1 - probability) / values.numel())
    assert abs(float(kept.float().mean()) - (1 - probability)) < 5 * deviation
    share = round(probability * LEVELS) / LEVELS
    torch.testing.assert_close(dropped[kept], torch.full_like(dropped[kept], 2 / (1 - share)))
    assert float(dropped.mean()) == pytest.approx(2.0, abs=2 * 5 * deviation / (1 - probability))
    flat = kept.flatten().double()
    for lag in (1, 2, 3, 4, 401):
        correlation = torch.corrcoef(torch.stack([flat[:-lag], flat[lag:]]))[0, 1]
        assert abs(float(correlation)) < 5 / math.sqrt(len(flat))


def test_the_gradient_of_dropout_is_its_mask() -> None:
    torch.manual_seed(0)
    values = torch.randn(7, 5, requires_grad=True)
    torch.manual_seed(3)
    dropped = dropout(values, 0.4)
    torch.manual_seed(3)
    kept, factor = drawn(values, 0.4)
    torch.testing.assert_close(dropped, values * kept * factor)
    weights = torch.randn(7, 5)
    (gradient,) = torch.autograd.grad((dropped * weights).sum(), values)
    torch.testing.assert_close(gradient, weights * kept * factor)


def test_dropout_is_a_function_of_torchs_seed_and_moves_it_on() -> None:
    part = Dropout(0.5)
    torch.manual_seed(1)
    first, second = part(torch.ones(100)), part(torch.ones(100))
    assert not torch.equal(first, second)
    torch.manual_seed(1)
    assert torch.equal(part(torch.ones(100)), first)
    state = torch.get_rng_state()
    third = part(torch.ones(100))
    torch.set_rng_state(state)
    assert torch.equal(part(torch.ones(100)), third)


def test_dropout_at_its_ends_and_out_of_training() -> None:
    values = torch.randn(50)
    assert torch.equal(Dropout(0.5).eval()(values), values)
    assert torch.equal(Dropout(0.0)(values), values)
    assert not Dropout(1.0)(values).any()
    assert dropout(values.bfloat16(), 0.5).dtype == torch.bfloat16
    assert dropout(torch.empty(0, 3), 0.5).shape == (0, 3)


@needs_onednn
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(5, 7), (2, 3, 7), (1, 7), (7,)])
def test_linear_by_onednn_equals_float64(shape: tuple[int, ...], bias: bool) -> None:
    torch.manual_seed(0)
    plain = OneDnnLinear(7, 4, bias=bias)
    exact = nn.Linear(7, 4, bias=bias).double()
    exact.load_state_dict(plain.state_dict())
    values = torch.randn(shape, requires_grad=True)
    double = values.detach().double().requires_grad_()
    ours, theirs = plain(values), exact(double)
    assert ours.shape == theirs.shape
    torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=1e-6)
    weights = torch.randn_like(ours)
    (ours * weights).sum().backward()
    (theirs * weights).sum().backward()
    torch.testing.assert_close(values.grad.double(), double.grad, rtol=1e-5, atol=1e-6)
    for mine, other in zip(plain.parameters(), exact.parameters(), strict=True):
        torch.testing.assert_close(mine.grad.double(), other.grad, rtol=1e-5, atol=1e-6)


@needs_onednn
def test_linear_by_onednn_takes_what_it_is_given() -> None:
    """Values that lie otherwise in memory, other types, autocast, no rows, weights that are frozen, no gradients at all."""
    torch.manual_seed(0)
    part = OneDnnLinear(7, 4)
    peer = nn.Linear(7, 4)
    peer.load_state_dict(part.state_dict())
    across = torch.randn(7, 5).T
    torch.testing.assert_close(part(across), peer(across))
    assert part(torch.empty(0, 7)).shape == (0, 4)
    with torch.autocast("cpu", torch.bfloat16):
        assert part(across).dtype == torch.bfloat16
    assert part.double()(across.double()).dtype == torch.float64
    part.float().requires_grad_(False)
    values = torch.randn(5, 7, requires_grad=True)
    part(values).sum().backward()
    peer.requires_grad_(False)
    torch.testing.assert_close(values.grad, torch.autograd.grad(peer(values).sum(), values)[0])
    with torch.inference_mode():
        torch.testing.assert_close(part(across), peer(across))


@pytest.mark.parametrize("padding", [None, 1, 0])
@pytest.mark.parametrize("shape", [(30,), (4, 9)])
def test_a_row_sparse_table_is_torchs_own(shape: tuple[int, ...], padding: int | None) -> None:
    torch.manual_seed(0)
    table = RowSparseEmbedding(12, 5, padding_idx=padding)
    peer = nn.Embedding(12, 5, padding_idx=padding)
    peer.load_state_dict(table.state_dict())
    ids = torch.randint(0, 9, shape)
    ours, theirs = table(ids), peer(ids)
    assert torch.equal(ours, theirs)
    weights = torch.randn_like(ours)
    (ours * weights).sum().backward()
    (theirs * weights).sum().backward()
    gradient = table.weight.grad
    assert gradient.is_sparse
    assert gradient._indices()[0].tolist() == sorted(set(ids.flatten().tolist()) - {padding})
    torch.testing.assert_close(gradient.to_dense(), peer.weight.grad)


def test_gradients_of_several_lookups_add_up() -> None:
    torch.manual_seed(0)
    table, peer = RowSparseEmbedding(6, 2), nn.Embedding(6, 2)
    peer.load_state_dict(table.state_dict())
    for ids in ([0, 3, 3], [3, 5]):
        for one in (table, peer):
            one(torch.tensor(ids)).square().sum().backward()
    torch.testing.assert_close(table.weight.grad.to_dense(), peer.weight.grad)


def test_a_frozen_table_has_no_gradient_and_no_ids_give_none() -> None:
    table = RowSparseEmbedding(6, 2).requires_grad_(False)
    assert not table(torch.tensor([1, 2])).requires_grad
    empty = row_gradient(6, torch.empty(0, dtype=torch.long), torch.empty(0, dtype=torch.long), torch.empty(0, 2))
    assert not empty.to_dense().any()


def kinds(module: nn.Module) -> list[type[nn.Module]]:
    return [type(part) for part in module.modules()]


def test_what_is_removed_is_the_model_as_it_came_and_it_computes_the_same() -> None:
    model = xlmr(initializer_range=0.3)
    before, attention = kinds(model), model.config._attn_implementation
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    backbone, tokens = sped_up(model, 1).eval(), random_tokens(0, [3, 9, 17])
    swapped = kinds(model)
    assert {RowSparseEmbedding, Dropout, nn.Linear if preferred() == "default" else OneDnnLinear} <= set(swapped)
    fast = backbone(tokens)
    kernels.remove(model, RowSparseEmbedding)
    assert kinds(model) == [nn.Embedding if kind is RowSparseEmbedding else kind for kind in swapped]
    kernels.remove(model)
    assert (kinds(model), model.config._attn_implementation) == (before, attention)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    torch.testing.assert_close(backbone(tokens), fast, rtol=1e-4, atol=1e-5)
    backbone(tokens).sum().backward()
    assert all(not parameter.grad.is_sparse for parameter in model.parameters() if parameter.grad is not None)
    kernels.install(backbone, backbone.table)
    assert kinds(model) == swapped


@needs_onednn
@pytest.mark.parametrize("linear", ["default", "onednn"])
def test_an_encoder_multiplies_as_the_one_did_that_its_weights_are_from(linear: str, tokenizer: Tokenizer) -> None:
    first, second = (BiEncoder(sped_up(xlmr(500), 1), tokenizer, EncoderSettings(projection=9)) for _ in range(2))
    place = list(kernels.LINEARS).index(linear)
    first.set_extra_state(torch.tensor(place))
    second.set_extra_state(torch.tensor(1 - place))
    assert kinds(first) != kinds(second)
    second.load_state_dict(first.state_dict())
    assert kinds(first) == kinds(second)
    assert type(second.projection) is kernels.LINEARS[linear]


def test_the_choice_for_this_processor_is_always_the_same() -> None:
    assert preferred() == preferred.__wrapped__() in kernels.LINEARS


@needs_onednn
def test_training_that_goes_on_elsewhere_multiplies_as_it_began(
    job: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Law 6, where another machine would choose other linear layers: the choice lies in the checkpoint."""
    short = ["trainer.max_steps=6", "training.checkpoint_every=2", "training.validation_queries=0"]
    small = [*DROPOUT, "model.hidden=48", *short]
    monkeypatch.setattr(kernels, "preferred", lambda: "onednn")
    train(job(*small), tmp_path / "whole")
    with pytest.raises(Killed):
        train(ending(job(*small), "on_train_batch_end", 5), tmp_path / "resumed")
    monkeypatch.setattr(kernels, "preferred", lambda: "default")
    train(job(*small), tmp_path / "resumed")
    train(job(*small), tmp_path / "other")
    weights = {}
    for name in ("whole", "resumed", "other"):
        state = checkpoint(tmp_path / name)["state_dict"]
        weights[name] = torch.cat([value.flatten() for name, value in state.items() if value.is_floating_point()])
    assert torch.equal(weights["resumed"], weights["whole"])
    if torch.equal(weights["other"], weights["whole"]):
        pytest.skip("both kinds of layers round alike on this processor")
