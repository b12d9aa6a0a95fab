"""The learning side of a run: the bi-encoder under a contrastive loss."""

from __future__ import annotations

from typing import Any

import lightning
import torch
from torch import Tensor

from hybrid_retrieval.config import TrainerConfig
from hybrid_retrieval.evaluation.collection import RetrievalCollection
from hybrid_retrieval.evaluation.protocol import evaluate
from hybrid_retrieval.evaluation.retrievers.dense import Dense
from hybrid_retrieval.losses.loss import Loss
from hybrid_retrieval.models.encoder import BiEncoder
from hybrid_retrieval.training.batches import PairBatch
from hybrid_retrieval.training.contrast import Contrast, Engine
from hybrid_retrieval.training.gather import sum_gradients
from hybrid_retrieval.training.optimizers import AdamW, clip_gradients
from hybrid_retrieval.training.shared_encoding import SharedEncoder


class ContrastiveModule(lightning.LightningModule):
    """Trains an encoder; validates its loss, and its retrieval on a small collection."""

    def __init__(
        self,
        encoder: BiEncoder,
        loss: Loss,
        optimizer: AdamW,
        config: TrainerConfig,
        seed: int,
        validation: RetrievalCollection | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.encoder, self.loss = encoder, loss
        self.engine = Engine(encoder, loss, seed, config.grad_cache)
        self.optimizer, self.config = optimizer, config
        self.validation = validation
        self.figures = Contrast(torch.zeros(2, 3))

    def training_step(self, batches: tuple[PairBatch, ...], batch_index: int) -> None:
        optimizer: Any = self.optimizers()
        optimizer.zero_grad()
        last = len(batches) - 1
        steps = [self.engine.step(batch, self._backward, number == last) for number, batch in enumerate(batches)]
        self.figures = Contrast.together(steps)
        sum_gradients([parameter for parameter in self.parameters() if parameter.requires_grad])
        optimizer.step()
        schedule: Any = self.lr_schedulers()
        schedule.step()
        pairs = sum(len(batch) for batch in batches)
        self.log("train/loss", self.figures.loss, prog_bar=True, batch_size=pairs)
        self.log("train/accuracy@1", self.figures.accuracy, batch_size=pairs)
        for name, value in {**self.loss.figures(), **self.figures.figures}.items():
            self.log(f"train/{name}", value, batch_size=pairs)

    def _backward(self, loss: Tensor) -> None:
        self.manual_backward(loss / self.config.accumulate)

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        """Clip, row-sparse gradients too, after a precision plugin has taken back its scale."""
        if self.config.gradient_clip:
            norm = clip_gradients(self.parameters(), self.config.gradient_clip)
            self.log("train/gradient_norm", norm)

    def validation_step(self, batch: PairBatch, batch_index: int) -> None:
        figures = self.engine.evaluate(batch)
        several = self.trainer.world_size > 1
        self.log("val/loss", figures.loss, prog_bar=True, batch_size=1, sync_dist=several)
        self.log("val/accuracy@1", figures.accuracy, batch_size=1, sync_dist=several)

    def on_validation_epoch_end(self) -> None:
        if self.validation is None:
            return
        result = evaluate(Dense(SharedEncoder(self.encoder)), self.validation)
        for setting in ("monolingual", "crosslingual", "multilingual"):
            figure = result.figures.get(self.validation.name, setting, "map")
            if figure:
                value = torch.tensor(figure.value, dtype=torch.float32, device=self.device)
                self.log(f"val/{setting}/map", value, sync_dist=self.trainer.world_size > 1)

    def configure_optimizers(self) -> Any:
        optimizer, schedule = self.optimizer.configure(self, self.config.max_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
