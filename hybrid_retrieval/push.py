"""``python -m hybrid_retrieval.push RUN|DIR OWNER/NAME``: a model to a hub."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hybrid_retrieval.command import with_exit_code
from hybrid_retrieval.errors import InputError, exit_on_sigterm, outlive_readers
from hybrid_retrieval.hub import Hub, hub_token
from hybrid_retrieval.reporting.run_directory import is_run
from hybrid_retrieval.shipping.card import CARD, write_card

DESCRIPTION = """Send an exported directory to a hub, or a run, which is exported first. The token is that of HF_TOKEN or of a
login (hf auth login)."""
MODULES = "modules.json"
WEIGHTS = ("*.safetensors", "*/*.safetensors")
EXPORT = "hybrid_retrieval.export"
"""The command that makes a directory of a run."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Push what the command line names; the exit code is 2 where it cannot be, and then nothing was sent."""
    parser = argparse.ArgumentParser("hybrid-retrieval push", description=DESCRIPTION)
    parser.add_argument("model", metavar="RUN|DIR", type=Path, help="run directory, or a directory that export wrote")
    parser.add_argument("name", metavar="OWNER/NAME", help="of the model on the hub; it is made where it is not there")
    parser.add_argument("--private", action="store_true", help="where it is made, for its owner alone")
    parser.add_argument("--endpoint", metavar="URL", help="of the hub (HF_ENDPOINT, or huggingface.co)")
    parser.add_argument("--revision", metavar="BRANCH", help="made where it is not there (default: main)")
    parser.add_argument("--licence", metavar="NAME", help="of the weights of a RUN, for its card, as apache-2.0")
    chosen = parser.parse_args(arguments)
    with_exit_code(lambda: push(chosen.model, chosen.name, chosen.private, chosen.endpoint, chosen.revision, chosen.licence))
    return 0


def push(
    model: Path,
    name: str,
    private: bool = False,
    endpoint: str | None = None,
    revision: str | None = None,
    licence: str | None = None,
) -> None:
    """Send a model to a hub, every file of its directory but hidden ones.

    Raises:
        InputError: there is no model, no token, no such name or no hub.
    """
    hub = Hub(endpoint)
    hub.check_upload(name, revision, hub_token())
    with _directory(model, name, licence) as directory:
        address = hub.upload(directory, name, private, revision, hub_token())
    print(f"pushed: {address}")


@contextmanager
def _directory(model: Path, name: str, licence: str | None) -> Iterator[Path]:
    """The directory to send; that of a run is exported, with its card, and lasts as long as this."""
    if not is_run(model):
        if not model.is_dir():
            raise InputError(f"{model} is no directory; expected a run directory, or one that hybrid-retrieval export wrote")
        if not (model / MODULES).is_file() or not any(any(model.glob(pattern)) for pattern in WEIGHTS):
            raise InputError(
                f"{model} holds no model ({MODULES} and *.safetensors); expected what hybrid-retrieval export wrote"
            )
        if licence is not None:
            raise InputError(f"--licence={licence} is for the card of a run; {model} has its own {CARD}")
        yield model
    elif importlib.util.find_spec(EXPORT) is None:
        raise InputError(f"{model} is a run directory, which cannot be exported here; expected an exported directory")
    else:
        with tempfile.TemporaryDirectory() as folder:
            directory = Path(folder) / "model"
            importlib.import_module(EXPORT).export(model, directory)
            write_card(model, directory, name, licence)
            yield directory


if __name__ == "__main__":
    outlive_readers()
    exit_on_sigterm()
    sys.exit(main())
