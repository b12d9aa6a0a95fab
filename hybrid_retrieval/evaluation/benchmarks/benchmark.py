"""The interface of a benchmark."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from hybrid_retrieval.evaluation.collection import RetrievalCollection

Topics = list[tuple[str, str]]
"""Queries or passages: (id, text)."""
Judgements = list[tuple[str, str, int]]
"""(query id, passage id, grade)."""


class Benchmark(ABC):
    """A benchmark by name. Constructors take config values and the job's ``paths``; nothing is read before `load`."""

    @abstractmethod
    def at_hand(self) -> bool:
        """Whether `load` needs no network."""

    @abstractmethod
    def load(self) -> RetrievalCollection:
        """The collection.

        Raises:
            InputError: not to be found, or not what was published.
        """

    @abstractmethod
    def provenance(self) -> dict[str, Any]:
        """The data's origin: revision or version, and checksums."""
