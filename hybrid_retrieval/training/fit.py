"""Train one job into its run directory: the parts, checked against each other, and Lightning's Trainer over them."""

from __future__ import annotations

import dataclasses
import logging
import os
import textwrap
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, Checkpoint, EarlyStopping, ModelCheckpoint, ProgressBar, WeightAveraging
from lightning.pytorch.loggers import Logger
from tokenizers import Tokenizer
from torch import nn

from hybrid_retrieval.config import JobConfig, TrainingConfig
from hybrid_retrieval.data.source import Source
from hybrid_retrieval.errors import InputError, first_line
from hybrid_retrieval.evaluation.scoring.scorer import fast_bfloat16
from hybrid_retrieval.losses.loss import EmbeddedPairs, InBatchLoss, Loss
from hybrid_retrieval.models.checkpoint import scoring_device
from hybrid_retrieval.models.encoder import CHUNK_TOKENS, BiEncoder, Model
from hybrid_retrieval.sampling.composer import Composer, HybridBatches
from hybrid_retrieval.sampling.manifest import Manifest
from hybrid_retrieval.sampling.ratio import always
from hybrid_retrieval.sampling.sampler import Sampler
from hybrid_retrieval.training import augmentation
from hybrid_retrieval.training.callbacks import BatchManifest, Clock, PerturbedText, Publish
from hybrid_retrieval.training.collate import PairBatch
from hybrid_retrieval.training.datamodule import HybridDataModule
from hybrid_retrieval.training.exact import LastCheckpoint, check_trainer, ended, trainer_arguments
from hybrid_retrieval.training.module import BiEncoderModule
from hybrid_retrieval.training.optimizers import AdamW
from hybrid_retrieval.training.strategies import check_shardable
from hybrid_retrieval.training.teacher import Teacher
from hybrid_retrieval.training.telemetry import Telemetry
from hybrid_retrieval.values import build, check, construct, divides, named

log = logging.getLogger(__name__)

TOKENS_A_GIB = 512
"""On a GPU, tokens of a chunk for each GiB of its memory; rounded down to a power of two."""


SIZES = ("name", "dimensions", "vocabulary", "layers", "hidden", "projection", "max_query_length", "max_passage_length")
"""Keys of a model that its memory may depend on."""
TRIED = 4
"""Batches of a stream that are looked at before training."""
ADAM_BYTES = 12
"""Of a trained parameter: itself and its two moments."""


@dataclasses.dataclass(frozen=True)
class Configured:
    """What the config's groups name, each checked on its own; nothing is read yet."""

    source: Source
    sampler: Sampler
    model: Model
    loss: Loss
    optimizer: AdamW


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A job's parts, checked against each other before anything is trained."""

    source: Source
    data: HybridDataModule
    module: BiEncoderModule


def settled(job: JobConfig) -> JobConfig:
    """`job` with nothing left open that depends on the machine; decided once for a run and kept in its config (law 6)."""
    accelerator = str(job.trainer.get("accelerator", "auto"))
    device = scoring_device(accelerator)
    devices = job.trainer.get("devices", 1)
    if devices in ("auto", -1, "-1"):
        devices = torch.cuda.device_count() if device.type == "cuda" else 1
    precision = job.trainer.get("precision") or ("bf16-mixed" if device.type == "cuda" else "32-true")
    trainer = {**job.trainer, "devices": devices, "precision": precision}
    tokens = job.training.chunk_tokens or chunk_tokens(device)
    return dataclasses.replace(job, trainer=trainer, training=dataclasses.replace(job.training, chunk_tokens=tokens))


def chunk_tokens(device: torch.device) -> int:
    """A constant on a CPU, where a chunk should stay near the caches; on a GPU by its memory."""
    if device.type != "cuda":
        return CHUNK_TOKENS
    gibibytes = torch.cuda.get_device_properties(0).total_memory / 2**30
    return 1 << max(12, int(gibibytes * TOKENS_A_GIB).bit_length() - 1)


def prepare(job: JobConfig) -> Prepared:
    """Build everything that training needs; every kind of bad input shows here.

    Raises:
        InputError: anything about the job that cannot work.
    """
    check_devices(job)
    parts = assemble(job)
    if job.trainer.get("strategy") == "fsdp":
        check_shardable(parts.module.encoder)
    parts.data.setup()
    parts.module.bind(parts.data)
    check_lost(parts.data, job.strict)
    check_validation(job.training, parts.data)
    check_contrast(parts.data, parts.module)
    return parts


