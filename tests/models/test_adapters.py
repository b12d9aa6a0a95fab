"""LoRA: only adapters learn, what is saved is read back, and merging changes nothing."""

from __future__ import annotations

import builtins
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.models.adapters import merge_adapters
from hybrid_retrieval.models.checkpoint import load_encoder
from hybrid_retrieval.models.encoder import BiEncoder
from hybrid_retrieval.models.kernels.dropout import Dropout
from hybrid_retrieval.models.published import PublishedModel
from hybrid_retrieval.training.module import BiEncoderModule
from tests.models.small_models import SENTENCES, byte_pairs, load, load_decoder, random_tokens, saved_and_read, write_decoder

pytest.importorskip("peft")
LORA = {"rank": 3, "alpha": 7.0, "dropout": 0.2}


@pytest.fixture(params=["encoder", "decoder"])
def directory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if request.param == "encoder":
        found: Path = request.getfixturevalue("xlmr_like")
        return found
    return write_decoder(tmp_path_factory.mktemp("qwen3"), "qwen3", byte_pairs())


def adapted(directory: Path, seed: int | None = 1, **values: Any) -> BiEncoder:
    """With adapters that do something, where there is a seed: a new adapter's second factor is 0."""
    torch.manual_seed(5)
    loader = load if "xlmr" in directory.name else load_decoder
    encoder = loader(directory, **{"lora": LORA, **values})
    if seed is not None:
        torch.manual_seed(seed)
        for name, parameter in encoder.named_parameters():
            if "lora_B" in name:
                nn.init.normal_(parameter, std=0.5)
    return encoder


def test_new_adapters_change_no_embedding(directory: Path) -> None:
    plain = adapted(directory, None, lora=None)
    np.testing.assert_array_equal(adapted(directory, None).encode(SENTENCES, "query"), plain.encode(SENTENCES, "query"))


def test_an_adapter_adds_the_scaled_product_of_its_factors(directory: Path) -> None:
    """Every linear layer of the stack, by its own weights in float64."""
    encoder = adapted(directory)
    layers = [part for part in encoder.backbone.modules() if hasattr(part, "lora_A")]
    plain = [part for part in adapted(directory, None, lora=None).backbone.modules() if isinstance(part, nn.Linear)]
    assert len(layers) == len(plain)
    for layer, base in zip(layers, plain, strict=True):
        values = torch.randn(5, base.in_features)
        weight = base.weight.double() + 7 / 3 * layer.lora_B.default.weight.double() @ layer.lora_A.default.weight.double()
        expected = values.double() @ weight.mT + (0 if base.bias is None else base.bias.double())
        torch.testing.assert_close(layer(values).double(), expected, rtol=1e-4, atol=1e-4)


def test_only_adapters_and_the_projection_learn(directory: Path) -> None:
    encoder = adapted(directory, projection=9).train()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    learning = {name for name, parameter in encoder.named_parameters() if parameter.requires_grad}
    assert {name for name in learning if "lora_" not in name} == {"projection.weight", "projection.bias"}
    optimizer = torch.optim.SGD([p for p in encoder.parameters() if p.requires_grad], lr=0.1)
    (encoder(random_tokens(0, [3, 9, 17])) * torch.randn(3, 9)).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in optimizer.param_groups[0]["params"])
    assert all(parameter.grad is None for parameter in encoder.parameters() if not parameter.requires_grad)
    optimizer.step()
    assert {name for name, value in encoder.state_dict().items() if not torch.equal(value, before[name])} == learning


def test_target_modules_choose_the_layers(directory: Path) -> None:
    names = ["query", "value"] if "xlmr" in directory.name else ["q_proj", "v_proj"]
    encoder = adapted(directory, lora={"rank": 2, "target_modules": names})
    with_adapters = {name.rpartition(".")[2] for name, part in encoder.named_modules() if hasattr(part, "lora_A")}
    assert with_adapters == set(names)
    with pytest.raises(InputError, match=r"model\.lora\.target_modules=\['nope'\]") as caught:
        adapted(directory, lora={"target_modules": ["nope"]})
    assert "\n" not in str(caught.value)


