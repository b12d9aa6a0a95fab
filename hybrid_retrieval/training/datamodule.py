"""The data side of a run: a monolingual and a cross-lingual stream of pairs, composed per a ratio."""

from __future__ import annotations

import copy
import multiprocessing
import signal
from collections.abc import Iterator, Mapping
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from typing import Any

import lightning
import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset

from hybrid_retrieval.cache import Cache
from hybrid_retrieval.config import AugmentConfig, PathsConfig
from hybrid_retrieval.data.source import Source
from hybrid_retrieval.data.tokens import TokenStore, tokenise
from hybrid_retrieval.errors import InputError, end_with_parent
from hybrid_retrieval.evaluation.benchmarks.held_out import split_collection
from hybrid_retrieval.evaluation.collection import RetrievalCollection
from hybrid_retrieval.losses.loss import Loss
from hybrid_retrieval.models.chunks import plan
from hybrid_retrieval.models.encoder import CHUNK_TOKENS, ENCODED_AT_ONCE, BiEncoder, Role, Tokens
from hybrid_retrieval.ragged import Ragged
from hybrid_retrieval.sampling.availability import Availability
from hybrid_retrieval.sampling.composer import Composer
from hybrid_retrieval.sampling.hybrid import Hybrid
from hybrid_retrieval.sampling.sampler import Sampler
from hybrid_retrieval.training.augmentation import Augmentation
from hybrid_retrieval.training.collate import COLUMN, Collator, PairBatch, TextBatch, TokenisedSet
from hybrid_retrieval.training.strategies import every_rank_encodes
from hybrid_retrieval.training.teacher import Teacher
from hybrid_retrieval.values import divides

TABLES: Mapping[Role, str] = {"query": "queries", "passage": "passages"}
VALIDATION_PAIRS = 128
"""Pairs of a batch behind ``val/loss``."""


