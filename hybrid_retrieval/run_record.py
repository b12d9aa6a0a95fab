"""The files of a run directory that say what was run, on what, and how it came out; and whether one may be written."""

from __future__ import annotations

import fcntl
import importlib.metadata
import json
import os
import platform
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass, replace
from fnmatch import fnmatch
from inspect import signature
from pathlib import Path
from typing import Any, Literal

import yaml

from hybrid_retrieval import __version__
from hybrid_retrieval.config import JobConfig, TrainingConfig
from hybrid_retrieval.errors import InputError, reading
from hybrid_retrieval.files import CHECKSUMS, read_recorded, record_text
from hybrid_retrieval.values import construct, locate

CONFIG, METRICS, ENVIRONMENT = "config.yaml", "metrics.json", "environment.json"
FREE_TO_CHANGE = (
    *("resume", "choices", "logger", "paths", "name"),
    *("training.checkpoint_every", "training.workers"),
    *(f"trainer.{key}" for key in ("devices", "num_nodes", "enable_progress_bar", "log_every_n_steps", "profiler")),
)
"""Config that may differ when a run is gone on with: it changes no weight, or (devices) by rounding only."""
SETTLED = {"trainer": "precision", "training": "chunk_tokens"}
"""By group, the key that depends on the machine where the config leaves it open (null): settled once for a run (law 6)."""
DATA = {"data": "training set", "benchmarks": "benchmark"}
"""Keys of `ENVIRONMENT` that say what data a run is of; whoever goes on with it has the same."""
PACKAGES = ("torch", "lightning", "transformers", "tokenizers", "numpy", "pyarrow", "hydra-core")

LOCK = ".lock"
BEFORE_A_RUN = (".hydra", "run.log", "evaluate.log", LOCK)
"""What Hydra and the lock put into a run directory before anything is known about it."""
OF_AN_EVALUATION = {
    "": ("robustness.parquet", "robustness_per_query.parquet", "retrieved.parquet"),
    "baselines/*": (
        CONFIG,
        METRICS,
        "figures.parquet",
        "per_query.parquet",
        "robustness.parquet",
        "robustness_per_query.parquet",
        "retrieved.parquet",
        CHECKSUMS,
    ),
    "runs": ("*.trec", "*.qrels.tsv"),
    "embeddings/*": ("*.npy", "*.ids.txt", "qrels.tsv"),
}
"""Files that an evaluation writes and that one with other settings would not write again, by folder."""

State = Literal["new", "unfinished", "finished"]


