"""Callbacks that watch a run: its clock, the manifest of its batches, its results for the loggers."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.reporting import logged
from hybrid_retrieval.reporting.logged import MANIFEST
from hybrid_retrieval.reporting.run_directory import RunDirectory
from hybrid_retrieval.sampling.manifest import Manifest
from hybrid_retrieval.training import loggers
from hybrid_retrieval.training.augmentation import Lost
from hybrid_retrieval.training.collate import PairBatch

log = logging.getLogger(__name__)


class Clock(Callback):
    """The seconds spent on training; it stands still in validations and while checkpoints are written.

    First of the callbacks that are timed by it; a resumed run goes on counting.
    """

    def __init__(self) -> None:
        self._before, self._since = 0.0, None  # type: tuple[float, float | None]
        self.begun = False
        """Whether training has begun in this process: what there was to restore is restored."""

    @property
    def seconds(self) -> float:
        """So far, over all processes of the run."""
        return self._before + (0.0 if self._since is None else time.perf_counter() - self._since)

    def _pause(self, *_: Any) -> None:
        self._before, self._since = self.seconds, None

    def _go_on(self, *_: Any) -> None:
        self.begun = True
        if self._since is None:
            self._since = time.perf_counter()

    def state_dict(self) -> dict[str, Any]:
        self._pause()
        return {"seconds": self._before}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._before = state_dict["seconds"]

    on_train_start = on_train_batch_start = _go_on  # type: ignore[assignment]
    on_validation_start = on_train_end = _pause  # type: ignore[assignment]


class BatchManifest(Callback):
    """Keeps the manifest of the batches that were trained on."""

    def __init__(self, manifest: Manifest, run_dir: Path) -> None:
        self.manifest, self.path = manifest, run_dir / MANIFEST

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """The manifest is on the disk before a checkpoint that goes on from it is."""
        if trainer.is_global_zero:
            self.manifest.write(self.path)

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        self.manifest.restore(self.path, trainer.global_step * trainer.accumulate_grad_batches)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, outputs: Any, batch: PairBatch, index: int
    ) -> None:
        self.manifest.add(batch.step, batch.pairs)


class PerturbedText(Callback):
    """Says at the end what tokenising the perturbed queries of training has lost; with `strict` it is an error (law 7)."""

    def __init__(self, strict: bool) -> None:
        self.strict, self.lost = strict, Lost()

    def state_dict(self) -> dict[str, Any]:
        return {"lost": [*self.lost]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.lost = Lost(*state_dict["lost"])

    def on_train_batch_start(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, batch: PairBatch, index: int
    ) -> None:
        if batch.lost is not None:
            self.lost = Lost(*map(sum, zip(self.lost, batch.lost, strict=True)))
        if self.strict and (self.lost.cut or self.lost.unknown):
            raise InputError(
                f"strict=true: of the perturbed queries of step {batch.step}, {self.lost.cut} are cut to "
                f"model.max_query_length and {self.lost.unknown} tokens are unknown to the tokenizer; "
                "change dataset.augment.names or dataset.augment.severity"
            )

    def on_train_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        if self.lost.tokens and trainer.is_global_zero:
            strange = (self.lost.unknown + self.lost.bytes) / self.lost.tokens
            log.info("perturbed queries: %s cut; %.2f%% of their tokens unknown or bytes", f"{self.lost.cut:,}", 100 * strange)


class Publish(Callback):
    """Sends tables, pictures and the manifest to whatever loggers there are, each as it can take them."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir

    def on_train_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """The pairs that were trained on, by set and languages."""
        for logger in trainer.loggers if trainer.is_global_zero else []:
            loggers.send_table(logger, logged.BATCHES, logged.pairs_drawn(self.run_dir / MANIFEST))

    def results(self, chosen: Sequence[Logger]) -> None:
        """The figures, tables and pictures of a run that is evaluated and reported; Lightning has no hook that late."""
        run = RunDirectory.open(self.run_dir)
        tables, pictures = logged.tables(run), logged.pictures(run)
        for logger in chosen:
            logger.log_metrics(dict(run.metrics))
            for name, grid in tables.items():
                loggers.send_table(logger, name, grid)
            for name, picture in pictures.items():
                loggers.send_picture(logger, name, picture)
