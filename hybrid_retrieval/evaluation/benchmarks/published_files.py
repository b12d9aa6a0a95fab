"""Files of a benchmark: the user's copies first, then what was fetched before, then the publisher's at a pinned revision."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hybrid_retrieval.cache import LARGE, Cache, scratch
from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.errors import InputError, first_line
from hybrid_retrieval.evaluation.benchmarks.benchmark import Benchmark
from hybrid_retrieval.hub import Hub

log = logging.getLogger(__name__)

CONNECT_SECONDS, READ_SECONDS = 4, 30


@dataclass(frozen=True)
class HubDataset:
    """A data set on the hub at one revision; the hub's client keeps what was fetched."""

    repository: str
    revision: str
    hub: Hub = field(default_factory=Hub)

    @property
    def address(self) -> str:
        """Address of its page."""
        return f"https://huggingface.co/datasets/{self.repository}"

    def cached(self, path: str, downloads: Path) -> Path | None:
        """A file that was fetched before."""
        del downloads
        return self.hub.cached(self.repository, path, self.revision)

    def fetch(self, path: str, sha256: str | None, downloads: Path, advice: str) -> Path:
        """A file from the network; an InputError that ends with the `advice` where it cannot be had."""
        del sha256, downloads  # `Cache.check_pinned` compares it
        return self.hub.dataset_file(self.repository, path, self.revision, advice)


@dataclass(frozen=True)
class Website:
    """Files at ``<address>/<revision>/<path>``; what was fetched is kept in a folder `downloads`."""

    address: str
    revision: str

    def cached(self, path: str, downloads: Path) -> Path | None:
        """As of `HubDataset`."""
        return downloads / path if (downloads / path).exists() else None

    def fetch(self, path: str, sha256: str | None, downloads: Path, advice: str) -> Path:
        """As of `HubDataset`."""
        import pooch
        import requests

        url, target = f"{self.address}/{self.revision}/{path}", downloads / path
        try:
            with scratch(downloads.parents[1]) as work:
                pooch.retrieve(
                    url,
                    known_hash=f"sha256:{sha256}" if sha256 else None,
                    fname=target.name,
                    path=work,
                    downloader=pooch.HTTPDownloader(progressbar=True, timeout=(CONNECT_SECONDS, READ_SECONDS)),
                )
                target.parent.mkdir(parents=True, exist_ok=True)
                (work / target.name).replace(target)
        except (requests.RequestException, OSError, ValueError) as error:
            reason = first_line(error) if isinstance(error, ValueError) else type(error).__name__
            raise InputError(f"{url} cannot be fetched from its publisher ({reason}): {advice}") from error
        return target


@dataclass(frozen=True)
class PublishedFile:
    """A file as it was published.

    Attributes:
        path: at the publisher.
        place: below the set's folder in ``paths.data``; the path by default.
        sha256: None where only the revision is pinned.
        packed: whether the user's copy may be in gzip, its name ending in ``.gz``.
    """

    path: str
    place: str | None = None
    sha256: str | None = None
    packed: bool = False


@dataclass(frozen=True)
class PublishedFiles:
    """The files of a benchmark, by a key each, such as a language.

    Attributes:
        name: of the benchmark.
        folder: below ``paths.data``, with the user's copies; the benchmark's name by default.
        large: bytes from which a checksum is kept.
    """

    paths: PathsConfig
    name: str
    publisher: HubDataset | Website
    files: Mapping[str, PublishedFile]
    folder: str | None = None
    large: int = LARGE

    def at_hand(self) -> bool:
        """Whether no file must be fetched."""
        return all(self.find(key) is not None for key in self.files)

    def find(self, key: str) -> Path | None:
        """A file's path on this machine."""
        return self.local_copy(key) or self.publisher.cached(self.files[key].path, self._downloads)

    def local_copy(self, key: str) -> Path | None:
        """The user's own copy of a file."""
        if not self.paths.data:
            return None
        place = Path(self.paths.data).expanduser() / self._place(key)
        copies = [place, place.with_name(f"{place.name}.gz")] if self.files[key].packed else [place]
        return next((copy for copy in copies if copy.exists()), None)

    def path(self, key: str) -> Path:
        """A file's path, fetched if need be; another content of the user's copy than the published one is said in the log.

        Raises:
            InputError: it is not at hand and cannot be fetched, or was fetched and is not what was published.
        """
        file, cache = self.files[key], Cache.at(self.paths.cache)
        if copy := self.local_copy(key):
            if file.sha256 is not None and cache.checksum(copy, self.large) != file.sha256:
                log.warning("benchmark %s: %s is not the published one", self.name, copy)
            return copy
        advice = f"benchmark={self.name} reads it at {self._place(key)} below the folder paths.data (HYBRID_RETRIEVAL_DATA)"
        found = self.publisher.cached(file.path, self._downloads) or self.publisher.fetch(
            file.path, file.sha256, self._downloads, advice
        )
        cache.check_pinned((self.publisher.address, self.publisher.revision, file.path), found, file.sha256)
        return found

    def _place(self, key: str) -> Path:
        return Path(self.folder or self.name) / (self.files[key].place or self.files[key].path)

    @property
    def _downloads(self) -> Path:
        return Path(self.paths.cache).expanduser() / "downloads" / self.name / self.publisher.revision

    def provenance(self) -> dict[str, Any]:
        """Publisher, revision and the checksums of the files that are really there (published ones, where none is).

        ``as_published`` is None where a checksum to compare with is not known.
        """
        cache, paths = Cache.at(self.paths.cache), {key: self.find(key) for key in self.files}
        found = {
            key: self.files[key].sha256 if path is None else cache.checksum(path, self.large) for key, path in paths.items()
        }
        known = {key: file.sha256 for key, file in self.files.items() if file.sha256 is not None}
        agrees = all(found[key] == published for key, published in known.items())
        return {
            "publisher": self.publisher.address,
            "revision": self.publisher.revision,
            "as_published": False if not agrees else True if len(known) == len(self.files) else None,
            "sha256": found,
        }


class PublishedBenchmark(Benchmark):
    """A benchmark out of published files."""

    name: str
    files: PublishedFiles

    def at_hand(self) -> bool:
        return self.files.at_hand()

    def provenance(self) -> dict[str, Any]:
        return self.files.provenance()


def expect_count(file: object, what: str, found: int, published: int | None) -> None:
    """Refuse a set with another number of things than was published (None: not known)."""
    if published is not None and found != published:
        raise InputError(f"{file} has {found:,} {what}; published were {published:,}")
