"""A plan against what training really does: operations, kept bytes, tokens, memory of weights; and the command."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hybrid_retrieval.training.batches import StepBatches
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedConfig, Qwen3Config, Qwen3Model, XLMRobertaConfig, XLMRobertaModel

from hybrid_retrieval.config import JobConfig, config_directory
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.models import kernels
from hybrid_retrieval.models.encoder import Tokens
from hybrid_retrieval.models.transformer import TransformerBackbone
from hybrid_retrieval.plan import labels
from hybrid_retrieval.planning.cost import chunk_cost
from hybrid_retrieval.planning.devices import CARDS, device, this_machine
from hybrid_retrieval.planning.job import plan_job
from hybrid_retrieval.training import fit
from tests.command_output import assert_one_line
from tests.conftest import Command

SHAPE = {"vocab_size": 500, "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4}
ENCODER = XLMRobertaConfig(**SHAPE, intermediate_size=256, max_position_embeddings=200)
DECODER = Qwen3Config(**SHAPE, num_key_value_heads=2, head_dim=16, intermediate_size=192)
CARD = CARDS["h100_80gb"]
TRANSFORMER = ["model=tiny", "model.hidden=32", "model.layers=2", "model.heads=2", "model.vocabulary=800"]

Compose = Callable[..., JobConfig]


def backbone(config: PreTrainedConfig, where: str = "cpu") -> TransformerBackbone:
    with torch.device(where):
        model = XLMRobertaModel(config, add_pooling_layer=False) if config is ENCODER else Qwen3Model(config)
        made = TransformerBackbone(model, 1).train()
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
    real = backbone(config)
    cast = torch.autocast("cpu", torch.bfloat16) if precision == "bf16-mixed" else contextlib.nullcontext()
    tokens = Tokens(torch.randint(5, 100, (texts * length,)), torch.arange(texts + 1) * length, length)
    with kept_by_autograd(real) as kept, FlopCounterMode(display=False) as forward, cast:
        states = real(tokens)
    with FlopCounterMode(display=False) as backward:
        states.float().sum().backward()
    cost = chunk_cost(backbone(config, "meta"), precision, gpu=False)
    counted, pairs = texts * length, texts * length**2
    # The counter does not know the fused attention of a CPU, which is used without dropout: 2 + 5 products of 2 L^2 width.
    unseen = 0 if config is ENCODER else SHAPE["num_hidden_layers"] * pairs * 2 * 64
    assert cost.forward.of(counted, pairs) == pytest.approx(forward.get_total_flops() + 2 * unseen)
    assert cost.backward.of(counted, pairs) == pytest.approx(backward.get_total_flops() + 5 * unseen)
    assert cost.kept.fixed + cost.kept.of(counted, pairs) == pytest.approx(kept[0], rel=0.1)


def test_frozen_weights_cost_no_gradient_and_checkpointing_trades_memory_for_a_second_pass() -> None:
    whole = chunk_cost(backbone(DECODER, "meta"), "32-true", gpu=True)
    frozen = backbone(DECODER, "meta")
    for parameter in frozen.parameters():
        parameter.requires_grad_(False)
    frozen.model.get_input_embeddings().weight.requires_grad_(True)
    half = chunk_cost(frozen, "32-true", gpu=True)
    assert half.forward == whole.forward
    assert half.backward.token == pytest.approx(whole.backward.token / 2)
    saving = backbone(DECODER, "meta")
    saving.model.activation_checkpointing_enable()
    less = chunk_cost(saving, "32-true", gpu=True)
    assert less.backward.token == pytest.approx(whole.backward.token + whole.forward.token)
    assert less.kept.token < whole.kept.token / 2


def test_a_step_has_the_tokens_and_the_padding_of_the_batches_that_training_draws(job: Compose) -> None:
    made = job(*TRANSFORMER, "trainer.max_steps=6", "trainer.chunk_tokens=200")
    plan = plan_job(made, CARD, sample=6)
    prepared = fit.prepare(made)
    drawn = StepBatches(prepared.data.builder, prepared.data.train_composer, 6)
    batches = [drawn[number] for number in range(6)]
    assert plan.batch.query_tokens + plan.batch.passage_tokens == pytest.approx(np.mean([batch.tokens for batch in batches]))
    assert plan.batch.encoded_tokens == pytest.approx(np.mean([batch.padded_tokens for batch in batches]))
    assert 0 < plan.batch.query_tokens < plan.batch.passage_tokens
    parameters = list(prepared.module.encoder.parameters())
    assert plan.weights.total == plan.weights.trainable == sum(parameter.numel() for parameter in parameters)
    assert plan.memory.weights == 4 * plan.weights.total
    assert plan.memory.optimizer == 8 * plan.weights.total
    assert plan.passes == pytest.approx(6 * 16 / len(prepared.source.sets()[0].pairs.split_edges("train")))


@pytest.mark.parametrize("cached", [False, True])
def test_memory_and_operations_of_a_step_are_those_of_the_engine(job: Compose, cached: bool) -> None:
    settings = [*TRANSFORMER, "trainer.max_steps=1", "trainer.chunk_tokens=200", "sampler.batch_size=32"]
    made = job(*settings, f"trainer.grad_cache={str(cached).lower()}")
    plan = plan_job(made, replace(CARD, shared=True), sample=1)
    prepared = fit.prepare(made)
    module = prepared.module
    batch = StepBatches(prepared.data.builder, prepared.data.train_composer, 1)[0]
    module.encoder.train()
    with FlopCounterMode(display=False) as counter:
        module.engine.step(batch)
    assert plan.batch.all_flops == pytest.approx(counter.get_total_flops(), rel=0.02)
    each = []
    for chunk in batch.chunks:
        with kept_by_autograd(module.encoder) as kept:
            states = module.encoder(chunk.tokens)
        assert states.requires_grad
        each += kept
    assert plan.batch.activations == pytest.approx(max(each) if cached else sum(each), rel=0.1)


def test_devices_share_the_work_and_synchronise_once_a_step(job: Compose) -> None:
    one, four = (
        plan_job(job(*TRANSFORMER, "trainer.chunk_tokens=100", f"trainer.devices={devices}"), CARD, 4) for devices in (1, 4)
    )
    assert (one.synchronisations, four.synchronisations) == (0, 12)
    assert one.sent == 0
    dense = four.weights.trainable - four.weights.table
    assert four.sent / 12 > 4 * 2 * 3 / 4 * dense
    assert four.batch.all_flops == pytest.approx(one.batch.all_flops)
    assert one.batch.flops / 4 <= four.batch.flops < one.batch.flops / 2
    assert four.batch.activations < one.batch.activations / 2


def test_a_static_model_moves_its_rows_only(job: Compose) -> None:
    plan = plan_job(job(), CARD, 4)
    assert plan.padding == 0
    assert plan.memory.gradients < plan.memory.weights / 2
    assert plan.memory.activations == 0


def test_what_does_not_fit_names_what_to_change(job: Compose) -> None:
    small = replace(CARD, memory=1e6)
    made = job(*TRANSFORMER)
    assert "trainer.grad_cache=true" in plan_job(made, replace(CARD, memory=3e6), 2).advice
    assert "model" in plan_job(made, replace(small, memory=1e5), 2).advice
    assert not plan_job(made, small, 2).fits
    assert plan_job(made, CARD, 2).fits
    cached = job(*TRANSFORMER, "trainer.grad_cache=true")
    assert plan_job(cached, small, 2).memory.activations <= plan_job(made, small, 2).memory.activations


def test_devices_are_known_by_name_and_this_machine_by_trying() -> None:
    assert device("a100_80gb", 0.5).speed("bf16-mixed") == 156e12
    here = this_machine()
    assert 1e9 < here.single < 1e14
    assert here.memory > 1e9
    with pytest.raises(InputError, match="did you mean 'h100_80gb'"):
        device("h100_80")
    with pytest.raises(InputError, match=r"plan\.share"):
        device("h200", 1.5)


def test_labels_tell_jobs_apart() -> None:
    assert labels([("seed=1", "model=tiny", "a=0"), ("seed=1", "model=static", "a=0")]) == ["model=tiny", "model=static"]
    assert labels([("seed=1",)]) == ["the job"]


def test_the_command_plans_a_sweep_and_writes_nothing(command: Command, tmp_path: Path) -> None:
    small = ["dataset=synthetic", "dataset.items=300", "benchmark=held_out", "sampler.batch_size=16", "trainer.max_steps=12"]
    done = command(
        "plan", "-m", *small, "model=static,tiny", "model.vocabulary=800", "plan.device=h200", "hydra/launcher=slurm"
    )
    assert done.returncode == 0, done.stderr
    assert "total of 2 jobs" in done.stdout
    assert "h200:" in done.stdout
    assert not list(tmp_path.iterdir())
    done = command("plan", *small, "model=static", "plan.device=abacus")
    assert_one_line(done, "plan.device='abacus'")


def test_a_published_model_is_planned_from_its_config_and_tokenizer_alone(job: Compose, tmp_path: Path) -> None:
    made = job()
    source = fit.prepare(made)
    source.module.encoder.tokenizer.save(str(tmp_path / "tokenizer.json"))
    XLMRobertaConfig(vocab_size=250_002, hidden_size=4096, num_hidden_layers=2, num_attention_heads=32).save_pretrained(
        tmp_path
    )
    model = yaml.safe_load((config_directory() / "model" / "xlmr.yaml").read_text()) | {"path": str(tmp_path)}
    plan = plan_job(replace(made, model=model), CARD, 2)
    assert plan.weights.total > 1e9
    (tmp_path / "config.json").unlink()
    with pytest.raises(InputError, match=r"config\.json"):
        plan_job(replace(made, model=model), CARD, 2)