def test_a_saved_encoder_has_its_adapters_back(directory: Path, tmp_path: Path) -> None:
    encoder = adapted(directory, projection=9)
    again = saved_and_read(encoder, tmp_path)
    for role in ("query", "passage"):
        np.testing.assert_array_equal(again.encode(SENTENCES, role), encoder.encode(SENTENCES, role))


def test_merged_adapters_give_the_same_embeddings_by_plain_layers(directory: Path) -> None:
    encoder = adapted(directory)
    plain = adapted(directory, None, lora=None)
    expected = encoder.encode(SENTENCES, "query")
    assert np.abs(expected - plain.encode(SENTENCES, "query")).max() > 0.05
    merge_adapters(encoder)
    np.testing.assert_allclose(encoder.encode(SENTENCES, "query"), expected, rtol=0, atol=1e-5)
    assert encoder.state_dict().keys() == plain.state_dict().keys()
    assert not any("peft" in type(part).__module__ for part in encoder.modules())


def test_a_trained_encoder_is_scored_with_its_adapters_merged(directory: Path, tmp_path: Path) -> None:
    encoder = adapted(directory)
    (tmp_path / "checkpoints").mkdir()
    module = BiEncoderModule(encoder)
    content = {"state_dict": module.state_dict(), "hyper_parameters": dict(module.hparams)}
    torch.save(content, tmp_path / "checkpoints" / "best.ckpt")
    again = load_encoder(tmp_path, "best", accelerator="cpu")
    assert again.state_dict().keys() == adapted(directory, None, lora=None).state_dict().keys()
    np.testing.assert_allclose(again.encode(SENTENCES, "query"), encoder.encode(SENTENCES, "query"), rtol=0, atol=1e-5)


def test_frozen_weights_in_bfloat16_beside_adapters_in_float32(directory: Path, tmp_path: Path) -> None:
    exact, encoder = adapted(directory, projection=9), adapted(directory, projection=9, lora={**LORA, "frozen": "bfloat16"})
    found = encoder.encode(SENTENCES, "query")
    np.testing.assert_allclose(found, exact.encode(SENTENCES, "query"), rtol=0, atol=0.15)
    kinds = {name: parameter.dtype for name, parameter in encoder.named_parameters()}
    assert all((kind == torch.float32) == encoder.get_parameter(name).requires_grad for name, kind in kinds.items())
    encoder.train()(random_tokens(0, [3, 9, 17])).square().sum().backward()
    again = saved_and_read(encoder, tmp_path)
    np.testing.assert_array_equal(again.encode(SENTENCES, "query"), found)
    merge_adapters(again)
    np.testing.assert_array_equal(again.encode(SENTENCES, "query"), found)


def test_dropout_before_adapters_is_this_packages_and_a_function_of_the_seed(directory: Path) -> None:
    encoder = adapted(directory).train()
    parts = [part for name, part in encoder.named_modules() if "lora_dropout.default" in name]
    assert parts
    assert all(type(part) is Dropout and part.p == 0.2 for part in parts)
    tokens = random_tokens(0, [3, 9, 17])
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(encoder(tokens).detach())
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_without_peft_there_is_one_line_that_says_so(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.split(".")[0] == "peft":
            raise ModuleNotFoundError(name)
        return real(name, *rest, **more)

    for name in [name for name in sys.modules if name.split(".")[0] == "peft"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"model\.lora needs peft, which is not installed: pip install") as caught:
        adapted(directory)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("lora", "message"),
    [
        ({"rank": 0}, r"model\.lora\.rank=0"),
        ({"alpha": -1.0}, r"model\.lora\.alpha=-1"),
        ({"dropout": 2.0}, r"model\.lora\.dropout=2"),
        ({"frozen": "int4"}, r"model\.lora\.frozen='int4'"),
        ({"ranks": 4}, r"unknown config key model\.lora\.ranks"),
        ({"rank": "4"}, r"model\.lora\.rank='4' has the wrong type"),
    ],
)
def test_bad_settings_are_refused_by_name(lora: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        PublishedModel(PathsConfig(), "some/model", lora=lora)


def test_sparse_embeddings_beside_adapters_are_refused() -> None:
    with pytest.raises(InputError, match=r"model\.token_embeddings=sparse trains what model\.lora freezes"):
        PublishedModel(PathsConfig(), "some/model", lora={}, token_embeddings="sparse")
