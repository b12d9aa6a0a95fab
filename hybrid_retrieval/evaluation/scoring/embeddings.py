"""Embeddings of a collection's texts, memory-mapped: encoded once under a key of (weights, texts, settings), block by block.

A block of rows is flushed before it is marked as done, so that a process that was killed goes on where it was. Space is
taken before anything is encoded: a full disk shows at once.
"""

from __future__ import annotations

import contextlib
import errno
import json
import multiprocessing
import os
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
import numpy.typing as npt

from hybrid_retrieval.cache import Cache, scratch
from hybrid_retrieval.data.stored_texts import text_digest
from hybrid_retrieval.errors import InputError, end_with_parent
from hybrid_retrieval.evaluation.scoring.vectors import Vectors
from hybrid_retrieval.files import write_text
from hybrid_retrieval.models.encoder import Encoder, Lost, Role

ROWS = 1 << 14
"""Texts that are encoded, flushed and marked together."""
VERSION = 3
"""Version of the files in a folder."""
VECTORS = "vectors.npy"


@runtime_checkable
class Fingerprinted(Protocol):
    """An encoder that can say what its embeddings depend on, so that they may be kept."""

    def fingerprint(self, role: Role) -> str:
        """Changes whenever the embeddings of a text in this role would."""


@runtime_checkable
class Accountable(Protocol):
    """An encoder that says what it loses of texts."""

    lost: Lost

    def say(self, label: str, role: Role, lost: Lost) -> None:
        """Log it, or raise where that is asked for."""


@runtime_checkable
class Composite(Protocol):
    """An encoder that makes its embeddings of those of others, which are kept by themselves."""

    def parts(self, label: str) -> list[tuple[Encoder, str]]:
        """The others, and the label of each."""

    def join(self, vectors: Sequence[npt.NDArray[np.floating[Any]]]) -> npt.NDArray[np.float32]:
        """[texts, dimensions], of what each of the others says of the same texts."""


@dataclass(frozen=True)
class EmbeddingStore:
    """Kept embeddings, by encoder and texts.

    Attributes:
        cache: holds a folder ``embeddings/KEY`` for each set of texts.
        dtype: float16 or float32, of what is stored.
        devices: processes that encode together.
        rows: texts that are encoded, flushed and marked together.
        identities: encoders and their fingerprints, as they were worked out, by the encoder's id and role.
        said: folders whose losses were said: not again for each method that reads them.
    """

    cache: Cache
    dtype: str = "float16"
    devices: int = 1
    rows: int = ROWS
    identities: dict[tuple[int, str], tuple[Encoder, str]] = field(default_factory=dict, compare=False)
    said: set[Path] = field(default_factory=set, compare=False)

    def embed(self, encoder: Encoder, texts: Sequence[str], role: Role, label: str = "", digest: str | None = None) -> Vectors:
        """[texts, dimensions], memory-mapped; only rows that are not there yet are encoded.

        Args:
            digest: of the texts, where it is known.
        """
        if not len(texts):
            return np.empty((0, 0), self.dtype)
        digest = digest or text_digest(texts)
        key = self._key(encoder, texts, role, digest)
        job = EncodingJob(encoder, texts, role, label, self.rows)
        folder = self.cache.directory("embeddings", key)
        known = folder.exists()
        if isinstance(encoder, Composite):
            whole = known and not job.missing(folder)  # then parts that are still there say what they lost, and no more
            parts = [
                self.embed(part, texts, role, name, digest)
                for part, name in encoder.parts(label)
                if not whole or self.cache.directory("embeddings", self._key(part, texts, role, digest)).exists()
            ]
            job = job if whole else replace(job, parts=parts)
        folder = self.cache.build("embeddings", key, partial(job.start, self.dtype))
        try:
            blocks = job.missing(folder)
            unsaid = sorted(set(range(job.blocks)) - set(blocks)) if known else []
            if self.devices > 1 and len(blocks) > 1 and not job.parts:
                encode_together(self.devices, job, folder, blocks)
                unsaid += blocks
            else:
                job.run(folder, blocks)
            if folder not in self.said:
                job.say(folder, unsaid)
            if label:
                self.said.add(folder)
            vectors: Vectors = np.load(folder / VECTORS, mmap_mode="r")
        except (ValueError, EOFError, FileNotFoundError) as error:
            raise InputError(f"{folder} is damaged ({error}): remove it") from error
        return vectors

    def _key(self, encoder: Encoder, texts: Sequence[str], role: Role, digest: str) -> list[Any]:
        return [VERSION, self._identity(encoder, role), role, self.dtype, len(texts), digest]

    def _identity(self, encoder: Encoder, role: Role) -> str:
        """The encoder's fingerprint, computed once: nothing is trained while a store is in use."""
        if not isinstance(encoder, Fingerprinted):
            return uuid.uuid4().hex
        if (id(encoder), role) not in self.identities:
            self.identities[id(encoder), role] = encoder, encoder.fingerprint(role)
        return self.identities[id(encoder), role][1]


