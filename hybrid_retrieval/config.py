"""The schema of a job, and the one place where config nodes become objects.

Closed groups (``training``, ``evaluation``, ``paths`` and the top-level keys) are the dataclasses below. ``trainer`` holds
Lightning's Trainer arguments. Open groups (data sources, samplers, models, losses, optimizers, benchmarks, retrievers,
callbacks, loggers) carry ``_target_`` and are checked against
the signature of the constructor that it names: adding one is a new file and a new config, and nothing here.

Nothing heavy is imported at the top: ``--cfg job`` must answer at once.
"""

from __future__ import annotations

import dataclasses
import functools
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
import unicodedata
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast
from urllib.parse import urlsplit

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from hybrid_retrieval.errors import InputError, choice, nearest

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Range:
    """The numbers that a key may have, beside its type: from `low` to `high`, which `above` and `below` leave out."""

    low: float
    high: float = math.inf
    above: bool = False
    below: bool = False

    def fault(self, value: float) -> str | None:
        """What is wrong with a number; None where nothing is."""
        if self.above and not value > self.low:
            return f"must be above {self.low}"
        if self.below and value == self.high:
            return f"must be below {self.high}"
        if self.low <= value <= self.high:
            return None
        if self.high < LARGEST:
            return f"is outside {self.low}..{self.high}"
        return f"must be at most {self.high}" if value > self.high else f"must be {self.low} or more"


@dataclasses.dataclass(frozen=True)
class Text:
    """The texts that a key may have: none with a character that a file or a terminal cannot take."""

    file_name: bool = False
    """Nor one that cannot be the name of a file."""

    def fault(self, value: str) -> str | None:
        """As of `Range`."""
        spaces = "" if self.file_name else "\t\n\r"
        if any(unicodedata.category(letter) in ("Cc", "Cs") and letter not in spaces for letter in value):
            return "holds a control character, or one that is no text"
        if self.file_name and (value in ("", ".", "..") or set(value) & set("/\\") or value != value.strip()):
            return "cannot be used in names of files; expected one without slashes, and not empty"
        return None


LARGEST = 2**31 - 1
"""Of counts: rows and positions are numbers of 32 bits."""
TEXT = Text()

Count = Annotated[int, Range(0, LARGEST, above=True)]
Number = Annotated[int, Range(0, LARGEST)]
Positive = Annotated[float, Range(0, above=True)]
NotNegative = Annotated[float, Range(0)]
Share = Annotated[float, Range(0, 1)]
Part = Annotated[float, Range(0, 1, above=True)]
Dropout = Annotated[float, Range(0, 1, below=True)]
Temperature = Annotated[float, Range(1)]
Seed = Annotated[int, Range(0, 2**32 - 1)]
Processes = Annotated[int, Range(0, 1024, above=True)]
Name = Annotated[str, Text(file_name=True)]


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
    chunk_tokens: Count | None = None
    """Tokens, padding included, that a transformer encodes at once; by default settled once for the device."""
    monitor: str = "val/loss"
    """Chooses the best checkpoint and stops early: val/loss, or val/<setting>/map."""
    validation_batches: Number = 8
    """Batches of the validation stream behind ``val/loss``."""
    validation_queries: Number = 200
    """Held-out query groups behind the validation mAP (0: skip it)."""
    checkpoint_every: Count = 500
    """Steps between writes of the last checkpoint."""
    workers: Annotated[int, Range(0, 1024)] = 0
    """Loader processes; 0 composes batches in the training process."""

    def __post_init__(self) -> None:
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
    run_depth: Count = 1000
    """Documents per query in the written TREC runs."""
    dtype: str = "float16"
    """float16 or float32: of stored embeddings of documents and queries; scores are computed in float32."""
    devices: Processes = 1
    """Processes that encode together, one a device."""
    cache_embeddings: bool = False
    """Keep embeddings under paths.cache, for the next evaluation of the same weights on the same texts."""
    documents: str = "whole"
    """whole: what the encoder cannot read is cut off; chunks: a document scores as its best chunk."""
    overlap: Number = 0
    """Tokens that neighbouring chunks share."""
    bias: str | list[str] = "rank_distance"
    """The measures of language bias to report: names as in metrics.json, a list of them, all, or none."""
    replicates: Annotated[int, Range(0, 1_000_000)] = 1000
    """Bootstrap replicates behind the 95% intervals; 0: no intervals."""
    browse: Annotated[int, Range(0, 1000)] = 30
    """Questions of each setting whose retrieved passages are kept for the page, in retrieved.parquet; 0: none."""
    dimensions: list[Count] = dataclasses.field(default_factory=list)
    """First dimensions of the embeddings that are scored beside all of them (Matryoshka)."""
    quantization: list[str] = dataclasses.field(default_factory=list)
    """int8, binary: embeddings of passages in fewer bits, scored beside the full ones."""
    perturb: str | list[str] = "none"
    """Perturbations of queries to measure the loss under: names, a list of them, all, or none."""
    severity: list[Share] = dataclasses.field(default_factory=lambda: [0.1, 0.2, 0.4])
    """Of each perturbation: the part of a query's letters or words that it may change."""
    perturb_seed: Seed = 0
    """What perturbations draw from."""

    def __post_init__(self) -> None:
        if not self.severity:
            raise InputError("evaluation.severity=[] is empty; expected parts from 0 to 1, as in [0.1,0.2]")
        for name in self.quantization:
            choice("evaluation.quantization", name, ["int8", "binary"])
        choice("evaluation.checkpoint", self.checkpoint, ["best", "last"])
        choice("evaluation.dtype", self.dtype, ["float16", "float32"])
        choice("evaluation.documents", self.documents, ["whole", "chunks"])


