"""Figures of the steps since the last line: to the loggers, and to ``telemetry.jsonl`` in the run directory.

A line has loss and accuracy@1 by stream, the realised ratio, tokens a second, the share of
padding, memory; and the cosine between the gradients of the two streams, which is negative where the objectives fight. The
file also has a line for each validation, with what an adaptive ratio decided from it.
"""

from __future__ import annotations

import json
import math
import resource
import sys
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from hybrid_retrieval.errors import DivergenceError, reading
from hybrid_retrieval.files import read_text, write_text
from hybrid_retrieval.models.encoder import BiEncoder
from hybrid_retrieval.sampling.composer import Composer
from hybrid_retrieval.training.callbacks import Clock
from hybrid_retrieval.training.collate import PairBatch
from hybrid_retrieval.training.engine import Contrast, world

TELEMETRY = "telemetry.jsonl"
STREAMS = ("monolingual", "crosslingual")
COORDINATES = 1 << 22
"""The dense gradients of larger models are compared on no more of their coordinates, about."""

Gradient = dict[str, tuple[Tensor | None, Tensor]]
"""By parameter: (None, float32 [coordinates]), or the rows and float32 [rows, dimensions] of a row-sparse one."""


class Telemetry(Callback):
    """Sums over steps, and writes a line every `trainer.log_every_n_steps` of them.

    All that a line is made of is in checkpoints, so that a resumed run writes the lines of one that was never ended. Tokens a
    second, padding and memory are those of the first rank.
    """

    def __init__(self, run_dir: Path, clock: Clock, composer: Composer, coordinates: int = COORDINATES) -> None:
        """
        Args:
            coordinates: of the dense gradients of a larger model, on which they are compared, about.
        """
        self.path, self.clock, self.composer, self.coordinates = run_dir / TELEMETRY, clock, composer, coordinates
        self._drawn = torch.zeros(2, dtype=torch.float64)
        self._stream: int | None = None
        self._sharded = False
        self.last: dict[str, float] = {}
        """The last line of training."""
        self._begin(0.0)

    def _begin(self, seconds: float) -> None:
        """Start a line, so many seconds into the run."""
        self._sums = torch.zeros(2, 3)
        self._tokens = self._padded = 0
        self._since = seconds
        self._gradient: tuple[int, Gradient] | None = None
        self._cosine: float | None = None

    def state_dict(self) -> dict[str, Any]:
        names = ("_drawn", "_sums", "_tokens", "_padded", "_since", "_cosine")
        # A shard's gradient is of use to no other rank.
        return {name: getattr(self, name) for name in names} | {"_gradient": None if self._sharded else self._gradient}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for name, value in state_dict.items():
            setattr(self, name, value)

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        if trainer.is_global_zero:
            keep_until(self.path, trainer.global_step)
        self._sharded = any(isinstance(parameter, DTensor) for parameter in module.parameters())
        if self._gradient is not None:
            stream, parts = self._gradient
            self._gradient = None if self._sharded else (stream, moved(parts, module.device))

    def on_train_batch_start(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, batch: PairBatch, index: int
    ) -> None:
        if index % trainer.accumulate_grad_batches == 0:
            self._stream = stream_of(batch) if 0 < self.composer.alpha(batch.step) < 1 else None
        elif self._stream != stream_of(batch):
            self._stream = None

    def on_before_optimizer_step(self, trainer: lightning.Trainer, module: lightning.LightningModule, optimizer: Any) -> None:
        """Compare the gradients of two neighbouring steps of different streams, once a line."""
        if self._stream is None:
            self._gradient = None
        elif self._cosine is None:
            mine = sampled_gradient(module, self.coordinates)
            if self._gradient is None or self._gradient[0] == self._stream:
                self._gradient = self._stream, mine
            else:
                # Every replica has the whole gradients; of shards each has a part.
                parts = trainer.strategy.reduce(products(self._gradient[1], mine), reduce_op="sum")
                both, one, other = parts.tolist()
                self._cosine = both / math.sqrt(one * other) if one * other > 0 else math.nan
                self._gradient = None

    def on_train_batch_end(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, outputs: Any, batch: PairBatch, index: int
    ) -> None:
        sums = contrast_of(module).sums
        self._sums = self._sums.to(sums.device) + sums
        padded = encoder_of(module).backbone.padded_last
        for tokens in (chunk.tokens for chunk in batch.chunks):
            self._tokens += len(tokens.ids)
            self._padded += len(tokens) * tokens.longest if padded else len(tokens.ids)
        stepped = (index + 1) % trainer.accumulate_grad_batches == 0
        if stepped and trainer.global_step % log_every(trainer) == 0:
            self._write(trainer, module.device, batch.step)

    def on_validation_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        if trainer.sanity_checking:
            return
        line = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
        if journal := self.composer.schedule.journal:
            line["decision/alpha"] = journal[-1]["alpha"]
        self._append(trainer, line)

    def _write(self, trainer: lightning.Trainer, device: torch.device, batch: int) -> None:
        sums = self._sums.cpu().double()  # a GPU is done with its steps then
        if not bool(torch.isfinite(sums).all()):
            raise DivergenceError(f"the loss is not finite before step {trainer.global_step}: training has diverged")
        seconds, ranks = max(self.clock.seconds - self._since, 1e-9), trainer.world_size
        self._drawn += sums[:, 2]
        line: dict[str, float] = {}
        for stream, (loss, hits, pairs) in zip(STREAMS, sums.tolist(), strict=True):
            if pairs:
                line |= {f"train/loss/{stream}": loss / pairs, f"train/accuracy@1/{stream}": hits / pairs}
        line["train/alpha"] = self.composer.alpha(batch)
        line["train/monolingual_pair_share"] = float(self._drawn[0] / self._drawn.sum())
        line["train/tokens_per_second"] = self._tokens * ranks / seconds
        line["train/pairs_per_second"] = float(sums[:, 2].sum()) / seconds
        line["train/padding_share"] = 1 - self._tokens / self._padded if self._padded else 0.0
        line["train/memory_gib"] = peak_memory(device) / 2**30
        if self._cosine is not None:
            line["train/gradient_cosine"] = self._cosine
        for logger in trainer.loggers:
            logger.log_metrics(line, step=trainer.global_step - 1)
        loss, hits, pairs = sums.sum(0).tolist()
        self.last = {"train/loss": loss / pairs, "train/accuracy@1": hits / pairs, **line}
        self._append(trainer, self.last)
        self._begin(self.clock.seconds)

    def _append(self, trainer: lightning.Trainer, line: Mapping[str, float]) -> None:
        """Write a line to the file; a figure that is not finite is null there."""
        if trainer.is_global_zero:
            finite = {name: value if math.isfinite(value) else None for name, value in line.items()}
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": trainer.global_step - 1, **finite}) + "\n")


