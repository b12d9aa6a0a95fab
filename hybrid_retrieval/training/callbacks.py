"""Callbacks that watch a run: its clock, the manifest of its batches, its results for the loggers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger

from hybrid_retrieval.reporting.run_directory import RunDirectory
from hybrid_retrieval.reporting.tables import Table, run_table
from hybrid_retrieval.sampling.manifest import Manifest
from hybrid_retrieval.training.collate import PairBatch

MANIFEST = "batch_manifest.parquet"


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


class Publish(Callback):
    """Sends tables, pictures and the manifest to whatever loggers there are, each as it can take them."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir

    def on_train_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """The pairs that were trained on, by set and languages."""
        for logger in trainer.loggers if trainer.is_global_zero else []:
            send_table(logger, "batches", *pairs_drawn(self.run_dir / MANIFEST))

    def results(self, loggers: Sequence[Logger]) -> None:
        """The figures, result tables and pictures of a run that is evaluated and reported; Lightning has no hook that late."""
        directory = RunDirectory.open(self.run_dir)
        for logger in loggers:
            logger.log_metrics(dict(directory.metrics))
            for name in directory.benchmarks:
                send_table(logger, f"results/{name}", *columns_and_rows(run_table(directory, name)))
            for picture in sorted((self.run_dir / "figures").glob("*.png")):
                send_picture(logger, picture)


def send_table(logger: Any, name: str, columns: list[str], rows: list[list[Any]]) -> None:
    """A table as Weights & Biases, TensorBoard or MLflow takes it; a logger like none of them gets nothing."""
    experiment: Any = getattr(logger, "experiment", None)
    if hasattr(logger, "log_table"):
        logger.log_table(name, columns, rows)
    elif hasattr(experiment, "add_text"):
        experiment.add_text(name, markdown(columns, rows))
    elif hasattr(experiment, "log_text"):
        experiment.log_text(logger.run_id, markdown(columns, rows), f"{name}.md")


def send_picture(logger: Any, picture: Path) -> None:
    """A picture, likewise."""
    experiment: Any = getattr(logger, "experiment", None)
    if hasattr(logger, "log_image"):
        logger.log_image(f"figures/{picture.stem}", [str(picture)])
    elif hasattr(experiment, "add_image"):
        import numpy as np
        from PIL import Image  # which TensorBoard needs

        experiment.add_image(f"figures/{picture.stem}", np.asarray(Image.open(picture)), dataformats="HWC")
    elif hasattr(experiment, "log_artifact"):
        experiment.log_artifact(logger.run_id, str(picture))


def columns_and_rows(table: Table) -> tuple[list[str], list[list[Any]]]:
    """A result table as loggers take it."""
    return [table.corner, *(column.name for column in table.columns)], [[row.label, *row.values] for row in table.rows]


def pairs_drawn(manifest: Path) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows: how many pairs of each set, query language and passage language were trained on."""
    import pyarrow.parquet as pq

    keys = ["set", "query_language", "passage_language"]
    drawn = pq.read_table(manifest, columns=[*keys, "pairs"]).group_by(keys).aggregate([("pairs", "sum")])
    rows = drawn.sort_by([(key, "ascending") for key in keys]).to_pylist()
    return [*keys, "pairs"], [[row[key] for key in [*keys, "pairs_sum"]] for row in rows]


def markdown(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table in Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join("" if cell is None else str(cell) for cell in line) + " |" for line in lines)
