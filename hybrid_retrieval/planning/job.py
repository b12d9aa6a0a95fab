"""The plan of one job: its work, its memory, what its devices tell each other, and how long it will take.

Batches are those that the sampler will draw: steps over the whole run are taken as a sample. Sizes of tensors that live
through a step, operations and bytes sent follow from them. Times are estimates.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import lightning
import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from hybrid_retrieval.config import JobConfig, build
from hybrid_retrieval.data.source import Source
from hybrid_retrieval.losses.loss import Loss
from hybrid_retrieval.models.chunks import shares
from hybrid_retrieval.models.encoder import BiEncoder, Model
from hybrid_retrieval.models.kernels import RowSparseEmbedding
from hybrid_retrieval.models.transformer import TransformerBackbone
from hybrid_retrieval.planning.cost import ChunkCost, Polynomial, chunk_cost
from hybrid_retrieval.planning.devices import Device
from hybrid_retrieval.sampling.sampler import Sampler
from hybrid_retrieval.training.batches import PairBatch
from hybrid_retrieval.training.contrast import BLOCK_SCORES
from hybrid_retrieval.training.datamodule import PairsDataModule
from hybrid_retrieval.training.fit import check_devices, data_module
from hybrid_retrieval.training.training_text import SourceText

HEADROOM = 0.9
"""Of a device's memory, that a plan may fill: the rest is for temporaries, libraries and gaps."""
SINGLE = 4
"""Bytes of a float32."""
SCORE_BYTES = 24
"""Of one similarity while its block is scored: five float32 (itself, scaled, masked, two gradients) and masks."""
COPIES = 4
"""Of all embeddings: gathered, in the order of the pairs, their gradients, and those in the order of the ranks."""
UPDATE_PASSES = 9
"""Passes over a trained value in an update: clipping two; AdamW reads four arrays and writes three."""
LOOKUP_PASSES = 3
"""Passes over the vectors of a batch's tokens: read, and their gradients gathered and written."""

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Parts:
    """What of a job is built to plan it: the encoder has shapes and no weights."""

    encoder: BiEncoder
    loss: Loss
    data: PairsDataModule


@dataclass(frozen=True)
class Weights:
    """How many values a model has.

    Attributes:
        bytes: of all of them.
        table: of them in a trained table with row-sparse gradients.
        width: of that table.
        lazy: whether only the rows of a step are updated, too.
    """

    total: int
    trainable: int
    bytes: int
    table: int = 0
    width: int = 0
    lazy: bool = False

    @classmethod
    def of(cls, encoder: BiEncoder) -> Weights:
        """The counts of an encoder."""
        sizes = [(parameter.numel(), parameter.requires_grad) for parameter in encoder.parameters()]
        total, trainable = sum(size for size, _ in sizes), sum(size for size, trained in sizes if trained)
        stored = sum(parameter.numel() * parameter.element_size() for parameter in encoder.parameters())
        for part in encoder.modules():
            if not isinstance(part, nn.Embedding) or not part.weight.requires_grad:
                continue
            if part.sparse or isinstance(part, RowSparseEmbedding):
                lazy = part.sparse or bool(getattr(part, "lazy", False))
                return cls(total, trainable, stored, part.weight.numel(), part.weight.shape[1], lazy)
        return cls(total, trainable, stored)

    def with_gradient(self, rows: float) -> float:
        """Values that have a gradient when `rows` of the table do."""
        return self.trainable - self.table + rows * self.width

    def updated(self, rows: float) -> float:
        """Values that an update writes."""
        return self.with_gradient(rows) if self.lazy else self.trainable


@dataclass(frozen=True)
class Batch:
    """What one global batch takes; memory and operations are those of the device that has most.

    Attributes:
        query_tokens, passage_tokens: of the global batch, without padding.
        encoded_tokens: of the global batch, as they are encoded.
        flops: of the slowest device.
        all_flops: of all devices.
        activations: bytes kept for the way back.
        rows: table rows with a gradient, for row-sparse tables.
        texts: that are encoded, of the global batch.
        largest_share: texts of the device that has most.
    """

    query_tokens: float
    passage_tokens: float
    encoded_tokens: float
    flops: float
    all_flops: float
    activations: float
    rows: float
    texts: float
    largest_share: float


@dataclass(frozen=True)
class Memory:
    """Bytes on one device."""

    weights: float
    gradients: float
    optimizer: float
    activations: float
    scores: float

    @property
    def total(self) -> float:
        """All of it at once, as it is when the way back starts."""
        return float(sum(getattr(self, field.name) for field in fields(self)))


