"""Run directories without a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.reporting.fake_runs import write_run


@pytest.fixture(autouse=True)
def _own_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYBRID_RETRIEVAL_CACHE", str(cache))


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Write a run directory under the test's folder."""

    def make(name: str, **values: Any) -> Path:
        return write_run(tmp_path / name, **values)

    return make
