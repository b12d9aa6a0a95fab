"""Where training figures go beside the run directory's own files."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

from lightning.pytorch.loggers import CSVLogger, Logger

from hybrid_retrieval.config import JobConfig


class RunLogger(ABC):
    """Config of a logger. A new one is a subclass and a config that names it."""

    def __init__(self, job: JobConfig, run_dir: Path) -> None:
        self.job, self.run_dir = job, run_dir

    @abstractmethod
    def lightning(self) -> Logger:
        """The logger that Lightning writes to."""


class CsvLogger(RunLogger):
    """``metrics.csv`` in the run directory."""

    def lightning(self) -> Logger:
        return CSVLogger(self.run_dir, name="", version="")
