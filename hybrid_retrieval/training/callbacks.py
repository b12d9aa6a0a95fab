"""What is watched while training: what was drawn, how long it took, and the checkpoints."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint, RichProgressBar

from hybrid_retrieval.config import TrainerConfig
from hybrid_retrieval.sampling.manifest import Manifest
from hybrid_retrieval.training.batches import PairBatch

MANIFEST = "batch_manifest.parquet"
LAST = "last.ckpt"


class Recorder(Callback):
    """Keeps the manifest of the batches that were trained on, and the time spent on them.

    The clock stands still in validations and while checkpoints are written; a resumed run goes on counting.
    """

    def __init__(self, manifest: Manifest, run_dir: Path, every: int) -> None:
        self.manifest, self.path, self.every = manifest, run_dir / MANIFEST, every
        self.seconds, self.pairs = 0.0, 0
        self._since: float | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds, "pairs": self.pairs}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.seconds, self.pairs = state_dict["seconds"], state_dict["pairs"]

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        self._since = time.perf_counter()

    def on_train_batch_start(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, batch: Any, index: int
    ) -> None:
        if self._since is None:
            self._since = time.perf_counter()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, outputs: Any, batch: PairBatch, index: int
    ) -> None:
        self.manifest.add(batch.step, batch.composition)
        self.pairs += len(batch.composition)
        if (batch.step + 1) % self.every == 0:
            self.pause()
            if trainer.is_global_zero:
                self.manifest.write(self.path)

    def on_validation_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        self.pause()

    def on_train_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        self.pause()
        if trainer.is_global_zero:
            self.manifest.write(self.path)

    def pause(self) -> None:
        """Stop the clock; the next batch starts it again."""
        if self._since is not None:
            self.seconds += time.perf_counter() - self._since
        self._since = None


class LastCheckpoint(Callback):
    """Writes ``last.ckpt`` every so many steps; where a step is validated too, after that validation.

    A run that is resumed from such a checkpoint validates that step again, which may cost it one step of its patience.
    """

    def __init__(self, path: Path, every: int, validate_every: int | None) -> None:
        self.path, self.every, self.validate_every = path, every, validate_every

    def on_train_batch_end(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, outputs: Any, batch: PairBatch, index: int
    ) -> None:
        if self._due(trainer) and not (self.validate_every and trainer.global_step % self.validate_every == 0):
            trainer.save_checkpoint(self.path)

    def on_validation_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        if self._due(trainer):
            trainer.save_checkpoint(self.path)

    def _due(self, trainer: lightning.Trainer) -> bool:
        return trainer.global_step % self.every == 0


def callbacks(config: TrainerConfig, run_dir: Path, recorder: Recorder, validate_every: int | None) -> list[Callback]:
    """The callbacks of a run; `validate_every` is None where nothing is validated."""
    folder = run_dir / "checkpoints"
    found: list[Callback] = [recorder]
    if validate_every:
        mode = "min" if config.monitor == "val/loss" else "max"
        found.append(
            ModelCheckpoint(
                dirpath=folder,
                filename="best",
                monitor=config.monitor,
                mode=mode,
                save_top_k=1,
                auto_insert_metric_name=False,
                enable_version_counter=False,
                save_on_train_epoch_end=False,
            )
        )
        if config.patience:
            found.append(EarlyStopping(config.monitor, patience=config.patience, mode=mode))
    found.append(LastCheckpoint(folder / LAST, config.checkpoint_every, validate_every))
    if config.progress:
        found.append(RichProgressBar())
    return found