def configured(job: JobConfig) -> Configured:
    """The objects of a job's groups, at once, before any file is read or written.

    Raises:
        InputError: a key is unknown, of the wrong type or out of its range, or keys contradict each other.
    """
    check_trainer(job.trainer)
    for group, kind, nodes in (("callbacks", Callback, job.callbacks), ("logger", Logger, job.logger)):
        for name, node in nodes.items():
            check(*named(node, kind, f"{group}.{name}"), f"{group}.{name}")
    source: Source = build(job.dataset, Source, "dataset", paths=job.paths)
    sampler: Sampler = build(job.sampler, Sampler, "sampler")
    divides("sampler.batch_size", sampler.batch_size, "the number of devices", job.world_size)
    model: Model = build(job.model, Model, "model", paths=job.paths)
    loss: Loss = build(job.loss, Loss, "loss")
    augmentation.check_config(job.augment, job.evaluation, loss)
    return Configured(source, sampler, model, loss, build(job.optimizer, AdamW, "optimizer"))


def assemble(job: JobConfig, empty: bool = False) -> Prepared:
    """The parts of a job from its config; nothing of the data is read but what a tokenizer is trained on.

    Args:
        empty: an encoder with shapes and no weights, on torch's meta device.
    """
    parts = configured(job)
    source, loss = parts.source, parts.loss
    sets = source.sets()
    if job.strict and (left_out := {pairs.name: pairs.empty for pairs in sets if pairs.empty}):
        said = ", ".join(f"{count:,} of {name}" for name, count in left_out.items())
        raise InputError(f"strict=true: texts that are empty, or null, are left out: {said}")
    bare = [pairs.name for pairs in sets if not len(pairs.split_edges("train"))]
    if bare:
        raise InputError(f"{bare[0]} has no training pair left: lower dataset.validation_share and dataset.test_share")
    tokenizer = parts.model.tokenizer(source.text)
    encoder = shapes(parts.model, tokenizer)
    if not empty:
        check_memory(encoder, job)
        lightning.seed_everything(job.seed, verbose=False)
        encoder = parts.model.build(tokenizer)
    teacher = None
    if loss.teacher is not None and not empty:
        given = {"paths": job.paths, "accelerator": job.trainer.get("accelerator", "auto"), "strict": job.strict}
        teacher = construct(Teacher, loss.teacher, "loss.teacher", **given)
    data = HybridDataModule(
        source,
        encoder,
        parts.sampler,
        seed=job.seed,
        steps=job.trainer["max_steps"] * job.trainer.get("accumulate_grad_batches", 1),
        loss=loss,
        teacher=teacher,
        augment=job.augment,
        chunk_tokens=job.training.chunk_tokens or CHUNK_TOKENS,
        validation_batches=job.training.validation_batches,
        validation_queries=job.training.validation_queries,
        workers=job.training.workers,
        paths=job.paths,
        progress=bool(job.trainer.get("enable_progress_bar", True)),
    )
    module = BiEncoderModule(encoder, loss, parts.optimizer, seed=job.seed, grad_cache=job.training.grad_cache)
    return Prepared(source, data, module)


def shapes(model: Model, tokenizer: Tokenizer) -> BiEncoder:
    """The encoder without weights, on torch's meta device: its size before any memory is taken."""
    try:
        with torch.device("meta"):
            return model.build(tokenizer)
    except RuntimeError as error:
        raise InputError(f"model: {textwrap.shorten(str(error), 200)}; choose smaller sizes") from error


def check_memory(encoder: BiEncoder, job: JobConfig) -> None:
    """Refuse an encoder whose weights and moments are more than a device, or the machine, has memory."""
    weights = list(encoder.parameters())
    needed = sum(one.numel() * (ADAM_BYTES if one.requires_grad else one.element_size()) for one in weights)
    device = scoring_device(str(job.trainer.get("accelerator", "auto")))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(0).total_memory
    if needed > memory * (job.devices if job.trainer.get("strategy") == "fsdp" else 1):
        sizes = ", ".join(f"model.{key}={job.model[key]}" for key in SIZES if job.model.get(key) is not None)
        raise InputError(
            f"{sizes}: {sum(one.numel() for one in weights):,} parameters take {needed / 2**30:,.0f} GiB to train, and this "
            f"{'device' if device.type == 'cuda' else 'machine'} has {memory / 2**30:,.0f} GiB"
        )


def check_devices(job: JobConfig) -> None:
    """Refuse devices that are not there, and a precision that they lack; warn of one that they are slow at."""
    accelerator = str(job.trainer.get("accelerator", "auto"))
    device = scoring_device(accelerator)
    if accelerator not in ("auto", "cpu") and device.type == "cpu":
        raise InputError(f"trainer.accelerator={accelerator} is not on this machine; expected auto or cpu")
    if device.type == "cuda" and job.devices > torch.cuda.device_count():
        raise InputError(f"trainer.devices={job.devices}, but this machine has {torch.cuda.device_count()}")
    if job.trainer.get("precision") == "16-mixed" and device.type == "cpu":
        raise InputError("trainer.precision=16-mixed needs a GPU; on a CPU choose bf16-mixed or 32-true")
    if job.trainer.get("precision") == "bf16-mixed" and device.type == "cpu" and not fast_bfloat16():
        log.warning("trainer.precision=bf16-mixed may be ten times as slow as 32-true: this processor has no arithmetic for it")


