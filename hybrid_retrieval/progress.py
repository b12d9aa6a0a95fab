"""Progress on the error stream, for whatever takes longer than a person likes to wait without a sign."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")

QUIET = "HYBRID_RETRIEVAL_QUIET"
"""Set by ``--quiet`` for this process and those that it starts."""


def watched() -> bool:
    """Whether somebody looks at the error stream, and has not asked for quiet."""
    return sys.stderr.isatty() and QUIET not in os.environ


def track(items: Iterable[T], description: str, total: int | None = None, show: bool = True) -> Iterator[T]:
    """The items, with a bar that goes away when they are done; none where nobody watches."""
    if not show or not watched():
        yield from items
        return
    from rich.console import Console
    from rich.progress import track as rich_track

    yield from rich_track(items, description, total=total, console=Console(stderr=True), transient=True)


def bar() -> Any:
    """A bar of steps with room for ``figures``, and the time that is left; None where nobody watches."""
    if not watched():
        return None
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(20),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True), transient=True, refresh_per_second=4)


def duration(seconds: float) -> str:
    """A time in the two units that matter: ``42 s``, ``3 min 5 s``, ``2 h 10 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"
