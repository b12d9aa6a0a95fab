"""Hybrid batch training of multilingual dense retrievers (arXiv 2408.10536): train, sweep, measure, compare."""

__version__ = "0.1.0"
