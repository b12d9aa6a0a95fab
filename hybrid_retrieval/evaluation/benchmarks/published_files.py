"""Files of a benchmark: the user's copies first, then what was fetched before, then the publisher's at a pinned revision."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hybrid_retrieval.cache import Cache, file_state
from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.errors import InputError

log = logging.getLogger(__name__)

CONNECT_SECONDS, READ_SECONDS = 4, 30
HUB = "https://huggingface.co/datasets"
LARGE = 1 << 26
"""Bytes from which a file's checksum is kept."""
SHA256 = "sha256.txt"


@dataclass(frozen=True)
class PublishedFile:
    """A file as it was published.

    Attributes:
        place: its path below the set's folder.
        url: where the publisher has it.
        sha256: None where only the revision is pinned.
    """

    place: str
    url: str
    sha256: str | None = None


@dataclass(frozen=True)
class PublishedFiles:
    """The files of a benchmark, by a key each, such as a language.

    Attributes:
        name: of the benchmark.
        publisher, revision: for the record.
        local: the folder with the user's copies, which is only read.
        cache: where fetched files go, and the checksums of large ones.
    """

    name: str
    publisher: str
    revision: str
    local: Path | None
    cache: Cache
    files: Mapping[str, PublishedFile]

    @classmethod
    def of(
        cls, paths: PathsConfig, name: str, folder: str, publisher: str, revision: str, files: Mapping[str, PublishedFile]
    ) -> PublishedFiles:
        """Below `folder` of ``paths.data``, or fetched into ``paths.cache``."""
        local = Path(paths.data).expanduser() / folder if paths.data else None
        return cls(name, publisher, revision, local, Cache.at(paths.cache), files)

    @property
    def downloads(self) -> Path:
        """Where fetched files go."""
        return self.cache.root / "downloads" / self.name / self.revision

    @classmethod
    def of_hub(cls, paths: PathsConfig, name: str, dataset: str, revision: str, places: Mapping[str, str]) -> PublishedFiles:
        """Files of a data set on the hub at their `places`, also below the folder `name` of ``paths.data``."""
        files = {key: PublishedFile(place, hub_url(dataset, revision, place)) for key, place in places.items()}
        return cls.of(paths, name, name, f"{HUB}/{dataset}", revision, files)

    def at_hand(self) -> bool:
        """Whether no file must be fetched."""
        return all(self.find(key) is not None for key in self.files)

    def find(self, key: str) -> Path | None:
        """Where a file is on this machine."""
        for folder in (self.local, self.downloads):
            if folder is not None and (folder / self.files[key].place).is_file():
                return folder / self.files[key].place
        return None

    def path(self, key: str) -> Path:
        """Where a file is, fetched if need be; another content than the published one is said in the log.

        Raises:
            InputError: it is not at hand and cannot be fetched.
        """
        found = self.find(key) or self._fetch(self.files[key])
        published = self.files[key].sha256
        if published is not None and checksum(found, self.cache) != published:
            log.warning("benchmark %s: %s is not the published one", self.name, found)
        return found

    def provenance(self) -> dict[str, Any]:
        """Publisher, revision and the checksums of the files that are really there (published ones, where none is).

        ``as_published`` is None where a checksum to compare with is not known.
        """
        paths = {key: self.find(key) for key in self.files}
        found = {key: self.files[key].sha256 if path is None else checksum(path, self.cache) for key, path in paths.items()}
        known = {key: file.sha256 for key, file in self.files.items() if file.sha256 is not None}
        agrees = all(found[key] == published for key, published in known.items())
        return {
            "publisher": self.publisher,
            "revision": self.revision,
            "as_published": False if not agrees else True if len(known) == len(self.files) else None,
            "sha256": found,
        }

    def _fetch(self, file: PublishedFile) -> Path:
        import pooch
        import requests

        target = self.downloads / file.place
        try:
            pooch.retrieve(
                file.url,
                known_hash=f"sha256:{file.sha256}" if file.sha256 else None,
                fname=target.name,
                path=target.parent,
                downloader=pooch.HTTPDownloader(progressbar=True, timeout=(CONNECT_SECONDS, READ_SECONDS)),
            )
        except (requests.RequestException, OSError, ValueError) as error:
            place = self.local / file.place if self.local else Path(file.place)
            raise InputError(
                f"benchmark={self.name} cannot be fetched from its publisher ({_reason(error)}): put {file.url} at {place} "
                "below the folder paths.data (HYBRID_RETRIEVAL_DATA)"
            ) from error
        return target


def hub_url(dataset: str, revision: str, path: str) -> str:
    """A file of a data set on the hub."""
    return f"{HUB}/{dataset}/resolve/{revision}/{path}"


def checksum(file: Path, cache: Cache) -> str:
    """SHA-256; a large file is read again only when it has changed."""
    state = file_state(file)
    if state[1] < LARGE:
        return hashlib.sha256(file.read_bytes()).hexdigest()

    def make(directory: Path) -> None:
        with file.open("rb") as stream:
            (directory / SHA256).write_text(hashlib.file_digest(stream, "sha256").hexdigest())

    return (cache.build("checksums", state, make) / SHA256).read_text()


def expect_counts(file: object, expected: Mapping[str, int | None], found: Mapping[str, int]) -> None:
    """Refuse a set with other counts than the published (None: not known)."""
    for what, count in expected.items():
        if count is not None and found[what] != count:
            raise InputError(f"{file} has {found[what]:,} {what}; published were {count:,}")


def _reason(error: Exception) -> str:
    return str(error).splitlines()[0][:120] if isinstance(error, ValueError) else type(error).__name__
