"""Train one job into its run directory, in this process or in one process a device."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import signal
import time
import warnings
from pathlib import Path

import lightning
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.strategies import Strategy
from torch.multiprocessing.spawn import ProcessContext, ProcessExitedException, spawn

from hybrid_retrieval.cache import Cache
from hybrid_retrieval.config import JobConfig, TrainerConfig, build, construct, divides
from hybrid_retrieval.data.source import Source
from hybrid_retrieval.errors import InputError, Terminated, exit_on_sigterm
from hybrid_retrieval.evaluation.benchmarks.held_out import split_collection
from hybrid_retrieval.evaluation.collection import RetrievalCollection
from hybrid_retrieval.losses.loss import Loss
from hybrid_retrieval.models.encoder import BiEncoder, Model
from hybrid_retrieval.sampling.manifest import Manifest
from hybrid_retrieval.sampling.sampler import Sampler
from hybrid_retrieval.training.callbacks import MANIFEST, Checkpoints, Recorder, callbacks
from hybrid_retrieval.training.checkpoint import MODEL_FOLDER, PREFIX, WholeFiles, read_checkpoint, scoring_device
from hybrid_retrieval.training.datamodule import PairsDataModule
from hybrid_retrieval.training.loggers import RunLogger
from hybrid_retrieval.training.module import ContrastiveModule
from hybrid_retrieval.training.nodes import Rendezvous, rendezvous
from hybrid_retrieval.training.optimizers import AdamW
from hybrid_retrieval.training.sharding import check_shardable
from hybrid_retrieval.training.strategies import Replicas, Shards
from hybrid_retrieval.training.teacher import Teacher
from hybrid_retrieval.training.training_text import SourceText

log = logging.getLogger(__name__)

FIGURES = "training.json"
GLOO_SECONDS = 0.5
GRACE_SECONDS = 30.0
"""How long ranks may take to leave after the first one has."""


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A job's parts, checked against each other before anything is trained."""

    source: Source
    module: ContrastiveModule
    data: PairsDataModule


def prepare(job: JobConfig) -> Prepared:
    """Build everything that training needs; every kind of bad input shows here.

    Raises:
        InputError: anything about the job that cannot work.
    """
    check_devices(job)
    source: Source = build(job.dataset, "dataset", paths=job.paths)
    empty = [one.pairs.name for one in source.sets() if not len(one.pairs.split_edges("train"))]
    if empty:
        raise InputError(f"{empty[0]} has no training pair left: lower dataset.validation_share and dataset.test_share")
    sampler: Sampler = build(job.sampler, "sampler")
    model: Model = build(job.model, "model", paths=job.paths)
    loss: Loss = build(job.loss, "loss")
    optimizer: AdamW = build(job.optimizer, "optimizer")
    lightning.seed_everything(job.seed, verbose=False)
    encoder = model.build(model.tokenizer(SourceText(source)))
    encoder.multiply_with(job.trainer.linear or "default")
    if job.trainer.strategy == "fsdp":
        check_shardable(encoder)
    teacher = None
    if loss.teacher is not None:
        given = {"paths": job.paths, "accelerator": job.trainer.accelerator, "strict": job.strict}
        teacher = construct(Teacher, loss.teacher, "loss.teacher", **given)
    data = data_module(job, source, sampler, encoder, loss, teacher)
    loss.bind(encoder.dimensions, data.builder.languages, data.builder.teacher_dimensions)
    data.check(job.strict)
    if loss.hard_negatives > data.builder.negatives:
        raise InputError(f"loss.hard_negatives={loss.hard_negatives}, but the data has {data.builder.negatives} for a pair")
    validation = validation_collection(source, job.trainer.validation_items) if data.validates else None
    check_monitor(job.trainer, data.validates, validation)
    check_adaptive(job, validation)
    module = ContrastiveModule(encoder, loss, optimizer, job.trainer, job.seed, validation)
    return Prepared(source, module, data)


