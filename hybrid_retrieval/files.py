"""Files that appear whole or not at all, what they hold in short, and the one door for input files."""

from __future__ import annotations

import hashlib
import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hybrid_retrieval.errors import InputError

NO_FILES = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def open_input(path: Path) -> io.BufferedReader:
    """An input file's bytes. What is no file, and might never end or answer, is not opened.

    Raises:
        InputError: it is not a file, or cannot be read.
    """
    input_state(path)
    with unreadable(path):
        return path.open("rb")


def input_state(path: Path) -> os.stat_result:
    """Size and times of an input file; an InputError where it is none."""
    with unreadable(path):
        state = path.stat()
    kind = stat.S_IFMT(state.st_mode)
    if kind in NO_FILES:
        raise InputError(f"{path} is {NO_FILES[kind]}; expected a file")
    return state


@contextmanager
def unreadable(path: Path) -> Iterator[None]:
    """Make an InputError of what the system has against reading a file."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({getattr(error, 'strerror', None) or error})") from error


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
    with open_input(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
