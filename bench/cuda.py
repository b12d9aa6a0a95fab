"""``python -m bench.cuda``: one CUDA card, beside sentence-transformers at its best; figures to ``bench/cuda.json``.

XLM-R base's shape with random weights, bfloat16 by autocast, batches of 1,024 pairs of mixed lengths to 256 tokens, dropout as
the model has it. In order: loss and gradients against float64; pairs a second of both sides (at least 1.5 times the peer); the
share of the card's measured matrix peak that this package's step reaches; the memory of a step with GradCache, by the size of
its batch. Each is written as soon as it is known.

The peer runs with whatever is fastest for it: FlashAttention 2, with which it does not pad, where flash-attn is installed, or
SDPA; the plain loss, or the cached one in mini-batches of texts or of tokens.

``--dry-run`` goes through all of it at a tiny size on whatever there is, and writes nothing.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers.utils import is_flash_attn_2_available

from bench import report
from bench.engine import Ours
from bench.peer import Peer
from bench.row import interleaved
from bench.side_by_side import batches, check_agreement, rates, steps
from bench.texts import Texts, model_directory, texts

BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
BASE_VOCABULARY = 250_002
TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
TARGET = 1.5
CHUNK_TOKENS = 65_536
MINI_BATCHES: tuple[dict[str, int] | None, ...] = (
    None,
    {"mini_batch_size": 128},
    {"mini_batch_size": 512},
    {"mini_batch_size": 512, "mini_batch_num_tokens": 32_768},
)
"""Settings of the peer's loss that are tried: the plain one, and the cached one."""
LARGEST_ERROR = {"float32": 1e-4, "bfloat16": 5e-2}
"""Relative L2 distance of the gradient from float64's."""
RESULT = Path(__file__).parent / "cuda.json"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.cuda", description=__doc__.splitlines()[0])
    parser.add_argument("--dry-run", action="store_true", help="every step at a tiny size, also without a card")
    parser.add_argument("--batch", type=int, default=1024, help="pairs of a batch")
    parser.add_argument("--largest", type=int, default=1 << 16, help="pairs of the largest batch of which the memory is taken")
    options = parser.parse_args()
    if not options.dry_run and not torch.cuda.is_available():
        parser.error("there is no CUDA card; --dry-run tries the script at a tiny size")
    text = texts()
    directory = model_directory(shape=TINY) if options.dry_run else model_directory(BASE_VOCABULARY, BASE)
    size, count = (8, 1) if options.dry_run else (options.batch, 5)
    found: dict[str, Any] = {
        "card": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "text": text.origin,
        "machine": report.machine(),
    }
    parts: list[Callable[[], dict[str, Any]]] = [
        lambda: {"correctness": correctness(directory, text, 8 if options.dry_run else 64)},
        lambda: speed(directory, text, size, count),
        lambda: {"gradcache_gb_by_pairs": memory(directory, text, size, 16 if options.dry_run else options.largest)},
    ]
    for part in parts:
        known = part()
        print(json.dumps(known, indent=1), flush=True)
        found |= known
        if not options.dry_run:
            RESULT.write_text(json.dumps(found, indent=1) + "\n")


def correctness(directory: Path, text: Texts, size: int) -> dict[str, float]:
    """How far loss and gradients lie from float64's, without dropout.

    Raises:
        AssertionError: too far.
    """
    rows = next(batches(text, size))
    exact = Ours(directory, text, chunk_tokens=CHUNK_TOKENS)
    exact.encoder.double()
    truth, loss = gradients(exact, rows)
    found = {}
    for name, limit in LARGEST_ERROR.items():
        ours = Ours(directory, text, bf16=name == "bfloat16", cached=True, chunk_tokens=CHUNK_TOKENS)
        mine, my_loss = gradients(ours, rows)
        found[f"gradient_{name}"] = float((mine - truth).norm() / truth.norm())
        found[f"loss_{name}"] = abs(my_loss - loss) / loss
        assert found[f"gradient_{name}"] < limit, found
    return found


def gradients(side: Ours, rows: list[int]) -> tuple[torch.Tensor, float]:
    """All gradients end to end in float64, and the loss, of one batch without dropout."""
    side.encoder.eval()
    with torch.autocast(side.encoder.device.type, torch.bfloat16, enabled=side.bf16):
        loss = side.engine.step(side.batch(rows)).loss
    found = [value.grad for value in side.encoder.parameters() if value.grad is not None]
    return torch.cat([(one.to_dense() if one.is_sparse else one).double().flatten().cpu() for one in found]), float(loss)


