"""The contrastive engine: the loss of a global batch and its gradients, on any number of ranks.

A step has three parts.

1. Each rank encodes its chunks of the global batch, and all ranks gather all embeddings: [texts, dimensions], 1-4 kB a text.
2. Each rank computes the loss of its own queries, in blocks of at most 2^25 similarities (128 MB), and with it the gradient of
   every embedding; the sum over ranks is the gradient of the mean loss over the batch.
3. Each rank takes the gradients of its own texts back through the encoder, chunk by chunk; the gradients of the parameters are
   summed over ranks once, after the last chunk of an optimizer step (`sum_gradients`).

With GradCache (Gao et al., arXiv 2101.06983) the first part keeps no activations and the third encodes each chunk again: the
memory is that of one chunk, for a third more work. Random numbers are a function of (seed, step, chunk), so that the second
pass draws what the first did, and any number of ranks draws what one does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from hybrid_retrieval.hashing import mix
from hybrid_retrieval.losses.loss import EmbeddedPairs, Loss
from hybrid_retrieval.models.encoder import BiEncoder, Tokens
from hybrid_retrieval.training.collate import Chunk, PairBatch

BLOCK_SCORES = 1 << 25
"""Similarities that exist at once; larger batches go in blocks of queries."""
BUCKET_BYTES = 64 << 20
"""Dense gradients travel in pieces of about this size."""


@dataclass(frozen=True)
class Contrast:
    """The outcome of a batch, over all of its queries.

    Attributes:
        sums: [2, 3]: of the monolingual and of the cross-lingual pairs, the sum of losses, the number of queries that rank
            their own passage first, and the number of pairs.
        figures: the means of what else the loss reports for each query, scalars.
    """

    sums: Tensor
    figures: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def loss(self) -> Tensor:
        """The mean loss, a scalar."""
        return self.sums[:, 0].sum() / self.sums[:, 2].sum()

    @property
    def accuracy(self) -> Tensor:
        """Accuracy@1, a scalar."""
        return self.sums[:, 1].sum() / self.sums[:, 2].sum()


@dataclass(frozen=True)
class Forward:
    """A batch whose loss is known and whose gradients are still to go back through the encoder.

    Attributes:
        loss: a scalar; its only graph is `scale`, so that whatever scales the loss scales every gradient.
        chunks: those of this rank; `parts` are their embeddings (without a graph under GradCache), `gradients` those of parts.
        of_loss: the loss's own parameters, each with its gradient.
    """

    contrast: Contrast
    loss: Tensor
    scale: Tensor
    batch: PairBatch
    chunks: Sequence[Chunk]
    parts: Sequence[Tensor]
    gradients: Sequence[Tensor]
    of_loss: Sequence[tuple[Tensor, Tensor]]
    autocast: tuple[str, torch.dtype, bool]


class Engine:
    """Computes the loss of batches, and leaves the gradients of parameters in their ``grad``, not yet summed over ranks.

    Those of a sharded encoder are summed with the last backward pass (see `hybrid_retrieval.training.strategies`).
    """

    def __init__(
        self, encoder: BiEncoder, loss: Loss, seed: int, cached: bool = False, block_scores: int = BLOCK_SCORES
    ) -> None:
        """
        Args:
            seed: of the run; randomness in the encoder is a function of it, the step and the chunk.
            cached: GradCache.
            block_scores: similarities that exist at once.
        """
        self.encoder, self.loss, self.seed, self.cached, self.block_scores = encoder, loss, seed, cached, block_scores

    def evaluate(self, batch: PairBatch) -> Contrast:
        """The loss of a whole batch on this rank alone, without gradients."""
        with torch.no_grad():
            embeddings = torch.cat([self.encoder(chunk.tokens) for chunk in batch.chunks]).float()
            contrast, _, _ = self._contrast(batch, embeddings.index_select(0, batch.places), gradients=False)
        return contrast

    def forward(self, batch: PairBatch) -> Forward:
        """The loss of a global batch, and the gradients of its embeddings."""
        chunks = [*batch.chunks, *self._idle_chunks(batch)]
        with torch.set_grad_enabled(not self.cached):
            parts = [self._encode(chunk, batch.step) for chunk in chunks]  # each [texts of the chunk, dimensions]
            own, idle = parts[: len(batch.chunks)], parts[len(batch.chunks) :]
            mine = torch.cat(own).detach() if own else torch.zeros(0, self.encoder.dimensions, device=batch.places.device)
        everyone = gather_rows(mine, batch.counts)  # [texts, dimensions], in the order of the ranks
        contrast, of_embeddings, of_loss = self._contrast(batch, everyone.index_select(0, batch.places), gradients=True)
        back = torch.empty_like(of_embeddings).index_copy_(0, batch.places, of_embeddings)[batch.own_places]
        scale = torch.zeros((), device=mine.device, requires_grad=True)
        return Forward(
            contrast=contrast,
            loss=contrast.loss + scale,
            scale=scale,
            batch=batch,
            chunks=chunks,
            parts=parts,
            gradients=[*torch.split(back, [len(part) for part in own]), *map(torch.zeros_like, idle)],
            of_loss=of_loss,
            autocast=_autocast_state(mine.device.type),
        )

    def backward(self, forward: Forward, loss: Tensor | None = None, last: bool = True) -> None:
        """Take the gradients back through the encoder, chunk by chunk.

        Args:
            loss: `forward.loss` after whatever scales it (a GradScaler, accumulation).
            last: whether this is the last batch of an optimizer step, in which sharded gradients are summed over ranks.
        """
        (scale,) = torch.autograd.grad(forward.loss if loss is None else loss, forward.scale)
        device, dtype, enabled = forward.autocast
        # What autocast keeps of weights from a pass without gradients would cut them off from the second pass.
        torch.clear_autocast_cache()
        for parameter, gradient in forward.of_loss:
            torch.autograd.backward(parameter.view_as(parameter), gradient * scale)
        # Each chunk goes back by itself: in one graph, autocast would add up a weight's gradients in half precision.
        steps = zip(forward.chunks, forward.parts, forward.gradients, strict=True)
        for number, (chunk, part, gradient) in enumerate(steps, 1):
            if isinstance(self.encoder, FSDPModule):
                self.encoder.set_requires_gradient_sync(last and number == len(forward.chunks))
            if self.cached:
                with torch.autocast(device, dtype, enabled):
                    part = self._encode(chunk, forward.batch.step)
            torch.autograd.backward(part, gradient * scale)

    def step(self, batch: PairBatch, last: bool = True) -> Contrast:
        """Forward and backward."""
        forward = self.forward(batch)
        self.backward(forward, last=last)
        return forward.contrast

    def _idle_chunks(self, batch: PairBatch) -> list[Chunk]:
        """Texts of one token for a rank with fewer chunks than another: a pass through a sharded encoder takes all ranks."""
        if not isinstance(self.encoder, FSDPModule):
            return []
        ids = batch.places.new_zeros(1)
        token = Tokens(ids, torch.arange(2, device=ids.device), 1)
        return [Chunk(0, token)] * (max(batch.chunk_counts) - len(batch.chunks))

    def _encode(self, chunk: Chunk, step: int) -> Tensor:
        seed = int(mix(self.seed, step, chunk.number)) >> 1
        if chunk.tokens.ids.device.type == "cpu":
            torch.default_generator.manual_seed(seed)  # without the 2 ms in which torch looks at every kind of device
        else:
            torch.manual_seed(seed)
        embeddings: Tensor = self.encoder(chunk.tokens)
        return embeddings.float()

    def _contrast(
        self, batch: PairBatch, embeddings: Tensor, gradients: bool
    ) -> tuple[Contrast, Tensor, list[tuple[Tensor, Tensor]]]:
        """The outcome of the batch, the gradient of every embedding, and the gradients of the loss's own parameters.

        In float32: in bfloat16 a similarity of 0.9 over a temperature of 0.05 is right to 0.06.
        """
        with torch.autocast(embeddings.device.type, enabled=False):
            count = len(batch)
            own = [parameter for parameter in self.loss.parameters() if parameter.requires_grad]
            # [texts, dimensions]: queries, own passages, hard negatives, and of self-teaching perturbed queries.
            leaf = embeddings.requires_grad_(gradients)
            candidates = count + len(batch.of_passages.group)
            same = (batch.of_queries.language == batch.of_passages.language[:count]).to(leaf.dtype)
            sums = leaf.new_zeros(2, 3)
            figures: dict[str, Tensor] = {}
            totals = [torch.zeros_like(value) for value in (leaf, *own)]
            size = max(1, self.block_scores // len(batch.of_passages.group))
            for start in range(batch.rows.start, batch.rows.stop, size):
                rows = slice(start, min(start + size, batch.rows.stop))
                with torch.set_grad_enabled(gradients):
                    pairs = EmbeddedPairs(
                        leaf[:count],
                        leaf[count:candidates],
                        batch.of_queries,
                        batch.of_passages,
                        batch.taught,
                        batch.scores,
                        *_perturbed(batch, leaf[candidates:]),
                    )
                    scored = self.loss(pairs, rows)  # of [rows, passages] similarities
                    loss = scored.loss.sum() / count
                of_query = torch.stack([scored.loss.detach(), scored.hit.to(leaf.dtype), torch.ones_like(scored.loss)], 1)
                sums += torch.stack([same[rows], 1 - same[rows]]).matmul(of_query)
                for name, value in scored.figures.items():
                    figures[name] = figures.get(name, 0) + value.sum()
                if gradients:
                    found = torch.autograd.grad(loss, [leaf, *own], allow_unused=True)
                    for total, value in zip(totals, found, strict=True):
                        if value is not None:
                            total += value
            if len(batch.counts) > 1:
                dist.all_reduce(totals[0])
                dist.all_reduce(sums)
                for name in sorted(figures):
                    dist.all_reduce(figures[name])
            means = {name: value / count for name, value in figures.items()}
            return Contrast(sums, means), totals[0], list(zip(own, totals[1:], strict=True))


def _perturbed(batch: PairBatch, embeddings: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """Of the perturbed queries of a batch, beside clean ones, what `EmbeddedPairs` holds: embeddings, and which they are."""
    if batch.perturbed is None or not len(embeddings):
        return None, None
    every = embeddings.new_zeros(len(batch), embeddings.shape[1]).index_copy(0, batch.perturbed, embeddings)
    return every, torch.zeros(len(batch), dtype=torch.bool, device=every.device).index_fill_(0, batch.perturbed, True)


def _autocast_state(device: str) -> tuple[str, torch.dtype, bool]:
    return device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device)


def world() -> tuple[int, int]:
    """(rank, number of ranks) of the process group; (0, 1) without one."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def gather_rows(mine: Tensor, counts: Sequence[int]) -> Tensor:
    """The rows of all ranks end to end; `counts` says how many each has. Without gradients."""
    if len(counts) == 1:
        return mine
    padded = mine.new_zeros(max(counts), *mine.shape[1:])
    padded[: len(mine)] = mine
    parts = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(parts, padded)
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])


