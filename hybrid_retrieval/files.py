"""Files that appear whole or not at all, their checksums, what they hold in short, and the one door for input files."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from hybrid_retrieval.errors import InputError, reading

log = logging.getLogger(__name__)

CHECKSUMS = "checksums.json"
"""The record of a folder: by name of a file, the SHA-256 of its content; of two, while a new one takes the place of an old."""

NO_FILES = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


RESTORE = "restore it from a copy, or make its folder anew"
"""What to do about a file that was cut, or replaced."""


def open_input(path: Path) -> io.BufferedReader:
    """An input file's bytes. What is no file, and might never end or answer, is not opened.

    Raises:
        InputError: it is not a file, or cannot be read.
    """
    input_state(path)
    with reading(f"{path} cannot be read"):
        return path.open("rb")


def input_state(path: Path) -> os.stat_result:
    """Size and times of an input file; an InputError where it is none."""
    with reading(f"{path} cannot be read"):
        state = path.stat()
    kind = stat.S_IFMT(state.st_mode)
    if kind in NO_FILES:
        raise InputError(f"{path} is {NO_FILES[kind]}; expected a file")
    return state


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


@contextmanager
def recorded(path: Path) -> Iterator[Path]:
    """`replaced`, with the checksum in the folder's record, which holds at any moment that a kill may come."""
    with replaced(path) as part:
        yield part
        before, now = _recorded(path.parent), sha256(part)
        _record(path.parent, {**before, path.name: [*before.get(path.name, []), now]})
    _record(path.parent, {**before, path.name: [now]})


def check_recorded(path: Path) -> None:
    """Refuse a file that is not the one that was `recorded`; one that its folder has no record of is taken as it is.

    Raises:
        InputError: it was damaged, or another one was put in its place.
    """
    if not path.is_file():
        return
    sums = _recorded(path.parent).get(path.name)
    if sums is not None and sha256(path) not in sums:
        raise InputError(f"{path} is not the file that was written: its checksum is not that of {CHECKSUMS} beside it")
    if sums is None and not (path.parent / CHECKSUMS).exists():
        _say_unchecked(path.parent)


def read_recorded(path: Path) -> dict[str, Any]:
    """`read_mapping` of a file that is the one that was `recorded`."""
    content = read_mapping(path)  # first: it can say how the file was damaged
    check_recorded(path)
    return content


@cache
def _say_unchecked(folder: Path) -> None:
    """Once a folder."""
    log.warning("%s: not checked: no %s", folder, CHECKSUMS)


def _recorded(folder: Path) -> dict[str, list[str]]:
    path = folder / CHECKSUMS
    try:
        found = read_mapping(path) if path.exists() else {}
    except InputError as error:
        raise InputError(f"{error}; without {CHECKSUMS}, nothing in its folder is checked") from error
    if not all(isinstance(sums, list) for sums in found.values()):
        raise InputError(f"{path} is not a record of checksums")
    return found


def _record(folder: Path, sums: dict[str, list[str]]) -> None:
    write_text(folder / CHECKSUMS, json.dumps(sums, indent=1))


def write_text(path: Path, text: str) -> Path:
    """Write a text in UTF-8, whole or not at all; the path again."""
    with replaced(path) as part:
        part.write_text(text, encoding="utf-8")
    return path


def record_text(path: Path, text: str) -> None:
    """`write_text`, `recorded`."""
    with recorded(path) as part:
        part.write_text(text, encoding="utf-8")


def read_text(path: Path) -> str:
    """The text of an input file.

    Raises:
        InputError: it is not a file, or not in UTF-8.
    """
    with reading(f"{path} cannot be read"), io.TextIOWrapper(open_input(path), encoding="utf-8") as file:
        return file.read()


def read_plain(path: Path) -> Any:
    """The values in a JSON or YAML file.

    Raises:
        InputError: it is empty, cut or of another form.
    """
    text, form = read_text(path), "JSON" if path.suffix == ".json" else "YAML"
    if not text.strip("\0 \t\r\n"):
        what = f"holds {len(text):,} NUL characters" if "\0" in text else "is empty"
        raise InputError(f"{path} {what}; expected {form}: its writing was cut off; {RESTORE}")
    with reading(f"{path} cannot be read as {form} (was it cut off? {RESTORE})"):
        content = json.loads(text) if form == "JSON" else yaml.safe_load(text)
        if "\\ud" in text.lower():  # halves of characters, which no other file can hold
            json.dumps(content, ensure_ascii=False, default=str).encode("utf-8")
    return content


def read_mapping(path: Path) -> dict[str, Any]:
    """The mapping in a JSON or YAML file; its keys are text.

    Raises:
        InputError: it holds something else, or cannot be read.
    """
    content = read_plain(path)
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        found = "is empty" if content is None else f"holds a {type(content).__name__}"
        raise InputError(f"{path} {found}; expected a mapping of names to values")
    return content


def sha256(path: Path) -> str:
    """The checksum of a file's content."""
    with open_input(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
