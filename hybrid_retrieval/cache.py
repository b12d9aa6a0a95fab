"""Built things on disk: each is made once, under a key that names all it depends on, and appears whole or not at all."""

from __future__ import annotations

import fcntl
import functools
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.files import input_state, sha256

SCRATCH = ".unfinished-"
"""How the names of folders begin that are being built."""
SHA256 = "sha256.txt"
LARGE = 1 << 26
"""Bytes from which a file's checksum is kept."""


@dataclass(frozen=True)
class Cache:
    """The folder ``paths.cache``."""

    root: Path

    @classmethod
    def at(cls, path: str | os.PathLike[str], key: str = "paths.cache") -> Cache:
        """The cache at `path`, which `key` names, created if need be; InputError when nothing can be written there."""
        root = Path(path).expanduser()
        check_writable(root, key)
        sweep_once(root.resolve())
        return cls(root)

    def directory(self, kind: str, key: Any) -> Path:
        """The place of the thing of this `kind` and `key` (any JSON value), built or not."""
        return self.root / kind / digest(key)

    def build(self, kind: str, key: Any, make: Callable[[Path], None]) -> Path:
        """The directory for `key`; when it is not there yet, `make` fills a temporary one that is then renamed.

        A killed process leaves nothing under the final name; of two that build at once the first to finish wins.
        """
        final = self.directory(kind, key)
        if final.exists():
            return final
        final.parent.mkdir(parents=True, exist_ok=True)
        with scratch(final.parent) as work:
            make(work)
            (work / "key.json").write_text(json.dumps(key, indent=1, sort_keys=True, default=str))
            try:
                work.replace(final)
            except OSError:
                if not final.exists():
                    raise
        return final

    def checksum(self, file: Path, large: int = LARGE) -> str:
        """SHA-256 of a file; one of `large` bytes or more is read again only when it has changed."""
        state = file_state(file)
        if state[1] < large:
            return sha256(file)
        place = self.build("checksums", state, lambda directory: _write_checksum(directory, sha256(file)))
        return (place / SHA256).read_text()

    def check_pinned(self, origin: Sequence[str], file: Path, published: str | None = None) -> None:
        """Refuse a download whose content is not the `published` one or, where that is not known, the one that came first.

        Args:
            origin: where it is from, revision and path included.
        """
        found = self.checksum(file)
        place = None if published else self.build("pinned", list(origin), lambda folder: _write_checksum(folder, found))
        expected = (place / SHA256).read_text() if place else published
        if found != expected:
            when = f"the first time ({place})" if place else "at its publisher"
            raise InputError(
                f"{file} ({' '.join(origin)}) has the checksum {found[:12]}, which {when} was {str(expected)[:12]}: "
                f"delete {file.resolve()}, so that it is fetched again"
            )


def check_writable(folder: Path, key: str) -> None:
    """Create a folder if need be; InputError, with the `key` that names it, when nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"{key}={folder} cannot be written ({error.strerror}); choose another folder") from error


def check_new(folder: Path, key: str) -> None:
    """InputError, with the `key` that names it, where there is something of that name already or no folder can be made."""
    check_writable(folder.parent, key)
    if os.path.lexists(folder):
        raise InputError(f"{key}={folder} is there already: choose another folder, or remove it")


def _write_checksum(directory: Path, checksum: str) -> None:
    (directory / SHA256).write_text(checksum)


@contextmanager
def scratch(parent: Path) -> Iterator[Path]:
    """A folder in `parent` that is gone at the end; after a kill, when a process next opens the cache.

    A lock of the kernel's holds it, which ends with this process however that ends.
    """
    parent.mkdir(parents=True, exist_ok=True)
    folder, lock = _held_folder(parent)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _held_folder(parent: Path) -> tuple[Path, int]:
    """A new folder and the descriptor that holds it; another one where it was swept before it was held."""
    folder = Path(tempfile.mkdtemp(prefix=SCRATCH, dir=parent))
    with suppress(FileNotFoundError):
        lock = os.open(folder, os.O_RDONLY)
        with suppress(OSError):  # a file system without locks, on which nothing is swept either
            fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():
            return folder, lock
        os.close(lock)
    return _held_folder(parent)


def sweep(root: Path, depths: Sequence[str] = ("", "*/", "*/*/")) -> None:
    """Remove what killed processes left of what they were building, so deep below a folder."""
    for depth in depths:
        for folder in root.glob(f"{depth}{SCRATCH}*"):
            with suppress(OSError):
                lock = os.open(folder, os.O_RDONLY)
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder, ignore_errors=True)
                finally:
                    os.close(lock)


sweep_once = functools.cache(sweep)


def digest(key: Any) -> str:
    """A short name for any JSON value."""
    text = json.dumps(key, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:20]


def folder_state(path: Path) -> list[Any]:
    """A local folder's resolved name and a digest of its files' states: it changes when a file in it does."""
    return [str(path.resolve()), digest(sorted(file_state(file) for file in path.rglob("*") if file.is_file()))]


def file_state(path: Path) -> list[Any]:
    """A local file's resolved name, size and modification time: it changes when the file does."""
    state = input_state(path)
    return [str(path.resolve()), state.st_size, state.st_mtime_ns]
