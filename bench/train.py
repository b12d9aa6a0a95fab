"""Training steps of plain batches, beside sentence-transformers' MultipleNegativesRankingLoss (see `bench.peer`).

The same weights, pairs, batches, optimiser, dropout (0.1) and clipping; each side does all that its step does, from the pairs'
text (the peer) or stored tokens (this package) to the optimiser.
"""

from __future__ import annotations

from bench.row import Row
from bench.side_by_side import training_row
from bench.texts import texts


def train_f32_64() -> Row:
    return training_row("train_f32_64", texts(), 64, 2.0)


def train_f32_128() -> Row:
    return training_row("train_f32_128", texts(), 128, 2.6)


def train_bf16_64() -> Row:
    return training_row("train_bf16_64", texts(), 64, 2.0, bf16=True)
