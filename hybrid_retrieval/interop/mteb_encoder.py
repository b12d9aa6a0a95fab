"""Our encoders as mteb's: ``mteb.evaluate(MtebEncoder.of_run(RUN_DIR), tasks)``. Needs the extra ``mteb``."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
import torch
from mteb.models import ModelMeta
from mteb.types import PromptType

from hybrid_retrieval.evaluation.scoring.embeddings import EmbeddingStore, Fingerprinted
from hybrid_retrieval.models.encoder import BiEncoder, Encoder, Role
from hybrid_retrieval.training.checkpoint import load_encoder

if TYPE_CHECKING:
    from mteb.abstasks.task_metadata import TaskMetadata
    from mteb.types import Array, BatchedInput
    from torch.utils.data import DataLoader

ORGANISATION = "hybrid_retrieval"
"""Stands before a model's name where none does: mteb asks for one."""


class MtebEncoder:
    """An encoder that satisfies mteb's EncoderProtocol."""

    def __init__(self, encoder: Encoder, name: str, store: EmbeddingStore | None = None) -> None:
        """
        Args:
            name: what the results are filed under, as in ``organisation/model``.
            store: keeps embeddings, so that a corpus that several subsets share is encoded once; none by default.
        """
        self.encoder = encoder
        self.name = name if "/" in name else f"{ORGANISATION}/{name}"
        self.store = store

    @classmethod
    def of_run(cls, run_dir: Path | str, which: str = "best", store: EmbeddingStore | None = None) -> MtebEncoder:
        """The encoder that a run trained, under the name of its directory; `which` checkpoint is best or last.

        Raises:
            InputError: no run directory, or no checkpoint in it.
        """
        folder = Path(run_dir)
        return cls(load_encoder(folder, which), folder.resolve().name, store)

    def encode(
        self,
        inputs: DataLoader[BatchedInput],
        *,
        task_metadata: TaskMetadata,
        hf_split: str,
        hf_subset: str,
        prompt_type: PromptType | None = None,
        **settings: Any,
    ) -> npt.NDArray[np.float32]:
        """float32 [texts, dimensions]. Documents are passages; queries, and texts of tasks without sides, are queries."""
        role: Role = "passage" if prompt_type == PromptType.document else "query"
        texts: list[str] = [text for batch in inputs for text in cast(dict[str, list[str]], batch)["text"]]
        label = f"{task_metadata.name} {hf_subset} {role}" if settings.get("show_progress_bar") else ""
        if self.store is None:
            return self.encoder.encode(texts, role, label)
        return np.array(self.store.embed(self.encoder, texts, role, label), np.float32)

    def similarity(self, embeddings1: Array, embeddings2: Array) -> torch.Tensor:
        """Dot products, [rows of the first, rows of the second]: an encoder's scores."""
        return _rows(embeddings1) @ _rows(embeddings2).T

    def similarity_pairwise(self, embeddings1: Array, embeddings2: Array) -> torch.Tensor:
        """Dot products of equal rows, [rows]."""
        return (_rows(embeddings1) * _rows(embeddings2)).sum(-1)

    @cached_property
    def mteb_model_meta(self) -> ModelMeta:
        """What is known of the encoder. The revision is a digest of its weights and settings, where it can say."""
        bi_encoder = self.encoder if isinstance(self.encoder, BiEncoder) else None
        settings = bi_encoder.settings if bi_encoder else None
        weights = list(bi_encoder.parameters()) if bi_encoder else []
        size = sum(weight.numel() * weight.element_size() for weight in weights)
        return ModelMeta(
            loader=None,
            name=self.name,
            revision=self._revision(),
            release_date=None,
            languages=None,
            n_parameters=sum(weight.numel() for weight in weights) if bi_encoder else None,
            memory_usage_mb=size / 2**20 if bi_encoder else None,
            max_tokens=settings.longest if settings else None,
            embed_dim=bi_encoder.dimensions if bi_encoder else None,
            license=None,
            open_weights=None,
            public_training_code=None,
            public_training_data=None,
            framework=["PyTorch"] if bi_encoder else [],
            similarity_fn_name=cast(Any, "cosine" if settings and settings.normalize else "dot"),
            use_instructions=bool(settings.query_prefix or settings.passage_prefix) if settings else None,
            training_datasets=None,
        )

    def _revision(self) -> str | None:
        if not isinstance(self.encoder, Fingerprinted):
            return None
        both = f"{self.encoder.fingerprint('query')} {self.encoder.fingerprint('passage')}"
        return hashlib.sha256(both.encode()).hexdigest()[:16]


def _rows(embeddings: Array) -> torch.Tensor:
    """float32 [rows, dimensions]; one vector is a row."""
    rows = torch.as_tensor(embeddings, dtype=torch.float32)
    return rows if rows.ndim > 1 else rows[None]
