"""Passages to search, on disk: their embeddings, searched whole, or one of faiss's indices beside them.

An index of faiss is approximate. How much of the exact result it finds is measured when it is built, and kept with it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from hybrid_retrieval.cache import Cache
from hybrid_retrieval.data.stored_texts import take
from hybrid_retrieval.errors import InputError, reading
from hybrid_retrieval.evaluation.collection import Ints
from hybrid_retrieval.evaluation.scoring.embeddings import ROWS, EmbeddingStore
from hybrid_retrieval.evaluation.scoring.passages import StoredPassages
from hybrid_retrieval.evaluation.scoring.ranks import BLOCK_DOCUMENTS
from hybrid_retrieval.evaluation.scoring.scorer import DenseScorer
from hybrid_retrieval.evaluation.scoring.search import Top, search
from hybrid_retrieval.evaluation.scoring.vectors import LazyRows, Vectors, as_float32, release
from hybrid_retrieval.files import read_mapping, write_text
from hybrid_retrieval.models.encoder import Encoder
from hybrid_retrieval.progress import track

VERSION = 1
"""Version of the files in a folder of faiss's."""
DRAWN, DEPTH = 200, 10
"""Passages that are asked for as questions, and the depth, of the recall of an approximate index."""
LINKS, BUILT_AMONG, SEARCHED_AMONG = 32, 40, 128
"""Of HNSW: links of a passage, and candidates as the graph is built and as it is searched."""
PROBED = 16
"""Of IVF: one of so many lists is read."""
SAMPLED = 64
"""Of IVF: passages that a list's centre is estimated on."""
FEW = 8
"""Questions that are searched for in one block of passages, where memory allows; more share the reading of many."""
FILE, FACTS = "index.faiss", "index.json"

Queries = npt.NDArray[np.float32]


class PassageIndex(Protocol):
    """Finds the best of all passages. A row of -1 stands where fewer were found."""

    def search(self, queries: Queries, depth: int) -> Top:
        """The `depth` best of each of [queries, dimensions]."""


@dataclass
class Exact:
    """All embeddings, or those of some `rows`, in blocks.

    Raises:
        InputError: an embedding is not finite.
    """

    vectors: Vectors
    device: str = "cpu"
    rows: Ints | None = None
    scorer: DenseScorer = field(init=False)

    def __post_init__(self) -> None:
        corpus = self.vectors if self.rows is None else Chosen(self.vectors, self.rows)
        self.scorer = DenseScorer(np.empty((0, corpus.shape[1]), np.float32), cast(Vectors, corpus), self.device)

    def search(self, queries: Queries, depth: int) -> Top:
        self.scorer = self.scorer.asking(queries)
        corpus = self.scorer.corpus
        # One block for a person's question, which the scorer keeps as it multiplies it.
        kept = len(queries) <= FEW and corpus.nbytes <= self.scorer.packed_bytes
        found = search(self.scorer, len(queries), len(corpus), depth, block_documents=len(corpus) if kept else BLOCK_DOCUMENTS)
        return found if self.rows is None else Top(self.rows[found.documents], found.scores)


class Chosen(LazyRows):
    """Some rows of others, ascending."""

    def __init__(self, vectors: Vectors, rows: Ints) -> None:
        super().__init__(len(rows), vectors.shape[1], vectors.dtype)
        self.vectors, self.rows = vectors, rows

    def __getitem__(self, rows: slice | Ints) -> npt.NDArray[Any]:
        mine = self.rows[rows]
        found: npt.NDArray[Any] = self.vectors[mine]
        if isinstance(rows, slice) and len(mine):
            release(self.vectors, slice(int(mine[0]), int(mine[-1]) + 1))
        return found


@dataclass(frozen=True)
class Approximate:
    """An index of faiss, and what is known of it."""

    index: Any
    facts: dict[str, Any]

    def search(self, queries: Queries, depth: int) -> Top:
        scores, documents = self.index.search(np.ascontiguousarray(queries), depth)
        return Top(documents.astype(np.int64), scores)


