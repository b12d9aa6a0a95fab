"""This package's side of the rows that encode: the product's encoder, batches, loss, optimizer and engine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from bench.peer import LARGEST_NORM, LEARNING_RATE, SCALE, WEIGHT_DECAY
from bench.texts import LONGEST, Texts, paths
from hybrid_retrieval.cache import Cache
from hybrid_retrieval.data.tokens import tokenise
from hybrid_retrieval.losses.infonce import InfoNCE
from hybrid_retrieval.models.encoder import CHUNK_TOKENS, BiEncoder
from hybrid_retrieval.models.published import PublishedModel
from hybrid_retrieval.models.tokenization import load_tokenizer
from hybrid_retrieval.sampling.batch import PairIndices
from hybrid_retrieval.training.collate import Collator, PairBatch, TokenisedSet
from hybrid_retrieval.training.engine import Engine, sum_gradients, world
from hybrid_retrieval.training.optimizers import AdamW, clip_gradients

STEPS = 1000
"""Of the schedule, which is constant."""


def encoder(directory: Path) -> BiEncoder:
    """The model of a directory, as the product loads it and with the kernels that it would choose."""
    model = PublishedModel(paths(), name="bench", path=str(directory), max_query_length=LONGEST, max_passage_length=LONGEST)
    built = model.build(load_tokenizer(directory))
    return built.to("cuda" if torch.cuda.is_available() else "cpu")


class Ours:
    """A model in training on pairs of `texts`, whose tokens are stored."""

    def __init__(
        self, directory: Path, texts: Texts, bf16: bool = False, cached: bool = False, chunk_tokens: int = CHUNK_TOKENS
    ) -> None:
        self.encoder, self.bf16, self.steps = encoder(directory).train(), bf16, 0
        self.engine = Engine(self.encoder, InfoNCE(temperature=1 / SCALE), seed=0, cached=cached)
        recipe = AdamW(lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, warmup=0.0, schedule="constant")
        self.optimizer, _ = recipe.configure(self.encoder, STEPS)
        cache, size = Cache.at(paths().cache), self.encoder.tokenizer.get_vocab_size()
        stores = [
            tokenise(texts.pairs, side, self.encoder.tokenization(role), size, cache, show=False)
            for side, role in (("queries", "query"), ("passages", "passage"))
        ]
        self.collate = Collator([TokenisedSet(texts.pairs, *stores)], chunk_tokens=chunk_tokens)

    def batch(self, rows: Sequence[int]) -> PairBatch:
        """The pairs `rows` as this rank sees them."""
        edge, zero = np.asarray(rows, np.int64), np.zeros(len(rows), np.int64)
        rank, ranks = world()
        return self.collate(self.steps, PairIndices(zero, edge, zero, zero), rank, ranks).to(self.encoder.device)

    def step(self, rows: Sequence[int]) -> float:
        """One step of training; the loss."""
        self.optimizer.zero_grad()
        with self._autocast():
            figures = self.engine.step(self.batch(rows))
        parameters = [value for value in self.encoder.parameters() if value.requires_grad]
        sum_gradients(parameters)
        clip_gradients(parameters, LARGEST_NORM)
        self.optimizer.step()
        self.steps += 1
        return float(figures.loss)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.encoder.device.type, torch.bfloat16, enabled=self.bf16)

    def evaluate(self, rows: Sequence[int]) -> float:
        """The loss of a batch without dropout."""
        self.encoder.eval()
        try:
            with self._autocast():
                return float(self.engine.evaluate(self.batch(rows)).loss)
        finally:
            self.encoder.train()
