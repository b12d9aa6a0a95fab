"""The schema of a job, and the one place where config nodes become objects.

Closed groups (``trainer``, ``evaluation``, ``paths`` and the top-level keys) are the dataclasses below. Open groups
(data sources, samplers, models, losses, optimizers, benchmarks, loggers) carry ``_target_`` and are checked against
the signature of the constructor that it names: adding one is a new file and a new config, and nothing here.

Nothing heavy is imported at the top: ``--cfg job`` must answer at once.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import math
import re
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf

from hybrid_retrieval.errors import InputError, choice, nearest

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class TrainerConfig:
    """How long, on what, and when to look up from the work."""

    max_steps: int = 1000
    """Optimizer steps; each takes one global batch."""
    devices: int = 1
    """Processes on a machine; each takes an equal slice of every global batch."""
    nodes: int = 1
    """Machines. Each runs the same command, which starts the processes of its own; the first one writes."""
    strategy: str = "ddp"
    """What each of several devices holds. ddp: the whole model; fsdp: a share of every weight, gradient and moment."""
    accelerator: str = "auto"
    """auto, cpu, gpu (CUDA) or mps."""
    precision: str = "32-true"
    """Lightning's names: 32-true, bf16-mixed, or 16-mixed (GPU only)."""
    accumulate: int = 1
    """Global batches whose gradients are averaged in a step; each has its own negatives only."""
    grad_cache: bool = False
    """Encode every chunk twice and keep the activations of one: for batches that do not fit (GradCache)."""
    chunk_tokens: int | None = None
    """Tokens, padding included, that a transformer encodes at once; by default settled once for the device."""
    chunks_multiple_of: int = 1
    """The number of chunks of a global batch, so that many devices share them evenly."""
    linear: str | None = None
    """What multiplies in float32 on a CPU: default or onednn; by default the faster, probed once."""
    gradient_clip: float = 1.0
    """Largest global L2 norm of the gradient; 0 switches clipping off."""
    validate_every: int = 200
    """Steps between validations."""
    validation_batches: int = 8
    """Batches of the validation stream behind ``val/loss``."""
    validation_items: int = 200
    """Held-out query groups behind the validation retrieval measures (0: skip them)."""
    monitor: str = "val/loss"
    """What chooses the best checkpoint and stops early: val/loss, or val/<setting>/map."""
    patience: int = 0
    """Validations without improvement before training stops (0: never stops early)."""
    checkpoint_every: int = 500
    """Steps between writes of the last checkpoint."""
    averaging: str | None = None
    """Validate, keep and score averages of the weights over the steps: ema or mean."""
    averaging_decay: float = 0.999
    """Of an ema: what is left of an average after a step."""
    averaging_start: float = 0.0
    """Share of the steps after which averaging begins."""
    workers: int = 0
    """Loader processes; 0 composes batches in the training process."""
    log_every: int = 20
    """Steps between logged training figures."""
    progress: bool = True
    """Show progress bars."""

    def __post_init__(self) -> None:
        for name in ("max_steps", "devices", "nodes", "validate_every", "checkpoint_every", "log_every"):
            positive(f"trainer.{name}", getattr(self, name))
        positive("trainer.chunks_multiple_of", self.chunks_multiple_of)
        positive("trainer.accumulate", self.accumulate)
        if self.chunk_tokens is not None:
            positive("trainer.chunk_tokens", self.chunk_tokens)
        if self.linear is not None:
            choice("trainer.linear", self.linear, ["default", "onednn"])
        for name in ("validation_batches", "validation_items", "patience", "workers", "gradient_clip"):
            not_negative(f"trainer.{name}", getattr(self, name))
        if self.averaging is not None:
            choice("trainer.averaging", self.averaging, ["ema", "mean"])
        for name in ("averaging_decay", "averaging_start"):
            share(f"trainer.{name}", getattr(self, name))
        choice("trainer.accelerator", self.accelerator, ["auto", "cpu", "gpu", "cuda", "mps"])
        choice("trainer.precision", self.precision, ["32-true", "bf16-mixed", "16-mixed"])
        choice("trainer.strategy", self.strategy, ["ddp", "fsdp"])
        if self.strategy == "fsdp" and self.averaging is not None:
            raise InputError(f"trainer.averaging={self.averaging} needs whole weights: choose trainer.strategy=ddp, or null")
        if self.strategy == "fsdp" and self.precision == "16-mixed":
            raise InputError(
                "trainer.precision=16-mixed cannot be scaled in shares: choose bf16-mixed with trainer.strategy=fsdp"
            )
        settings = ["monolingual", "crosslingual", "multilingual"]
        choice("trainer.monitor", self.monitor, ["val/loss", *(f"val/{setting}/map" for setting in settings)])
        if self.monitor != "val/loss" and self.validation_items == 0:
            raise InputError(f"trainer.monitor={self.monitor} needs trainer.validation_items above 0")

    @property
    def world_size(self) -> int:
        """Processes on all machines."""
        return self.devices * self.nodes


