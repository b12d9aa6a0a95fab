"""The schema of a job.

Closed groups (``training``, ``evaluation``, ``paths`` and the top-level keys) are the dataclasses below. ``trainer`` holds
Lightning's Trainer arguments. Open groups (data sources, samplers, models, losses, optimizers, benchmarks, retrievers,
callbacks, loggers) carry ``_target_`` and are checked by `hybrid_retrieval.values` against the signature of the constructor
that it names: adding one is a new file and a new config, and nothing here.

Nothing heavy is imported at the top: ``--cfg job`` must answer at once.
"""

from __future__ import annotations

import dataclasses
import hashlib
import netrc
import os
import platform
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, cast
from urllib.parse import urlsplit

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from hybrid_retrieval.errors import InputError, choice
from hybrid_retrieval.values import Count, Name, Number, Part, Processes, Range, Seed, Share, check, construct


def _sweep_name() -> str | None:
    """The sweep that the job belongs to."""
    hydra = HydraConfig.get()
    return Path(hydra.sweep.dir).name if hydra.mode == RunMode.MULTIRUN else None


def wandb_account() -> bool:
    """Whether W&B would not ask for a key: there is one in its environment, or in the user's netrc file."""
    if any(os.environ.get(name) for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE")):
        return True
    try:
        known = netrc.netrc(Path(os.environ.get("NETRC") or "~/.netrc").expanduser())
    except (OSError, netrc.NetrcParseError):
        return False
    return bool({"api.wandb.ai", urlsplit(os.environ.get("WANDB_BASE_URL", "")).netloc} & known.hosts.keys())


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
    "wandb_offline": lambda: not os.environ.get("WANDB_MODE") and not wandb_account(),
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
        if len(set(self.severity)) < len(self.severity):
            raise InputError(f"evaluation.severity={self.severity} names a part twice; expected each once")
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