@dataclass(frozen=True)
class JobPlan:
    """What a job will take; `batches` global ones, and `sent` bytes into each device, over the run."""

    steps: int
    batches: int
    passes: float
    batch: Batch
    weights: Weights
    memory: Memory
    synchronisations: int
    sent: float
    seconds: float
    device: Device
    grad_cache: bool

    @property
    def padding(self) -> float:
        """Share of what is encoded that is padding."""
        return 1 - (self.batch.query_tokens + self.batch.passage_tokens) / max(self.batch.encoded_tokens, 1)

    @property
    def fits(self) -> bool:
        """Whether the device has the memory, with headroom."""
        return self.memory.total <= HEADROOM * self.device.memory

    @property
    def advice(self) -> str:
        """Where it does not fit: what could be changed."""
        keys = ["sampler.batch_size (smaller)"]
        if self.memory.activations > self.memory.total / 4:
            chunk = "trainer.chunk_tokens (smaller)" if self.grad_cache else "trainer.grad_cache=true"
            keys = [chunk, *keys]
        if self.memory.weights + self.memory.gradients + self.memory.optimizer > HEADROOM * self.device.memory:
            keys = ["model (smaller, or fewer trained parameters)"]
        return f"{gib(self.memory.total)} do not fit {gib(self.device.memory)} of {self.device.name}; change " + " or ".join(
            keys
        )


def gib(size: float) -> str:
    """Bytes as a reader would say them."""
    return f"{size / 2**30:.1f} GiB"


def assemble(job: JobConfig) -> Parts:
    """Build what `hybrid_retrieval.training.fit.prepare` builds, but for weights.

    Raises:
        InputError: anything about the job that cannot work.
    """
    # The devices of the plan are not this machine's.
    check_devices(replace(job, trainer=replace(job.trainer, accelerator="cpu", precision="32-true")))
    source: Source = build(job.dataset, "dataset", paths=job.paths)
    sampler: Sampler = build(job.sampler, "sampler")
    model: Model = build({**job.model, **{key: False for key in ("compile",) if key in job.model}}, "model", paths=job.paths)
    loss: Loss = build(job.loss, "loss")
    build(job.optimizer, "optimizer")
    lightning.seed_everything(job.seed, verbose=False)
    tokenizer = model.tokenizer(SourceText(source))
    with torch.device("meta"):
        encoder = model.build(tokenizer)
    return Parts(encoder, loss, data_module(job, source, sampler, encoder, loss))


def plan_job(job: JobConfig, device: Device, sample: int) -> JobPlan:
    """The plan of a job on `device`, from so many global batches of its run as a sample.

    Raises:
        InputError: anything about the job that cannot work.
    """
    parts = assemble(job)
    ranks, steps = job.trainer.world_size, job.trainer.max_steps
    batches = steps * job.trainer.accumulate
    weights = Weights.of(parts.encoder)
    costs = _costs(parts.encoder, job.trainer.precision, device)
    sampled = np.unique(np.linspace(0, batches - 1, min(sample, batches)).astype(np.int64))
    batch = _mean([_batch(parts, costs, int(number), job, device) for number in sampled])
    sent = _sent(batch, weights, parts.encoder.dimensions, ranks)
    seconds = _seconds(parts, job, device, batch, weights)
    pairs = sum(len(one.pairs.split_edges("train")) for one in parts.data.builder.sets)
    return JobPlan(
        steps=steps,
        batches=batches,
        passes=batches * int(job.sampler["batch_size"]) / max(pairs, 1),
        batch=batch,
        weights=weights,
        memory=_memory(parts, batch, weights, ranks),
        synchronisations=steps if ranks > 1 else 0,
        sent=batches * sent[0] + steps * sent[1],
        seconds=batches * (seconds[0] + sent[0] / device.link) + steps * (seconds[1] + sent[1] / device.link),
        device=device,
        grad_cache=job.trainer.grad_cache,
    )


def _costs(encoder: BiEncoder, precision: str, device: Device) -> ChunkCost:
    """Of encoding a text. A table of embeddings multiplies nothing: one addition a value there and back."""
    if isinstance(encoder.backbone, TransformerBackbone):
        return chunk_cost(encoder.backbone, precision, gpu=not device.shared)
    width = encoder.backbone.dimensions
    nothing = Polynomial(0, 0, 0)
    return ChunkCost(Polynomial(0, width, 0), Polynomial(0, width, 0), nothing)


