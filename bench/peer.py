"""sentence-transformers, as its users train with it: the peer of the training rows.

A plain loop with the peer's own parts, and none of the Trainer's overhead: its collator (which tokenises every batch), its loss
(MultipleNegativesRankingLoss, or the cached one), ``backward``, ``clip_grad_norm_``, fused AdamW with the Trainer's groups (no
decay of biases and norms). bfloat16 is autocast, as the Trainer's ``bf16=True`` is.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.data_collator import SentenceTransformerDataCollator
from sentence_transformers.sentence_transformer.losses import CachedMultipleNegativesRankingLoss, MultipleNegativesRankingLoss
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from bench.texts import Texts

SCALE = 20.0
"""1 / temperature."""
LEARNING_RATE = 2e-5
WEIGHT_DECAY = 0.01
LARGEST_NORM = 1.0
MINI_BATCHES: tuple[dict[str, int], ...] = (
    {"mini_batch_size": 32},
    {"mini_batch_size": 64},
    {"mini_batch_size": 32, "mini_batch_num_tokens": 4096},
    {"mini_batch_size": 64, "mini_batch_num_tokens": 8192},
)
"""Settings of the cached loss that are tried: fixed mini-batches, and its token budgets."""


class Peer:
    """A model in training on pairs of `texts`."""

    def __init__(
        self,
        directory: Path,
        texts: Texts,
        bf16: bool = False,
        cached: dict[str, int] | None = None,
        ranks: int = 1,
        attention: str = "sdpa",
    ) -> None:
        """
        Args:
            cached: settings of the cached loss's mini-batches; the plain loss without.
            ranks: more than one: in a process group, with negatives of all ranks.
            attention: sdpa, or flash_attention_2, with which texts are not padded.
        """
        self.model = SentenceTransformer(
            str(directory),
            device="cuda" if torch.cuda.is_available() else "cpu",
            model_kwargs={"attn_implementation": attention},
        )
        self.model.train()
        self.texts, self.bf16 = texts, bf16
        self.collate = SentenceTransformerDataCollator(preprocess_fn=self.model.preprocess)
        gathered = {"gather_across_devices": ranks > 1}
        self.loss: nn.Module = (
            MultipleNegativesRankingLoss(self.model, SCALE, **gathered)
            if cached is None
            else CachedMultipleNegativesRankingLoss(self.model, SCALE, **gathered, **cached)
        )
        if ranks > 1:
            # The pooler, which nothing uses, never has a gradient.
            self.loss.model = DistributedDataParallel(self.model, find_unused_parameters=True)
        decayed = [value for value in self.model.parameters() if value.ndim > 1]
        plain = [value for value in self.model.parameters() if value.ndim <= 1]
        groups: list[dict[str, Any]] = [{"params": decayed}, {"params": plain, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True)

    def features(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        """The two columns of a batch, tokenised and padded."""
        batch = self.collate([{"anchor": self.texts.questions[row], "positive": self.texts.passages[row]} for row in rows])
        device = self.model.device
        columns: list[dict[str, Any]] = [{}, {}]
        for name, value in batch.items():
            column, _, key = name.partition("_")
            columns[column == "positive"][key] = value.to(device) if isinstance(value, Tensor) else value
        return columns

    def step(self, rows: Sequence[int]) -> float:
        """One step of training; the loss."""
        features = self.features(rows)
        self.optimizer.zero_grad()
        with self._autocast():
            loss = self.loss(features, None)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), LARGEST_NORM)
        self.optimizer.step()
        return float(loss.detach())

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.model.device.type, torch.bfloat16, enabled=self.bf16)

    def evaluate(self, rows: Sequence[int]) -> float:
        """The loss of a batch without dropout."""
        self.model.eval()
        try:
            with torch.no_grad(), self._autocast():
                return float(self.loss(self.features(rows), None))
        finally:
            self.model.train()
