"""The schema of a job, and the one place where config nodes become objects.

Closed groups (``training``, ``evaluation``, ``paths`` and the top-level keys) are the dataclasses below. ``trainer`` holds
Lightning's Trainer arguments. Open groups (data sources, samplers, models, losses, optimizers, benchmarks, retrievers,
callbacks, loggers) carry ``_target_`` and are checked against
the signature of the constructor that it names: adding one is a new file and a new config, and nothing here.

Nothing heavy is imported at the top: ``--cfg job`` must answer at once.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import inspect
import math
import netrc
import os
import platform
import re
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from hybrid_retrieval.errors import InputError, choice, nearest

T = TypeVar("T")


def _sweep_name() -> str | None:
    """The sweep that the job belongs to."""
    hydra = HydraConfig.get()
    return Path(hydra.sweep.dir).name if hydra.mode == RunMode.MULTIRUN else None


def _without_account() -> bool:
    """Whether W&B would ask for a key: nothing in its environment, and nothing in the user's netrc file."""
    if any(os.environ.get(name) for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE")):
        return False
    try:
        known = netrc.netrc(Path(os.environ.get("NETRC") or "~/.netrc").expanduser())
    except (OSError, netrc.NetrcParseError):
        return True
    return not {"api.wandb.ai", urlsplit(os.environ.get("WANDB_BASE_URL", "")).netloc} & known.hosts.keys()


def _run_id(run_dir: str) -> str:
    """The same for every process of a run: of its directory, on this machine."""
    return hashlib.sha256(f"{platform.node()}:{Path(run_dir).resolve()}".encode()).hexdigest()[:16]


def help_on_groups(config_name: str) -> str:
    """The groups of a config and their choices, in the words of the comments beside its defaults and atop each file."""
    lines = []
    for line in (config_directory() / f"{config_name}.yaml").read_text().splitlines():
        if found := re.fullmatch(r"  - (?:optional )?(\w+): .*?# (.*)", line):
            lines += ["", f"  {found[1]:<12}{found[2]}"]
            for path in sorted((config_directory() / found[1]).glob("*.yaml")):
                comments = [line[2:] for line in path.read_text().splitlines() if re.match("# (?!@package)", line)]
                lines += [f"    {path.stem:<22}{comments[0]}"] if comments else []
    return "\n".join(lines).replace("$", "$$")  # it stands in a template of Hydra's


RESOLVERS: Mapping[str, Callable[..., Any]] = {
    "best": lambda monitor: "min" if monitor == "val/loss" else "max",  # the best value of a validation figure
    "help_on_groups": help_on_groups,
    "run_id": _run_id,
    "sweep": _sweep_name,
    "wandb_offline": _without_account,
}
"""Resolvers for config files, as in ``${best:${training.monitor}}``."""
for _name, _resolver in RESOLVERS.items():
    OmegaConf.register_new_resolver(_name, _resolver, replace=True)


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """Training beside Lightning's Trainer: chunks, validation, checkpoints."""

    grad_cache: bool = False
    """Encode every chunk twice and keep the activations of one: for batches that do not fit (GradCache)."""
    chunk_tokens: int | None = None
    """Tokens, padding included, that a transformer encodes at once; by default settled once for the device."""
    monitor: str = "val/loss"
    """Chooses the best checkpoint and stops early: val/loss, or val/<setting>/map."""
    validation_batches: int = 8
    """Batches of the validation stream behind ``val/loss``."""
    validation_queries: int = 200
    """Held-out query groups behind the validation mAP (0: skip it)."""
    checkpoint_every: int = 500
    """Steps between writes of the last checkpoint."""
    workers: int = 0
    """Loader processes; 0 composes batches in the training process."""

    def __post_init__(self) -> None:
        positive("training.checkpoint_every", self.checkpoint_every)
        if self.chunk_tokens is not None:
            positive("training.chunk_tokens", self.chunk_tokens)
        for name in ("validation_batches", "validation_queries", "workers"):
            not_negative(f"training.{name}", getattr(self, name))
        settings = ["monolingual", "crosslingual", "multilingual"]
        choice("training.monitor", self.monitor, ["val/loss", *(f"val/{setting}/map" for setting in settings)])
        if self.monitor != "val/loss" and self.validation_queries == 0:
            raise InputError(f"training.monitor={self.monitor} needs training.validation_queries above 0")
        if self.monitor == "val/loss" and self.validation_batches == 0 and self.validation_queries > 0:
            raise InputError(
                "training.monitor=val/loss needs training.validation_batches above 0, or choose val/multilingual/map"
            )


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """Measures after training, and the files that are kept."""

    checkpoint: str = "best"
    """best or last."""
    save_embeddings: bool = False
    """Write embeddings/<benchmark>/*.npy with ids and judgements."""
    save_runs: bool = False
    """Write runs/*.trec."""
    run_depth: int = 1000
    """Documents per query in the written TREC runs."""
    dtype: str = "float16"
    """float16 or float32: of stored embeddings of documents and queries; scores are computed in float32."""
    devices: int = 1
    """Processes that encode together, one a device."""
    cache_embeddings: bool = False
    """Keep embeddings under paths.cache, for the next evaluation of the same weights on the same texts."""
    documents: str = "whole"
    """whole: what the encoder cannot read is cut off; chunks: a document scores as its best chunk."""
    overlap: int = 0
    """Tokens that neighbouring chunks share."""
    bias: str | list[str] = "rank_distance"
    """The measures of language bias to report: names as in metrics.json, a list of them, all, or none."""
    replicates: int = 1000
    """Bootstrap replicates behind the 95% intervals; 0: no intervals."""

    def __post_init__(self) -> None:
        choice("evaluation.checkpoint", self.checkpoint, ["best", "last"])
        not_negative("evaluation.replicates", self.replicates)
        choice("evaluation.dtype", self.dtype, ["float16", "float32"])
        choice("evaluation.documents", self.documents, ["whole", "chunks"])
        positive("evaluation.run_depth", self.run_depth)
        positive("evaluation.devices", self.devices)
        not_negative("evaluation.overlap", self.overlap)


@dataclasses.dataclass(frozen=True)
class AuditConfig:
    """Limits on what training text shares with the benchmarks; ``conf/audit/default.yaml`` explains the keys."""

    allow: bool = False
    ngram: int = 8
    threshold: float = 0.7

    def __post_init__(self) -> None:
        positive("audit.ngram", self.ngram)
        positive("audit.threshold", self.threshold)
        share("audit.threshold", self.threshold)


@dataclasses.dataclass(frozen=True)
class PathsConfig:
    """Folders to read from and write to; ``conf/paths/default.yaml`` explains the keys."""

    data: str | None = dataclasses.field(default_factory=lambda: os.environ.get("HYBRID_RETRIEVAL_DATA"))
    cache: str = dataclasses.field(
        default_factory=lambda: os.environ.get("HYBRID_RETRIEVAL_CACHE", "~/.cache/hybrid_retrieval")
    )
    runs: str = "runs"


@dataclasses.dataclass(frozen=True)
class JobConfig:
    """A whole job: closed groups as dataclasses, open groups as plain mappings with ``_target_``."""

    dataset: dict[str, Any]
    sampler: dict[str, Any]
    model: dict[str, Any]
    loss: dict[str, Any]
    optimizer: dict[str, Any]
    trainer: dict[str, Any]
    training: TrainingConfig
    evaluation: EvaluationConfig
    audit: AuditConfig
    paths: PathsConfig
    benchmark: dict[str, Any]
    retriever: dict[str, Any]
    callbacks: dict[str, Any]
    logger: dict[str, Any]
    seed: int = 1
    resume: str = "never"
    strict: bool = False
    name: str | None = None

    def __post_init__(self) -> None:
        choice("resume", self.resume, ["never", "auto"])
        if not 0 <= self.seed < 2**32:
            raise InputError(f"seed={self.seed} is outside 0..{2**32 - 1}")
        devices = self.trainer.get("devices", 1)
        if not (devices == "auto" or isinstance(devices, list) or (fits(devices, int) and devices >= 1)):
            raise InputError(f"trainer.devices={devices!r}; expected a number from 1 up, a list of device numbers, or auto")
        if not fits(self.nodes, int) or self.nodes < 1:
            raise InputError(f"trainer.num_nodes={self.nodes!r}; expected a number from 1 up")

    @property
    def devices(self) -> int:
        """Processes on a machine."""
        devices = self.trainer.get("devices", 1)
        return len(devices) if isinstance(devices, list) else int(devices)

    @property
    def nodes(self) -> int:
        """Machines."""
        return cast(int, self.trainer.get("num_nodes", 1))

    @property
    def world_size(self) -> int:
        """Processes on all machines."""
        return self.devices * self.nodes


CLOSED: Mapping[str, type] = {
    "training": TrainingConfig,
    "evaluation": EvaluationConfig,
    "audit": AuditConfig,
    "paths": PathsConfig,
}


def config_directory() -> Path:
    """The folder of config files: inside the package where it was installed, beside it in a checkout."""
    package = Path(__file__).parent
    installed = package / "conf"
    return installed if installed.is_dir() else package.parent / "conf"


def job_config(composed: DictConfig) -> JobConfig:
    """Check a composed config and return it as a typed job.

    Raises:
        InputError: an unknown key or a value of the wrong type, with its full name and the nearest right one.
    """
    if "recipe" not in composed.model:
        raise InputError("model= names a model that is not trained; python -m hybrid_retrieval.evaluate model=NAME scores it")
    plain = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    assert isinstance(plain, dict)
    values = {str(key): value for key, value in plain.items()}
    for key, schema in CLOSED.items():
        values[key] = construct(schema, values.get(key) or {}, key)
    for key in ("benchmark", "retriever", "callbacks", "logger"):
        values[key] = values.get(key) or {}
    return construct(JobConfig, values, "")


def construct(target: type[T], values: Mapping[str, Any], key: str, **runtime: Any) -> T:
    """Call `target` with config `values` (checked against its signature) and `runtime` objects (not checked)."""
    signature = inspect.signature(target)
    # A dataclass says its types field by field, each in the module of the class that states it.
    hints = typing.get_type_hints(target if dataclasses.is_dataclass(target) else target.__init__)
    known = {
        name
        for name, parameter in signature.parameters.items()
        if name not in runtime and parameter.kind is not inspect.Parameter.VAR_KEYWORD
    }
    prefix = f"{key}." if key else ""
    for name, value in values.items():
        if name not in known:
            raise InputError(f"unknown config key {prefix}{name}{nearest(name, known)}")
        if name in hints and not fits(value, hints[name]):
            raise InputError(f"{prefix}{name}={value!r} has the wrong type; expected {describe(hints[name])}")
    required = {name for name in known if signature.parameters[name].default is inspect.Parameter.empty and name not in values}
    if required:
        raise InputError(f"config key {prefix}{sorted(required)[0]} is missing")
    return target(**values, **runtime)


def build(node: Mapping[str, Any], kind: type | tuple[type, ...], key: str, **runtime: Any) -> Any:
    """The object of a `kind` that an open config node names with ``_target_``; `runtime` is what no config file can hold."""
    target = target_of(node, kind, key)
    values = {name: value for name, value in node.items() if name not in ("_target_", "recipe")}
    return construct(target, values, key, **runtime)


def target_of(node: Any, kind: type | tuple[type, ...], key: str) -> type:
    """The class of a `kind` that an open config node names; the user typed it, or chose it."""
    if not isinstance(node, Mapping) or "_target_" not in node:
        raise InputError(f"{key} names no _target_: choose a config of the group, as in {key}=NAME")
    return locate(str(node["_target_"]), kind, f"{key}._target_")


def locate(path: str, kind: type | tuple[type, ...], key: str, read: bool = False) -> type:
    """The class of a `kind` at a dotted `path`: the one place where a name becomes a class.

    Args:
        kind: the class, or several, that it derives from.
        key: the config key, or the file, that names it.
        read: the name is not what the user typed, but out of a file, which may be somebody else's: it may stand for this
            package's own classes, and for others that are imported already; nothing is imported for it.
    """
    kinds = kind if isinstance(kind, tuple) else (kind,)
    expected = " or ".join(one.__name__ for one in kinds)
    module, _, name = path.rpartition(".")
    found: Any = None
    try:
        if not read or module.startswith(f"{__package__}."):
            found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise InputError(f"{key}={path!r} cannot be imported: {error}") from error
    if read:
        found = next(
            (one for base in kinds for one in (base, *_derived(base)) if f"{one.__module__}.{one.__qualname__}" == path), None
        )
        if found is None:
            raise InputError(f"{key}={path!r} is not run: what a file names is to be a {expected} of this package")
    if not isinstance(found, type) or not set(kinds) & set(found.__mro__) or inspect.isabstract(found):
        raise InputError(f"{key}={path!r} is of the wrong kind; expected a {expected}")
    return found


def _derived(kind: type) -> set[type]:
    """The classes that derive from `kind`, as far as they are imported."""
    below: list[type] = kind.__subclasses__()
    return {derived for one in below for derived in (one, *_derived(one))}


def check_read(node: Any, kind: type, key: str) -> None:
    """Refuse a config node out of a file that names, however deep in it, another class than `locate` finds for a file."""
    if isinstance(node, Mapping):
        if "_target_" in node:
            locate(str(node["_target_"]), kind, f"{key}._target_", read=True)
        for name, value in node.items():
            check_read(value, kind, f"{key}.{name}")
    elif isinstance(node, (list, tuple)):
        for place, value in enumerate(node):
            check_read(value, kind, f"{key}[{place}]")
    elif isinstance(node, str) and "${" in node:
        raise InputError(f"{key}={node!r} is not a plain value")


def fits(value: Any, hint: Any) -> bool:
    """Whether a plain config `value` is of the annotated type; annotations that are not of a config's types pass."""
    kind, inner = typing.get_origin(hint) or hint, typing.get_args(hint)
    if kind in (typing.Union, types.UnionType):
        return any(fits(value, option) for option in inner)
    if kind in (list, tuple):
        return isinstance(value, (list, tuple)) and (not inner or all(fits(item, inner[0]) for item in value))
    if kind in (int, float):
        return isinstance(value, (int, kind)) and not isinstance(value, bool)
    if kind in (str, bool, dict, types.NoneType):
        return isinstance(value, kind)
    return True


def describe(hint: Any) -> str:
    """An annotation as a reader would say it."""
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint).replace("typing.", "")


def positive(key: str, value: float) -> None:
    """Refuse a value that is not above zero."""
    if not (math.isfinite(value) and value > 0):
        raise InputError(f"{key}={value} must be above 0")


def not_negative(key: str, value: float) -> None:
    """Refuse a value below zero."""
    if not (math.isfinite(value) and value >= 0):
        raise InputError(f"{key}={value} must be 0 or more")


def share(key: str, value: float) -> None:
    """Refuse a value outside 0..1."""
    if not 0 <= value <= 1:
        raise InputError(f"{key}={value} is outside 0..1")


def divides(key: str, whole: int, by_key: str, parts: int) -> None:
    """Refuse a `whole` that does not divide into `parts`, naming the nearest that do."""
    if whole % parts:
        below, above = whole - whole % parts, whole + parts - whole % parts
        sizes = " or ".join(str(size) for size in (below, above) if size)
        raise InputError(f"{key}={whole} does not divide by {by_key}={parts}; the nearest sizes are {sizes}")
