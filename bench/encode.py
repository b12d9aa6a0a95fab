"""Encoding texts of mixed lengths, beside ``SentenceTransformer.encode`` with the same weights.

4,000 texts, questions and passages in turn, from text to vectors on both sides. The peer sorts by length too; its batch size is
the faster of its default 32 and of 64, by a sample. In bfloat16 the weights are bfloat16 on both sides.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from bench.engine import encoder
from bench.row import Row, busy_neighbour, interleaved
from bench.texts import SMALL, model_directory, texts

TEXTS, SAMPLE = 4000, 256
BATCH_SIZES = (32, 64)
BUSY_TARGET = 1.2
AGREEMENT = {torch.float32: 1e-4, torch.bfloat16: 5e-2}
"""Largest difference of any component of the unit vectors."""


def encode_f32() -> Row:
    return encode_row("encode_f32", torch.float32, 1.8)


def encode_bf16() -> Row:
    return encode_row("encode_bf16", torch.bfloat16, 1.5)


def encode_f32_busy() -> Row:
    """Beside a process that wants a core too."""
    with busy_neighbour():
        return encode_row("encode_f32_busy", torch.float32, BUSY_TARGET)


def encode_bf16_busy() -> Row:
    with busy_neighbour():
        return encode_row("encode_bf16_busy", torch.bfloat16, BUSY_TARGET)


def encode_row(name: str, dtype: torch.dtype, target: float, count: int = TEXTS, rounds: int = 3) -> Row:
    """Texts a second of both sides."""
    text, directory = texts(), model_directory(shape=SMALL)
    mixed = [one for pair in zip(text.questions, text.passages, strict=True) for one in pair][:count]
    model = encoder(directory).to(dtype).eval()
    peer_model = SentenceTransformer(str(directory), device=str(model.device)).to(dtype).eval()
    seconds = {}
    for size in BATCH_SIZES:
        peer_model.encode(mixed[:32], batch_size=size)
        start = time.perf_counter()
        peer_model.encode(mixed[:SAMPLE], batch_size=size)
        seconds[size] = time.perf_counter() - start
    best = min(seconds, key=lambda size: seconds[size])
    one, other = model.encode(mixed[:SAMPLE], "passage"), peer_model.encode(mixed[:SAMPLE])
    difference = float(np.abs(one - other.astype(np.float32)).max())
    assert difference < AGREEMENT[dtype], f"{name}: embeddings differ by {difference}"

    def ours() -> None:
        model.encode(mixed, "passage")

    def peer() -> None:
        peer_model.encode(mixed, batch_size=best)

    mine, theirs = interleaved(ours, peer, rounds, warm=0)
    details = {"ours": mine.details(), "peer": theirs.details(), "peer_batch_size": best, "largest_difference": difference}
    details["text"] = text.origin
    rates = (len(mixed) / timing.median for timing in (mine, theirs))
    return Row(name, "texts/s", *rates, target, less_is_better=False, details=details)
