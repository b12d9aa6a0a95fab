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


class Recorder(Callback):
    """Keeps the manifest of the batches that were trained on, and the time spent on them without validation."""

    def __init__(self, manifest: Manifest, run_dir: Path, every: int) -> None:
        self.manifest, self.path, self.every = manifest, run_dir / MANIFEST, every
        self.seconds, self.pairs = 0.0, 0
        self._since: float | None = None

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        self._since = time.perf_counter()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, outputs: Any, batch: PairBatch, index: int
    ) -> None:
        self.manifest.add(batch.step, batch.composition)
        self.pairs += len(batch.composition)
        if trainer.is_global_zero and (batch.step + 1) % self.every == 0:
            self.manifest.write(self.path)

    def on_validation_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        self._pause()

    def on_validation_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        self._since = time.perf_counter()

    def on_train_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        self._pause()
        if trainer.is_global_zero:
            self.manifest.write(self.path)

    def _pause(self) -> None:
        if self._since is not None:
            self.seconds += time.perf_counter() - self._since
        self._since = None


def callbacks(config: TrainerConfig, run_dir: Path, recorder: Recorder, validates: bool) -> list[Callback]:
    """The callbacks of a run; `validates` is whether there is a validation split."""
    folder = run_dir / "checkpoints"
    last = ModelCheckpoint(
        dirpath=folder,
        filename="last",
        every_n_train_steps=config.checkpoint_every,
        save_top_k=1,
        monitor=None,
        enable_version_counter=False,
    )
    found: list[Callback] = [recorder, last]
    if validates:
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
    if config.progress:
        found.append(RichProgressBar())
    return found
