"""Built things on disk: each is made once, under a key that names all it depends on, and appears whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hybrid_retrieval.errors import InputError


@dataclass(frozen=True)
class Cache:
    """The folder ``paths.cache``."""

    root: Path

    @classmethod
    def at(cls, path: str | os.PathLike[str]) -> Cache:
        """The cache at `path`, created if need be; InputError when nothing can be written there."""
        root = Path(path).expanduser()
        try:
            root.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=root):
                pass
        except OSError as error:
            raise InputError(f"paths.cache={root} cannot be written ({error.strerror}); choose another folder") from error
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
        work = Path(tempfile.mkdtemp(prefix=f".{final.name}-", dir=final.parent))
        try:
            make(work)
            (work / "key.json").write_text(json.dumps(key, indent=1, sort_keys=True, default=str))
            try:
                work.replace(final)
            except OSError:
                if not final.exists():
                    raise
        finally:
            shutil.rmtree(work, ignore_errors=True)
        return final


def digest(key: Any) -> str:
    """A short name for any JSON value."""
    text = json.dumps(key, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def folder_state(path: Path) -> list[Any]:
    """A local folder's resolved name and a digest of its files' states: it changes when a file in it does."""
    return [str(path.resolve()), digest(sorted(file_state(file) for file in path.rglob("*") if file.is_file()))]


def file_state(path: Path) -> list[Any]:
    """A local file's resolved name, size and modification time: it changes when the file does."""
    state = path.stat()
    return [str(path.resolve()), state.st_size, state.st_mtime_ns]