def sum_gradients(parameters: Sequence[Tensor], bucket_bytes: int = BUCKET_BYTES) -> None:
    """Replace every gradient by its sum over ranks, dense ones in pieces of about `bucket_bytes`: a step's one synchronisation.

    A rank without a gradient for a parameter counts as zero; a parameter that no rank has a gradient for keeps none.
    Row-sparse gradients stay row-sparse. Those of sharded parameters are left out: they were summed with the last backward
    pass (see `hybrid_retrieval.training.strategies`).
    """
    parameters = [parameter for parameter in parameters if not isinstance(parameter, DTensor)]
    if world()[1] == 1 or not parameters:
        return
    kinds = torch.tensor([0 if p.grad is None else 2 if p.grad.is_sparse else 1 for p in parameters], dtype=torch.int32)
    kinds = kinds.to(parameters[0].device)
    dist.all_reduce(kinds, dist.ReduceOp.MAX)
    dense: dict[torch.dtype, list[Tensor]] = {}
    for parameter, kind in zip(parameters, kinds.tolist(), strict=True):
        if kind == 2:
            parameter.grad = _sum_rows(parameter)
        elif kind == 1:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            dense.setdefault(parameter.grad.dtype, []).append(parameter.grad)
    for gradients in dense.values():
        _sum_dense(gradients, bucket_bytes)