def contrast_of(module: Any) -> Contrast:
    """The outcome of the module's last training step."""
    contrast: Contrast = module.contrast
    return contrast


def encoder_of(module: Any) -> BiEncoder:
    """The encoder that the module trains."""
    encoder: BiEncoder = module.encoder
    return encoder


def log_every(trainer: Any) -> int:
    """Steps between lines."""
    return max(1, int(trainer.log_every_n_steps))


def stream_of(batch: PairBatch) -> int | None:
    """The index in `STREAMS` of the only one that a batch has pairs of; None where it has both."""
    same = batch.pairs.query_language == batch.pairs.passage_language
    if same.all():
        return 0
    return None if same.any() else 1


def sampled_gradient(module: nn.Module, coordinates: int = COORDINATES) -> Gradient:
    """A copy of the gradient: all of it in a small model, else of every dense parameter an equal number of coordinates.

    Those of a parameter are evenly spaced, and weighted so that inner products are estimates of those of whole gradients. Of
    a sharded parameter they are of this rank's shard; of others such that the sum over ranks is that of one rank.
    """
    gradients = {name: value.grad for name, value in module.named_parameters() if value.grad is not None}
    shards = {name: gradient.to_local() for name, gradient in gradients.items() if isinstance(gradient, DTensor)}
    gradients |= shards
    dense = [gradient for gradient in gradients.values() if not gradient.is_sparse]
    whole = sum(gradient.numel() for gradient in dense) <= coordinates
    found: Gradient = {}
    for name, gradient in gradients.items():
        weight = 1.0 if name in shards else world()[1] ** -0.5
        if gradient.is_sparse:
            rows = gradient.coalesce()
            found[name] = rows.indices()[0].clone(), rows.values().float() * weight
        else:
            stride = 1 if whole else spacing(gradient, coordinates // len(dense))
            found[name] = None, gradient.flatten()[::stride].float() * (weight * stride**0.5)
    return found


def spacing(gradient: Tensor, wanted: int) -> int:
    """The stride of the coordinates that are taken of a gradient: prime to its width, so that no column is left out."""
    width = gradient.shape[-1] if gradient.dim() > 1 else 1
    return next(stride for stride in count(max(1, gradient.numel() // max(1, wanted))) if math.gcd(stride, width) == 1)


def moved(gradient: Gradient, device: torch.device) -> Gradient:
    """The same on another device."""
    return {name: (None if rows is None else rows.to(device), values.to(device)) for name, (rows, values) in gradient.items()}


def products(left: Gradient, right: Gradient) -> Tensor:
    """[3]: of two gradients with each other, and of each with itself; a parameter that one of them lacks is zero there."""
    both = [product(left[name], right[name]) for name in left.keys() & right.keys()]
    norms = [[values.square().sum() for _, values in one.values()] for one in (left, right)]
    return torch.stack([torch.stack(parts).sum() for parts in (both, *norms)])


def product(left: tuple[Tensor | None, Tensor], right: tuple[Tensor | None, Tensor]) -> Tensor:
    """The inner product of two gradients of a parameter."""
    (rows, values), (others, against) = left, right
    if rows is None or others is None:
        return values.dot(against)
    if not len(rows) or not len(others):
        return against.new_zeros(())
    at = torch.searchsorted(others, rows).clamp_(max=len(others) - 1)
    shared = others[at] == rows
    return (values[shared] * against[at[shared]]).sum()


def peak_memory(device: torch.device) -> int:
    """Bytes: the most that this process held, on its GPU where it trains on one."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    # Kilobytes on Linux, bytes on macOS.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def keep_until(path: Path, step: int) -> None:
    """Drop the lines of `step` and after, which are written again, and one that a kill cut off."""
    if not path.exists():
        return
    lines = [line for line in read_text(path).splitlines(keepends=True) if line.endswith("\n")]
    with reading(f"{path} is not telemetry, a JSON object a line"):
        kept = "".join(line for line in lines if json.loads(line)["step"] < step)
    write_text(path, kept)
