"""What a run says of itself while it trains: to the loggers, and to ``telemetry.jsonl`` in the run directory.

Each line is of the steps since the line before: loss and accuracy@1 by stream, the realised ratio, tokens a second, the share
of padding, memory; and the cosine between the gradients of the two streams, which is negative where the objectives fight.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from hybrid_retrieval.sampling.composer import Composer
from hybrid_retrieval.training.batches import PairBatch
from hybrid_retrieval.training.contrast import Contrast
from hybrid_retrieval.training.module import ContrastiveModule

TELEMETRY = "telemetry.jsonl"
STREAMS = ("monolingual", "crosslingual")
COORDINATES = 1 << 22
"""Gradients of larger models are compared on about this many of their coordinates, evenly spaced."""


class Telemetry(Callback):
    """Sums over steps, and writes a line every `every` of them."""

    def __init__(self, run_dir: Path, every: int, composer: Composer, start_step: int) -> None:
        self.path, self.every, self.composer, self.start_step = run_dir / TELEMETRY, every, composer, start_step
        self._pairs = torch.zeros(2, dtype=torch.float64)
        self._since = 0.0
        self._begin()

    def _begin(self) -> None:
        """Start a line."""
        self._sums = torch.zeros(2, 3, dtype=torch.float64)
        self._tokens = self._padded = self._steps = 0
        self._seconds = 0.0
        self._gradient: tuple[int, Tensor] | None = None
        self._cosine: float | None = None

    def state_dict(self) -> dict[str, Any]:
        counts = {name: getattr(self, name) for name in ("_tokens", "_padded", "_steps", "_seconds", "_cosine")}
        return {"_pairs": self._pairs.clone(), "_sums": self._sums.clone(), **counts}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for name, value in state_dict.items():
            setattr(self, name, value)

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        if trainer.is_global_zero:
            keep_until(self.path, self.start_step)

    def on_train_batch_start(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, batch: Any, index: int
    ) -> None:
        self._since = time.perf_counter()

    def on_before_optimizer_step(self, trainer: lightning.Trainer, module: lightning.LightningModule, optimizer: Any) -> None:
        """Compare the gradients of two neighbouring steps of different streams, once a line."""
        pairs = figures_of(module).sums[:, 2].tolist()
        stream = None if all(pairs) else int(pairs[1] > 0)
        if stream is None or self._cosine is not None:
            return
        if self._gradient is None or self._gradient[0] == stream:
            # Only the step before a change of streams is of use, so the latest is kept.
            self._gradient = stream, sampled_gradient(module)
            return
        other = sampled_gradient(module)
        self._cosine = float(nn.functional.cosine_similarity(self._gradient[1], other, dim=0))
        self._gradient = None

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        module: lightning.LightningModule,
        outputs: Any,
        batch: tuple[PairBatch, ...],
        index: int,
    ) -> None:
        sums = figures_of(module).sums.double().cpu()
        self._sums += sums
        self._pairs += sums[:, 2]
        parts: tuple[PairBatch, ...] = batch
        self._tokens += sum(part.tokens for part in parts)
        self._padded += sum(part.padded_tokens for part in parts)
        self._steps += 1
        self._seconds += time.perf_counter() - self._since
        if trainer.global_step % self.every == 0:
            self._write(trainer, parts[-1].step)
            self._begin()

    def _write(self, trainer: lightning.Trainer, batch: int) -> None:
        step, ranks, seconds = trainer.global_step - 1, trainer.world_size, max(self._seconds, 1e-9)
        line: dict[str, float] = {}
        for stream, (loss, hits, pairs) in zip(STREAMS, self._sums.tolist(), strict=True):
            if pairs:
                line |= {f"train/loss/{stream}": loss / pairs, f"train/accuracy@1/{stream}": hits / pairs}
        line["train/alpha"] = self.composer.share(batch)
        line["train/monolingual_pair_share"] = float(self._pairs[0] / self._pairs.sum())
        line["train/tokens_per_second"] = self._tokens * ranks / seconds
        line["train/pairs_per_second"] = float(self._sums[:, 2].sum()) / seconds
        line["train/padding_share"] = 1 - self._tokens / max(1, self._padded)
        line["train/memory_gib"] = peak_memory() / 2**30
        if self._cosine is not None:
            line["train/gradient_cosine"] = self._cosine
        if trainer.is_global_zero:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, **line}) + "\n")
        for logger in trainer.loggers:
            logger.log_metrics(line, step=step)


def figures_of(module: nn.Module) -> Contrast:
    """What the module's last step came out with."""
    assert isinstance(module, ContrastiveModule)
    return module.figures


def sampled_gradient(module: nn.Module) -> Tensor:
    """Evenly spaced coordinates of the gradient of all parameters, end to end; all of them in a small model."""
    gradients = [parameter.grad for parameter in module.parameters() if parameter.requires_grad]
    total = sum(gradient.numel() for gradient in gradients if gradient is not None)
    stride = max(1, total // COORDINATES)
    parts = []
    for gradient in gradients:
        if gradient is None:
            continue
        if gradient.is_sparse:
            # Rows that the step did not touch are zero; of the others, those of the sample.
            coalesced = gradient.coalesce()
            rows, values = coalesced.indices()[0], coalesced.values()
            chosen = rows % stride == 0
            dense = values.new_zeros(-(-len(gradient) // stride), values.shape[1])
            dense[rows[chosen] // stride] = values[chosen]
            parts.append(dense.flatten())
        else:
            parts.append(gradient.flatten()[::stride].clone())
    return torch.cat([part.float() for part in parts])


def peak_memory() -> int:
    """Bytes: the most that this process held, on its GPU where it has one."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    # Kilobytes on Linux, bytes on macOS.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def keep_until(path: Path, step: int) -> None:
    """Drop the lines of `step` and after, which are written again."""
    if path.exists():
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if json.loads(line)["step"] < step]
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
