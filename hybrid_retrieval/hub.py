"""Files of the Hugging Face hub, through its own client.

The client's ways hold: a token from ``HF_TOKEN`` or a login, a mirror in ``HF_ENDPOINT``, ``HF_HUB_OFFLINE``, downloads that go
on where they broke off, and one cache (``HF_HUB_CACHE``) with whatever else uses the hub on this machine.
"""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from dataclasses import dataclass
from functools import cache
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from hybrid_retrieval.errors import InputError

MODEL_FILES = ("*.json", "*.model", "*.txt", "*.safetensors", "*.bin")
"""Patterns, of which a star stands for folders too."""
OTHER_RUNTIMES = ("onnx/*", "openvino/*")
HIDDEN = (".*", "*/.*")
"""What is of this machine, and is not sent."""
BRANCH = re.compile(r"[A-Za-z0-9_][\w.-]*(/[\w-][\w.-]*)*")


@dataclass(frozen=True)
class Hub:
    """A hub or a mirror of it, and the folder that downloads are kept in.

    Attributes:
        endpoint: of a mirror; what the client is set to by default.
        cache_dir: where downloads go; the client's own by default.
        patience: seconds to wait for the hub's first answer.
    """

    endpoint: str | None = None
    cache_dir: Path | None = None
    patience: float = 5.0

    def cached(self, repository: str, path: str, revision: str | None, kind: str = "dataset") -> Path | None:
        """A file that was downloaded before; the network is not asked."""
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(repository, path, self.cache_dir, revision, kind)
        return Path(found) if isinstance(found, str) else None

    def dataset_file(self, repository: str, path: str, revision: str, advice: str) -> Path:
        """A file of a data set at a pinned revision, from the cache or the hub.

        Args:
            advice: what to do instead where it cannot be had, for the error.

        Raises:
            InputError: it cannot be had; within seconds where the hub is out of reach.
        """
        _check_name(repository, "data set", advice)
        if found := self.cached(repository, path, revision):
            return found
        from huggingface_hub import hf_hub_download

        try:
            _greet(self.endpoint, self.patience)
            return Path(
                hf_hub_download(
                    repository,
                    path,
                    repo_type="dataset",
                    revision=revision,
                    cache_dir=self.cache_dir,
                    etag_timeout=self.patience,
                    endpoint=self.endpoint,
                )
            )
        except Exception as error:  # whatever the HTTP library beneath the client raises
            raise InputError(f"{path} of {repository} at {revision} {_why_not(error)}: {advice}") from error

    def dataset_files(self, repository: str, revision: str | None, advice: str) -> tuple[str, list[str]]:
        """The commit that a revision of a data set stands for (the newest by default), and the names of its files.

        Raises:
            InputError: it cannot be had; within seconds where the hub is out of reach.
        """
        from huggingface_hub import HfApi

        _check_name(repository, "data set", advice)
        try:
            _greet(self.endpoint, self.patience)
            found = HfApi(self.endpoint).dataset_info(repository, revision=revision, timeout=4 * self.patience)
            return str(found.sha), sorted(one.rfilename for one in found.siblings or [])
        except Exception as error:  # as above
            named = f"{repository} at {revision}" if revision else repository
            raise InputError(f"{named} {_why_not(error)}: {advice}") from error

    def cached_dataset(self, repository: str, revision: str | None) -> tuple[str, list[str]] | None:
        """The same of what was downloaded before, by whatever uses the cache; the network is not asked."""
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError

        try:
            kept: Any = snapshot_download(
                repository, repo_type="dataset", revision=revision, cache_dir=self.cache_dir, local_files_only=True
            )
        except (LocalEntryNotFoundError, ValueError):
            return None
        return Path(kept).name, sorted(file.relative_to(kept).as_posix() for file in Path(kept).rglob("*") if file.is_file())

    def model_directory(self, repository: str, revision: str | None, advice: str) -> Path:
        """The snapshot of a model repository: configuration, tokenizer, and weights in one format.

        The newest one where no revision is pinned; what is in the cache where the hub is out of reach.

        Raises:
            InputError: it cannot be had; within seconds where the hub is out of reach.
        """
        from huggingface_hub import HfApi, snapshot_download

        _check_name(repository, "model", advice)
        try:
            _greet(self.endpoint, self.patience)
            files = HfApi(self.endpoint).list_repo_files(repository, revision=revision)
            safe = {PurePosixPath(file).parent for file in files if file.endswith(".safetensors")}
            twice = [file for file in files if file.endswith(".bin") and PurePosixPath(file).parent in safe]
            return Path(
                snapshot_download(
                    repository,
                    revision=revision,
                    cache_dir=self.cache_dir,
                    allow_patterns=list(MODEL_FILES),
                    ignore_patterns=[*OTHER_RUNTIMES, *twice],
                    endpoint=self.endpoint,
                )
            )
        except Exception as error:  # as above
            if found := self.cached(repository, "config.json", revision, "model"):
                return found.parent
            raise InputError(f"{repository} {_why_not(error)}: {advice}") from error

    def check_upload(self, repository: str, revision: str | None, token: str | None) -> None:
        """Refuse, before anything is sent, what cannot be uploaded.

        Raises:
            InputError: a name that no repository can have, no token, or a hub that does not answer.
        """
        from huggingface_hub import constants

        _check_name(repository, "model", "expected OWNER/NAME", owned=True)
        if revision is not None and not BRANCH.fullmatch(revision):
            raise InputError(f"--revision={revision!r} is no name of a branch")
        address = self.endpoint or constants.ENDPOINT
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or parts.query:
            raise InputError("the address of the hub (--endpoint, HF_ENDPOINT): expected http(s)://HOST without a password")
        if not token:
            raise InputError(
                f"pushing to {address} needs a token: set HF_TOKEN to one that may write, or log in (hf auth login)"
            )
        try:
            _greet(self.endpoint, self.patience)
        except (OSError, HTTPException) as error:
            raise InputError(f"{repository} cannot be pushed: {_first(error)}") from error

    def upload(self, directory: Path, repository: str, private: bool, revision: str | None, token: str | None) -> str:
        """Send a directory as a model, in one commit, and make its repository and branch where they are not there; the address.

        Raises:
            InputError: the hub does not take it; the message does not hold the token.
        """
        from huggingface_hub import HfApi

        api = HfApi(self.endpoint, token=token)
        try:
            address = api.create_repo(repository, private=private, exist_ok=True)
            if revision is not None:
                api.create_branch(repository, branch=revision, exist_ok=True)
            api.upload_folder(
                repo_id=repository,
                folder_path=directory,
                revision=revision,
                ignore_patterns=list(HIDDEN),
                commit_message=f"Push {repository}",
            )
        except Exception as error:  # whatever the HTTP library beneath the client raises
            reason = _first(error).replace(token or "\0", "***")
            raise InputError(f"{repository} cannot be pushed to {api.endpoint}: {reason}") from error
        return f"{address}/tree/{revision}" if revision else str(address)


