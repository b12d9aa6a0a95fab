"""The learning side of a run: the bi-encoder under a contrastive loss."""

from __future__ import annotations

from typing import Any

import lightning
import torch
from torch import Tensor

from hybrid_retrieval.config import TrainerConfig
from hybrid_retrieval.evaluation.collection import RetrievalCollection
from hybrid_retrieval.evaluation.evaluate import evaluate
from hybrid_retrieval.losses.infonce import InfoNCE
from hybrid_retrieval.models.encoder import BiEncoder
from hybrid_retrieval.training.batches import PairBatch
from hybrid_retrieval.training.contrast import contrastive_loss
from hybrid_retrieval.training.optimizers import AdamW, clip_gradients


class ContrastiveModule(lightning.LightningModule):
    """Trains an encoder; validates its loss, and its retrieval on a small collection."""

    def __init__(
        self,
        encoder: BiEncoder,
        loss: InfoNCE,
        optimizer: AdamW,
        config: TrainerConfig,
        validation: RetrievalCollection | None = None,
    ) -> None:
        super().__init__()
        self.encoder, self.loss = encoder, loss
        self.optimizer, self.config = optimizer, config
        self.validation = validation

    def training_step(self, batch: PairBatch, batch_index: int) -> Tensor:
        loss, accuracy = contrastive_loss(self.encoder, self.loss, batch)
        count = len(batch.queries)
        several = self.trainer.world_size > 1
        self.log("train/loss", loss, prog_bar=True, batch_size=count, sync_dist=several)
        self.log("train/accuracy@1", accuracy, batch_size=count, sync_dist=several)
        self.log("train/temperature", self.loss.temperature.detach(), batch_size=count)
        return loss

    def validation_step(self, batch: PairBatch, batch_index: int) -> None:
        loss, accuracy = contrastive_loss(self.encoder, self.loss, batch, across_ranks=False)
        several = self.trainer.world_size > 1
        self.log("val/loss", loss, prog_bar=True, batch_size=1, sync_dist=several)
        self.log("val/accuracy@1", accuracy, batch_size=1, sync_dist=several)

    def on_validation_epoch_end(self) -> None:
        if self.validation is None:
            return
        result = evaluate(self.encoder, self.validation)
        for setting in ("monolingual", "crosslingual", "multilingual"):
            name = f"{self.validation.name}/{setting}/map"
            if name in result.metrics:
                value = torch.tensor(result.metrics[name], dtype=torch.float32, device=self.device)
                self.log(f"val/{setting}/map", value, sync_dist=self.trainer.world_size > 1)

    def configure_optimizers(self) -> Any:
        optimizer, schedule = self.optimizer.configure(self, self.config.max_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(self, *_: Any, **__: Any) -> None:
        """Clip row-sparse gradients too, which Lightning's own clipping refuses."""
        if self.config.gradient_clip:
            self.log("train/gradient_norm", clip_gradients(self.parameters(), self.config.gradient_clip))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the random state, which Lightning does not restore: dropout goes on where it was."""
        checkpoint["random_state"] = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            checkpoint["random_state"]["cuda"] = torch.cuda.get_rng_state(self.device)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._random_state = checkpoint.get("random_state", {})

    def on_train_start(self) -> None:
        state = self.__dict__.pop("_random_state", {})
        if "cpu" in state:
            torch.set_rng_state(state["cpu"].cpu())
        if "cuda" in state and self.device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda"].cpu(), self.device)
