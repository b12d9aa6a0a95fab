"""The result files and the table: ``results.json`` (rows), ``machine.json`` (what they were measured on, and details)."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.row import Row
from hybrid_retrieval.run_record import processor_name

FOLDER = Path(__file__).parent
RESULTS, MACHINE = FOLDER / "results.json", FOLDER / "machine.json"
PACKAGES = ("torch", "numpy", "sentence-transformers", "transformers", "tokenizers", "lightning")
KEYS = ("name", "unit", "ours", "peer", "ratio", "target")


def machine() -> dict[str, Any]:
    """Where and on what: processor, cores, versions."""
    import torch

    return {
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
    }


def write(rows: Sequence[Row]) -> None:
    """Put `rows` into the result files; other rows, of an earlier run, stay as they were, each with its own machine."""
    results = {row["name"]: row for row in _read(RESULTS, [])}
    details = _read(MACHINE, {})
    here = machine()
    for row in rows:
        results[row.name] = row.result()
        details[row.name] = {
            "measured": datetime.now(UTC).isoformat(timespec="seconds"),
            "load": [round(value, 2) for value in os.getloadavg()],
            **row.details,
            "machine": here,
        }
    RESULTS.write_text(json.dumps([{key: row[key] for key in KEYS} for row in results.values()], indent=1) + "\n")
    MACHINE.write_text(json.dumps(details, indent=1) + "\n")


def show(rows: Sequence[Row]) -> None:
    """Print the machine and the table."""
    console = Console(width=None if os.isatty(1) else 160, highlight=False)
    here = machine()
    versions = ", ".join(f"{name} {version}" for name, version in here["versions"].items() if version)
    console.print(f"{here['processor']}, {here['cores']} cores; python {here['python']}, {versions}")
    table = Table()
    for name in KEYS:
        table.add_column(name, justify="left" if name in ("name", "unit") else "right")
    for row in rows:
        missed = row.target is not None and row.ratio < row.target
        ratio = f"[red]{row.ratio:,.1f}[/red]" if missed else f"{row.ratio:,.1f}"
        target = "" if row.target is None else f"{row.target:g}"
        table.add_row(row.name, row.unit, f"{row.ours:.4g}", f"{row.peer:.4g}", ratio, target)
    console.print(table)


def _read(path: Path, empty: Any) -> Any:
    return json.loads(path.read_text()) if path.exists() else empty


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