@dataclasses.dataclass(frozen=True)
class AugmentConfig:
    """Perturbed queries in training, ``dataset.augment`` of any data set; ``conf/config.yaml`` explains the keys."""

    share: Share = 0.0
    names: str | list[str] = dataclasses.field(default_factory=list)
    severity: list[Part] = dataclasses.field(default_factory=lambda: [0.1, 0.2, 0.4])
    allow_tested: bool = False

    def __post_init__(self) -> None:
        if not self.severity:
            raise InputError("dataset.augment.severity=[] is empty; expected parts above 0 up to 1, as in [0.1,0.2]")
        if self.share and not self.names:
            raise InputError(
                f"dataset.augment.share={self.share}, but dataset.augment.names=[] is empty; expected perturbations, as in "
                "[keyboard,drop]"
            )


@dataclasses.dataclass(frozen=True)
class AuditConfig:
    """Limits on what training text shares with the benchmarks; ``conf/audit/default.yaml`` explains the keys."""

    allow: bool = False
    ngram: Count = 8
    threshold: Part = 0.7


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
    benchmark: dict[Name, Any]
    retriever: dict[Name, Any]
    callbacks: dict[Name, Any]
    logger: dict[Name, Any]
    seed: Seed = 1
    resume: str = "never"
    strict: bool = False
    name: Name | None = None

    def __post_init__(self) -> None:
        choice("resume", self.resume, ["never", "auto"])
        check({"devices": Processes | list[Number] | str, "num_nodes": Processes}, self.trainer, "trainer")
        devices = self.trainer.get("devices", 1)
        if devices == [] or (isinstance(devices, str) and devices != "auto"):
            raise InputError(f"trainer.devices={devices!r}; expected a number from 1 up, a list of device numbers, or auto")
        _ = self.augment

    @property
    def augment(self) -> AugmentConfig:
        """What ``dataset.augment`` asks for, of whichever data set."""
        check({"augment": dict[str, Any] | None}, self.dataset, "dataset")
        return construct(AugmentConfig, self.dataset.get("augment") or {}, "dataset.augment")

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


def choice_values(group: str, name: str) -> dict[str, Any]:
    """The values of a group's config with those of its defaults, where no job is composed."""
    own = OmegaConf.load(config_directory() / group / f"{name}.yaml")
    assert isinstance(own, DictConfig)
    parts = [str(part).partition("@")[0] for part in own.pop("defaults", ["_self_"])]
    merged = OmegaConf.merge(*(own if part == "_self_" else choice_values(group, part) for part in parts))
    return cast(dict[str, Any], OmegaConf.to_container(merged))


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


NOT_OF_THE_CONSTRUCTOR = ("_target_", "recipe", "augment")
"""Keys of an open node that are the job's: a model's recipe, and how a data set's queries are perturbed in training."""


def construct(target: type[T], values: Mapping[str, Any], key: str, **runtime: Any) -> T:
    """Call `target` with config `values` (checked against its signature) and `runtime` objects (not checked)."""
    signature = inspect.signature(target)
    known = {
        name
        for name, parameter in signature.parameters.items()
        if name not in runtime and parameter.kind is not inspect.Parameter.VAR_KEYWORD
    }
    prefix = f"{key}." if key else ""
    for name in values:
        if name not in known:
            raise InputError(f"unknown config key {prefix}{name}{nearest(name, known)}")
    check(target, values, key)
    required = {name for name in known if signature.parameters[name].default is inspect.Parameter.empty and name not in values}
    if required:
        raise InputError(f"config key {prefix}{sorted(required)[0]} is missing")
    return target(**values, **runtime)