@contextmanager
def claimed(run_dir: Path) -> Iterator[None]:
    """Hold a run directory against other processes. The lock is the kernel's: however its process ends, it ends too.

    Raises:
        InputError: another process holds it, or it holds files and is no run directory.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    strange = sorted(path.name for path in run_dir.iterdir() if path.name not in BEFORE_A_RUN)
    if strange and not (run_dir / LOCK).exists() and not _is_run(run_dir):
        raise InputError(
            f"hydra.run.dir={run_dir} is not a run directory and holds other files ({strange[0]}): choose a new or an empty one"
        )
    with (run_dir / LOCK).open("a+", encoding="utf-8") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise InputError(f"{run_dir} is being written by {holder}: wait for it, or choose another hydra.run.dir") from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield


def _is_run(run_dir: Path) -> bool:
    """Whether it is a run directory from before there were locks."""
    try:
        return (run_dir / CONFIG).exists() and {"evaluation", "benchmark"} <= read_config(run_dir).keys()
    except InputError:
        return False


def remove_evaluation(run_dir: Path) -> None:
    """Take away what an evaluation left that was killed, maybe one with other settings; nothing else."""
    folders: set[Path] = set()
    for place in (run_dir, *run_dir.glob("baselines/*/")):
        for pattern, files in OF_AN_EVALUATION.items():
            for file in place.glob(f"{pattern}/*" if pattern else "*"):
                if any(fnmatch(file.name, name) for name in files):
                    file.unlink()
                    folders |= set(file.parents) - {run_dir, *run_dir.parents}
    for folder in sorted(folders, reverse=True):
        if not any(folder.iterdir()):
            folder.rmdir()


def run_state(run_dir: Path, job: JobConfig) -> State:
    """Whether a directory holds a run of this job, and how far it got.

    Raises:
        InputError: it holds one and ``resume=never``, or one of another config.
    """
    state = state_of(run_dir)
    if state == "new":
        return state
    if job.resume == "never":
        raise InputError(f"{run_dir} holds a run already: choose another hydra.run.dir, or go on with it by resume=auto")
    check_same(run_dir, asdict(job), job)
    return state


def check_same(run_dir: Path, record: Mapping[str, Any], of: object) -> None:
    """Refuse to go on with, or to pass over, what has another config.

    Args:
        record: what ``config.yaml`` would hold.
        of: the config whose groups know their defaults.
    """
    saved, mine = _flat(read_config(run_dir)), _flat(record)
    changed = sorted(
        key
        for key in saved.keys() | mine.keys()
        if saved.get(key) != mine.get(key)
        and not any(key == free or key.startswith(f"{free}.") for free in FREE_TO_CHANGE)
        and not (key not in saved and _is_default(key, mine[key], of))
    )
    if changed:
        raise InputError(f"resume=auto: the config of the run in {run_dir} differs in {', '.join(changed)}")


def _is_default(key: str, value: Any, of: object) -> bool:
    """Whether a value is what a key is that is not given: of a key that is newer than a run, it changes nothing."""
    group, _, name = key.partition(".")
    node: Any = getattr(of, group, None)
    if group == "dataset" and name.startswith("augment."):
        node, name = getattr(of, "augment", None), name.partition(".")[2]
    if is_dataclass(node):
        made: Any = type(node)
        defaults = vars(made())
    elif isinstance(node, Mapping) and "_target_" in node:
        defaults = {
            one.name: one.default for one in signature(locate(str(node["_target_"]), object, group)).parameters.values()
        }
    else:
        defaults = {}
    default = defaults.get(name, Ellipsis)
    return bool((list(default) if isinstance(default, tuple) else default) == value)


def check_data(run_dir: Path, facts: Mapping[str, Any]) -> None:
    """Refuse to go on with a run on other data than it began with: its steps and its audit would not be of one set.

    Args:
        facts: as `write_environment` takes them; ``data`` and ``benchmarks`` are compared, as far as they are there.

    Raises:
        InputError: a set has another fingerprint now, or was not there then, or is not there now.
    """
    path = run_dir / ENVIRONMENT
    with reading(f"{path} does not say what data the run began with (choose another hydra.run.dir)", whole=True):
        before = read_recorded(path) if path.exists() else {}
        begun = {kind: _fingerprints(before.get(kind)) for kind in DATA}
    for kind, what in DATA.items():
        then, now = begun[kind], _fingerprints(facts.get(kind))
        for name in sorted(then.keys() | now.keys()) if then and now else ():
            if then.get(name) != now.get(name):
                how = "has changed" if name in then and name in now else "is new" if name in now else "is gone"
                raise InputError(
                    f"resume=auto: the {what} {name} {how} since the run in {run_dir} began: restore it, or choose another "
                    "hydra.run.dir"
                )


def _fingerprints(record: Any) -> dict[str, str]:
    """The fingerprint of each set, of a list of sets with names or of a mapping of names to sets."""
    named = record.items() if isinstance(record, Mapping) else [(one["name"], one) for one in record or ()]
    return {str(name): one["fingerprint"] for name, one in named}


def state_of(run_dir: Path) -> State:
    """The state of the run in a directory, whoever's it is."""
    if not (run_dir / CONFIG).exists():
        return "new"
    return "finished" if (run_dir / METRICS).exists() else "unfinished"


def continued(run_dir: Path, job: JobConfig) -> JobConfig:
    """`job` with what an earlier process of the run in `run_dir` had to decide: nothing timed or probed is decided twice."""
    if not (run_dir / CONFIG).exists():
        return job
    before = read_config(run_dir)
    with reading(f"{run_dir / CONFIG}", whole=True):
        trainer, training = ((before.get(group) or {}).get(key) for group, key in SETTLED.items())
        given = {**asdict(job.training), "chunk_tokens": job.training.chunk_tokens or training}
        settled = construct(TrainingConfig, given, "training")
    return replace(job, trainer={**job.trainer, "precision": job.trainer.get("precision") or trainer}, training=settled)


def read_config(run_dir: Path) -> dict[str, Any]:
    """The config of a run directory."""
    return read_recorded(run_dir / CONFIG)


def write_config(run_dir: Path, job: JobConfig, choices: Mapping[str, str]) -> None:
    """The resolved config, with the choice of each config group."""
    record_config(run_dir, {**asdict(job), "choices": dict(choices)})


def record_config(run_dir: Path, record: Mapping[str, Any]) -> None:
    """Whatever a directory of results says of what was run, as its config."""
    record_text(run_dir / CONFIG, yaml.safe_dump(dict(record), sort_keys=False, allow_unicode=True))


def write_environment(run_dir: Path, facts: Mapping[str, Any]) -> None:
    """Versions and machine, and the run's own `facts` (world_size, start_step, data sources)."""
    record = {
        "hybrid_retrieval": __version__,
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "machine": {
            "system": platform.platform(),
            "processor": processor_name(),
            "cores": os.cpu_count(),
        },
        **facts,
    }
    record_text(run_dir / ENVIRONMENT, json.dumps(record, indent=1, ensure_ascii=False))


def write_metrics(run_dir: Path, metrics: Mapping[str, float]) -> None:
    """One flat object of numbers; its presence says that the run is finished."""
    record_text(run_dir / METRICS, json.dumps(dict(metrics), indent=1))


def processor_name() -> str:
    """The processor as the system calls it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, keys joined by dots."""
    if not isinstance(value, Mapping) or not value:
        return {prefix.rstrip("."): list(value) if isinstance(value, tuple) else value}
    found: dict[str, Any] = {}
    for key, inner in value.items():
        found |= _flat(inner, f"{prefix}{key}.")
    return found
