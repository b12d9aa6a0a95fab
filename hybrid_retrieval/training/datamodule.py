"""The data side of a run: sets, tokens, the training stream and the validation stream."""

from __future__ import annotations

import signal
from typing import Any

import lightning
import torch
from torch.utils.data import DataLoader

from hybrid_retrieval.cache import Cache
from hybrid_retrieval.config import TrainerConfig
from hybrid_retrieval.data.source import Source
from hybrid_retrieval.data.tokens import Tokenization, tokenise
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.models.encoder import CHUNK_TOKENS, Role
from hybrid_retrieval.sampling.sampler import Sampler as PairSampler
from hybrid_retrieval.training.batches import SIDES, BatchBuilder, Chunking, PairBatch, StepBatches, Steps, TokenisedSet
from hybrid_retrieval.training.teacher import Teacher


class PairsDataModule(lightning.LightningDataModule):
    """Composes monolingual and cross-lingual pairs per the sampler's ratio.

    It knows tokenizations, not the model; batches are functions of (seed, step, journal), so a resumed run starts its loader
    at `start_step` with the checkpoint's `journal`, and nothing else is restored.

    Attributes:
        journal: what an adaptive sampler decided while training, in plain types; kept in checkpoints, and back before the
            training loader is made.
    """

    def __init__(
        self,
        source: Source,
        sampler: PairSampler,
        query_tokenization: Tokenization,
        passage_tokenization: Tokenization,
        vocabulary: int,
        cache: Cache,
        config: TrainerConfig,
        seed: int,
        hard_negatives: int = 0,
        sides: tuple[Role, Role] = ("query", "passage"),
        pads: bool = False,
        teacher: Teacher | None = None,
    ) -> None:
        """
        Args:
            sides: what stands on the two sides of a pair (`hybrid_retrieval.losses.loss.Loss.sides`).
            pads: whether the encoder pads, so that chunks of similar length pay.
            teacher: whose embeddings of the batches' texts the loss needs.
        """
        super().__init__()
        self.config, self.start_step = config, 0
        read: set[Role] = {*sides, "passage"} if hard_negatives else {*sides}
        self.builder = BatchBuilder(
            [
                TokenisedSet(
                    pairs=one.pairs,
                    queries=tokenise(one.pairs, "queries", query_tokenization, vocabulary, cache, config.progress),
                    passages=tokenise(one.pairs, "passages", passage_tokenization, vocabulary, cache, config.progress),
                    weight=one.weight,
                    taught={SIDES[role]: teacher.embeddings(one.pairs, role, cache) for role in read} if teacher else {},
                )
                for one in source.sets()
            ],
            hard_negatives,
            sides,
            Chunking((config.chunk_tokens or CHUNK_TOKENS) if pads else 0, config.chunks_multiple_of),
        )
        self.train_composer = sampler.compose(
            self.builder.availability("train"), seed, steps=config.max_steps * config.accumulate
        )
        held_out = self.builder.availability("validation")
        has_validation = any(len(one.patterns.starts) for one in held_out.sets)
        self.validation_composer = sampler.compose(held_out, seed, short=True) if has_validation else None

    @property
    def validates(self) -> bool:
        """Whether there is anything to validate on."""
        return self.validation_composer is not None and self.config.validation_batches > 0

    def check(self, strict: bool) -> None:
        """With `strict`, refuse text that was cut to the length limit or holds unknown tokens (law 7)."""
        for one in self.builder.sets:
            for side, store in (("queries", one.queries), ("passages", one.passages)):
                cut = sum(part.truncated for part in store.coverage.values())
                unknown = sum(part.unknown for part in store.coverage.values())
                if strict and (cut or unknown):
                    raise InputError(
                        f"strict=true: of the {side} of {one.pairs.name}, {cut} texts are cut to model.max_*_length and "
                        f"{unknown} tokens are unknown to the tokenizer"
                    )

    def state_dict(self) -> dict[str, Any]:
        """What an adaptive ratio decided: with it, batches are a function of (seed, step)."""
        return {"journal": self.train_composer.journal}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.train_composer.restore(state_dict["journal"])

    def _rank(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def train_dataloader(self) -> DataLoader[tuple[PairBatch, ...]]:
        rank, world_size = self._rank()
        steps, accumulate = self.config.max_steps, self.config.accumulate
        batches = StepBatches(self.builder, self.train_composer, steps * accumulate, rank, world_size)
        return DataLoader(
            Steps(batches, accumulate),
            batch_size=None,
            sampler=range(self.start_step, steps),
            num_workers=self.config.workers,
            worker_init_fn=_outlive_sigterm,
            persistent_workers=self.config.workers > 0,
            generator=torch.Generator(),  # a loader that starts draws a number, and must not draw it from the model's
        )

    def val_dataloader(self) -> DataLoader[PairBatch] | list[DataLoader[PairBatch]]:
        """Every rank gets whole batches: they are few, and short ones need not divide."""
        if self.validation_composer is None or not self.validates:
            return []
        batches = StepBatches(self.builder, self.validation_composer, self.config.validation_batches)
        return DataLoader(batches, batch_size=None, generator=torch.Generator())


def _outlive_sigterm(*_: object) -> None:
    """A signal to the whole process group is the training process's to answer; a worker ends with it."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