def open_vectors(encoder: Encoder, passages: StoredPassages, cache: Cache, rows: int = ROWS) -> Vectors:
    """[passages, dimensions], memory-mapped; what is not there yet is encoded, `rows` at a time."""
    return EmbeddingStore(cache, rows=rows).embed(encoder, passages.texts, "passage", "corpus", passages.digest)


def open_approximate(kind: str, encoder: Encoder, passages: StoredPassages, vectors: Vectors, cache: Cache) -> Approximate:
    """The index of faiss of a `kind` of `BUILDERS` over all passages; built where it is not there yet.

    Raises:
        InputError: faiss is not installed, or the index is damaged.
    """
    faiss = import_faiss(kind)
    key = [VERSION, kind, encoder.fingerprint("passage"), passages.digest]  # type: ignore[attr-defined]
    folder = cache.build("faiss", key, partial(_build, kind, encoder, passages, vectors))
    mapped = faiss.IO_FLAG_MMAP if kind == "ivf" else getattr(faiss, "IO_FLAG_MMAP_IFC", 0)
    with reading(f"{folder} is damaged (remove it)"):
        index = faiss.read_index(str(folder / FILE), mapped | faiss.IO_FLAG_READ_ONLY)
        if (index.ntotal, index.d) != vectors.shape:
            raise ValueError(f"{index.ntotal} passages of {index.d} dimensions")
        return Approximate(index, read_mapping(folder / FACTS))


def import_faiss(kind: str) -> Any:
    """faiss, which is an extra."""
    try:
        import faiss
    except ImportError as error:
        raise InputError(f"--index-type={kind} needs faiss: pip install 'hybrid-retrieval[search]'") from error
    return faiss


def _build(kind: str, encoder: Encoder, passages: StoredPassages, vectors: Vectors, folder: Path) -> None:
    """Add all vectors, write the index, and measure it."""
    import faiss

    index = BUILDERS[kind](vectors)
    parts = range(0, len(vectors), ROWS)
    for start in track(parts, f"building the {kind} index", len(parts)):
        index.add(as_float32(vectors[start : start + ROWS]).numpy())
    drawn = np.sort(np.random.default_rng(0).choice(len(vectors), min(DRAWN, len(vectors)), replace=False))
    queries = encoder.encode(take(passages.texts, drawn), "query")
    exact = Exact(vectors, str(getattr(encoder, "device", "cpu"))).search(queries, DEPTH).documents
    found = Approximate(index, {}).search(queries, exact.shape[1]).documents
    hits = [len({*one} & {*other}) for one, other in zip(exact.tolist(), found.tolist(), strict=True)]
    facts = {"type": kind, "passages": len(vectors), f"recall@{DEPTH}": sum(hits) / exact.size, "questions": len(drawn)}
    faiss.write_index(index, str(folder / FILE))
    write_text(folder / FACTS, json.dumps(facts))


def _ivf(vectors: Vectors) -> Any:
    import faiss

    lists = max(1, min(2 * int(len(vectors) ** 0.5), len(vectors) // 39))
    index: Any = faiss.index_factory(vectors.shape[1], f"IVF{lists},SQfp16", faiss.METRIC_INNER_PRODUCT)
    index.nprobe = -(-lists // PROBED)
    sample = np.random.default_rng(0).choice(len(vectors), min(SAMPLED * lists, len(vectors)), replace=False)
    index.train(as_float32(vectors[np.sort(sample)]).numpy())
    return index


def _hnsw(vectors: Vectors) -> Any:
    import faiss

    index: Any = faiss.index_factory(vectors.shape[1], f"HNSW{LINKS},SQfp16", faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction, index.hnsw.efSearch = BUILT_AMONG, SEARCHED_AMONG
    index.train(as_float32(vectors[:1]).numpy())
    return index


BUILDERS: dict[str, Callable[[Vectors], Any]] = {"ivf": _ivf, "hnsw": _hnsw}