BASELINES = ("bm25", "random")
DEBIAS = ("center", "lir", "whiten")


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """What is measured after training, and what is kept of it."""

    checkpoint: str = "best"
    """best or last."""
    save_embeddings: bool = False
    """Write embeddings/<benchmark>/*.npy with ids and judgements."""
    save_runs: bool = False
    """Write runs/*.trec."""
    run_depth: int = 1000
    """Documents per query in the written TREC runs."""
    search: str = "exact"
    """How the written runs are searched: exact, or approximately by faiss (ivf, hnsw; an extra)."""
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
    baselines: list[str] = dataclasses.field(default_factory=list)
    """What else is scored on the same benchmarks: bm25, random."""
    debias: list[str] = dataclasses.field(default_factory=list)
    """Methods that are tried on the same embeddings after training: center, lir, whiten."""
    lir_rank: int = 1
    """Directions of each language that lir removes."""
    debias_texts: int = 10_000
    """Training passages of each language that the methods are estimated on."""
    bm25_k1: float = 0.9
    """How fast the weight of a term saturates with its frequency."""
    bm25_b: float = 0.4
    """How far the length of a document counts, 0..1."""

    def __post_init__(self) -> None:
        for name in self.baselines:
            choice("evaluation.baselines", name, BASELINES)
        for name in self.debias:
            choice("evaluation.debias", name, DEBIAS)
        positive("evaluation.lir_rank", self.lir_rank)
        positive("evaluation.debias_texts", self.debias_texts)
        not_negative("evaluation.bm25_k1", self.bm25_k1)
        share("evaluation.bm25_b", self.bm25_b)
        choice("evaluation.checkpoint", self.checkpoint, ["best", "last"])
        not_negative("evaluation.replicates", self.replicates)
        choice("evaluation.search", self.search, ["exact", "ivf", "hnsw"])
        choice("evaluation.dtype", self.dtype, ["float16", "float32"])
        choice("evaluation.documents", self.documents, ["whole", "chunks"])
        positive("evaluation.run_depth", self.run_depth)
        positive("evaluation.devices", self.devices)
        if self.overlap < 0:
            raise InputError(f"evaluation.overlap={self.overlap}; expected 0 or more")


@dataclasses.dataclass(frozen=True)
class AuditConfig:
    """What training text may share with the benchmarks; ``conf/audit/default.yaml`` explains the keys."""

    allow: bool = False
    ngram: int = 8
    threshold: float = 0.7

    def __post_init__(self) -> None:
        positive("audit.ngram", self.ngram)
        positive("audit.threshold", self.threshold)
        share("audit.threshold", self.threshold)


@dataclasses.dataclass(frozen=True)
class PathsConfig:
    """Where things are read and written; ``conf/paths/default.yaml`` explains the keys."""

    data: str | None = None
    cache: str = "~/.cache/hybrid_retrieval"
    runs: str = "runs"


@dataclasses.dataclass(frozen=True)
class JobConfig:
    """A whole job: closed groups as dataclasses, open groups as plain mappings with ``_target_``."""

    dataset: dict[str, Any]
    sampler: dict[str, Any]
    model: dict[str, Any]
    loss: dict[str, Any]
    optimizer: dict[str, Any]
    trainer: TrainerConfig
    evaluation: EvaluationConfig
    audit: AuditConfig
    paths: PathsConfig
    benchmark: dict[str, Any]
    logger: dict[str, Any]
    seed: int = 1
    resume: str = "never"
    strict: bool = False
    name: str | None = None

    def __post_init__(self) -> None:
        choice("resume", self.resume, ["never", "auto"])
        if not 0 <= self.seed < 2**32:
            raise InputError(f"seed={self.seed} is outside 0..{2**32 - 1}")


CLOSED: Mapping[str, type] = {
    "trainer": TrainerConfig,
    "evaluation": EvaluationConfig,
    "audit": AuditConfig,
    "paths": PathsConfig,
}


def config_directory() -> Path:
    """The folder of config files: inside the package where it was installed, beside it in a checkout."""
    package = Path(__file__).parent
    installed = package / "conf"
    return installed if installed.is_dir() else package.parent / "conf"


def help_on_groups(config_name: str) -> str:
    """The groups of a config and their choices, in the words of the comments beside its defaults and atop each file."""
    lines = []
    for line in (config_directory() / f"{config_name}.yaml").read_text().splitlines():
        if found := re.fullmatch(r"  - ([\w/]+): .*?# (.*)", line):
            lines += ["", f"  {found[1]:<12}{found[2]}"]
            for path in sorted((config_directory() / found[1]).glob("[!_]*.yaml")):
                comments = [line[2:] for line in path.read_text().splitlines() if re.match("# (?!@package)", line)]
                lines += [f"    {path.stem:<22}{comments[0]}"] if comments else []
    return "\n".join(lines).replace("$", "$$")  # it stands in a template of Hydra's


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
    for key in ("benchmark", "logger"):
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


def build(node: Mapping[str, Any], key: str, **runtime: Any) -> Any:
    """The object that an open config node names with ``_target_``; `runtime` is what no config file can hold."""
    if not isinstance(node, Mapping) or "_target_" not in node:
        raise InputError(f"{key} names no _target_: choose a config of the group, as in {key}=NAME")
    values = {name: value for name, value in node.items() if name not in ("_target_", "recipe")}
    return construct(locate(str(node["_target_"]), key), values, key, **runtime)


def locate(path: str, key: str) -> type:
    """The class at a dotted `path`."""
    module, _, name = path.rpartition(".")
    try:
        return typing.cast(type, getattr(importlib.import_module(module), name))
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"{key}._target_={path!r} cannot be imported: {error}") from error


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