def build(node: Mapping[str, Any], kind: type | tuple[type, ...], key: str, **runtime: Any) -> Any:
    """The object of a `kind` that an open config node names with ``_target_``; `runtime` is what no config file can hold."""
    return construct(*named(node, kind, key), key, **runtime)


def named(node: Any, kind: type | tuple[type, ...], key: str) -> tuple[type, dict[str, Any]]:
    """The class of a `kind` that an open config node names, and the values for it; the user typed the name, or chose it."""
    if not isinstance(node, Mapping) or "_target_" not in node:
        raise InputError(f"{key} names no _target_: choose a config of the group, as in {key}=NAME")
    values = {name: value for name, value in node.items() if name not in NOT_OF_THE_CONSTRUCTOR}
    return locate(str(node["_target_"]), kind, f"{key}._target_"), values


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


def check_read(node: Any, kind: type | tuple[type, ...], key: str) -> None:
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


def check(target: type | Mapping[str, Any], values: Mapping[str, Any], key: str) -> None:
    """Refuse config `values` that are not what the annotations of a constructor (or some by name) state: type, range, name.

    A class calls it for its own fields too, ``check(type(self), vars(self), "loss")``, where scripts make its objects.
    """
    stated = target if isinstance(target, Mapping) else annotated(target)
    for name, value in values.items():
        said = fault(value, stated.get(name, Any))
        if said is not None:
            raise InputError(f"{key}{'.' * bool(key)}{name}{said}")


@functools.cache
def annotated(target: type) -> Mapping[str, Any]:
    """The annotations of a constructor's arguments; those of a dataclass each in the module of the class that states it."""
    stated: Any = target if dataclasses.is_dataclass(target) else target.__init__  # type: ignore[misc]
    try:
        return typing.get_type_hints(stated, include_extras=True)
    except (NameError, TypeError):  # of another package, which states them for its type checker alone
        return {}


def fault(value: Any, hint: Any) -> str | None:
    """What is wrong with a plain config `value` of the annotated type, as in ``=0 must be above 0``; None where nothing is.

    Annotations that are not of a config's types pass.
    """
    kind, inner = typing.get_origin(hint) or hint, typing.get_args(hint)
    wrong_type = f"={shown(value)} {WRONG_TYPE}; expected {describe(hint)}"
    if kind is Annotated:
        said = fault(value, inner[0])
        limits = () if said and WRONG_TYPE in said else inner[1:]
        return next((f"={shown(value)} {over}" for limit in limits if (over := limit.fault(value))), said)
    if kind in (typing.Union, types.UnionType):
        found = [fault(value, option) for option in inner]
        of_its_type = (said for said in found if said and WRONG_TYPE not in said)
        return None if None in found else next(of_its_type, wrong_type)
    if kind in (list, tuple, dict):
        if not isinstance(value, dict if kind is dict else (list, tuple)):
            return wrong_type
        parts = [fault(item, inner[0]) for item in value] if inner else []
        if inner and isinstance(value, dict):
            parts += [said and f".{name}{said}" for name, item in value.items() for said in [fault(item, inner[1])]]
        return next(filter(None, parts), None)
    if kind in (int, float):
        if not isinstance(value, (int, kind)) or isinstance(value, bool):
            return wrong_type
        finite = math.isfinite(value) if isinstance(value, float) else -(2**63) <= value < 2**63
        return None if finite else f"={shown(value)} is not a finite number of 64 bits"
    if kind is str and isinstance(value, str):
        said = TEXT.fault(value)
        return said and f"={shown(value)} {said}"
    return wrong_type if kind in (str, bool, types.NoneType) and not isinstance(value, kind) else None


WRONG_TYPE = "has the wrong type"


def describe(hint: Any) -> str:
    """An annotation as a reader would say it."""
    kind, inner = typing.get_origin(hint) or hint, typing.get_args(hint)
    if kind is Annotated:
        return describe(inner[0])
    if kind in (typing.Union, types.UnionType):
        return " | ".join(map(describe, inner))
    if kind is types.NoneType:
        return "null"
    if kind in (list, tuple, dict) and inner:
        return f"{kind.__name__}[{', '.join(map(describe, inner))}]"
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")


def shown(value: Any) -> str:
    """A value in an error: on one line, and not the whole of a long one."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:76]} ..."


def divides(key: str, whole: int, by_key: str, parts: int) -> None:
    """Refuse a `whole` that does not divide into `parts`, naming the nearest that do."""
    if whole % parts:
        below, above = whole - whole % parts, whole + parts - whole % parts
        sizes = " or ".join(str(size) for size in (below, above) if size)
        raise InputError(f"{key}={whole} does not divide by {by_key}={parts}; the nearest sizes are {sizes}")
