"""The contrastive engine: the loss of a global batch and its gradients, on any number of ranks.

A step has three parts. Each rank encodes its chunks of the global batch, and all ranks gather all embeddings. Each rank
computes the loss of its own queries, in blocks, and with it the gradient of every embedding; the sum over ranks is the gradient
of the mean loss over the batch. Each rank takes the gradients of its own texts back through the encoder.

With GradCache (Gao et al., arXiv 2101.06983) the first part keeps no activations, and the third encodes each chunk again: the
memory is that of one chunk. Random numbers are a function of (seed, step, chunk), so that the second pass draws what the first
did, and any number of ranks draws what one does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor

from hybrid_retrieval.hashing import mix
from hybrid_retrieval.losses.loss import EmbeddedPairs, Loss
from hybrid_retrieval.models.encoder import BiEncoder
from hybrid_retrieval.training.batches import Chunk, PairBatch
from hybrid_retrieval.training.gather import gather_rows
from hybrid_retrieval.training.sharding import idle_chunks, sum_with_next_backward

BLOCK_SCORES = 1 << 25
"""Similarities that exist at once; larger batches go in blocks of queries."""


@dataclass(frozen=True)
class Contrast:
    """What came out for a batch, over all of its queries.

    Attributes:
        sums: [2, 3]: of the monolingual and of the cross-lingual pairs, the sum of losses, the number of queries that rank
            their own passage first, and the number of pairs.
        figures: the means of what else the loss says of each query, scalars.
    """

    sums: Tensor
    figures: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def together(cls, parts: Sequence[Contrast]) -> Contrast:
        """Of several batches."""
        figures = {name: torch.stack([part.figures[name] for part in parts]).mean() for name in parts[0].figures}
        return cls(torch.stack([part.sums for part in parts]).sum(0), figures)

    @property
    def loss(self) -> Tensor:
        """The mean loss, a scalar."""
        return self.sums[:, 0].sum() / self.sums[:, 2].sum()

    @property
    def accuracy(self) -> Tensor:
        """Accuracy@1, a scalar."""
        return self.sums[:, 1].sum() / self.sums[:, 2].sum()


class Engine:
    """Computes the loss of batches, and leaves the gradients of parameters in their ``grad``, not yet summed over ranks.

    Those of a sharded encoder are summed with the last backward pass (see `hybrid_retrieval.training.sharding`).
    """

    def __init__(self, encoder: BiEncoder, loss: Loss, seed: int, cached: bool = False) -> None:
        """
        Args:
            seed: of the run; randomness in the encoder is a function of it, the step and the chunk.
            cached: GradCache.
        """
        self.encoder, self.loss, self.seed, self.cached = encoder, loss, seed, cached

    def evaluate(self, batch: PairBatch) -> Contrast:
        """The loss of a whole batch on this rank alone, without gradients."""
        with torch.no_grad():
            embeddings = torch.cat([self.encoder(chunk.tokens) for chunk in batch.chunks]).float()
            figures, _, _ = self._contrast(batch, embeddings.index_select(0, batch.places), gradients=False)
        return figures

    def step(self, batch: PairBatch, backward: Callable[[Tensor], None] = torch.Tensor.backward, last: bool = True) -> Contrast:
        """The loss of a global batch, with gradients.

        Args:
            backward: what takes a scalar back (a precision plugin may scale it).
            last: whether this is the last batch of an optimizer step, in which sharded gradients are summed over ranks.
        """
        chunks = [*batch.chunks, *idle_chunks(self.encoder, batch)]
        with torch.set_grad_enabled(not self.cached):
            parts = [self._encode(chunk, batch.step) for chunk in chunks]
            own, idle = parts[: len(batch.chunks)], parts[len(batch.chunks) :]
            mine = torch.cat(own).detach() if own else torch.zeros(0, self.encoder.dimensions, device=batch.places.device)
        everyone = gather_rows(mine, batch.counts)
        figures, of_embeddings, of_loss = self._contrast(batch, everyone.index_select(0, batch.places), gradients=True)
        back = torch.empty_like(of_embeddings).index_copy_(0, batch.places, of_embeddings)[batch.own_places]
        if self.cached:
            # What autocast keeps of weights from a pass without gradients would cut them off from the second pass.
            torch.clear_autocast_cache()
        # Scalars with the gradients that were found, so that these pass through whatever scales a loss. Each chunk goes back
        # by itself: in one graph, autocast would add up the chunks' gradients of a weight in half precision.
        if of_loss:
            backward(torch.stack([(parameter * gradient).sum() for parameter, gradient in of_loss]).sum())
        gradients = [*torch.split(back, [len(part) for part in own]), *map(torch.zeros_like, idle)]
        for number, (chunk, part, gradient) in enumerate(zip(chunks, parts, gradients, strict=True), 1):
            sum_with_next_backward(self.encoder, last and number == len(chunks))
            again = self._encode(chunk, batch.step) if self.cached else part
            backward((again * gradient).sum())
        return figures

    def _encode(self, chunk: Chunk, step: int) -> Tensor:
        torch.manual_seed(int(mix(self.seed, step, chunk.number)) >> 1)
        embeddings: Tensor = self.encoder(chunk.tokens)
        return embeddings.float()

    def _contrast(
        self, batch: PairBatch, embeddings: Tensor, gradients: bool
    ) -> tuple[Contrast, Tensor, list[tuple[Tensor, Tensor]]]:
        """Figures of the batch, the gradient of every embedding, and the gradients of the loss's own parameters."""
        count = len(batch)
        own = [parameter for parameter in self.loss.parameters() if parameter.requires_grad]
        leaf = embeddings.requires_grad_(gradients)
        same = (batch.of_queries.language == batch.of_passages.language[:count]).to(leaf.dtype)
        sums = leaf.new_zeros(2, 3)
        figures: dict[str, Tensor] = {}
        totals = [torch.zeros_like(value) for value in (leaf, *own)]
        size = max(1, BLOCK_SCORES // len(batch.of_passages.group))
        for start in range(batch.rows.start, batch.rows.stop, size):
            rows = slice(start, min(start + size, batch.rows.stop))
            with torch.set_grad_enabled(gradients):
                taught = batch.teacher_queries, batch.teacher_passages
                pairs = EmbeddedPairs(leaf[:count], leaf[count:], batch.of_queries, batch.of_passages, *taught)
                scored = self.loss(pairs, rows)
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
