"""Our encoders as mteb's: ``mteb.evaluate(MtebEncoder.of_run(RUN_DIR), tasks)``. Needs the extra ``mteb``."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
from mteb.models import ModelMeta
from mteb.models.model_meta import ScoringFunction
from mteb.similarity_functions import dot_score, pairwise_dot_score
from mteb.types import PromptType

from hybrid_retrieval.evaluation.scoring.embeddings import EmbeddingStore, Fingerprinted
from hybrid_retrieval.models.checkpoint import load_encoder
from hybrid_retrieval.models.encoder import BiEncoder, Encoder, Role

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

    def similarity(self, embeddings1: Array, embeddings2: Array) -> Array:
        """Dot products, [rows of the first, rows of the second]: an encoder's scores."""
        return dot_score(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Array, embeddings2: Array) -> Array:
        """Dot products of equal rows, [rows]."""
        return pairwise_dot_score(embeddings1, embeddings2)

    @cached_property
    def mteb_model_meta(self) -> ModelMeta:
        """The encoder's metadata. The revision is a digest of its weights and settings, where the encoder has one."""
        encoder = self.encoder
        known: dict[str, Any] = {"name": self.name, "similarity_fn_name": ScoringFunction.DOT_PRODUCT}
        if isinstance(encoder, Fingerprinted):
            both = f"{encoder.fingerprint('query')} {encoder.fingerprint('passage')}"
            known["revision"] = hashlib.sha256(both.encode()).hexdigest()[:16]
        if isinstance(encoder, BiEncoder):
            settings, weights = encoder.settings, list(encoder.parameters())
            known |= {
                "n_parameters": sum(weight.numel() for weight in weights),
                "memory_usage_mb": sum(weight.numel() * weight.element_size() for weight in weights) / 2**20,
                "max_tokens": settings.longest,
                "embed_dim": encoder.dimensions,
                "framework": ["PyTorch"],
                "similarity_fn_name": ScoringFunction.COSINE if settings.normalize else ScoringFunction.DOT_PRODUCT,
                "use_instructions": bool(settings.query_prefix or settings.passage_prefix),
            }
        return ModelMeta.create_empty(known)
