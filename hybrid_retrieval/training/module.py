"""The learning side of a run: a bi-encoder under an in-batch loss."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torchmetrics import MeanMetric

from hybrid_retrieval.errors import DivergenceError, InputError
from hybrid_retrieval.evaluation.metric import MultilingualRetrieval
from hybrid_retrieval.losses.loss import Loss
from hybrid_retrieval.models.encoder import BiEncoder, Tokens
from hybrid_retrieval.training.collate import PairBatch, TextBatch
from hybrid_retrieval.training.datamodule import TABLES, HybridDataModule
from hybrid_retrieval.training.engine import Contrast, Engine, Forward
from hybrid_retrieval.training.exact import Boundary
from hybrid_retrieval.training.optimizers import AdamW, clip_gradients
from hybrid_retrieval.training.strategies import Replicas

SETTINGS = ("monolingual", "crosslingual", "multilingual")


class BiEncoderModule(lightning.LightningModule):
    """Trains a bi-encoder by a loss over the global batch (InfoNCE: arXiv 2408.10536, Eq. 1).

    `training_step` computes the loss and the gradients of all embeddings; `backward` takes these back through the encoder,
    chunk by chunk. Lightning does the rest: it scales, accumulates, clips and steps.
    """

    def __init__(
        self,
        encoder: BiEncoder | Mapping[str, Any],
        loss: Loss | None = None,
        optimizer: AdamW | Mapping[str, Any] | None = None,
        *,
        seed: int = 1,
        grad_cache: bool = False,
    ) -> None:
        """
        Args:
            encoder: or its description, as `load_from_checkpoint` gives it.
            loss: None for an encoder that is only used.
            optimizer: or its values; None for an encoder that is only used.
            seed: of the run; randomness in the encoder is a function of it, the step and the chunk.
            grad_cache: keep the activations of one chunk and encode each twice, for batches that do not fit.
        """
        super().__init__()
        self.encoder = encoder if isinstance(encoder, BiEncoder) else BiEncoder.described(encoder)
        self.loss = loss
        self.optimizer = AdamW(**optimizer) if isinstance(optimizer, Mapping) else optimizer
        self.seed, self.grad_cache = seed, grad_cache
        self.save_hyperparameters(
            {
                "encoder": self.encoder.description(),
                "optimizer": asdict(self.optimizer) if self.optimizer else None,
                "seed": seed,
                "grad_cache": grad_cache,
            },
            logger=False,
        )
        self.validation_loss, self.validation_accuracy = MeanMetric(), MeanMetric()
        self.retrieval: MultilingualRetrieval | None = None
        self.contrast = Contrast(torch.zeros(2, 3))
        self._forward: Forward | None = None
        self.bound: list[Any] = []
        """Dimensions, languages and the teacher's dimensions that the loss was built for."""

    def configure_model(self) -> None:
        """Build what depends on the data: the loss's own parameters, and the measures of the validation collection."""
        try:
            data = getattr(self.trainer, "datamodule", None)
        except RuntimeError:  # `load_from_checkpoint` calls it without a trainer
            return
        if isinstance(data, HybridDataModule):
            if self.loss is not None:
                self.bind(data)
            if self.retrieval is None and data.validation is not None:
                self.retrieval = MultilingualRetrieval(data.validation)

    def bind(self, data: HybridDataModule) -> None:
        """The same for data that is set up; a second call does nothing.

        Raises:
            InputError: the data is tokenised otherwise, or lacks what the loss asks of it.
        """
        loss = self.loss
        assert loss is not None
        theirs, ours = ([one.tokenization(role).fingerprint for role in TABLES] for one in (data.encoder, self.encoder))
        if theirs != ours:
            raise InputError("the data module reads texts for another encoder: HybridDataModule(source, module.encoder)")
        if (loss.sides, loss.hard_negatives) != (data.sides, data.hard_negatives):
            raise InputError(
                f"loss.sides={list(loss.sides)} and loss.hard_negatives={loss.hard_negatives} are not those of the data: "
                "HybridDataModule(..., loss=loss)"
            )
        if loss.hard_negatives > data.negatives:
            raise InputError(f"loss.hard_negatives={loss.hard_negatives}, but the data has {data.negatives} for a pair")
        if loss.teacher is not None and data.teacher is None:
            raise InputError("the loss needs a teacher's embeddings: HybridDataModule(..., teacher=Teacher(...))")
        if not loss.widths:
            self.bound = [self.encoder.dimensions, list(data.collate.languages), data.collate.teacher_dimensions]
            loss.bind(*self.bound)

    def configure_callbacks(self) -> list[Callback]:
        return [Boundary()]

    @property
    def engine(self) -> Engine:
        """The loss of batches, and their gradients."""
        if self.loss is None:
            raise InputError(
                "BiEncoderModule(encoder) has no loss to train by; give it one, as in BiEncoderModule(encoder, InfoNCE())"
            )
        return Engine(self.encoder, self.loss, self.seed, self.grad_cache)

    def forward(self, tokens: Tokens) -> Tensor:
        """Embeddings, [texts, dimensions]."""
        embeddings: Tensor = self.encoder(tokens)
        return embeddings

    def training_step(self, batch: PairBatch, batch_index: int) -> Tensor:
        """The mean loss of a global batch; its gradients wait for `backward`."""
        assert self.loss is not None
        self._forward = self.engine.forward(batch)
        self.contrast = self._forward.contrast
        self.log("train/loss", self.contrast.loss, prog_bar=True, batch_size=len(batch))
        self.log("train/accuracy@1", self.contrast.accuracy, batch_size=len(batch))
        for name, value in {**self.loss.figures(), **self.contrast.figures}.items():
            self.log(f"train/{name}", value, batch_size=len(batch))
        if batch.perturbed is not None:
            self.log("train/perturbed", len(batch.perturbed) / len(batch), batch_size=len(batch))
        if self.contrast.sums.device.type == "cpu":  # a GPU would be waited for; it is asked with each checkpoint and line
            self.check_finite()
        return self._forward.loss

    def check_finite(self) -> None:
        """Raise `DivergenceError` where the loss of the last batch is not finite."""
        pairs = float(self.contrast.sums[:, 2].sum())
        if pairs and not math.isfinite(loss := float(self.contrast.loss)):
            raise DivergenceError(f"the loss is {loss} at step {self.trainer.global_step}: training has diverged")

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Take the gradients of the embeddings back through the encoder, scaled as `loss` is."""
        assert self._forward is not None
        strategy = self.trainer.strategy
        self.engine.backward(self._forward, loss, last=not isinstance(strategy, Replicas) or strategy.last_backward)
        self._forward = None

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip by the global norm, row-sparse and sharded gradients too, after a GradScaler has taken back its scale."""
        if gradient_clip_algorithm not in (None, "norm"):
            raise InputError(
                f"gradient_clip_algorithm={gradient_clip_algorithm}; expected norm: rows that have no gradient count"
            )
        if gradient_clip_val:
            self.log("train/gradient_norm", clip_gradients(self.parameters(), gradient_clip_val))

    def validation_step(self, batch: PairBatch | TextBatch, batch_index: int, dataloader_idx: int = 0) -> None:
        if isinstance(batch, PairBatch):
            if self.loss is not None:
                contrast = self.engine.evaluate(batch)
                self.validation_loss.update(contrast.loss)
                self.validation_accuracy.update(contrast.accuracy)
        elif self.retrieval is not None:
            self.retrieval.update(self(batch.tokens).float(), batch.rows, batch.role)

    def on_validation_epoch_end(self) -> None:
        if self.validation_loss.update_called:
            self.log("val/loss", self.validation_loss, prog_bar=True)
            self.log("val/accuracy@1", self.validation_accuracy)
        if self.retrieval is None:
            return
        found = {} if self.trainer.sanity_checking else self.retrieval.compute()
        self.retrieval.reset()
        measures = {setting: found[f"{setting}/map"] for setting in SETTINGS if f"{setting}/map" in found}
        for setting, value in measures.items():
            self.log(f"val/{setting}/map", value, sync_dist=self.trainer.world_size > 1)
        data = getattr(self.trainer, "datamodule", None)
        if isinstance(data, HybridDataModule) and measures:
            data.observe(self.trainer.global_step, {setting: float(value) for setting, value in measures.items()})

    def predict_step(self, batch: TextBatch, batch_index: int) -> tuple[int, Tensor, Tensor]:
        """The set, rows int64 [texts], and embeddings [texts, dimensions], of texts."""
        return batch.set_index, batch.rows, self(batch.tokens).float()

    def configure_optimizers(self) -> Any:
        if self.optimizer is None:
            raise InputError("BiEncoderModule(encoder, loss) has no optimizer; give it one, as in optimizer=AdamW(lr=2e-5)")
        optimizer, schedule = self.optimizer.configure(self, self.trainer.max_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what the loss was bound to, so that it can be loaded without the data.

        Raises:
            DivergenceError: there is nothing worth keeping.
        """
        self.check_finite()
        for name, value in checkpoint["state_dict"].items():
            if type(value) is Tensor and value.is_floating_point() and not bool(torch.isfinite(value).all()):
                raise DivergenceError(f"{name} is not finite after step {self.trainer.global_step}: training has diverged")
        checkpoint["bound"] = self.bound

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """An encoder that is only used takes no parameters of the loss; a loss that is loaded has those of the checkpoint."""
        if self.loss is not None and not self.loss.widths:
            self.bound = checkpoint["bound"]
            self.loss.bind(*self.bound)
        if self.loss is None:
            weights: dict[str, Tensor] = checkpoint["state_dict"]
            checkpoint["state_dict"] = {name: value for name, value in weights.items() if not name.startswith("loss.")}