def check_lost(data: HybridDataModule, strict: bool) -> None:
    """With `strict`, refuse text that was cut to the length limit or holds unknown tokens (law 7)."""
    for side, (cut, unknown) in data.lost().items():
        if strict and (cut or unknown):
            raise InputError(
                f"strict=true: of the {side}, {cut} texts are cut to model.max_*_length and "
                f"{unknown} tokens are unknown to the tokenizer"
            )


def check_contrast(data: HybridDataModule, module: BiEncoderModule) -> None:
    """Refuse batches in which no query has a passage to be told from, and warn where that is so of one stream only."""
    loss, batches = module.loss, data.train_batches
    assert loss is not None
    streams: dict[str, Composer] = {"mixed": batches}
    if isinstance(batches, HybridBatches):
        both = {"monolingual": batches.monolingual, "cross-lingual": batches.crosslingual}
        streams = {name: HybridBatches(one, None, always(1.0), batches.parts) for name, one in both.items() if one}
    drawn = {name: [data.collate(0, stream.batch(number)) for number in range(TRIED)] for name, stream in streams.items()}
    contrasts = {name: [_contrasts(loss, one) for one in some] for name, some in drawn.items()}
    empty = [name for name, found in contrasts.items() if not any(found)]
    pool = f" and loss.pool={loss.pool}" if isinstance(loss, InBatchLoss) else ""
    said = f"with sampler.batch_size={data.sampler.batch_size}{pool} no query has a passage to be told from"
    if len(empty) == len(streams):
        raise InputError(f"{said}: there is nothing to learn")
    if empty:
        log.warning("%s in the %s batches: nothing is learnt from them", said, empty[0])
    same_text = loss.sides[0] == loss.sides[1] and any(
        bool((one.pairs.query_language == one.pairs.passage_language).any()) for some in drawn.values() for one in some
    )
    if same_text and not any(isinstance(part, nn.Dropout) and part.p > 0 for part in module.encoder.modules()):
        log.warning(
            "loss.sides=%s: in one language both are the same text, which an encoder without dropout encodes alike",
            list(loss.sides),
        )


def _contrasts(loss: Loss, batch: PairBatch) -> bool:
    """Whether a query of the batch has something to be told from, where the loss wants it to."""
    queries, passages = (torch.zeros(len(ids.key), 1) for ids in (batch.of_queries, batch.of_passages))
    found = loss.contrasts(EmbeddedPairs(queries, passages, batch.of_queries, batch.of_passages))
    return found is None or bool(found.any())


def check_validation(config: TrainingConfig, data: HybridDataModule) -> None:
    """Refuse to choose a checkpoint, or to move the ratio, by something that the data cannot give."""
    settings = data.validation.settings if data.validation else set()
    missing = {"monolingual", "crosslingual"} - set(settings)
    if data.train_batches.schedule.adaptive and config.workers:
        raise InputError(f"sampler.schedule.kind=adaptive needs training.workers=0, not {config.workers}")
    if data.train_batches.schedule.adaptive and missing:
        raise InputError(
            f"sampler.schedule.kind=adaptive: the validation split has no {min(missing)} judgements to go by "
            "(dataset.validation_share and training.validation_queries must be above 0)"
        )
    setting = config.monitor.split("/")[1]
    if config.monitor == "val/loss":
        if not validates(data):
            log.warning("nothing is validated: the last checkpoint is the one to be scored")
    elif setting not in settings:
        raise InputError(f"training.monitor={config.monitor}: the validation split has no {setting} judgements")


def validates(data: HybridDataModule) -> bool:
    """Whether there is anything to validate on."""
    return data.validation_pairs is not None or data.validation is not None


