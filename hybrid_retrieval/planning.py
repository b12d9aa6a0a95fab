"""The plan of a job: its work, its memory, what its devices exchange, and about how long it will take.

The encoder has shapes and no weights, so that one of any size is planned in little memory. torch's own counters give operations
and kept bytes of one text at three lengths; both are polynomials of its length, since linear layers take tokens one by one and
attention all pairs of them. Batches are those that the sampler will draw, some of them, over the whole run.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.benchmark import Timer
from torch.utils.flop_counter import FlopCounterMode

from hybrid_retrieval.config import JobConfig
from hybrid_retrieval.models import kernels
from hybrid_retrieval.models.encoder import Backbone
from hybrid_retrieval.models.transformer import TransformerBackbone
from hybrid_retrieval.training.datamodule import HybridDataModule
from hybrid_retrieval.training.engine import BLOCK_SCORES
from hybrid_retrieval.training.fit import assemble

Figures = npt.NDArray[np.float64]

HEADROOM = 0.9  # of a device's memory; the rest is for temporaries, libraries and gaps
SINGLE = 4  # bytes of a float32
SCORE_BYTES = 24  # of a similarity while its block is scored: itself, scaled, masked, two gradients, masks
COPIES = 4  # of all embeddings: gathered, in the order of the pairs, their gradients, and those in the order of the ranks
LENGTHS = (16, 32, 48)  # a polynomial of the second degree is known from its values at three places


@dataclass(frozen=True)
class Device:
    """Peak FLOP/s of dense products in float32 (without TF32) and in half precision; bytes; bytes a second from other devices.

    Training reaches the part `reached` of the peak: an assumption. Where they are `shared`, all devices of a machine are this
    one, and more processes do not make it faster.
    """

    name: str
    single: float
    half: float
    memory: float
    link: float
    reached: float = 0.4
    shared: bool = False


# As in the makers' data sheets; SXM forms where there are several.
CARDS: Mapping[str, Device] = {
    card.name: card
    for card in (
        Device("a100_40gb", 19.5e12, 312e12, 40e9, 300e9),
        Device("a100_80gb", 19.5e12, 312e12, 80e9, 300e9),
        Device("h100_80gb", 67e12, 989e12, 80e9, 450e9),
        Device("h200", 67e12, 989e12, 141e9, 450e9),
        Device("l4", 30.3e12, 121e12, 24e9, 25e9),
        Device("l40s", 91.6e12, 362e12, 48e9, 25e9),
        Device("rtx3090", 35.6e12, 71e12, 24e9, 25e9),
        Device("rtx4090", 82.6e12, 165e12, 24e9, 25e9),
    )
}


def this_machine() -> Device:
    """The processor of this machine, by multiplying, as training would, for some tenths of a second."""
    layer, values = nn.Linear(1024, 1024).requires_grad_(False), torch.ones(1024, 1024)
    kernels.install(layer)
    peaks = {}
    for name, kind in (("single", torch.float32), ("half", torch.bfloat16)):
        names = {"layer": layer.to(kind), "values": values.to(kind)}
        timer = Timer("layer(values)", globals=names, num_threads=torch.get_num_threads())
        peaks[name] = 2 * 1024**3 / min(timer.blocked_autorange(min_run_time=0.1).times)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    # Other work than products (dropout, norms) takes half of the time; what processes exchange passes through memory.
    return Device("cpu", **peaks, memory=memory, link=10e9, reached=0.5, shared=True)


def encoding_cost(backbone: Backbone, precision: str, gpu: bool) -> Figures:
    """Float64 [3, 3]: the cost of a text of L tokens, as coefficients of 1, L and L^2.

    The columns are operations forward, operations back, and bytes kept for the backward pass, where the coefficient of 1 counts
    once, however many texts there are. The backbone is on the meta device, and of no use afterwards.

    Args:
        precision: ``trainer.precision``.
        gpu: whether the kernels are a GPU's.
    """
    if not isinstance(backbone, TransformerBackbone):  # a table multiplies nothing: one addition a value in each pass
        return np.array([[0, 0, 0], [backbone.dimensions, backbone.dimensions, 0], [0, 0, 0]], np.float64)
    model: Any = backbone.model
    kernels.remove(model)
    model.set_attn_implementation("eager")
    with FakeTensorMode(allow_non_fake_inputs=True):
        model.to_empty(device="cpu").train()
        for part in model.modules():
            if gpu and isinstance(part, nn.LayerNorm):  # autocast takes it to float32 on a GPU only
                part.register_forward_pre_hook(lambda _, values: (values[0].float(), *values[1:]))
        measured = np.array([_measured(model, length, precision) for length in LENGTHS])
    costs: Figures = np.linalg.solve(np.vander(np.array(LENGTHS, np.float64), 3, increasing=True), measured)
    dropout = any(getattr(model.config, name, 0) for name in ("attention_probs_dropout_prob", "attention_dropout"))
    if gpu or not dropout:  # a fused kernel multiplies the scores once more in the backward pass, and keeps none
        costs[2] = costs[2, 0], costs[2, 1] + costs[2, 0] / 2, 0
    else:  # ours keeps them, and a byte for each
        scores = model.config.num_hidden_layers * model.config.num_attention_heads
        costs[2, 2] = min(costs[2, 2], scores * (1 + (SINGLE if precision == "32-true" else 2)))
    return costs


def _measured(model: Any, length: int, precision: str) -> tuple[float, float, float]:
    """Operations forward and back, and bytes kept, of one text."""
    table = model.get_input_embeddings().weight
    states = torch.empty(1, length, table.shape[1], requires_grad=table.requires_grad)
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor.untyped_storage().nbytes()
        return tensor

    cast = contextlib.nullcontext() if precision == "32-true" else torch.autocast("cpu", torch.bfloat16)
    hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    with hooks, FlopCounterMode(display=False) as forward, cast:
        out = model(inputs_embeds=states).last_hidden_state
    with FlopCounterMode(display=False) as backward:
        out.float().sum().backward()
    for parameter in model.parameters():
        kept.pop(parameter.untyped_storage()._cdata, None)
    return forward.get_total_flops(), backward.get_total_flops(), sum(kept.values())


class Load(NamedTuple):
    """The cost of one global batch, but for the products of the loss."""

    query_tokens: float
    passage_tokens: float
    encoded_tokens: float  # with padding
    flops: float  # of the slowest device
    all_flops: float
    texts: float
    most_texts: float  # that a device encodes
    activations: float  # bytes on the fullest device
    rows: float  # of the token table that are looked up


@dataclass(frozen=True)
class Plan:
    """Figures of a job by the columns of two tables, and what to change where it does not fit the device."""

    device: Device
    work: Mapping[str, float]
    memory: Mapping[str, float]
    advice: str


def plan_job(job: JobConfig, device: Device, sample: int) -> Plan:
    """The plan of a job on `device`, from so many global batches of its run.

    Raises:
        InputError: anything about the job that cannot work.
    """
    model = {**job.model, **{key: False for key in ("compile",) if key in job.model}}
    parts = assemble(replace(job, model=model), empty=True)
    encoder, data = parts.module.encoder, parts.data
    data.setup()
    steps, ranks, cached = job.trainer["max_steps"], job.world_size, job.training.grad_cache
    batches = steps * job.trainer.get("accumulate_grad_batches", 1)
    precision = job.trainer.get("precision") or ("32-true" if device.shared else "bf16-mixed")
    weights = [(one.numel(), one.requires_grad, one.element_size()) for one in encoder.parameters()]
    trained = sum(size for size, requires_grad, _ in weights if requires_grad)
    table = encoder.backbone.table
    by_row = table.weight.requires_grad and isinstance(table, kernels.RowSparseEmbedding)

    costs = encoding_cost(encoder.backbone, precision, gpu=not device.shared)
    padded = data.chunk_tokens > 0 and (device.shared or precision == "32-true")
    numbers = np.unique(np.linspace(0, batches - 1, min(sample, batches)).astype(np.int64)).tolist()
    drawn = np.array([_load(data, number, ranks, costs, padded, cached) for number in numbers])
    load = Load(*drawn[:, :6].mean(0).tolist(), *drawn[:, 6:].max(0).tolist())
    pairs = data.sampler.batch_size
    scores = pairs * (load.texts - pairs)
    of_scores = 6 * scores * encoder.dimensions
    dense = trained - table.weight.numel() * by_row
    with_gradient = dense + load.rows * table.embedding_dim * by_row
    memory = {
        "weights": sum(size * width for size, _, width in weights),
        "gradients": SINGLE * with_gradient * min(ranks, 2),  # they travel in buckets, copied together
        "optimizer": 2 * SINGLE * trained,
        "activations": load.activations,
        "scores": SCORE_BYTES * min(BLOCK_SCORES, scores / ranks) + COPIES * SINGLE * load.texts * encoder.dimensions,
    }
    # Into a device, for a batch: embeddings are gathered, and their gradients summed; for a step: the parameters' (in rings).
    rings = 2 * (ranks - 1) / ranks
    of_batch = SINGLE * encoder.dimensions * ((ranks - 1) * load.most_texts + rings * load.texts)
    of_step = SINGLE * ((ranks - 1) * (with_gradient - dense) + rings * dense)
    speed = (device.single if precision == "32-true" else device.half) * device.reached
    received = batches * of_batch + steps * of_step
    turns = ranks if device.shared else 1  # which processes of one device take
    seconds = batches * turns * (load.flops + of_scores / ranks) / speed + received / device.link
    work = {
        "Query tokens": load.query_tokens,
        "Passage tokens": load.passage_tokens,
        "Padding %": 100 * (1 - (load.query_tokens + load.passage_tokens) / load.encoded_tokens),
        "Steps": steps,
        "Passes": batches * pairs / sum(len(one.pairs.split_edges("train")) for one in data.collate.sets),
        "GFLOP a batch": (load.all_flops + of_scores) / 1e9,
        "PFLOP in all": (load.all_flops + of_scores) * batches / 1e15,
        "Gradient syncs": steps if ranks > 1 else 0,
        "GB received": received / 1e9,
        "Hours about": seconds / 3600,
    }
    sizes = {**memory, "total": sum(memory.values()), "device": device.memory}
    shown = {"Parameters M": sum(size for size, *_ in weights) / 1e6, "Trained M": trained / 1e6}
    shown |= {f"{name.capitalize()} GiB": size / 2**30 for name, size in sizes.items()}
    return Plan(device, work, shown, _advice(memory, device, cached))


def _load(data: HybridDataModule, number: int, ranks: int, costs: Figures, padded: bool, cached: bool) -> Load:
    """The load of a global batch, from what each rank sees of it."""
    pairs = data.train_batches.batch(number)
    seen = [data.collate(number, pairs, rank, ranks, data.augmentation) for rank in range(ranks)]
    lengths = [[np.diff(chunk.tokens.offsets.numpy()) for chunk in one.chunks] for one in seen]
    work = [np.array([_powers(chunk, padded) for chunk in mine]).reshape(-1, 3) for mine in lengths]  # of a rank: [chunks, 3]
    forward, backward, kept = np.array([(mine @ costs).sum(0) for mine in work]).T  # [ranks] each
    if cached:  # every chunk once more, and the activations of one at a time
        forward, kept = 2 * forward, np.array([(mine @ costs)[:, 2].max(initial=0) for mine in work])
    of_text = np.concatenate([chunk for mine in lengths for chunk in mine])[seen[0].places.numpy()]
    ids = np.concatenate([chunk.tokens.ids.numpy() for one in seen for chunk in one.chunks])
    of_passages = of_text[len(pairs) : len(pairs) + len(seen[0].of_passages.group)].sum()
    return Load(
        query_tokens=of_text.sum() - of_passages,
        passage_tokens=of_passages,
        encoded_tokens=sum(mine[:, 1].sum() for mine in work),
        flops=(forward + backward).max(),
        all_flops=(forward + backward).sum(),
        texts=len(of_text),
        most_texts=max(seen[0].counts),
        activations=costs[0, 2] + kept.max(),
        rows=len(np.unique(ids)),
    )


def _powers(lengths: npt.NDArray[np.int64], padded: bool) -> tuple[float, float, float]:
    """0, tokens, and the sum of squares of the lengths of a chunk; padded texts are as long as the longest."""
    encoded = np.full(len(lengths), lengths.max() if padded else lengths, np.float64)
    return 0.0, encoded.sum(), (encoded**2).sum()


def _advice(memory: Mapping[str, float], device: Device, cached: bool) -> str:
    """Changes that would make a plan fit, where the device has not the memory with headroom; else nothing."""
    total, room = sum(memory.values()), HEADROOM * device.memory
    if total <= room:
        return ""
    change = "a smaller sampler.batch_size"
    if memory["activations"] > memory["scores"]:
        change = "a smaller training.chunk_tokens" if cached else f"training.grad_cache=true, or {change}"
    if total - memory["activations"] - memory["scores"] > room:
        change = "a smaller model, or one with fewer trained parameters"
    return f"{total / 2**30:.1f} GiB do not fit {device.memory / 2**30:.1f} GiB of {device.name}: choose {change}"
