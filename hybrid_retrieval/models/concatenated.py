"""Several encoders as one: embeddings end to end, so that a score is the weighted mean of what each of them says.

Concatenation is the simplest of meta-embeddings (arXiv 1911.03700). The parts need share neither tokenizer nor architecture,
and each is trained by itself. What comes out is one vector a text: one index, one search.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from hybrid_retrieval.cache import digest
from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.models.encoder import BiEncoder, Encoder, Role
from hybrid_retrieval.models.published import PublishedModel
from hybrid_retrieval.values import NotNegative, construct


class ConcatenatedEncoder(nn.Module, Encoder):
    """Encoders of run directories and published ones; ``conf/model/concatenated.yaml`` explains the arguments.

    Attributes:
        dimensions: of all parts together.
    """

    def __init__(self, paths: PathsConfig, parts: list[dict[str, Any]], weights: list[NotNegative] | None = None) -> None:
        super().__init__()
        if len(parts) < 2:
            raise InputError(f"model.parts={parts}; expected two or more, as in model.parts=[{{path:RUN_DIR}},{{name:NAME}}]")
        weights = [1.0] * len(parts) if weights is None else weights
        if len(weights) != len(parts) or not sum(weights):
            raise InputError(f"model.weights={weights}; expected {len(parts)} numbers, one for each of model.parts, not all 0")
        self.weights = [weight / sum(weights) for weight in weights]
        self.encoders = nn.ModuleList(_loaded(part, at, paths) for at, part in enumerate(parts))
        self.dimensions = sum(part.dimensions for part in self._parts)
        self.eval()

    @property
    def _parts(self) -> list[Any]:
        return [*self.encoders]

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        found: torch.device = self._parts[0].device
        return found

    @property
    def strict(self) -> bool:
        """Make an error of texts that a part cuts and of tokens that it does not know, instead of a line in the log."""
        return all(part.strict for part in self._parts)

    @strict.setter
    def strict(self, value: bool) -> None:
        for part in self._parts:
            part.strict = value

    def parts(self, label: str) -> list[tuple[Encoder, str]]:
        """The encoders, and what each calls its texts in the log where they are called `label`."""
        return [(part, f"{label} ({at} of {len(self._parts)})" if label else "") for at, part in enumerate(self._parts, 1)]

    def join(self, vectors: Sequence[npt.NDArray[np.floating[Any]]]) -> npt.NDArray[np.float32]:
        """float32 [texts, dimensions]: each part's embeddings at unit length, times the root of its share of the weights."""
        lengths = [np.linalg.norm(each.astype(np.float32), axis=1, keepdims=True) for each in vectors]
        scales = [weight**0.5 / np.where(length == 0, 1, length) for weight, length in zip(self.weights, lengths, strict=True)]
        scaled = [each * scale for each, scale in zip(vectors, scales, strict=True)]
        joined: npt.NDArray[np.float32] = np.concatenate(scaled, axis=1, dtype=np.float32)
        return joined

    def encode(self, texts: Sequence[str], role: Role, label: str = "") -> npt.NDArray[np.float32]:
        """float32 [texts, dimensions]."""
        return self.join([part.encode(texts, role, said) for part, said in self.parts(label)])

    def fingerprint(self, role: Role) -> str:
        """A digest of all that the embeddings of a text in this role depend on; what is `strict` is read again (law 7)."""
        return digest([[part.fingerprint(role) for part in self._parts], self.weights, self.strict])


def _loaded(part: dict[str, Any], at: int, paths: PathsConfig) -> BiEncoder:
    """The encoder that a part names, the part with its number in what is wrong with it."""
    try:
        return construct(PublishedModel, part, "model", paths=paths).load()
    except InputError as error:
        raise InputError(f"model.parts[{at}]: {error}") from error
