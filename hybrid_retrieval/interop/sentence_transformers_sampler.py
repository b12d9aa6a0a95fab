"""Our batches in `SentenceTransformerTrainer`; needs the extra ``sentence-transformers``.

``examples/sentence_transformers_hybrid.py`` is a whole training.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import torch.distributed
from sentence_transformers.base.sampler import DefaultBatchSampler

from hybrid_retrieval.cache import Cache
from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.data.source import Source
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.progress import track
from hybrid_retrieval.sampling.batch import PairIndices
from hybrid_retrieval.sampling.sampler import Sampler
from hybrid_retrieval.training.collate import availability, text_rows
from hybrid_retrieval.values import Count, Seed, check

COLUMNS = ("anchor", "positive")
ROWS = "pairs.arrow"
VERSION = 1


class DrawnBatches:
    """The pairs of a run in the order in which our composer draws them, and the batch sampler that keeps to it.

    The n-th global batch is that of `HybridDataModule` for the same source, sampler, seed and number of steps, on any number of
    devices: each takes its slice. The pairs lie in the cache and are memory-mapped; the space is that of the drawn texts.

    The trainer's ``per_device_train_batch_size`` times its devices is the sampler's batch size; accelerate's ``split_batches``
    stays off. With several devices a loss sees the whole batch if it gathers (``gather_across_devices=True``).
    """

    def __init__(
        self,
        source: Source,
        sampler: Sampler,
        steps: int,
        seed: int = 1,
        paths: PathsConfig | None = None,
        progress: bool = True,
    ) -> None:
        """
        Args:
            source: pairs in several languages, of which the train split is drawn from.
            sampler: the two streams, the ratio and the size of a global batch.
            steps: global batches of the run, which a schedule of the ratio spans: the trainer's ``max_steps`` times its
                ``gradient_accumulation_steps``. A trainer that goes on beyond them starts over.
            paths: where the pairs are kept; by default the source's.

        Raises:
            InputError: the source cannot be read or cannot fill a batch, or the ratio waits for validations of ours.
        """
        check({"steps": Count, "seed": Seed}, {"steps": steps, "seed": seed}, "")
        if getattr(sampler, "schedule", {}).get("kind") == "adaptive":
            raise InputError("sampler.schedule.kind=adaptive decides during a run, and these batches are drawn before it")
        self.source, self.sampler, self.steps, self.seed, self.progress = source, sampler, steps, seed, progress
        self.cache = Cache.at((paths or getattr(source, "paths", None) or PathsConfig()).cache)

    @cached_property
    def dataset(self) -> datasets.Dataset:
        """The pairs of all batches, columns ``anchor`` and ``positive``; drawn on first use, else read from the cache."""
        self._sets = self.source.sets()
        key = {
            "version": VERSION,
            "sets": [[one.meta["fingerprint"], one.weight] for one in self._sets],
            "sampler": [type(self.sampler).__name__, dataclasses.asdict(self.sampler)],
            "steps": self.steps,
            "seed": self.seed,
        }
        return datasets.Dataset.from_file(str(self.cache.build("drawn_batches", key, self._write) / ROWS))

    def _write(self, directory: Path) -> None:
        available = availability(self._sets, "train")
        composer = self.sampler.compose(available, self.seed, steps=self.steps)
        schema = pa.schema([(name, pa.large_string()) for name in COLUMNS])
        with pa.OSFile(str(directory / ROWS), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
            for step in track(range(self.steps), "Drawing batches", show=self.progress):
                texts = self._texts(composer.batch(step), available.languages)
                writer.write_batch(pa.record_batch(texts, schema=schema))

    def _texts(self, pairs: PairIndices, languages: tuple[str, ...]) -> list[pa.Array]:
        """The queries of a batch and their passages."""
        texts = np.empty((len(COLUMNS), len(pairs)), object)
        for index in np.unique(pairs.set_index).tolist():
            one, slots = self._sets[index], np.flatnonzero(pairs.set_index == index)
            of_sides = pairs.query_language[slots], pairs.passage_language[slots]
            for column, table in enumerate((one.queries, one.passages)):
                groups = one.edges[pairs.edge[slots], column].astype(np.int64)
                texts[column, slots] = table.texts(text_rows(one, column, groups, of_sides[column], languages))
        return [pa.array(side, pa.large_string()) for side in texts]

    def batch_sampler(self, dataset: datasets.Dataset, batch_size: int, drop_last: bool, **given: Any) -> InOrder:
        """What ``SentenceTransformerTrainingArguments(batch_sampler=...)`` takes; the trainer calls it.

        Raises:
            InputError: batches of `batch_size` on each device are not the sampler's, or `dataset` is not the drawn one.
        """
        devices = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
        if len(dataset) != self.steps * self.sampler.batch_size:
            raise InputError(
                f"train_dataset has {len(dataset):,} rows; expected the {self.steps * self.sampler.batch_size:,} drawn ones: "
                "give train_dataset=drawn.dataset"
            )
        if batch_size * devices != self.sampler.batch_size:
            raise InputError(
                f"per_device_train_batch_size={batch_size} on {devices} devices; "
                f"expected {self.sampler.batch_size / devices:g}, for sampler.batch_size={self.sampler.batch_size}"
            )
        return InOrder(dataset, batch_size, drop_last, **given)


class InOrder(DefaultBatchSampler):
    """Rows one after another: accelerate deals consecutive batches to the devices, which are the slices of a global one."""

    def __iter__(self) -> Iterator[list[int]]:
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            yield list(range(start, start + self.batch_size))