def data_module(
    job: JobConfig, source: Source, sampler: Sampler, encoder: BiEncoder, loss: Loss, teacher: Teacher | None = None
) -> PairsDataModule:
    """The batches of a job, for an encoder whose weights are not needed."""
    return PairsDataModule(
        source=source,
        sampler=sampler,
        query_tokenization=encoder.tokenization("query"),
        passage_tokenization=encoder.tokenization("passage"),
        vocabulary=encoder.tokenizer.get_vocab_size(),
        cache=Cache.at(job.paths.cache),
        config=job.trainer,
        seed=job.seed,
        hard_negatives=loss.hard_negatives,
        sides=loss.sides,
        pads=encoder.backbone.pads,
        teacher=teacher,
    )


def check_devices(job: JobConfig) -> None:
    """Refuse devices that are not there, a precision they lack, and a global batch that they do not divide."""
    accelerator = job.trainer.accelerator
    if accelerator != "auto" and accelerator != "cpu" and scoring_device(accelerator).type == "cpu":
        raise InputError(f"trainer.accelerator={accelerator} is not on this machine; expected auto or cpu")
    if scoring_device(accelerator).type == "cuda" and job.trainer.devices > torch.cuda.device_count():
        raise InputError(f"trainer.devices={job.trainer.devices}, but this machine has {torch.cuda.device_count()}")
    if job.trainer.precision == "16-mixed" and scoring_device(accelerator).type == "cpu":
        raise InputError("trainer.precision=16-mixed needs a GPU; on a CPU choose bf16-mixed or 32-true")
    divides(
        "sampler.batch_size",
        int(job.sampler.get("batch_size", 0)),
        "trainer.devices x trainer.nodes" if job.trainer.nodes > 1 else "trainer.devices",
        job.trainer.world_size,
    )


def check_monitor(config: TrainerConfig, validates: bool, validation: RetrievalCollection | None) -> None:
    """Refuse to choose a checkpoint, or to stop, by something that the data cannot give."""
    if not validates:
        if config.patience or config.monitor != "val/loss":
            raise InputError(
                f"trainer.monitor={config.monitor} and trainer.patience={config.patience} need validation: "
                "dataset.validation_share and trainer.validation_batches must be above 0"
            )
        log.warning("nothing is validated: the last checkpoint is the one to be scored")
        return
    setting = config.monitor.split("/")[1]
    if setting != "loss" and (validation is None or setting not in validation.settings):
        raise InputError(f"trainer.monitor={config.monitor}: the validation split has no {setting} judgements")


def check_adaptive(job: JobConfig, validation: RetrievalCollection | None) -> None:
    """Refuse a ratio that follows validation where nothing is measured, or where loaders would not hear of it."""
    if (job.sampler.get("schedule") or {}).get("kind") != "adaptive":
        return
    if job.trainer.workers:
        raise InputError(f"sampler.schedule.kind=adaptive needs trainer.workers=0, not {job.trainer.workers}")
    missing = {"monolingual", "crosslingual"} - set(validation.settings if validation else ())
    if missing:
        raise InputError(
            f"sampler.schedule.kind=adaptive: the validation split has no {min(missing)} judgements to go by "
            "(dataset.validation_share and trainer.validation_items must be above 0)"
        )


def validation_collection(source: Source, items: int) -> RetrievalCollection | None:
    """A small collection of the first set's validation split, for the validation retrieval measures."""
    pairs = source.sets()[0].pairs
    if not items or not len(pairs.split_edges("validation")):
        return None
    return split_collection(pairs, "validation", "validation", items)