def _sum_dense(gradients: Sequence[Tensor], bucket_bytes: int) -> None:
    """In buckets, all under way at once."""
    buckets: list[list[Tensor]] = [[]]
    size = 0
    for gradient in gradients:
        if size > bucket_bytes:
            buckets.append([])
            size = 0
        buckets[-1].append(gradient)
        size += gradient.numel() * gradient.element_size()
    flat = [torch.cat([gradient.flatten() for gradient in bucket]) for bucket in buckets]
    works = [dist.all_reduce(values, async_op=True) for values in flat]
    for bucket, values, work in zip(buckets, flat, works, strict=True):
        work.wait()
        for gradient, summed in zip(bucket, torch.split(values, [gradient.numel() for gradient in bucket]), strict=True):
            gradient.copy_(summed.view_as(gradient))


def _sum_rows(parameter: Tensor) -> Tensor:
    """The sum over ranks of a row-sparse gradient."""
    mine = parameter.grad
    if mine is None:
        mine = torch.sparse_coo_tensor(
            torch.empty((1, 0), dtype=torch.long, device=parameter.device),
            parameter.new_empty((0, *parameter.shape[1:])),
            parameter.shape,
        )
    mine = mine.coalesce()
    count = torch.tensor([mine.indices().shape[1]], device=parameter.device)
    every = [torch.empty_like(count) for _ in range(world()[1])]
    dist.all_gather(every, count)
    counts = [int(one) for one in every]
    rows, values = gather_rows(mine.indices()[0], counts), gather_rows(mine.values(), counts)
    return torch.sparse_coo_tensor(rows[None], values, parameter.shape).coalesce()
