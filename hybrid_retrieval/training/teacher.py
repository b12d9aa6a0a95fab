"""A teacher for distillation: its embeddings of all texts of a set, computed once and memory-mapped.

The cache is keyed by the teacher's weights and settings and by the texts; a training step only copies rows.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from hybrid_retrieval.cache import Cache, file_state, folder_state
from hybrid_retrieval.config import PathsConfig, build
from hybrid_retrieval.data.parallel import Ints, ParallelPairs, TextTable
from hybrid_retrieval.errors import InputError, choice
from hybrid_retrieval.models.encoder import BiEncoder, Role
from hybrid_retrieval.models.tokenization import load_tokenizer
from hybrid_retrieval.models.transformer import PretrainedTransformer
from hybrid_retrieval.training.checkpoint import checkpoint_path, load_encoder, scoring_device

log = logging.getLogger(__name__)

VERSION = 1
TEXTS_AT_ONCE = 65_536
"""Texts whose embeddings are held in memory while building."""


@dataclass(frozen=True)
class TeacherEmbeddings:
    """A teacher's embeddings of the texts of one side of a set.

    Attributes:
        embeddings: float16 or float32 [embedded texts, dimensions], memory-mapped.
        places: int32 [rows of the text table], which embedding stands for a text; memory-mapped.
    """

    embeddings: npt.NDArray[Any]
    places: npt.NDArray[np.int32]

    @property
    def dimensions(self) -> int:
        """Width of an embedding."""
        return int(self.embeddings.shape[1])

    def gather(self, rows: Ints) -> npt.NDArray[np.float32]:
        """float32 [rows, dimensions], the targets of `rows` of the text table."""
        found: npt.NDArray[np.float32] = self.embeddings[self.places[rows]].astype(np.float32)
        return found


class Teacher:
    """Config of a teacher: an encoder that was trained here, or a published one."""

    texts_at_once = TEXTS_AT_ONCE

    def __init__(
        self,
        paths: PathsConfig,
        accelerator: str = "auto",
        strict: bool = False,
        run: str | None = None,
        model: dict[str, Any] | None = None,
        checkpoint: str = "best",
        source_language: str | None = None,
        precision: str = "float16",
    ) -> None:
        """
        Args:
            accelerator: where the teacher encodes (``trainer.accelerator``).
            strict: make an error of texts that the teacher cuts and of tokens unknown to it (law 7).
            run: a run directory.
            model: a published model instead, as in ``conf/model``.
            checkpoint: of the run, best or last.
            source_language: the teacher reads each text in this language, where its group has it, and as it is elsewhere
                (arXiv 2004.09813); None: each text as it is.
            precision: of the stored embeddings, float16 or float32.
        """
        if (run is None) == (model is None):
            raise InputError(
                f"loss.teacher.run={run} and loss.teacher.model={model and model.get('name')}; expected exactly one of them "
                "(loss.teacher.run=DIRECTORY or +model@loss.teacher.model=NAME)"
            )
        choice("loss.teacher.checkpoint", checkpoint, ["best", "last"])
        choice("loss.teacher.precision", precision, ["float16", "float32"])
        self._accelerator, self._strict, self._checkpoint = accelerator, strict, checkpoint
        self._source_language, self._precision = source_language, precision
        self._run = Path(run).expanduser() if run else None
        if self._run is not None and not (self._run / "checkpoints").is_dir():
            raise InputError(f"loss.teacher.run={run} is no run directory; expected one that training has written")
        self._settings = {
            key: value for key, value in (model or {}).items() if key not in ("name", "path", "revision", "recipe")
        }
        self._model = _published(model, paths) if model else None

    @cached_property
    def state(self) -> dict[str, Any]:
        """What changes when the teacher does."""
        if self._model is not None:
            return {"model": folder_state(self._model.directory), **self._settings}
        assert self._run is not None
        return {"weights": file_state(checkpoint_path(self._run, self._checkpoint))}

    @cached_property
    def encoder(self) -> BiEncoder:
        """The teacher itself; making it leaves torch's random numbers as they were."""
        with torch.random.fork_rng(devices=[]):
            if self._run is not None:
                return load_encoder(self._run, self._checkpoint, self._strict, self._accelerator)
            assert self._model is not None
            encoder = self._model.build(load_tokenizer(self._model.directory))
            encoder.strict = self._strict
            return encoder.eval().to(scoring_device(self._accelerator))

    def embeddings(self, pairs: ParallelPairs, role: Role, cache: Cache) -> TeacherEmbeddings:
        """The targets of all texts of a role in a set, computed on first use.

        Raises:
            InputError: the teacher cannot be read, its embeddings are not finite, or the source language is not in the set.
        """
        table = _table(pairs, role)
        read = self._read_as(pairs, role)
        key = {
            "version": VERSION,
            "teacher": self.state,
            "texts": pairs.directory.name,
            "role": role,
            "source_language": self._source_language,
            "precision": self._precision,
            "strict": self._strict,
        }

        def make(directory: Path) -> None:
            self._build(directory, table, role, read, f"{pairs.name}, each {role} to the teacher")

        directory = cache.build("teachers", key, make)
        mode: Literal["r"] | None = "r" if len(table) else None  # what is empty cannot be mapped
        return TeacherEmbeddings(*(np.load(directory / f"{name}.npy", mmap_mode=mode) for name in ("embeddings", "places")))

    def _read_as(self, pairs: ParallelPairs, role: Role) -> Ints:
        """int64 [rows]: the row that the teacher reads in the place of each."""
        table = _table(pairs, role)
        rows = np.arange(len(table))
        if self._source_language is None:
            return rows
        choice("loss.teacher.source_language", self._source_language, pairs.languages)
        source = table.rows[:, pairs.languages.index(self._source_language)][table.groups].astype(np.int64)
        missing = int((source < 0).sum())
        if missing:
            log.info(
                "%s: the teacher reads %s of %s texts (%s) as they are: they have no translation into %s",
                *(pairs.name, f"{missing:,}", f"{len(rows):,}", role, self._source_language),
            )
        return np.where(source >= 0, source, rows)

    def _build(self, directory: Path, table: TextTable, role: Role, read: Ints, label: str) -> None:
        """Stream embeddings to disk, a chunk of texts at a time."""
        needed, places = np.unique(read, return_inverse=True)
        np.save(directory / "places.npy", places.astype(np.int32))
        shape = (len(needed), self.encoder.dimensions)
        if not len(needed):
            np.save(directory / "embeddings.npy", np.empty(shape, self._precision))
            return
        stored = np.lib.format.open_memmap(directory / "embeddings.npy", "w+", self._precision, shape)
        for start in range(0, len(needed), self.texts_at_once):
            rows = needed[start : start + self.texts_at_once]
            stored[start : start + len(rows)] = self.encoder.encode(table.texts(rows), role, label)
        stored.flush()


def _table(pairs: ParallelPairs, role: Role) -> TextTable:
    return pairs.queries if role == "query" else pairs.passages


def _published(node: dict[str, Any], paths: PathsConfig) -> PretrainedTransformer:
    """The model that a config node names, which must come with all its weights."""
    model = build(node, "loss.teacher.model", paths=paths)
    if not isinstance(model, PretrainedTransformer):
        raise InputError(
            f"loss.teacher.model._target_={node['_target_']}; expected a published model, whose weights are trained"
        )
    if isinstance(node.get("projection"), int):
        raise InputError(f"loss.teacher.model.projection={node['projection']} is a new layer; expected null or published")
    return model