def fit(job: JobConfig, run_dir: Path, prepared: Prepared, start_from: Path | None = None) -> dict[str, float]:
    """Train, writing checkpoints, curves and the manifest; the training figures.

    Args:
        start_from: a checkpoint to go on from.

    Raises:
        Terminated: after SIGTERM; the last checkpoint is written.
    """
    if job.trainer.world_size == 1:
        fit_rank(job, run_dir, prepared, start_from)
    else:
        _fit_ranks(job, run_dir, start_from)
    figures: dict[str, float] = json.loads((run_dir / FIGURES).read_text())
    drawn = {name.removeprefix("batches/"): value for name, value in figures.items() if name.startswith("batches/")}
    log.info(
        "drawn: %s pairs in %s batches, %.1f%% of the pairs monolingual, %s to %s pairs of each of %s language pairs",
        *(f"{drawn[name]:,}" for name in ("pairs", "steps")),
        100 * drawn["monolingual_pair_share"],
        *(f"{drawn[name]:,}" for name in ("fewest_pairs_of_a_cell", "most_pairs_of_a_cell", "cells")),
    )
    return figures


def follow(job: JobConfig, run_dir: Path) -> None:
    """Train on a node that is not the first of several; everything but the paths is as that one has it."""
    _fit_ranks(job, run_dir, None)


def _fit_ranks(job: JobConfig, run_dir: Path, start_from: Path | None) -> None:
    """Train in one process a device; SIGTERM is passed on to them, and none of them outlives this call."""
    place = rendezvous(job.trainer.nodes)
    ranks: ProcessContext | None = None
    asked = False

    def pass_on(*_: object) -> None:
        nonlocal asked
        asked = True
        for process in ranks.processes if ranks else []:
            process.terminate()

    before = signal.signal(signal.SIGTERM, pass_on)
    try:
        # Each rank builds its own parts from the resolved config; replaying the command line would start a sweep anew.
        ranks = spawn(_fit_spawned, (job, run_dir, start_from, place), job.trainer.devices, join=False)  # type: ignore[no-untyped-call]
        if asked:  # while they were started
            pass_on()
        while not ranks.join(grace_period=GRACE_SECONDS):
            pass
        if asked:  # when their last step was done
            raise Terminated
    except ProcessExitedException as end:
        if asked or end.exit_code == Terminated().code:
            raise Terminated from end
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
        for process in ranks.processes if ranks else []:
            process.kill()
            process.join()


def _fit_spawned(rank: int, job: JobConfig, run_dir: Path, start_from: Path | None, place: Rendezvous) -> None:
    """One rank of a multi-device run, found by Lightning through the environment."""
    exit_on_sigterm()
    os.environ |= {
        "MASTER_ADDR": place.address,
        "MASTER_PORT": str(place.port),
        "WORLD_SIZE": str(job.trainer.world_size),
        "NODE_RANK": str(place.node),
        "LOCAL_RANK": str(rank),
    }
    if not torch.cuda.is_available():
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // job.trainer.devices))
    if job.trainer.nodes > 1:
        job, run_dir, start_from = _as_on_the_first_node(place, rank, job, run_dir, start_from)
    first = place.node == rank == 0
    quiet = job if first else dataclasses.replace(job, trainer=dataclasses.replace(job.trainer, progress=False), logger={})
    fit_rank(quiet, run_dir, prepare(quiet), start_from)
    # A gloo thread that still drops its last work needs the interpreter's lock, which the main thread holds when it joins
    # that thread at exit: leave it the time.
    time.sleep(GLOO_SECONDS)


def _as_on_the_first_node(
    place: Rendezvous, rank: int, job: JobConfig, run_dir: Path, start_from: Path | None
) -> tuple[JobConfig, Path, Path | None]:
    """What the first node runs, told to all: what it settled once must not differ, nor where it goes on from."""
    cuda = torch.cuda.is_available() and job.trainer.accelerator != "cpu"
    if cuda:
        torch.cuda.set_device(rank)
    torch.distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if cuda else "gloo",
        rank=place.node * job.trainer.devices + rank,
        world_size=job.trainer.world_size,
    )
    told = [(job, run_dir, start_from)]
    torch.distributed.broadcast_object_list(told, 0)
    theirs, run_dir, start_from = told[0]
    return dataclasses.replace(theirs, paths=job.paths), run_dir, start_from