def _batch(parts: Parts, costs: ChunkCost, number: int, job: JobConfig, device: Device) -> Batch:
    """What the global batch `number` takes."""
    builder, ranks = parts.data.builder, job.trainer.world_size
    batch = builder.build(number, parts.data.train_composer.batch(number))
    lengths = [np.diff(chunk.tokens.offsets.numpy()) for chunk in batch.chunks]
    padded = builder.chunking.budget and not _unpadded(job.trainer.precision, device)
    work = [_padded(one) if padded else _ragged(one) for one in lengths]
    each = np.array([costs.forward.of(*one) * (2 if job.trainer.grad_cache else 1) + costs.backward.of(*one) for one in work])
    kept = np.array([costs.kept.of(*one) for one in work])
    texts = np.array([len(one) for one in lengths])
    if builder.chunking.budget:
        taken = [np.array(numbers, np.int64) for numbers in _taken(lengths, ranks)]
    else:  # one piece a rank
        each, kept, texts, taken = each / ranks, kept / ranks, texts / ranks, [np.array([0])]
    of_score = 6 * len(batch) * len(batch.of_passages.group) * parts.encoder.dimensions
    held = [kept[mine].max(initial=0) if job.trainer.grad_cache else kept[mine].sum() for mine in taken]
    queries, passages = _of_sides(batch, lengths)
    return Batch(
        query_tokens=queries,
        passage_tokens=passages,
        encoded_tokens=sum(tokens for tokens, _ in work),
        flops=max(each[mine].sum() for mine in taken) + of_score / ranks,
        all_flops=each.sum() * (1 if builder.chunking.budget else ranks) + of_score,
        activations=costs.kept.fixed + max(held),
        rows=float(len(np.unique(torch.cat([chunk.tokens.ids for chunk in batch.chunks]).numpy()))),
        texts=float(sum(map(len, lengths))),
        largest_share=float(max(texts[mine].sum() for mine in taken)),
    )


def _unpadded(precision: str, device: Device) -> bool:
    """Whether a GPU takes the texts end to end (see `hybrid_retrieval.models.kernels.attention.unpadded`)."""
    return not device.shared and precision != "32-true"


def _padded(lengths: Ints) -> tuple[float, float]:
    """Tokens of a chunk, and the sum of squares of its lengths, with every text as long as the longest."""
    longest = float(lengths.max())
    return len(lengths) * longest, len(lengths) * longest**2


def _ragged(lengths: Ints) -> tuple[float, float]:
    return float(lengths.sum()), float((lengths.astype(np.float64) ** 2).sum())


def _taken(lengths: list[Ints], ranks: int) -> list[list[int]]:
    """Which chunks each rank takes."""
    ends = np.cumsum([len(one) for one in lengths])
    return shares(list(np.split(np.arange(ends[-1]), ends[:-1])), np.concatenate(lengths), ranks)


def _of_sides(batch: PairBatch, lengths: list[Ints]) -> tuple[float, float]:
    """Tokens of the pairs' first sides, and of everything else."""
    of_text = np.concatenate(lengths)[batch.places.numpy()]
    return float(of_text[: len(batch)].sum()), float(of_text[len(batch) :].sum())


def _mean(found: list[Batch]) -> Batch:
    """Means over steps; of memory the largest."""
    largest = ("activations", "rows", "largest_share")
    values = {field.name: [getattr(one, field.name) for one in found] for field in fields(Batch)}
    return Batch(**{name: float(max(each) if name in largest else np.mean(each)) for name, each in values.items()})


def _memory(parts: Parts, batch: Batch, weights: Weights, ranks: int) -> Memory:
    candidates = batch.texts * (1 - 1 / (2 + parts.loss.hard_negatives))
    block = min(BLOCK_SCORES, candidates * (batch.texts - candidates) / ranks)
    copies = 2 if ranks > 1 else 1  # gradients travel in buckets, copied together
    return Memory(
        weights=weights.bytes,
        gradients=SINGLE * weights.with_gradient(batch.rows) * copies,
        optimizer=SINGLE * 2 * weights.trainable,
        activations=batch.activations,
        scores=SCORE_BYTES * block + COPIES * SINGLE * batch.texts * parts.encoder.dimensions,
    )


def _sent(batch: Batch, weights: Weights, dimensions: int, ranks: int) -> tuple[float, float]:
    """Bytes into a device: of a batch, embeddings gathered and their gradients summed; of a step, the parameters' (rings)."""
    rings = 2 * (ranks - 1) / ranks
    of_batch = (ranks - 1) * batch.largest_share * dimensions + rings * batch.texts * dimensions
    of_step = (ranks - 1) * batch.rows * weights.width + rings * (weights.trainable - weights.table)
    return SINGLE * of_batch, SINGLE * of_step


def _seconds(parts: Parts, job: JobConfig, device: Device, batch: Batch, weights: Weights) -> tuple[float, float]:
    """Of a batch, products and passes over memory; of a step, the update. Processes of one device take turns."""
    ranks = job.trainer.world_size
    looked_up = LOOKUP_PASSES * batch.encoded_tokens * parts.encoder.backbone.dimensions / ranks
    scored = SCORE_BYTES / SINGLE * (batch.texts / 2) ** 2 / ranks
    of_batch = batch.flops / device.speed(job.trainer.precision) + SINGLE * (looked_up + scored) / device.bandwidth
    of_step = SINGLE * UPDATE_PASSES * weights.updated(batch.rows) / device.bandwidth
    turns = ranks if device.shared else 1
    return of_batch * turns, of_step * turns
