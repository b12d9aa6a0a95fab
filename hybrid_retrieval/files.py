"""Files that appear whole or not at all, and what they hold in short."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to, which is renamed to `path` at the end.

    A kill or an error leaves what was at `path` before; after an error nothing else is left either.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> Path:
    """Write a text in UTF-8, whole or not at all; the path again."""
    with replaced(path) as part:
        part.write_text(text, encoding="utf-8")
    return path


def sha256(path: Path) -> str:
    """The checksum of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
