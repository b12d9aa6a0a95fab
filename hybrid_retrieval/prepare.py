"""Fetch and build a data set before it is needed: ``python -m hybrid_retrieval.prepare`` (``make data``).

``prepare mine`` finds hard negatives for one, ``prepare score`` has a cross-encoder score them; each with --help of its own.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys

from hybrid_retrieval.command import hydra_command, with_exit_code
from hybrid_retrieval.config import PathsConfig, choice_values
from hybrid_retrieval.data.help_pages import refresh_package_lists
from hybrid_retrieval.data.source import Source
from hybrid_retrieval.errors import InputError, outlive_readers
from hybrid_retrieval.values import build


def main() -> None:
    """Build the default data set; as root, refresh missing package lists when that is what it takes."""
    if sys.argv[1:2] in (["mine"], ["score"]):
        name = sys.argv.pop(1)
        hydra_command(importlib.import_module(f"hybrid_retrieval.mining.{name}").main, name)
        return
    parser = argparse.ArgumentParser(prog="hybrid-retrieval prepare", description=__doc__)
    parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    with_exit_code(prepare)


def prepare() -> None:
    """Build ``libreoffice_help``, and say what it holds."""
    source = build(choice_values("dataset", "libreoffice_help"), Source, "dataset", paths=PathsConfig())
    try:
        pairs = source.pairs()
    except InputError:
        if os.geteuid() != 0 or not refresh_package_lists():
            raise
        pairs = source.pairs()
    for side in ("queries", "passages"):
        print(f"{side}: " + ", ".join(f"{language} {count:,}" for language, count in pairs.meta["counts"][side].items()))
    print("items: " + ", ".join(f"{split} {count:,}" for split, count in pairs.meta["counts"]["edges"].items()))


if __name__ == "__main__":
    outlive_readers()
    main()
