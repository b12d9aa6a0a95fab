"""A plan against what training really does: operations, kept bytes, tokens, memory of weights; and the command."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedConfig, Qwen3Config, Qwen3Model, XLMRobertaConfig, XLMRobertaModel

from hybrid_retrieval.config import JobConfig, config_directory
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.models import kernels
from hybrid_retrieval.models.encoder import Tokens
from hybrid_retrieval.models.transformer import TransformerBackbone, TransformerOptions
from hybrid_retrieval.plan import PlanConfig, labels
from hybrid_retrieval.planning import CARDS, encoding_cost, plan_job, this_machine
from hybrid_retrieval.training.datamodule import GlobalBatches
from hybrid_retrieval.training.fit import prepare
from tests.conftest import Command

SHAPE = {"vocab_size": 500, "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4}
ENCODER = XLMRobertaConfig(**SHAPE, intermediate_size=256, max_position_embeddings=200)
DECODER = Qwen3Config(**SHAPE, num_key_value_heads=2, head_dim=16, intermediate_size=192)
CARD = CARDS["h100_80gb"]
TRANSFORMER = ["model=tiny", "model.hidden=32", "model.layers=2", "model.heads=2", "model.vocabulary=800"]

Compose = Callable[..., JobConfig]


def backbone(config: PreTrainedConfig, where: str = "meta", **options: Any) -> TransformerBackbone:
    """As an encoder has it, but for products that the counter does not know."""
    with torch.device(where):
        model = XLMRobertaModel(config, add_pooling_layer=False) if config is ENCODER else Qwen3Model(config)
        made = TransformerBackbone(model, 1, TransformerOptions(**options)).train()
    kernels.install(made, made.table, "default")
    return made


@contextlib.contextmanager
def kept_by_autograd(model: nn.Module) -> Iterator[list[int]]:
    """The bytes that autograd keeps within the block: the oracle of a plan's activations."""
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    alive: dict[int, torch.Tensor] = {}
    total: list[int] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            alive[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield total
    total.append(sum(tensor.untyped_storage().nbytes() for tensor in alive.values()))


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("config", [ENCODER, DECODER], ids=["encoder with dropout", "decoder without"])
def test_operations_and_kept_bytes_are_those_of_a_real_pass(config: PreTrainedConfig, precision: str) -> None:
    texts, length = 5, 80
    real = backbone(config, "cpu")
    cast = torch.autocast("cpu", torch.bfloat16) if precision == "bf16-mixed" else contextlib.nullcontext()
    tokens = Tokens(torch.randint(5, 100, (texts * length,)), torch.arange(texts + 1) * length, length)
    with kept_by_autograd(real) as kept, FlopCounterMode(display=False) as forward, cast:
        states = real(tokens)
    with FlopCounterMode(display=False) as backward:
        states.float().sum().backward()
    planned = np.array([1, texts * length, texts * length**2]) @ encoding_cost(backbone(config), precision, gpu=False)
    # The counter does not know the fused attention of a CPU, which is used without dropout: 2 + 5 products of 2 L^2 width.
    unseen = 0 if config is ENCODER else SHAPE["num_hidden_layers"] * texts * length**2 * 2 * 64
    assert planned[0] == pytest.approx(forward.get_total_flops() + 2 * unseen)
    assert planned[1] == pytest.approx(backward.get_total_flops() + 5 * unseen)
    assert planned[2] == pytest.approx(kept[0], rel=0.1)


def test_frozen_weights_cost_no_gradient_and_checkpointing_trades_memory_for_a_second_pass() -> None:
    whole = encoding_cost(backbone(DECODER), "32-true", gpu=True)
    frozen = backbone(DECODER)
    frozen.requires_grad_(False)
    frozen.table.weight.requires_grad_(True)
    half = encoding_cost(frozen, "32-true", gpu=True)
    np.testing.assert_allclose(half[:, 0], whole[:, 0])
    assert half[1, 1] == pytest.approx(whole[1, 1] / 2)
    less = encoding_cost(backbone(DECODER, gradient_checkpointing=True), "32-true", gpu=True)
    assert less[1, 1] == pytest.approx(whole[1, 1] + whole[1, 0], rel=0.1)  # it ends where nothing more is needed
    assert less[1, 2] < whole[1, 2] / 2


def test_a_step_has_the_tokens_and_the_padding_of_the_batches_that_training_draws(job: Compose) -> None:
    made = job(*TRANSFORMER, "trainer.max_steps=6", "training.chunk_tokens=200", "trainer.precision=32-true")
    plan = plan_job(made, CARD, sample=6)
    prepared = prepare(made)
    drawn = GlobalBatches(prepared.data.collate, prepared.data.train_batches, 6)
    tokens = [chunk.tokens for number in range(6) for chunk in drawn[number].chunks]
    counted, padded = sum(len(one.ids) for one in tokens), sum(len(one) * one.longest for one in tokens)
    assert plan.work["Query tokens"] + plan.work["Passage tokens"] == pytest.approx(counted / 6)
    assert plan.work["Padding %"] == pytest.approx(100 * (1 - counted / padded))
    assert 0 < plan.work["Query tokens"] < plan.work["Passage tokens"]
    size = sum(parameter.numel() for parameter in prepared.module.encoder.parameters())
    assert plan.memory["Parameters M"] == plan.memory["Trained M"] == size / 1e6
    assert plan.memory["Weights GiB"] == 4 * size / 2**30 == plan.memory["Optimizer GiB"] / 2
    assert plan.work["Passes"] == pytest.approx(6 * 16 / len(prepared.source.sets()[0].split_edges("train")))


@pytest.mark.parametrize("cached", [False, True])
def test_memory_and_operations_of_a_step_are_those_of_the_engine(job: Compose, cached: bool) -> None:
    settings = [*TRANSFORMER, "trainer.max_steps=1", "training.chunk_tokens=200", "sampler.batch_size=32"]
    made = job(*settings, f"training.grad_cache={str(cached).lower()}")
    plan = plan_job(made, replace(CARD, shared=True), sample=1)
    prepared = prepare(made)
    module = prepared.module.train()
    kernels.install(module.encoder, module.encoder.backbone.table, "default")
    batch = GlobalBatches(prepared.data.collate, prepared.data.train_batches, 1)[0]
    with FlopCounterMode(display=False) as counter:
        module.engine.step(batch)
    assert plan.work["GFLOP a batch"] == pytest.approx(counter.get_total_flops() / 1e9, rel=0.02)
    each = []
    for chunk in batch.chunks:
        with kept_by_autograd(module.encoder) as kept:
            states = module.encoder(chunk.tokens)
        assert states.requires_grad
        each += kept
    assert plan.memory["Activations GiB"] == pytest.approx((max(each) if cached else sum(each)) / 2**30, rel=0.1)


def test_devices_share_the_work_and_synchronise_once_a_step(job: Compose) -> None:
    one, four = (
        plan_job(job(*TRANSFORMER, "training.chunk_tokens=100", f"trainer.devices={devices}"), CARD, 4) for devices in (1, 4)
    )
    assert (one.work["Gradient syncs"], four.work["Gradient syncs"]) == (0, 12)
    assert one.work["GB received"] == 0
    assert four.work["GB received"] > 0
    assert four.work["GFLOP a batch"] == pytest.approx(one.work["GFLOP a batch"])
    assert four.memory["Activations GiB"] < one.memory["Activations GiB"] / 2


def test_a_static_model_moves_its_rows_only(job: Compose) -> None:
    plan = plan_job(job(), CARD, 4)
    assert plan.work["Padding %"] == 0
    assert plan.memory["Gradients GiB"] < plan.memory["Weights GiB"] / 2
    assert plan.memory["Activations GiB"] == 0


def test_what_does_not_fit_names_what_to_change(job: Compose) -> None:
    made, small = job(*TRANSFORMER), replace(CARD, memory=1e6)
    assert not plan_job(made, CARD, 2).advice
    assert "training.grad_cache=true" in plan_job(job(*TRANSFORMER, "sampler.batch_size=200"), small, 2).advice
    assert "model" in plan_job(job(*TRANSFORMER, "training.grad_cache=true"), replace(CARD, memory=2e5), 2).advice


def test_this_machine_is_known_by_trying() -> None:
    here = this_machine()
    assert 1e9 < here.single < 1e14
    assert here.memory > 1e9


def test_labels_tell_jobs_apart() -> None:
    assert labels([("seed=1", "model=tiny", "a=0"), ("seed=1", "model=static", "a=0")]) == ["model=tiny", "model=static"]
    assert labels([("seed=1",)]) == ["the job"]


@pytest.mark.slow
def test_the_command_plans_a_sweep_and_writes_nothing(command: Command, tmp_path: Path) -> None:
    small = ["dataset=synthetic", "dataset.items=300", "benchmark=held_out", "sampler.batch_size=16", "trainer.max_steps=12"]
    done = command(
        "plan", "-m", *small, "model=static,tiny", "model.vocabulary=800", "plan.device=h200", "hydra/launcher=slurm"
    )
    assert done.returncode == 0, done.stderr
    assert "total of 2 jobs" in done.stdout
    assert "h200:" in done.stdout
    assert not list(tmp_path.iterdir())


def test_bad_settings_of_a_plan_are_one_line(command: Command) -> None:
    done = command("plan", "plan.device=h100_80")
    assert (done.returncode, done.stdout) == (2, "")
    assert "plan.device='h100_80' is unknown; did you mean 'h100_80gb'?" in done.stderr
    with pytest.raises(InputError, match=r"plan\.share=1\.5"):
        PlanConfig(share=1.5)


def test_a_published_model_is_planned_from_its_config_and_tokenizer_alone(job: Compose, tmp_path: Path) -> None:
    made = job()
    prepare(made).module.encoder.tokenizer.save(str(tmp_path / "tokenizer.json"))
    XLMRobertaConfig(vocab_size=250_002, hidden_size=4096, num_hidden_layers=2, num_attention_heads=32).save_pretrained(
        tmp_path
    )
    with hydra.initialize_config_dir(str(config_directory()), version_base="1.3"):
        model = hydra.compose("model/xlmr", [f"model.path={tmp_path}"]).model
    made = replace(made, model=OmegaConf.to_container(model))
    assert plan_job(made, CARD, 2).memory["Parameters M"] > 1e3
    (tmp_path / "config.json").unlink()
    with pytest.raises(InputError, match=r"config\.json"):
        plan_job(made, CARD, 2)
