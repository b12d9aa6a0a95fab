"""``python -m bench``: all rows; ``python -m bench NAME ...``: some.

A row is a function without arguments in ``bench/<file>.py`` whose name is the row's and whose return type is `Row`.

OpenMP's threads wait passively, on both sides: where another process wants a core too, threads that spin at each barrier
make a pass of many short parallel loops up to 60 times as slow, and the figures say more about the neighbour than the code.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import pkgutil
from collections.abc import Callable
from pathlib import Path

from bench import report
from bench.row import Row
from hybrid_retrieval.command import set_up_process

MACHINERY = ("__main__", "report", "row")


def found() -> dict[str, Callable[[], Row]]:
    """Row functions by name."""
    rows: dict[str, Callable[[], Row]] = {}
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        if module.name in MACHINERY:
            continue
        for name, member in inspect.getmembers(importlib.import_module(f"bench.{module.name}"), inspect.isfunction):
            own = member.__module__ == f"bench.{module.name}"
            signature = inspect.signature(member)
            if own and not signature.parameters and signature.return_annotation == "Row":
                rows[name] = member
    return rows


def main() -> None:
    set_up_process()  # as the commands do, for both sides; before the rows import torch
    rows = found()
    parser = argparse.ArgumentParser(prog="python -m bench", description="Time this package beside its peers.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"rows to run, of: {', '.join(rows)} (default: all)")
    names = parser.parse_args().names
    if unknown := [name for name in names if name not in rows]:
        parser.error(f"no row named {', '.join(unknown)}; there are {', '.join(rows)}")
    done = []
    for name in names or rows:
        print(f"{name} ...", flush=True)
        done.append(rows[name]())
        report.write(done[-1:])
    report.show(done)


if __name__ == "__main__":
    main()