def speed(directory: Path, text: Texts, size: int, count: int) -> dict[str, Any]:
    """Pairs a second of both sides, and the share of the matrix peak."""
    ours = Ours(directory, text, bf16=True, chunk_tokens=CHUNK_TOKENS)
    check_agreement(ours, Peer(directory, text), next(batches(text, min(size, 64))))
    peer, settings = best_peer(directory, text, size)
    mine, theirs = interleaved(synchronised(steps(ours, text, size, count)), synchronised(steps(peer, text, size, count)), 3)
    my_rate, peer_rate = rates(size * count, mine, theirs)
    peak = matrix_peak(ours.encoder.device, 256 if size < 64 else 8192)
    reached = flops(ours, next(batches(text, size))) / (mine.median / count)
    return {
        "pairs_per_second": {"ours": my_rate, "peer": peer_rate, "ratio": my_rate / peer_rate, "target": TARGET},
        "peer_settings": settings,
        "tflops": {"reached": reached / 1e12, "matrix_peak": peak / 1e12, "share": reached / peak},
    }


def best_peer(directory: Path, text: Texts, size: int) -> tuple[Peer, dict[str, Any]]:
    """The fastest of the peer's settings, by one warm step each.

    Those that do not fit are left out, or do not run: its cached loss embeds again outside of autocast, in float32, which
    FlashAttention 2 does not take.
    """
    attentions = ["flash_attention_2", "sdpa"] if is_flash_attn_2_available() else ["sdpa"]
    rows, found = next(batches(text, size)), []
    for attention, cached in itertools.product(attentions, MINI_BATCHES):
        peer = Peer(directory, text, bf16=True, cached=cached, attention=attention)
        step = synchronised(lambda peer=peer: peer.step(rows))
        try:
            step()
            start = time.perf_counter()
            step()
            found.append((time.perf_counter() - start, attention, cached))
        except RuntimeError:
            continue
        finally:
            del peer, step
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
    if not found:
        raise RuntimeError(f"the peer cannot take a step of {size} pairs on this card")
    _, attention, cached = min(found, key=lambda one: one[0])
    tried = {f"{attention}, {cached or 'plain loss'}": round(seconds, 3) for seconds, attention, cached in found}
    return Peer(directory, text, bf16=True, cached=cached, attention=attention), {
        "attention": attention,
        "cached": cached,
        "tried_seconds": tried,
    }


def synchronised(run: Callable[[], None]) -> Callable[[], None]:
    """The same, until the card has done it."""

    def whole() -> None:
        run()
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    return whole


def flops(side: Ours, rows: list[int]) -> float:
    """Floating-point operations of a step without GradCache: three times those of the forward pass, no padding counted."""
    config: Any = side.encoder.backbone.model.config
    width, layers = config.hidden_size, config.num_hidden_layers
    lengths = torch.cat([chunk.tokens.offsets.diff() for chunk in side.batch(rows).chunks]).double()
    products = 2 * (4 * width * width + 2 * width * config.intermediate_size) * lengths.sum()
    return float(3 * layers * (products + 4 * width * (lengths**2).sum()))


def matrix_peak(device: torch.device, size: int) -> float:
    """Operations a second of a large bfloat16 product."""
    left = torch.randn(size, size, device=device, dtype=torch.bfloat16)
    product = synchronised(lambda: [left @ left for _ in range(20)] and None)
    timing, _ = interleaved(product, lambda: None, 3)
    return 20 * 2 * size**3 / timing.median


def memory(directory: Path, text: Texts, size: int, largest: int) -> dict[int, float]:
    """Peak GB of a step with GradCache for batches of `size` pairs and its doubles to `largest`; pairs repeat as need be."""
    ours = Ours(directory, text, bf16=True, cached=True, chunk_tokens=CHUNK_TOKENS)
    found = {}
    while size <= largest:
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        try:
            ours.step(next(batches(text, size)))
        except torch.cuda.OutOfMemoryError:
            break
        found[size] = torch.cuda.max_memory_allocated() / 1e9 if torch.cuda.is_available() else 0.0
        size *= 2
    return found


if __name__ == "__main__":
    main()
