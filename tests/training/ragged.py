"""A small ragged set in which every kind of coincidence happens, and encoders and batches over it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer

from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.data.parallel import PairsWriter, ParallelPairs
from hybrid_retrieval.losses.distill_scores import DistillScores
from hybrid_retrieval.losses.infonce import InfoNCE
from hybrid_retrieval.models.encoder import BiEncoder, EncoderSettings
from hybrid_retrieval.models.static import StaticBackbone
from hybrid_retrieval.models.transformer import ScratchTransformer
from hybrid_retrieval.sampling.composer import Composer
from hybrid_retrieval.sampling.sampler import Sampler
from hybrid_retrieval.training.collate import Collator, PairBatch, TokenisedSet
from hybrid_retrieval.training.engine import Engine
from hybrid_retrieval.values import build

SETS = {"one": ("aa", "bb", "cc"), "two": ("bb", "cc", "dd")}
LONGEST = 40
DIMENSIONS = 16


def ragged_set(directory: Path, name: str, seed: int) -> ParallelPairs:
    """40 questions, 25 passages, several answers and negatives each, a third of the texts missing, some texts shared.

    Four scores of five are known.

    Texts are of 5 to some 35 tokens.
    """
    random = np.random.default_rng(seed)
    directory.mkdir(parents=True)
    writer = PairsWriter(directory, name, SETS[name])
    for side, count in (("queries", 40), ("passages", 25)):
        for index, language in enumerate(SETS[name]):
            present = np.flatnonzero(random.random(count) < 0.7).tolist()
            writer.write(side, language, ((i, f"{i}", text(side, i % (count - 5), language, index)) for i in present))
    pairs = {(int(q), int(p)) for q, p in zip(random.integers(0, 40, 90), random.integers(0, 25, 90), strict=True)}
    edges = np.array([(q, p, int(random.integers(0, 25))) for q, p in sorted(pairs)])
    scores = np.where(random.random((len(edges), 2)) < 0.8, random.normal(size=(len(edges), 2)), np.nan)
    writer.finish({"train": edges}, {"provenance": {}}, {"train": scores})
    return ParallelPairs.open(directory)


def text(side: str, number: int, language: str, index: int) -> str:
    """The text of a number; some are long."""
    return f"{side} {number} in {language} {index}" + f" and {number}" * (number * 7 % 11)


def composed(collate: Collator, sampler: str, batch_size: int, seed: int = 0) -> Composer:
    """The batches of a sampler over the collator's sets."""
    config = {"_target_": f"hybrid_retrieval.sampling.{sampler}", "batch_size": batch_size}
    made: Sampler = build(config, Sampler, "sampler")
    return made.compose(collate.availability("train"), seed=seed)


def batch_of(
    sets: Sequence[TokenisedSet],
    budget: int,
    step: int = 0,
    rank: int = 0,
    ranks: int = 1,
    hard_negatives: int = 1,
    sides: tuple[str, str] = ("query", "passage"),
    batch_size: int = 16,
) -> PairBatch:
    """16 cross-lingual pairs of both sets as a rank sees them, in chunks of `budget` tokens."""
    collate = Collator(sets, hard_negatives, sides, budget, scored=True)
    return collate(step, composed(collate, "sampler.XY", batch_size).batch(step), rank, ranks)


def encoded(batches: Sequence[PairBatch]) -> list[list[int]]:
    """The ids of every text of a global batch, from what its ranks encode and where they say that it lies."""
    lying = [
        chunk.tokens.ids[chunk.tokens.offsets[i] : chunk.tokens.offsets[i + 1]].tolist()
        for batch in batches
        for chunk in batch.chunks
        for i in range(len(chunk.tokens))
    ]
    assert sorted(batches[0].places.tolist()) == list(range(len(lying))), "a text is encoded twice, or not at all"
    return [lying[place] for place in batches[0].places.tolist()]


def small_encoder(tokenizer: Tokenizer, kind: str, dropout: float = 0.0) -> BiEncoder:
    """A static encoder or a transformer of two layers, always with the same weights; in training mode."""
    torch.manual_seed(7)
    if kind == "static":
        backbone = StaticBackbone(tokenizer.get_vocab_size(), DIMENSIONS)
        torch.nn.init.normal_(backbone.embedding.weight)
        return BiEncoder(backbone, tokenizer, EncoderSettings()).train()
    model = ScratchTransformer(
        PathsConfig(), 2, DIMENSIONS, 2, dropout=dropout, max_query_length=LONGEST, max_passage_length=LONGEST
    )
    encoder = model.build(tokenizer)
    for name, value in encoder.named_parameters():
        if "weight" in name and value.dim() == 2:  # weights as they come make all embeddings alike
            torch.nn.init.normal_(value, std=0.5 if "embeddings" in name else 0.3)
    return encoder.train()


def of_data(**settings: Any) -> DistillScores:
    """Distillation of the data's scores."""
    loss = DistillScores(teacher={}, targets="data", temperature=0.2, teacher_temperature=1.0, hard_negatives=1, **settings)
    loss.bind(DIMENSIONS, ("aa", "bb", "cc", "dd"))
    return loss


def info_nce(**settings: Any) -> InfoNCE:
    """The loss as a run would make it."""
    loss = InfoNCE(**{"temperature": 0.2, "hard_negatives": 1, **settings})
    loss.bind(DIMENSIONS, ("aa", "bb", "cc", "dd"))
    return loss


def gradients(engine: Engine) -> dict[str, torch.Tensor]:
    """Dense copies of the gradients of encoder and loss, which are taken away."""
    found = {}
    for part in (engine.encoder, engine.loss):
        for name, value in part.named_parameters():
            if value.grad is not None:
                found[name] = value.grad.to_dense().clone()
                value.grad = None
    return found


def largest_difference(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> float:
    """Between gradients, relative to the largest of them."""
    assert left.keys() == right.keys()
    largest = max(float(value.abs().max()) for value in right.values())
    assert largest > 1e-3
    return max(float((left[name] - value).abs().max()) for name, value in right.items()) / largest
