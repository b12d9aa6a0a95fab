"""One line of progress while a run trains."""

from __future__ import annotations

import logging
import time
from typing import Any

import lightning
from lightning.pytorch.callbacks import ProgressBar

from hybrid_retrieval.progress import bar, duration
from hybrid_retrieval.training.telemetry import STREAMS, Telemetry

log = logging.getLogger(__name__)

SHORT = dict(zip(STREAMS, ("Mo.", "Cr."), strict=True))


class ProgressLine(ProgressBar):
    """Steps, loss, accuracy@1 of both streams, pairs a second and time left, as the telemetry last had them.

    On a terminal it stays in its place; elsewhere it is a line of the log, one every `seconds` and with each validation.
    """

    def __init__(self, seconds: float = 60.0) -> None:
        super().__init__()
        self.seconds = seconds
        self._bar: Any = None

    def disable(self) -> None:
        """Say nothing from here on."""
        self._close()
        self.seconds = float("inf")

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        self._first, self._begun = trainer.global_step, time.monotonic()
        self._said = self._begun
        self._telemetry = next((one for one in trainer.callbacks if isinstance(one, Telemetry)), None)  # type: ignore[attr-defined]
        self._shown: Any = None
        self._bar = bar()
        if self._bar is not None:
            self._task = self._bar.add_task("training", total=trainer.max_steps, completed=self._first, figures="")
            self._bar.start()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._show(trainer, "training", time.monotonic() - self._said >= self.seconds)

    def on_validation_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        self._show(trainer, "validation", False)

    def on_validation_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        if not trainer.sanity_checking:
            self._show(trainer, "training", self.seconds != float("inf"))

    def on_train_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        self._close()

    def on_exception(self, trainer: lightning.Trainer, module: lightning.LightningModule, exception: BaseException) -> None:
        self._close()

    def figures(self, trainer: Any) -> list[str]:
        """What is known by now, as ``loss 2.31``, ``accuracy@1 Mo. .61, Cr. .38``, ``val/loss 2.52``, ``2,310 pairs/s``."""
        last = {} if self._telemetry is None else self._telemetry.last
        parts = [f"loss {last['train/loss']:.3g}"] if "train/loss" in last else []
        hits = {short: last[key] for stream, short in SHORT.items() if (key := f"train/accuracy@1/{stream}") in last}
        if hits:
            parts.append("accuracy@1 " + ", ".join(f"{short} {value:.2f}" for short, value in hits.items()))
        if "val/loss" in trainer.callback_metrics:
            parts.append(f"val/loss {float(trainer.callback_metrics['val/loss']):.3g}")
        if "train/pairs_per_second" in last:
            parts.append(f"{last['train/pairs_per_second']:,.0f} pairs/s")
        return parts

    def _show(self, trainer: Any, doing: str, say: bool) -> None:
        step, steps = trainer.global_step, trainer.max_steps
        if self._bar is not None:
            last = None if self._telemetry is None else self._telemetry.last
            # At a new line only: a GPU is waited for.
            known = {} if self._shown == (last, doing) else {"figures": " · ".join(self.figures(trainer))}
            self._shown = last, doing
            self._bar.update(self._task, description=doing, completed=step, **known)
        elif say:
            self._said = time.monotonic()
            parts = [f"step {step:,} of {steps:,}", *self.figures(trainer)]
            if self._first < step < steps:
                spent = self._said - self._begun
                parts.append(f"{duration(spent / (step - self._first) * (steps - step))} left")
            log.info("%s", " · ".join(parts))

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
