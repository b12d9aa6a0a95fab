"""A teacher for distillation: its embeddings of all texts of a set, computed once and memory-mapped.

They lie in the embedding store, keyed by the teacher's files and settings and by the texts; a training step only copies rows.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from hybrid_retrieval.cache import Cache, digest, file_state, folder_state
from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.data.parallel import Ints, ParallelPairs, TextTable
from hybrid_retrieval.errors import InputError, choice
from hybrid_retrieval.evaluation.scoring.embeddings import ROWS, EmbeddingStore
from hybrid_retrieval.evaluation.scoring.vectors import Vectors
from hybrid_retrieval.models.checkpoint import checkpoint_path, load_encoder, scoring_device
from hybrid_retrieval.models.encoder import BiEncoder, Role
from hybrid_retrieval.models.published import PublishedModel
from hybrid_retrieval.values import build

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TeacherEmbeddings:
    """A teacher's embeddings of the texts of one side of a set.

    Attributes:
        embeddings: float16 or float32 [embedded texts, dimensions], memory-mapped.
        places: int64 [rows of the text table], which embedding stands for a text.
    """

    embeddings: Vectors
    places: Ints

    @property
    def dimensions(self) -> int:
        """Width of an embedding."""
        return int(self.embeddings.shape[1])

    def gather(self, rows: Ints) -> npt.NDArray[np.float32]:
        """float32 [rows, dimensions], the targets of `rows` of the text table."""
        found: npt.NDArray[np.float32] = np.asarray(self.embeddings[self.places[rows]], np.float32)
        return found


@dataclass(frozen=True)
class Texts(Sequence[str]):
    """Rows of a text table, read when they are asked for."""

    table: TextTable
    rows: Ints

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, part: Any) -> Any:
        found = self.table.texts(self.rows[part] if isinstance(part, slice) else self.rows[part : part + 1])
        return found if isinstance(part, slice) else found[0]


class Teacher:
    """Config of a teacher: an encoder that was trained here, or a published one."""

    texts_at_once = ROWS
    """Texts that are encoded and stored together."""

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
        """Changes when the teacher does."""
        if self._model is not None:
            return {"model": folder_state(self._model.directory), **self._settings}
        assert self._run is not None
        return {"weights": file_state(checkpoint_path(self._run, self._checkpoint))}

    @cached_property
    def encoder(self) -> BiEncoder:
        """The teacher's encoder, loaded on first use; that leaves torch's random numbers as they were."""
        with torch.random.fork_rng(devices=[]):
            if self._run is not None:
                return load_encoder(self._run, self._checkpoint, self._strict, self._accelerator)
            assert self._model is not None
            encoder = self._model.load()
            encoder.strict = self._strict
            return encoder.to(scoring_device(self._accelerator))

    def fingerprint(self, role: Role) -> str:
        """Changes with the teacher's files and settings; the teacher is not loaded for it."""
        return digest([self.state, role, self._strict])

    def encode(self, texts: Sequence[str], role: Role, label: str = "") -> npt.NDArray[np.float32]:
        """float32 [texts, dimensions]."""
        return self.encoder.encode(texts, role, label)

    def embeddings(self, pairs: ParallelPairs, role: Role, cache: Cache) -> TeacherEmbeddings:
        """The targets of all texts of a role in a set, computed on first use.

        Raises:
            InputError: the teacher cannot be read, its embeddings are not finite, or the source language is not in the set.
        """
        table = _table(pairs, role)
        needed, places = np.unique(self._read_as(pairs, role), return_inverse=True)
        store = EmbeddingStore(cache, self._precision, rows=self.texts_at_once)
        found = store.embed(self, Texts(table, needed), role, f"{pairs.name}, each {role} to the teacher")
        return TeacherEmbeddings(found, places)

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


def _table(pairs: ParallelPairs, role: Role) -> TextTable:
    return pairs.queries if role == "query" else pairs.passages


def _published(node: dict[str, Any], paths: PathsConfig) -> PublishedModel:
    """The model that a config node names, which must come with all its weights."""
    model: PublishedModel = build(node, PublishedModel, "loss.teacher.model", paths=paths)
    if isinstance(node.get("projection"), int):
        raise InputError(f"loss.teacher.model.projection={node['projection']} is a new layer; expected null or published")
    return model
