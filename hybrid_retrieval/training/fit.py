"""Train one job into its run directory, in this process or in one process a device."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import socket
import time
import warnings
from pathlib import Path

import lightning
import torch
from lightning.pytorch.strategies import DDPStrategy, Strategy
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch.multiprocessing.spawn import spawn

from hybrid_retrieval.cache import Cache
from hybrid_retrieval.config import JobConfig, TrainerConfig, build
from hybrid_retrieval.data.source import Source
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.evaluation.benchmarks.held_out import split_collection
from hybrid_retrieval.evaluation.collection import RetrievalCollection
from hybrid_retrieval.losses.infonce import InfoNCE
from hybrid_retrieval.models.encoder import Model
from hybrid_retrieval.sampling.manifest import Manifest
from hybrid_retrieval.sampling.sampler import Sampler
from hybrid_retrieval.training.callbacks import LAST, MANIFEST, Recorder, callbacks
from hybrid_retrieval.training.checkpoint import MODEL_FOLDER, PREFIX, WholeFiles, read_checkpoint, scoring_device
from hybrid_retrieval.training.datamodule import PairsDataModule
from hybrid_retrieval.training.loggers import RunLogger
from hybrid_retrieval.training.module import ContrastiveModule
from hybrid_retrieval.training.optimizers import AdamW
from hybrid_retrieval.training.training_text import SourceText

log = logging.getLogger(__name__)

FIGURES = "training.json"
GLOO_SECONDS = 0.5


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
    loss: InfoNCE = build(job.loss, "loss")
    optimizer: AdamW = build(job.optimizer, "optimizer")
    lightning.seed_everything(job.seed, verbose=False)
    encoder = model.build(model.tokenizer(SourceText(source)))
    data = PairsDataModule(
        source=source,
        sampler=sampler,
        query_tokenization=encoder.tokenization("query"),
        passage_tokenization=encoder.tokenization("passage"),
        vocabulary=encoder.tokenizer.get_vocab_size(),
        cache=Cache.at(job.paths.cache),
        config=job.trainer,
        seed=job.seed,
        hard_negatives=loss.hard_negatives,
    )
    data.check(job.strict)
    if loss.hard_negatives > data.builder.negatives:
        raise InputError(f"loss.hard_negatives={loss.hard_negatives}, but the data has {data.builder.negatives} for a pair")
    validation = validation_collection(source, job.trainer.validation_items) if data.validates else None
    check_monitor(job.trainer, data.validates, validation)
    module = ContrastiveModule(encoder, loss, optimizer, job.trainer, validation)
    return Prepared(source, module, data)


def check_devices(job: JobConfig) -> None:
    """Refuse devices that are not there, a precision they lack, and a global batch that they do not divide."""
    accelerator = job.trainer.accelerator
    if accelerator != "auto" and accelerator != "cpu" and scoring_device(accelerator).type == "cpu":
        raise InputError(f"trainer.accelerator={accelerator} is not on this machine; expected auto or cpu")
    if scoring_device(accelerator).type == "cuda" and job.trainer.devices > torch.cuda.device_count():
        raise InputError(f"trainer.devices={job.trainer.devices}, but this machine has {torch.cuda.device_count()}")
    if job.trainer.precision == "16-mixed" and scoring_device(accelerator).type == "cpu":
        raise InputError("trainer.precision=16-mixed needs a GPU; on a CPU choose bf16-mixed or 32-true")
    batch, devices = int(job.sampler.get("batch_size", 0)), job.trainer.devices
    if batch % devices:
        below, above = batch - batch % devices, batch + devices - batch % devices
        sizes = " or ".join(str(size) for size in (below, above) if size)
        raise InputError(
            f"sampler.batch_size={batch} does not divide by trainer.devices={devices}; the nearest sizes are {sizes}"
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
    """
    if job.trainer.devices == 1:
        fit_rank(job, run_dir, prepared, start_from)
    else:
        # Each rank builds its own parts from the resolved config; replaying the command line would start a sweep anew.
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        spawn(_fit_spawned, (job, run_dir, start_from, port), nprocs=job.trainer.devices)  # type: ignore[no-untyped-call]
    figures: dict[str, float] = json.loads((run_dir / FIGURES).read_text())
    drawn = {name.removeprefix("batches/"): value for name, value in figures.items() if name.startswith("batches/")}
    log.info(
        "drawn: %s pairs in %s batches, %.1f%% of the pairs monolingual, %s to %s pairs of each of %s language pairs",
        *(f"{drawn[name]:,}" for name in ("pairs", "steps")),
        100 * drawn["monolingual_pair_share"],
        *(f"{drawn[name]:,}" for name in ("fewest_pairs_of_a_cell", "most_pairs_of_a_cell", "cells")),
    )
    return figures