@dataclass(frozen=True)
class EncodingJob:
    """Texts to encode, `rows` at a time. A block is marked as done by a file that says what was lost of its texts.

    With `parts`, embeddings of the same texts by other encoders, it is these that are joined.
    """

    encoder: Encoder
    texts: Sequence[str]
    role: Role
    label: str
    rows: int
    parts: Sequence[Vectors] = ()

    @property
    def blocks(self) -> int:
        """The number of blocks."""
        return -(-len(self.texts) // self.rows)

    def missing(self, folder: Path) -> list[int]:
        """Blocks that are not encoded yet."""
        return [block for block in range(self.blocks) if not _mark(folder, block).exists()]

    def start(self, dtype: str, folder: Path) -> None:
        """Take the space, and write the first block; it tells the number of dimensions."""
        first = self._encode(0)
        vectors = np.lib.format.open_memmap(folder / VECTORS, "w+", dtype, (len(self.texts), first.shape[1]))
        del vectors
        _allocate(folder / VECTORS)
        self._write(folder, 0, first)

    def run(self, folder: Path, blocks: Sequence[int]) -> None:
        """Encode and store these blocks."""
        for block in blocks:
            self._write(folder, block, self._encode(block))

    def say(self, folder: Path, blocks: Sequence[int]) -> None:
        """Log the losses of texts of blocks that were encoded before, or by other processes (law 7)."""
        if self.label and blocks and isinstance(self.encoder, Accountable):
            lost = [Lost(**json.loads(_mark(folder, block).read_text())) for block in blocks]
            self.encoder.say(f"{self.label} (encoded before)", self.role, sum(lost, Lost()))

    def _encode(self, block: int) -> npt.NDArray[np.float32]:
        """[rows of the block, dimensions]."""
        rows = slice(block * self.rows, (block + 1) * self.rows)
        if self.parts:
            return cast(Composite, self.encoder).join([part[rows] for part in self.parts])
        place = f" ({block + 1}/{self.blocks})" if self.blocks > 1 and self.label else ""
        return self.encoder.encode(self.texts[rows], self.role, f"{self.label}{place}")

    def _write(self, folder: Path, block: int, vectors: npt.NDArray[np.float32]) -> None:
        """Store a block, then mark it."""
        stored = np.load(folder / VECTORS, mmap_mode="r+")
        place = slice(block * self.rows, block * self.rows + len(vectors))
        with np.errstate(over="ignore"):
            stored[place] = vectors
        bad = int((~np.isfinite(stored[place])).any(1).sum())
        if bad and np.isfinite(vectors).all():
            raise InputError(f"{bad} embeddings do not fit in {stored.dtype}; evaluation.dtype=float32 keeps them whole")
        stored.flush()
        lost = self.encoder.lost if isinstance(self.encoder, Accountable) else Lost()
        write_text(_mark(folder, block), json.dumps(asdict(lost)))


def _mark(folder: Path, block: int) -> Path:
    return folder / f"block-{block}.json"


def _allocate(path: Path) -> None:
    """Make sure that the file's pages are on the disk: writing to a memory map of a full one would kill the process."""
    with path.open("r+b") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                size = f"{max(path.stat().st_size / 1e9, 0.1):.1f} GB of embeddings"
                raise InputError(f"paths.cache={path.parents[2]} has no space for {size} ({error.strerror})") from error
            if error.errno != errno.EOPNOTSUPP:
                raise


@contextlib.contextmanager
def embedding_store(cache: str, dtype: str, devices: int, kept: bool) -> Iterator[EmbeddingStore]:
    """The store under ``paths.cache``; where embeddings are not `kept`, one that goes away."""
    whole = Cache.at(cache)
    if kept:
        yield EmbeddingStore(whole, dtype, devices)
        return
    with scratch(whole.root) as folder:
        yield EmbeddingStore(Cache(folder), dtype, devices)


def encode_together(devices: int, job: EncodingJob, folder: Path, blocks: Sequence[int]) -> None:
    """One process a device; the blocks are dealt out in turn, and all are written into the same file."""
    threads = max(1, (os.cpu_count() or 1) // devices)
    with ProcessPoolExecutor(devices, multiprocessing.get_context("spawn")) as pool:
        parts = [pool.submit(_on_device, rank, threads, job, folder, blocks[rank::devices]) for rank in range(devices)]
        for part in parts:
            part.result()


def _on_device(rank: int, threads: int, job: EncodingJob, folder: Path, blocks: Sequence[int]) -> None:
    import torch

    end_with_parent()
    torch.set_num_threads(threads)
    if torch.cuda.is_available() and isinstance(job.encoder, torch.nn.Module):
        job.encoder.to(f"cuda:{rank % torch.cuda.device_count()}")
    job.run(folder, blocks)