def hub_token() -> str | None:
    """The user's token: of ``HF_TOKEN``, or of a login."""
    from huggingface_hub import get_token

    return get_token()


def _check_name(repository: str, kind: str, advice: str, owned: bool = False) -> None:
    """Refuse what no repository can be called (`owned`: without an owner), before the client does so wherever it meets it."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise InputError(f"{repository!r} is no name of a {kind} on the hub: {advice}") from error
    if owned and "/" not in repository:
        raise InputError(f"{repository!r} is no name of a {kind} on the hub: {advice}")


@cache
def _greet(endpoint: str | None, patience: float) -> None:
    """Ask the hub for any answer, once: its client tries again and again where there is no network.

    Raises:
        OSError: there is none, or ``HF_HUB_OFFLINE`` is set.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise ConnectionError("HF_HUB_OFFLINE is set")
    greet(endpoint or constants.ENDPOINT, patience)


def greet(url: str, patience: float) -> None:
    """Ask a service for any answer.

    Raises:
        ConnectionError: there is none; its cause says why.
    """
    request = urllib.request.Request(url, method="HEAD")  # noqa: S310 (the user's own)
    try:
        urllib.request.urlopen(request, timeout=patience).close()  # noqa: S310
    except urllib.error.HTTPError as answer:
        answer.close()
    except OSError as error:
        raise ConnectionError(f"{url} cannot be reached: {getattr(error, 'reason', error)}") from error


def _why_not(error: Exception) -> str:
    """The rest of a sentence that begins with a repository or a file of one."""
    from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    reasons = {
        GatedRepoError: "is gated (accept its terms on its page, and set HF_TOKEN to a token of yours)",
        RepositoryNotFoundError: "is not on the hub for everybody (if it is private, set HF_TOKEN to a token that may read it)",
        RevisionNotFoundError: "is not on the hub in this revision",
        EntryNotFoundError: "is not on the hub",
    }
    reason = _first(error)
    return next((known for kind, known in reasons.items() if isinstance(error, kind)), f"cannot be had from the hub ({reason})")


def _first(error: Exception) -> str:
    """The first line of what the client says."""
    return next(iter(str(error).splitlines()), "")[:120] or type(error).__name__