def _fit_spawned(rank: int, job: JobConfig, run_dir: Path, start_from: Path | None, port: int) -> None:
    """One rank of a multi-device run, found by Lightning through the environment."""
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(job.trainer.devices),
        "NODE_RANK": "0",
        "LOCAL_RANK": str(rank),
    }
    if not torch.cuda.is_available():
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // job.trainer.devices))
    quiet = job if rank == 0 else dataclasses.replace(job, trainer=dataclasses.replace(job.trainer, progress=False), logger={})
    fit_rank(quiet, run_dir, prepare(quiet), start_from)
    # A gloo thread that still drops its last work needs the interpreter's lock, which the main thread holds when it joins
    # that thread at exit: leave it the time.
    time.sleep(GLOO_SECONDS)


def fit_rank(job: JobConfig, run_dir: Path, prepared: Prepared, start_from: Path | None) -> None:
    """Train in this process, which may be one of several ranks."""
    module, data, config = prepared.module, prepared.data, job.trainer
    if start_from is not None:
        data.start_step = start_step(start_from)
    sets = [one.pairs.name for one in data.builder.sets]
    recorder = Recorder(Manifest(sets, data.builder.languages), run_dir, config.checkpoint_every)
    recorder.manifest.restore(run_dir / MANIFEST, data.start_step)
    loggers: list[RunLogger] = [build(node, f"logger.{name}", job=job, run_dir=run_dir) for name, node in job.logger.items()]
    validate_every = min(config.validate_every, config.max_steps) if data.validates else None
    _quieten()
    trainer = lightning.Trainer(
        max_steps=config.max_steps,
        max_epochs=1,
        accelerator="gpu" if config.accelerator == "cuda" else config.accelerator,
        devices=config.devices,
        strategy=_strategy(config.devices),
        precision=config.precision,  # type: ignore[arg-type]
        callbacks=callbacks(config, run_dir, recorder, validate_every),
        plugins=[WholeFiles()],
        logger=[logger.lightning() for logger in loggers],
        log_every_n_steps=config.log_every,
        val_check_interval=validate_every,
        check_val_every_n_epoch=None if validate_every else 1,
        num_sanity_val_steps=0,
        limit_val_batches=None if validate_every else 0,
        use_distributed_sampler=False,
        enable_progress_bar=config.progress,
        enable_model_summary=False,
        default_root_dir=run_dir,
        deterministic="warn" if config.accelerator == "cpu" else None,
    )
    try:
        trainer.fit(module, datamodule=data, ckpt_path=start_from, weights_only=True)
    except SIGTERMException as end:
        raise SystemExit(143) from end
    except SystemExit as end:  # what Lightning makes of an interrupt
        if isinstance(end.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from end
        raise
    trainer.save_checkpoint(run_dir / "checkpoints" / LAST)
    if trainer.is_global_zero:
        figures = {
            "seconds": recorder.seconds,
            "pairs_per_second": recorder.pairs / max(recorder.seconds, 1e-9),
            "steps": trainer.global_step,
            "start_step": data.start_step,
            "world_size": trainer.world_size,
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


def _strategy(devices: int) -> Strategy | str:
    if devices == 1:
        return "auto"
    return DDPStrategy(process_group_backend=None if torch.cuda.is_available() else "gloo")


def _quieten() -> None:
    """Lightning's remarks on things that are as they should be here."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    warnings.filterwarnings("ignore", ".*smaller than the logging interval.*")
    warnings.filterwarnings("ignore", ".*Checkpoint directory .* exists and is not empty.*")
    warnings.filterwarnings("ignore", ".*isinstance\\(treespec, LeafSpec\\).*")