class HybridDataModule(lightning.LightningDataModule):
    """Global batches for training: a function of (seed, step, journal), whatever the number of devices (law 1).

    `prepare_data` builds tokens and a teacher's embeddings in the cache, `setup` opens them. A resumed run starts its loader at
    the checkpoint's step with its journal, and nothing else is restored.
    """

    def __init__(
        self,
        source: Source,
        encoder: BiEncoder,
        sampler: Sampler | None = None,
        *,
        seed: int = 1,
        steps: int | None = None,
        loss: Loss | None = None,
        teacher: Teacher | None = None,
        augment: AugmentConfig | None = None,
        chunk_tokens: int = CHUNK_TOKENS,
        validation_batches: int = 8,
        validation_queries: int = 200,
        workers: int = 0,
        paths: PathsConfig | None = None,
        progress: bool = True,
    ) -> None:
        """
        Args:
            source: pairs in several languages; its train split is drawn from, its validation split is validated on.
            encoder: whose tokenizer reads the texts.
            sampler: the two streams, the ratio and the size of a global batch; by default the paper's hybrid batches of 100.
            steps: global batches of the run, which a schedule of the ratio spans; by default the trainer's.
            loss: the module's, where it asks more of the data than queries and their passages (sides, hard negatives).
            teacher: whose embeddings of the batches' texts the loss needs.
            augment: the share of the training batches' queries that are perturbed, and how; by default none.
            chunk_tokens: tokens, padding included, that a transformer encodes at once.
            validation_batches: batches behind ``val/loss``, the same whatever the sampler; 0: none.
            validation_queries: query groups behind ``val/<setting>/map``; 0: none.
            workers: processes that compose batches; 0: the training process.
            paths: where tokens are kept; by default the source's.
            progress: bars while tokens are built.
        """
        super().__init__()
        self.source, self.sampler = source, sampler or Hybrid(batch_size=100)
        self.seed, self.steps, self.workers = seed, steps, workers
        self.hard_negatives, self.teacher = loss.hard_negatives if loss else 0, teacher
        self.scored = bool(loss and loss.scored)
        self.sides: tuple[Role, Role] = loss.sides if loss else ("query", "passage")
        self.chunk_tokens = chunk_tokens if encoder.backbone.pads else 0
        self.validation_batches, self.validation_queries = validation_batches, validation_queries
        paths = paths or getattr(source, "paths", None) or PathsConfig()
        self.cache = Cache.at(paths.cache)
        self.augmentation: Augmentation | None = None
        if augment is not None and augment.share:
            beside = bool(loss and loss.self_teaching)
            self.augmentation = Augmentation(augment, encoder.tokenization("query"), seed, paths, beside)
        self.progress = progress
        self.start_step = 0
        self.encoder = encoder
        self.loaders: list[BaseProcess] = []  # that were started
        self._journal: list[Any] = []
        self._collate: Collator | None = None
        self.train_batches: Composer
        self.validation_pairs: Composer | None = None
        self.validation: RetrievalCollection | None = None

    def prepare_data(self) -> None:
        """Build what goes to the cache, once a machine; nothing where it is there."""
        if self._collate is None:
            list(self._sets())

    def setup(self, stage: str | None = None) -> None:
        """Open the sets and compose their batches.

        Raises:
            InputError: the source cannot be read, or cannot fill a global batch.
        """
        if self._collate is not None:
            return
        self._collate = Collator(list(self._sets()), self.hard_negatives, self.sides, self.chunk_tokens, self.scored)
        if self.augmentation is not None:
            self.augmentation.check([one.pairs for one in self._collate.sets])
        steps = self._batches_of_run()
        # Two streams of pairs, and the ratio of the first: whose turn it is in each step.
        train = self._collate.availability("train")
        monolingual, crosslingual, ratio = self.sampler.streams(train, self.seed, steps=steps)
        self.train_batches = self.sampler.mix(monolingual, crosslingual, ratio)
        self.train_batches.schedule.restore(self._journal)
        held_out = self._collate.availability("validation")
        if any(len(one.starts) for one in held_out.sets):
            if self.validation_batches:
                self.validation_pairs = validation_pairs(held_out, self.seed)
            self.validation = self._validation_collection()

    def _sets(self) -> Iterator[TokenisedSet]:
        """The sets of the source with their tokens, built on first use."""
        cache = self.cache
        read: set[Role] = {*self.sides, "passage"} if self.hard_negatives else {*self.sides}
        vocabulary = self.encoder.tokenizer.get_vocab_size()
        for pairs in self.source.sets():
            stores = {
                role: tokenise(pairs, side, self.encoder.tokenization(role), vocabulary, cache, self.progress)
                for role, side in TABLES.items()
            }
            taught = {COLUMN[role]: self.teacher.embeddings(pairs, role, cache) for role in read} if self.teacher else {}
            yield TokenisedSet(pairs, stores["query"], stores["passage"], taught)

    def _validation_collection(self) -> RetrievalCollection | None:
        """A small collection of the first set's validation split."""
        pairs = self.collate.sets[0].pairs
        if not self.validation_queries or not len(pairs.split_edges("validation")):
            return None
        return split_collection(pairs, "validation", "validation", self.validation_queries)

    @property
    def collate(self) -> Collator:
        """Pairs to tensors; after `setup`."""
        if self._collate is None:
            raise RuntimeError("HybridDataModule.setup() has not been called")
        return self._collate

    @property
    def negatives(self) -> int:
        """Mined negatives that the data has of a pair, in the set that has most."""
        return max(int(one.pairs.edges.shape[1]) for one in self.collate.sets) - 2

    def lost(self) -> dict[str, tuple[int, int]]:
        """Texts that were cut and tokens that are unknown to the tokenizer (law 7), by side of a set."""
        stores: dict[str, TokenStore] = {}
        for one in self.collate.sets:
            stores |= {f"queries of {one.pairs.name}": one.queries, f"passages of {one.pairs.name}": one.passages}
        every = {name: store.coverage.values() for name, store in stores.items()}
        return {name: (sum(one.truncated for one in part), sum(one.unknown for one in part)) for name, part in every.items()}

    def observe(self, step: int, measures: Mapping[str, float]) -> None:
        """Let an adaptive ratio decide from the validation after `step` optimizer steps; its decision goes to the journal."""
        accumulate = self.trainer.accumulate_grad_batches if self.trainer else 1
        self.train_batches.observe(step * accumulate, measures)

    def state_dict(self) -> dict[str, Any]:
        """The optimizer step and the journal: with the seed, all that the batches after a resume are a function of."""
        step = self.trainer.global_step if self.trainer else self.start_step
        return {"step": step, "journal": self.train_batches.schedule.journal}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.start_step, self._journal = state_dict["step"], state_dict["journal"]
        if self._collate is not None:
            self.train_batches.schedule.restore(self._journal)

    def _batches_of_run(self) -> int | None:
        """Global batches of the run, as far as it is known."""
        if self.trainer is None or self.trainer.max_steps < 0:
            return self.steps
        return int(self.trainer.max_steps * self.trainer.accumulate_grad_batches)

    def _rank(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def train_dataloader(self) -> DataLoader[PairBatch]:
        """The global batches that are left, each as this rank sees it."""
        rank, ranks = self._rank()
        divides("sampler.batch_size", self.sampler.batch_size, "the number of devices", ranks)
        batches, accumulate = self._batches_of_run(), self.trainer.accumulate_grad_batches if self.trainer else 1
        if batches is None:
            raise InputError(
                "trainer.max_steps=-1; expected the number of steps, as in Trainer(max_steps=1000): batches have no epoch"
            )
        return DataLoader(
            GlobalBatches(self.collate, self.train_batches, batches, rank, ranks, self.augmentation),
            batch_size=None,
            sampler=range(self.start_step * accumulate, batches),
            num_workers=self.workers,
            multiprocessing_context=_recording(self.loaders) if self.workers else None,
            worker_init_fn=_end_with_training,
            persistent_workers=self.workers > 0,
            generator=torch.Generator(),  # a loader that starts draws a number, and must not draw it from the model's
        )

    def val_dataloader(self) -> list[DataLoader[Any]]:
        """Pairs behind ``val/loss``, of which every rank gets whole batches (they are few), and texts behind the mAP."""
        loaders: list[DataLoader[Any]] = []
        if self.validation_pairs is not None:
            loaders.append(_loader(GlobalBatches(self.collate, self.validation_pairs, self.validation_batches)))
        if self.validation is not None:
            sides = {"query": self.validation.queries.given(), "passage": self.validation.corpus.given()}
            ids = {role: self.encoder.tokenise(texts, role) for role, texts in sides.items()}  # type: ignore[arg-type]
            loaders.append(_loader(self._texts([(role, 0, rows) for role, rows in ids.items()])))  # type: ignore[misc]
        return loaders

    def predict_dataloader(self) -> DataLoader[TextBatch]:
        """Every passage of the source; `BiEncoderModule.predict_step` gives set, rows and embeddings."""
        return _loader(self._texts([("passage", index, one.passages.tokens) for index, one in enumerate(self.collate.sets)]))

    def _texts(self, sides: list[tuple[Role, int, Ragged]]) -> TextChunks:
        """Chunks of similar length, of which this rank encodes its share."""
        rank, ranks = self._rank()
        device = self.trainer.strategy.root_device.type if self.trainer else "cpu"
        chunks = [
            (role, index, rows, tokens)
            for role, index, tokens in sides
            for rows in plan(tokens.lengths, ENCODED_AT_ONCE.get(device, CHUNK_TOKENS))
        ]
        return TextChunks(chunks if every_rank_encodes(self.trainer) else chunks[rank::ranks])


def validation_pairs(held_out: Availability, seed: int) -> Composer:
    """Batches behind ``val/loss``: half of them monolingual and half cross-lingual, where the data has both.

    They are a function of the data and the seed alone, so that one criterion chooses the checkpoints of every sampler. (The
    paper's is the loss on one set of English pairs, SQuADShifts.)
    """
    same, other = (bool(held_out.cells(same_language=same)) for same in (True, False))
    sampler = Hybrid(VALIDATION_PAIRS, alpha=0.5 if same and other else float(same))
    return sampler.compose(held_out, seed, short=True)


class GlobalBatches(Dataset[PairBatch]):
    """Item n is the n-th global batch as one of `ranks` sees it."""

    def __init__(
        self,
        collate: Collator,
        batches: Composer,
        count: int,
        rank: int = 0,
        ranks: int = 1,
        augmentation: Augmentation | None = None,
    ) -> None:
        self.collate, self.batches, self.count, self.rank, self.ranks = collate, batches, count, rank, ranks
        self.augmentation = augmentation

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> PairBatch:
        return self.collate(number, self.batches.batch(number), self.rank, self.ranks, self.augmentation)


class TextChunks(Dataset[TextBatch]):
    """Texts of similar length that are encoded together: role, set, rows, and the tokens that they are rows of."""

    def __init__(self, chunks: list[tuple[Role, int, npt.NDArray[np.int64], Ragged]]) -> None:
        self.chunks = chunks

    def __len__(self) -> int:
        return len(self.chunks)

    def __getitem__(self, number: int) -> TextBatch:
        role, index, rows, tokens = self.chunks[number]
        return TextBatch(role, index, torch.from_numpy(rows), Tokens.of(tokens.gather(rows)))


def _loader(dataset: Dataset[Any]) -> DataLoader[Any]:
    return DataLoader(dataset, batch_size=None, generator=torch.Generator())


def _recording(started: list[BaseProcess]) -> BaseContext:
    """Processes as this platform starts them, which go to `started`."""
    context = copy.copy(multiprocessing.get_context())
    make = context.Process

    def process(*arguments: Any, **named: Any) -> BaseProcess:
        started.append(made := make(*arguments, **named))
        return made

    context.Process = process  # type: ignore[assignment, misc]
    return context


def _end_with_training(*_: object) -> None:
    """A signal to the whole process group is the training process's to answer; a worker ends with it."""
    for sent in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sent, signal.SIG_IGN)
    end_with_parent()
