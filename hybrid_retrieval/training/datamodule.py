"""The data side of a run: sets, tokens, the training stream and the validation stream."""

from __future__ import annotations

from collections.abc import Iterator

import lightning
from torch.utils.data import DataLoader, Sampler

from hybrid_retrieval.cache import Cache
from hybrid_retrieval.config import TrainerConfig
from hybrid_retrieval.data.source import Source
from hybrid_retrieval.data.tokens import Tokenization, tokenise
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.sampling.sampler import Sampler as PairSampler
from hybrid_retrieval.training.batches import BatchBuilder, PairBatch, StepBatches, TokenisedSet


class StepsFrom(Sampler[int]):
    """The steps of a run from `start` on; as long as the whole run, because Lightning counts the batches before too."""

    def __init__(self, start: int, steps: int) -> None:
        self.start, self.steps = start, steps

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.start, self.steps))

    def __len__(self) -> int:
        return self.steps


class PairsDataModule(lightning.LightningDataModule):
    """Composes monolingual and cross-lingual pairs per the sampler's ratio.

    It knows tokenizations, not the model; batches are functions of (seed, step), so a resumed run starts its loader at
    `start_step` and nothing else is restored.
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
    ) -> None:
        super().__init__()
        self.config, self.start_step = config, 0
        self.builder = BatchBuilder(
            [
                TokenisedSet(
                    pairs=one.pairs,
                    queries=tokenise(one.pairs, "queries", query_tokenization, vocabulary, cache, config.progress),
                    passages=tokenise(one.pairs, "passages", passage_tokenization, vocabulary, cache, config.progress),
                    weight=one.weight,
                )
                for one in source.sets()
            ],
            hard_negatives,
        )
        self.train_composer = sampler.compose(self.builder.availability("train"), seed)
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

    def _rank(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def train_dataloader(self) -> DataLoader[PairBatch]:
        rank, world_size = self._rank()
        steps = self.config.max_steps
        batches = StepBatches(self.builder, self.train_composer, steps, rank, world_size)
        return DataLoader(
            batches,
            batch_size=None,
            sampler=StepsFrom(self.start_step, steps),
            num_workers=self.config.workers,
            persistent_workers=self.config.workers > 0,
        )

    def val_dataloader(self) -> DataLoader[PairBatch] | list[DataLoader[PairBatch]]:
        """Every rank gets whole batches: they are few, and short ones need not divide."""
        if self.validation_composer is None or not self.validates:
            return []
        return DataLoader(StepBatches(self.builder, self.validation_composer, self.config.validation_batches), batch_size=None)