def fit_rank(job: JobConfig, run_dir: Path, prepared: Prepared, start_from: Path | None) -> None:
    """Train in this process, which may be one of several ranks."""
    module, data, config = prepared.module, prepared.data, job.trainer
    if start_from is not None:
        data.start_step = start_step(start_from)
    sets = [one.pairs.name for one in data.builder.sets]
    recorder = Recorder(Manifest(sets, data.builder.languages), run_dir)
    recorder.manifest.restore(run_dir / MANIFEST, data.start_step * config.accumulate)
    loggers: list[RunLogger] = [build(node, f"logger.{name}", job=job, run_dir=run_dir) for name, node in job.logger.items()]
    validate_every = min(config.validate_every, config.max_steps) if data.validates else None
    watching = callbacks(config, run_dir, recorder, data)
    _quieten()
    trainer = lightning.Trainer(
        max_steps=config.max_steps,
        max_epochs=1,
        accelerator="gpu" if config.accelerator == "cuda" else config.accelerator,
        devices=config.devices,
        num_nodes=config.nodes,
        strategy=_strategy(config),
        precision=config.precision,  # type: ignore[arg-type]
        callbacks=watching,
        enable_checkpointing=False,
        # A job of Slurm or torchrun has one task a node here, not one a device as Lightning would take it.
        plugins=[WholeFiles(), LightningEnvironment()],
        logger=[logger.lightning() for logger in loggers],
        log_every_n_steps=config.log_every,
        val_check_interval=validate_every,
        check_val_every_n_epoch=None if validate_every else 1,
        num_sanity_val_steps=0,
        limit_val_batches=None if validate_every else 0,
        use_distributed_sampler=False,
        inference_mode=config.strategy != "fsdp",  # gathered weights are kept for the next step, which needs their gradients
        enable_progress_bar=config.progress,
        enable_model_summary=False,
        default_root_dir=run_dir,
        deterministic="warn" if config.accelerator == "cpu" else None,
    )
    try:
        trainer.fit(module, datamodule=data, ckpt_path=start_from, weights_only=True)
    except SystemExit as end:  # what Lightning makes of an interrupt
        if isinstance(end.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from end
        raise
    best = next(one for one in watching if isinstance(one, Checkpoints))
    if trainer.is_global_zero:
        figures = {
            "seconds": recorder.seconds,
            "pairs_per_second": recorder.pairs / max(recorder.seconds, 1e-9),
            "steps": trainer.global_step,
            "start_step": data.start_step,
            "world_size": trainer.world_size,
            **({"best_score": best.best_score} if best.best_step else {}),
            **{f"batches/{name}": value for name, value in recorder.manifest.summary().items()},
        }
        (run_dir / FIGURES).write_text(json.dumps(figures, indent=1))


def start_step(checkpoint: Path) -> int:
    """The step that a checkpoint goes on with."""
    return int(read_checkpoint(checkpoint)["global_step"])


def check_checkpoint(checkpoint: Path, module: ContrastiveModule) -> None:
    """Refuse to go on from a checkpoint of another model."""
    saved = read_checkpoint(checkpoint)["state_dict"]
    mine = module.state_dict()
    for name, value in mine.items():
        if name.startswith(PREFIX) and (name not in saved or saved[name].shape != value.shape):
            raise InputError(f"{checkpoint} is a checkpoint of another model: {name} is missing or of another shape")


def save_model_config(prepared: Prepared, run_dir: Path) -> None:
    """Write what the architecture is, beside the checkpoints."""
    prepared.module.encoder.save_config(run_dir / MODEL_FOLDER)


def _strategy(config: TrainerConfig) -> Strategy | str:
    if config.world_size == 1:
        return "auto"
    kind = Shards if config.strategy == "fsdp" else Replicas
    return kind(process_group_backend=None if torch.cuda.is_available() else "gloo")


def _quieten() -> None:
    """Lightning's remarks on things that are as they should be here."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    warnings.filterwarnings("ignore", ".*smaller than the logging interval.*")
    warnings.filterwarnings("ignore", ".*Total length of .* across ranks is zero.*")
    warnings.filterwarnings("ignore", ".*isinstance\\(treespec, LeafSpec\\).*")
