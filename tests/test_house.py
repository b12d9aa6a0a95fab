"""The house: which way imports point, that every config fits its constructor, that the package ships its configs."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import hydra
import pytest
import yaml
from omegaconf import OmegaConf

from hybrid_retrieval.config import CLOSED, config_directory
from hybrid_retrieval.values import locate

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "hybrid_retrieval"

FOUNDATION = {"errors", "values", "config", "cache", "files", "hashing", "hub", "progress", "ragged"}
"""What every room may use."""

FIGURES = {"evaluation.figures", "evaluation.measures", "evaluation.degradation"}
"""What of evaluation a room may use that knows no torch: figures as objects, and measures."""
STATISTICS = {"evaluation.statistics.resampling", "evaluation.statistics.significance"}
"""And what reporting tests differences by."""

MAY_IMPORT = {
    "__main__": {"errors", "command"},
    "errors": set(),
    "values": {"errors"},
    "config": {"errors", "values"},
    "cache": {"errors", "files"},
    "files": {"errors"},
    "hashing": set(),
    "hub": {"errors"},
    "progress": set(),
    "ragged": set(),
    "data": FOUNDATION,
    "sampling": FOUNDATION,
    "models": FOUNDATION,
    "losses": FOUNDATION,
    "evaluation": FOUNDATION | {"data", "models"},
    "training": FOUNDATION | {"data", "sampling", "models", "losses", "evaluation", "reporting"},
    "reporting": {"errors", "values", "config", "cache", "files", "data.languages"} | FIGURES | STATISTICS,
    "audit": FOUNDATION | {"data", "evaluation"},
    "benchmarking": FOUNDATION | {"run_record", "data", "evaluation", "models"},
    "planning": FOUNDATION | {"data", "sampling", "models", "losses", "training", "reporting"},
    "plan": {"errors", "values", "config", "command", "planning", "reporting"},
    "run_record": {"errors", "values", "config", "files"},
    "command": {"errors", "config", "progress"},
    "mining": FOUNDATION | {"run_record", "data", "models", "evaluation", "training", "evaluate"},
    "challenge": FOUNDATION | {"command", "data", "evaluation", "mining"},
    "attack": FOUNDATION | {"command", "challenge", "search", "evaluation", "reporting"},
    "prepare": FOUNDATION | {"command", "data", "mining"},
    "run": FOUNDATION | {"command", "run_record", "audit", "benchmarking", "models", "training", "reporting", "export"},
    "evaluate": FOUNDATION | {"command", "run_record", "data", "models", "benchmarking", "training", "reporting"},
    "search": FOUNDATION | {"command", "run_record", "evaluate", "evaluation", "models", "reporting"},
    "report": {"errors", "command", "reporting"},
    "dashboard": {"errors", "config", "hub", "command", "reporting"},
    "shipping": FOUNDATION | {"models", "reporting", "evaluation.benchmarks.belebele"} | FIGURES,
    "export": FOUNDATION
    | {"command", "run_record", "data", "models", "benchmarking", "evaluation", "training", "shipping", "reporting"},
    "push": {"errors", "hub", "command", "reporting", "shipping", "export"},
    "compare": {"errors", "files", "evaluation", "reporting"},
    "interop": FOUNDATION | {"data", "sampling", "evaluation", "models", "training"},
    "verify": {"errors", "values", "config", "files", "command", "reporting"} | FIGURES,
}
"""Room (or top-level module) -> the rooms, or modules of them, that it may look into."""


def imported(path: Path) -> set[str]:
    """The modules of the package that a file imports from, wherever in the file."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for name in names:
            if name.startswith("hybrid_retrieval."):
                found.add(name.partition(".")[2])
            elif name == "hybrid_retrieval" and isinstance(node, ast.ImportFrom):
                found |= {alias.name for alias in node.names if not alias.name.startswith("__")}
    return found


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path: Path) -> None:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    room = parts[0]
    if room == "__init__":
        return
    assert room in MAY_IMPORT, f"{room} is a room that nobody has drawn: add it to the picture"
    may = {room, *MAY_IMPORT[room]}
    assert not {module for module in imported(path) if not {module, module.split(".")[0]} & may}


