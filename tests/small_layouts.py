"""Benchmarks whose published folders are small ones that a test writes."""

from __future__ import annotations

from typing import Any, TypeVar

from hybrid_retrieval.evaluation.benchmarks.benchmark import Benchmark

B = TypeVar("B", bound=Benchmark)


def small(benchmark: type[B], **constants: Any) -> type[B]:
    """The benchmark with these in place of its class's constants: the counts and checksums that were published."""
    return type(benchmark.__name__, (benchmark,), constants)