def fit(
    job: JobConfig,
    run_dir: Path,
    prepared: Prepared,
    start_from: Path | None,
    chosen: list[Callback],
    loggers: list[Logger],
) -> dict[str, float]:
    """Train, writing checkpoints, telemetry and the manifest; the training figures. All ranks call it together.

    Args:
        start_from: a checkpoint to resume from.
        chosen: the config's `callbacks`.

    Raises:
        Terminated: after SIGTERM; the last checkpoint is written.
    """
    module, data = prepared.module, prepared.data
    clock = Clock()
    manifest = BatchManifest(Manifest([one.pairs.name for one in data.collate.sets], data.collate.languages), run_dir)
    # Checkpoints are written before a step; the clock goes on after that.
    ours = [LastCheckpoint(run_dir / "checkpoints", job.training.checkpoint_every), clock]
    telemetry = Telemetry(run_dir, clock, data.train_batches)
    watching = [*ours, telemetry, manifest, PerturbedText(job.strict), Publish(run_dir), *chosen]
    arguments = trainer_arguments(job.trainer, job.world_size)
    arguments["enable_checkpointing"] = any(isinstance(one, Checkpoint) for one in chosen)  # else Lightning adds one of its own
    if not validates(data):
        arguments["limit_val_batches"] = 0
    encoder = module.encoder
    parameters = sum(weight.numel() for weight in encoder.parameters())
    sizes = {"parameters": parameters, "parameters/layers": parameters - encoder.backbone.table.weight.numel()}
    _quieten()
    try:
        trainer = lightning.Trainer(**arguments, callbacks=watching, logger=loggers, default_root_dir=run_dir)
    except (MisconfigurationException, ValueError) as error:
        raise InputError(f"trainer: {' '.join(str(error).split())}") from error
    with ended(data.loaders):
        try:
            trainer.fit(module, datamodule=data, ckpt_path=start_from, weights_only=True)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            if start_from is None or clock.begun:
                raise
            raise InputError(f"{start_from} cannot be gone on with: {first_line(error)}") from error
    drawn = manifest.manifest.summary()
    log.info(
        "drawn: %s pairs in %s batches, %.1f%% of the pairs monolingual, %s to %s pairs of each of %s language pairs",
        *(f"{drawn[name]:,}" for name in ("pairs", "steps")),
        100 * drawn["monolingual_pair_share"],
        *(f"{drawn[name]:,}" for name in ("fewest_pairs_of_a_cell", "most_pairs_of_a_cell", "cells")),
    )
    best = next((one.best_model_score for one in chosen if isinstance(one, ModelCheckpoint)), None)
    return {
        "seconds": clock.seconds,
        "pairs_per_second": drawn["pairs"] / max(clock.seconds, 1e-9),
        "steps": trainer.global_step,
        "start_step": data.start_step,
        "world_size": trainer.world_size,
        **sizes,
        **({} if best is None else {"best_score": float(best)}),
        **{f"batches/{name}": value for name, value in drawn.items()},
    }


def callbacks(job: JobConfig, run_dir: Path, data: HybridDataModule) -> list[Callback]:
    """The callbacks of the config, but for early stopping without patience, and for what goes by a validation that is none."""
    found: list[Callback] = []
    for name, node in job.callbacks.items():
        callback = instantiated(node, f"callbacks.{name}", Callback)
        monitor = getattr(callback, "monitor", None) if isinstance(callback, (EarlyStopping, ModelCheckpoint)) else None
        if monitor and monitor.startswith("val/") and not validates(data):
            continue
        if isinstance(callback, EarlyStopping) and not callback.patience:
            continue
        if isinstance(callback, WeightAveraging) and job.trainer.get("strategy") == "fsdp":
            raise InputError(f"callbacks.{name} needs whole weights: choose trainer.strategy=ddp, or leave it out")
        if isinstance(callback, ModelCheckpoint) and callback.dirpath is None:
            callback.dirpath = str(run_dir.resolve() / "checkpoints")
        if not isinstance(callback, ProgressBar) or job.trainer.get("enable_progress_bar", True):
            found.append(callback)
    return found


def instantiated(node: Mapping[str, Any], key: str, kind: type) -> Any:
    """The object of a config node with a ``_target_`` of any package, of the given `kind`."""
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    named(node, kind, key)  # before anything is called
    try:
        made = instantiate(dict(node), _convert_="all")  # W&B takes no settings but a plain dict
    except InstantiationException as error:
        raise InputError(f"{key}: {textwrap.shorten(str(error.__cause__ or error), 300)}") from error
    if not isinstance(made, kind):
        raise InputError(f"{key}._target_={node.get('_target_')} is a {type(made).__name__}; expected a {kind.__name__}")
    return made


def _quieten() -> None:
    """Lightning's remarks on things that are as they should be here."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("lightning.pytorch.profilers").setLevel(logging.INFO)  # what trainer.profiler asks for
    for remark in (
        ".*does not have many workers.*",
        ".*smaller than the logging interval.*",
        ".*Total length of .* across ranks is zero.*",
        ".*isinstance\\(treespec, LeafSpec\\).*",
        ".*Checkpoint directory .* exists and is not empty.*",
        ".*ended before the epoch ended and your dataloader is not resumable.*",
        ".*WeightAveraging callback with a model that overrides the configure_model.*",
    ):
        warnings.filterwarnings("ignore", remark)