def test_sampling_reporting_and_model_cards_know_no_torch() -> None:
    paths = [path for room in ("sampling", "reporting") for path in (PACKAGE / room).rglob("*.py")]
    cards = [PACKAGE / "shipping" / f"{name}.py" for name in ("card", "command_line", "mteb_results", "public")]
    for path in (*paths, *cards):
        assert not re.search(r"^\s*(import|from) (torch|lightning)\b", path.read_text(), re.MULTILINE), path


def test_no_room_without_a_name_of_its_own() -> None:
    names = {path.stem for path in PACKAGE.rglob("*.py")} | {path.name for path in PACKAGE.rglob("*") if path.is_dir()}
    assert not names & {"util", "utils", "helper", "helpers", "common", "misc"}


KNOWS_PRIVATE_PARTS = {"training/exact.py", "models/kernels"}
"""The only files that may touch a private attribute of Lightning or transformers; their number is not to grow."""


def private_attributes(path: Path) -> set[str]:
    """Attributes with a leading underscore that a file reads or sets of something that is not its own.

    Its own are those of ``self`` and ``cls``, of objects made in the file by a class that defines them, and torch's public
    ``torch._foreach_*``.
    """
    tree = ast.parse(path.read_text())
    own = {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    touched = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr.startswith("_")]
    own |= {node.attr for node in touched if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")}
    found = set()
    for node in touched:
        of = ast.unparse(node.value)
        if not (node.attr.startswith("__") or node.attr in own or of in ("self", "cls", "torch")):
            found.add(f"{of}.{node.attr}")
    return found


def imports_lightning_or_transformers(path: Path) -> bool:
    return bool(re.search(r"^\s*(import|from) (lightning|transformers)\b", path.read_text(), re.MULTILINE))


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_private_attributes_of_lightning_and_transformers_are_touched_behind_one_door(path: Path) -> None:
    name = str(path.relative_to(PACKAGE))
    if name.startswith(tuple(KNOWS_PRIVATE_PARTS)) or not imports_lightning_or_transformers(path):
        return
    assert private_attributes(path) == set()


OPEN = ["dataset", "sampler", "model", "loss", "optimizer", "benchmark", "retriever"]


CHOICES = [f"{group}/{path.stem}" for group in OPEN for path in sorted((config_directory() / group).glob("*.yaml"))]


@cache
def composed(choice: str) -> dict[str, Any]:
    """The node of a choice, as in ``model/xlmr``, with all that it takes over from its bases."""
    with hydra.initialize_config_dir(str(config_directory()), version_base="1.3"):
        node: Any = OmegaConf.to_container(hydra.compose(choice))
    while "_target_" not in node:
        (node,) = node.values()
    return dict(node)


@pytest.mark.parametrize("choice", CHOICES)
def test_every_config_fits_the_constructor_it_names(choice: str) -> None:
    node = composed(choice)
    target = locate(node["_target_"], object, choice)
    assert set(node) - {"_target_", "recipe"} <= set(inspect.signature(target).parameters)


@pytest.mark.parametrize("group", sorted(CLOSED))
def test_every_key_of_a_closed_group_has_a_config(group: str) -> None:
    node = yaml.safe_load((config_directory() / group / "default.yaml").read_text())
    assert set(node) == set(inspect.signature(CLOSED[group]).parameters)


def test_every_sampler_source_and_benchmark_has_a_config() -> None:
    named = {composed(choice)["_target_"].rpartition(".")[0] for choice in CHOICES}
    for folder in ("data/sources", "evaluation/benchmarks"):
        for path in (PACKAGE / folder).glob("*.py"):
            if path.stem not in {"__init__", "benchmark", "challenge", "published_files", "stored_corpus", "utterances"}:
                assert f"hybrid_retrieval.{folder.replace('/', '.')}.{path.stem}" in named


@pytest.mark.slow
def test_an_installed_wheel_finds_its_configs(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    done = subprocess.run(
        [sys.executable, "-m", "hybrid_retrieval.run", "--cfg", "job"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "site"), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "hybrid_retrieval.sampling.hybrid.Hybrid" in done.stdout
    assert (tmp_path / "site" / "hybrid_retrieval" / "py.typed").exists()
