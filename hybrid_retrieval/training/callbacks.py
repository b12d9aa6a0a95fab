"""What is watched while training: what was drawn, how long it took, which step was the best, and the checkpoints."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
import torch.distributed as dist
from lightning.pytorch.callbacks import Callback, RichProgressBar

from hybrid_retrieval.config import TrainerConfig
from hybrid_retrieval.errors import Terminated
from hybrid_retrieval.sampling.composer import Composer
from hybrid_retrieval.sampling.manifest import Manifest
from hybrid_retrieval.training.averaging import averaging
from hybrid_retrieval.training.batches import PairBatch
from hybrid_retrieval.training.datamodule import PairsDataModule
from hybrid_retrieval.training.telemetry import Telemetry

MANIFEST = "batch_manifest.parquet"
LAST, BEST = "last.ckpt", "best.ckpt"


class Recorder(Callback):
    """Keeps the manifest of the batches that were trained on, and the time spent on them.

    The clock stands still in validations and while checkpoints are written; a resumed run goes on counting.
    """

    def __init__(self, manifest: Manifest, run_dir: Path) -> None:
        self.manifest, self.path = manifest, run_dir / MANIFEST
        self.seconds, self.pairs = 0.0, 0
        self._since: float | None = None

    def state_dict(self) -> dict[str, Any]:
        self.pause()
        return {"seconds": self.seconds, "pairs": self.pairs}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.seconds, self.pairs = state_dict["seconds"], state_dict["pairs"]

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """The manifest is on the disk before a checkpoint that goes on from it is."""
        if trainer.is_global_zero:
            self.manifest.write(self.path)

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        self._since = time.perf_counter()

    def on_train_batch_start(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, batch: Any, index: int
    ) -> None:
        if self._since is None:
            self._since = time.perf_counter()

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        module: lightning.LightningModule,
        outputs: Any,
        batch: Sequence[PairBatch],
        index: int,
    ) -> None:
        for one in batch:
            self.manifest.add(one.step, one.composition)
            self.pairs += len(one.composition)

    def on_validation_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        self.pause()

    def on_train_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        self.pause()

    def pause(self) -> None:
        """Stop the clock; the next batch starts it again."""
        if self._since is not None:
            self.seconds += time.perf_counter() - self._since
        self._since = None


class Checkpoints(Callback):
    """Chooses the best step, stops early, and writes ``best.ckpt`` and ``last.ckpt``.

    After a validation the score is judged, ``best.ckpt`` is written if it is the best, and training may stop. ``last.ckpt``
    is written when the next step starts (and at the end), so that all that belongs to the steps before is over and in it. A
    checkpoint holds no state of Lightning's loops: a resumed run is a new epoch of the steps that are left, with the counters
    of steps set.

    SIGTERM asks for ``last.ckpt`` at the next step of any rank; all ranks then leave together with `Terminated`.
    """

    def __init__(self, folder: Path, config: TrainerConfig, validates: bool) -> None:
        self.folder, self.every = folder, config.checkpoint_every
        self.monitor, self.patience = config.monitor if validates else None, config.patience
        self.best_score, self.best_step, self.waited = math.nan, 0, 0
        self._start = 0
        self._asked = False
        self._group: dist.ProcessGroup | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"best_score": self.best_score, "best_step": self.best_step, "waited": self.waited}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best_score, self.best_step = state_dict["best_score"], state_dict["best_step"]
        self.waited = state_dict["waited"]

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        del checkpoint["loops"]

    def on_load_checkpoint(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._start = int(checkpoint["global_step"])
        count_steps(trainer, self._start)

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        # Lightning's own handler starts a collective operation in the middle of whatever the rank is doing, and its question
        # before each step makes a GPU wait; ours are asked on the host.
        signal.signal(signal.SIGTERM, self._ask)
        if trainer.world_size > 1:
            self._group = dist.new_group(backend="gloo")
            trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]
        trainer.should_stop = self._out_of_patience

    def on_train_batch_start(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, batch: Any, index: int
    ) -> None:
        step = trainer.global_step
        self._step_boundary(trainer, due=step % self.every == 0 and step > self._start)

    def on_train_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        self._step_boundary(trainer, due=True)

    def on_validation_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        if self.monitor is None:
            return
        score = float(trainer.callback_metrics[self.monitor])
        if self._is_better(score):
            self.best_score, self.best_step, self.waited = score, trainer.global_step, 0
            trainer.save_checkpoint(self.folder / BEST)
        else:
            self.waited += 1
        trainer.should_stop = self._out_of_patience

    def _step_boundary(self, trainer: lightning.Trainer, due: bool) -> None:
        terminated = self._asked_on_any_rank()
        if due or terminated:
            trainer.save_checkpoint(self.folder / LAST)
        if terminated:
            raise Terminated

    @property
    def _out_of_patience(self) -> bool:
        return 0 < self.patience <= self.waited

    def _is_better(self, score: float) -> bool:
        """Strictly better than the best before; the first finite score is."""
        if not math.isfinite(score) or math.isnan(self.best_score):
            return math.isfinite(score)
        return score < self.best_score if self.monitor == "val/loss" else score > self.best_score

    def _ask(self, *_: object) -> None:
        self._asked = True

    def _asked_on_any_rank(self) -> bool:
        if self._group is None:
            return self._asked
        asked = torch.tensor(int(self._asked))
        dist.all_reduce(asked, dist.ReduceOp.MAX, group=self._group)
        return bool(asked)


def count_steps(trainer: lightning.Trainer, step: int) -> None:
    """Set Lightning's counters to `step` steps done, as if the epoch that begins were the first of the run.

    Validation goes by the number of batches, `max_steps` by that of the optimizer's steps (automatic and manual optimisation
    count apart), and the loggers' axis by a third counter.
    """
    loop = trainer.fit_loop.epoch_loop
    automatic, manual = loop.automatic_optimization.optim_progress.optimizer.step, loop.manual_optimization.optim_step_progress
    for count in (loop.batch_progress.total, automatic.total, manual.total):
        count.load_state_dict(dict.fromkeys(count.state_dict(), step))
    loop._batches_that_stepped = step


class Adapting(Callback):
    """Lets an adaptive ratio decide after each validation, from what it measured of the two streams."""

    def __init__(self, composer: Composer, accumulate: int) -> None:
        self.composer, self.accumulate = composer, accumulate

    def on_validation_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        found = trainer.callback_metrics
        names = {stream: f"val/{stream}/map" for stream in ("monolingual", "crosslingual")}
        measures = {stream: float(found[name]) for stream, name in names.items() if name in found}
        self.composer.observe(trainer.global_step * self.accumulate, measures)


def callbacks(config: TrainerConfig, run_dir: Path, recorder: Recorder, data: PairsDataModule) -> list[Callback]:
    """The callbacks of a run; the recorder's clock starts after a checkpoint that is written before a step."""
    found: list[Callback] = [
        *averaging(config),
        Adapting(data.train_composer, config.accumulate),
        Checkpoints(run_dir / "checkpoints", config, data.validates),
        Telemetry(run_dir, config.log_every, data.train_composer, data.start_step),
        recorder,
    ]
    return [*found, RichProgressBar()] if config.progress else found
