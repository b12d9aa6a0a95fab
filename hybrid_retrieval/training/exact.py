"""All that stands in for Lightning's own behaviour, and why.

- **Gradients are summed over ranks once a step**, by `hybrid_retrieval.training.strategies`, not by DDP's hooks: a rank may
  have more chunks than another, or none, and gradients may be row-sparse; hooks that wait for each other would hang.
- **A checkpoint belongs to a step boundary and holds no state of Lightning's loops** (`Boundary`): a resumed run is an epoch of
  the steps that are left. Lightning's own mid-epoch restart skips or cuts the validation of the step that it was saved at
  (Lightning issues 19549 and 20288). Written when the next step starts, ``last.ckpt`` holds that validation.
- **SIGTERM and SIGINT** ask for a checkpoint at the next step of any rank, and all ranks leave together. Lightning's
  handler starts a collective operation in the middle of the rank's work, and asks all devices before every step.
- **Files are whole** (`WholeFiles`): a kill or a full disk leaves the checkpoint of before.
- **Loader processes end with training** (`ended`): Lightning forgets them where an error follows another, a logger's
  on a full disk, and Python waits for them for ever.
- **Trainer arguments that would break one of these are refused** (`trainer_arguments`).
"""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import lightning
import torch
import torch.distributed as dist
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from hybrid_retrieval.errors import InputError, Terminated, choice, end_with_parent, exit_on_sigterm, nearest
from hybrid_retrieval.files import recorded
from hybrid_retrieval.models.checkpoint import LAST
from hybrid_retrieval.training.strategies import STRATEGIES, Replicas, Shards
from hybrid_retrieval.values import LARGEST, Count, NotNegative, Number, Processes, Range, check

REFUSED = {
    "callbacks": "choose callbacks=NAME",
    "logger": "choose logger=NAME",
    "plugins": "checkpoints and process groups are this package's",
    "default_root_dir": "choose hydra.run.dir=DIR",
    "use_distributed_sampler": "ranks take their slices of every global batch by themselves",
    "reload_dataloaders_every_n_epochs": "batches are a function of (seed, step)",
    "enable_checkpointing": "a run without checkpoints cannot be scored",
    "barebones": "choose debug=profile",
    "check_val_every_n_epoch": "a run is one epoch: choose trainer.val_check_interval",
    "max_epochs": "a run is one epoch: choose trainer.max_steps",
    "min_epochs": "a run is one epoch: choose trainer.min_steps",
    "gradient_clip_algorithm": "gradients are clipped by their global norm",
    "inference_mode": "settled by the strategy",
    "sync_batchnorm": "no encoder here normalises over a batch",
}
"""Arguments of Lightning's Trainer that are not the user's, and why or what to use instead."""

Limit = Number | Annotated[float, Range(0, 1)] | None
NUMBERS: Mapping[str, Any] = {
    "max_steps": Count,
    "min_steps": Count | None,
    "accumulate_grad_batches": Count,
    "gradient_clip_val": NotNegative | None,
    "log_every_n_steps": Number | None,
    "val_check_interval": Count | float | str | None,
    "num_sanity_val_steps": Annotated[int, Range(-1, LARGEST)] | None,
    "limit_train_batches": Limit,
    "limit_val_batches": Limit,
    "overfit_batches": Number | Annotated[float, Range(0, 1)],
    "num_nodes": Processes,
}
"""The ranges that Lightning does not state."""


class WholeFiles(TorchCheckpointIO):
    """Checkpoints that appear whole or not at all, with a record of their checksums."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        final = Path(path)
        final.parent.mkdir(parents=True, exist_ok=True)
        with recorded(final) as part:
            try:
                with part.open("wb") as file:
                    torch.save(checkpoint, file)
            except (OSError, RuntimeError) as error:
                failed = error if isinstance(error, OSError) else error.__context__  # which torch hides behind its own
                if not isinstance(failed, OSError):
                    raise
                raise OSError(failed.errno, failed.strerror, str(final)) from error


class Boundary(Callback):
    """Checkpoints without the state of loops, and a resumed run that begins at a step boundary."""

    def setup(self, trainer: lightning.Trainer, module: lightning.LightningModule, stage: str) -> None:
        """Refuse, in anyone's script, a strategy that would sum gradients in its own way, and leave the loaders as they are.

        Validation goes by the batches of the run, not by those of an epoch, of which a resumed run has fewer.
        """
        if type(trainer.val_check_interval) is int:
            trainer.check_val_every_n_epoch = None
        if trainer.world_size > 1:
            if not isinstance(trainer.strategy, Replicas):
                name = type(trainer.strategy).__name__
                raise InputError(
                    f"strategy={name} would break law 4 (N ranks give the step of one): Trainer(strategy=Replicas())"
                )
            trainer._accelerator_connector.use_distributed_sampler = False

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint.pop("loops", None)

    def on_load_checkpoint(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        step = int(checkpoint["global_step"])
        count_steps(trainer, step)
        if trainer.limit_train_batches != 1.0:  # of the run, not of what is left of it
            limit, accumulate = trainer.limit_train_batches, trainer.accumulate_grad_batches
            batches = limit if isinstance(limit, int) else int(limit * trainer.max_steps * accumulate)
            trainer.limit_train_batches = max(0, batches - step * accumulate)
        for callback in trainer.checkpoint_callbacks:
            state = checkpoint["callbacks"].get(callback.state_key)
            # Of a run directory that was moved, Lightning would forget the best figure, and delete the best checkpoint there.
            if isinstance(callback, ModelCheckpoint) and state:
                checkpoint["callbacks"][callback.state_key] = moved(state, state["dirpath"], str(callback.dirpath))

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        # Early stopping judges after a validation; a run that was ended after its last one must not train on.
        stopping: list[Any] = list(trainer.early_stopping_callbacks)
        if any(0 < callback.patience <= callback.wait_count for callback in stopping):
            trainer.should_stop = True


def moved(value: Any, before: str, now: str) -> Any:
    """A callback's state with paths in the folder `now` for those in the folder `before`."""
    if isinstance(value, dict):
        return {moved(key, before, now): moved(inner, before, now) for key, inner in value.items()}
    return now + value[len(before) :] if isinstance(value, str) and value.startswith(before) else value


def count_steps(trainer: lightning.Trainer, step: int) -> None:
    """Set Lightning's counters to `step` steps done, as if the epoch that begins were the first of the run.

    Validation goes by the number of batches, `max_steps` by that of the optimizer's steps, the loggers' axis by a third one.
    """
    loop = trainer.fit_loop.epoch_loop
    batches = loop.batch_progress.total
    steps = loop.automatic_optimization.optim_progress.optimizer.step.total
    for count, done in ((batches, step * trainer.accumulate_grad_batches), (steps, step)):
        count.load_state_dict(dict.fromkeys(count.state_dict(), done))
    loop._batches_that_stepped = step


class LastCheckpoint(Callback):
    """Writes ``last.ckpt`` when a step starts, every so many steps, at the end, and on a signal; then `Terminated`.

    A second SIGINT does not wait for the step.

    Whatever belongs to the steps before, their validation and the choice of ``best.ckpt`` too, is then over and in it.
    """

    def __init__(self, folder: Path, every: int) -> None:
        """
        Args:
            every: steps between two checkpoints.
        """
        self.folder, self.every = folder, every
        self._start = 0
        self._asked = 0
        self._group: dist.ProcessGroup | None = None

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        self._start = trainer.global_step
        signal.signal(signal.SIGTERM, self._ask)
        if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
            signal.signal(signal.SIGINT, self._ask)
        if trainer.world_size > 1:
            self._group = dist.new_group(backend="gloo")  # asked on the host: no device waits
            trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]

    def on_train_batch_start(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, batch: Any, index: int
    ) -> None:
        if index % trainer.accumulate_grad_batches == 0:
            step = trainer.global_step
            self._step_boundary(trainer, due=step % self.every == 0 and step > self._start)

    def on_train_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        self._step_boundary(trainer, due=True)
        exit_on_sigterm()  # no boundary comes that would ask
        if signal.getsignal(signal.SIGINT) == self._ask:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if self._asked:
            raise Terminated(self._asked)

    def _step_boundary(self, trainer: lightning.Trainer, due: bool) -> None:
        if self._group is not None:
            end_with_parent()
        asked = self._asked_on_any_rank()
        if due or asked:
            trainer.save_checkpoint(self.folder / LAST)
        if asked:
            raise Terminated(asked)

    def _ask(self, sent: int, _: object) -> None:
        if self._asked == sent == signal.SIGINT:
            raise KeyboardInterrupt
        self._asked = sent

    def _asked_on_any_rank(self) -> int:
        """The signal that any rank got; 0: none."""
        if self._group is None:
            return self._asked
        asked = torch.tensor(self._asked)
        dist.all_reduce(asked, dist.ReduceOp.MAX, group=self._group)
        return int(asked)


@contextmanager
def ended(loaders: Sequence[BaseProcess]) -> Iterator[None]:
    """However training ends, leave none of its loader processes, and let its end be what it ended for.

    The processes hold nothing that needs an orderly end.

    Raises:
        KeyboardInterrupt, Terminated, InputError: also where another error came on the way out.
        InputError: a loader process was killed, and training failed for it.
    """
    try:
        yield
    except BaseException as error:
        for reason in contexts(error):
            if isinstance(reason, KeyboardInterrupt | Terminated | InputError):
                raise reason from None
        for code in [one.exitcode for one in loaders if one.exitcode and one.exitcode < 0]:
            raise InputError(
                f"training.workers={len(loaders)}: a loader process was killed by {signal.Signals(-code).name}, out of memory? "
                "Lower training.workers (0: none); resume=auto goes on from the last checkpoint"
            ) from error
        raise
    finally:
        before = signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's would raise for what is killed here
        for one in loaders:
            if one.is_alive():
                one.kill()
                one.join()
        signal.signal(signal.SIGCHLD, before)


def contexts(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and those that it came on the way out of."""
    while error is not None:
        yield error
        error = error.__context__


def check_trainer(values: Mapping[str, Any]) -> None:
    """Refuse Trainer arguments that Lightning does not know, and those that would break a law.

    Raises:
        InputError: with the name, and what to use instead.
    """
    known = {**get_type_hints(lightning.Trainer.__init__), **NUMBERS}
    for name, value in values.items():
        if name not in known:
            raise InputError(f"unknown config key trainer.{name}{nearest(name, known)}")
        if name in REFUSED:
            raise InputError(f"trainer.{name}={value} cannot be set: {REFUSED[name]}")
    check(known, values, "trainer")
    if "max_steps" not in values:
        raise InputError("config key trainer.max_steps is missing: batches have no epoch")
    interval = values.get("val_check_interval")
    if interval is not None and type(interval) is not int:
        raise InputError(
            f"trainer.val_check_interval={interval}; expected a number of batches (a share of those that are left, or a time, "
            "would be another one after a resume), or null: at the end"
        )
    choice("trainer.accelerator", str(values.get("accelerator", "auto")), ["auto", "cpu", "gpu", "cuda", "mps"])
    if values.get("precision") is not None:
        choice("trainer.precision", str(values["precision"]), ["32-true", "bf16-mixed", "16-mixed"])
    strategy = str(values.get("strategy", "auto"))
    if strategy not in STRATEGIES:
        raise InputError(
            f"trainer.strategy={strategy} would break law 4 (N ranks give the step of one); expected one of: "
            f"{', '.join(sorted(STRATEGIES))}, which are this package's own"
        )
    if strategy == "fsdp" and values.get("precision") == "16-mixed":
        raise InputError("trainer.precision=16-mixed cannot be scaled in shards: choose bf16-mixed with trainer.strategy=fsdp")


def trainer_arguments(values: Mapping[str, Any], world_size: int) -> dict[str, Any]:
    """The arguments of Lightning's Trainer for checked config `values`, with this package's strategy and plugins."""
    strategy = STRATEGIES[str(values.get("strategy", "auto"))]
    several = world_size > 1
    defaults = {"num_sanity_val_steps": 0, "enable_model_summary": False}
    batches = values["max_steps"] * values.get("accumulate_grad_batches", 1)
    accelerator = values.get("accelerator", "auto")
    return {
        **defaults,
        **values,
        "accelerator": "gpu" if accelerator == "cuda" else accelerator,
        "strategy": strategy(process_group_backend=None if torch.cuda.is_available() else "gloo") if several else "auto",
        # A job of Slurm or torchrun that has one device is a job alone.
        "plugins": [WholeFiles(), TorchElasticEnvironment() if several else LightningEnvironment()],
        "use_distributed_sampler": False,
        # Gathered weights are kept for the next step, which needs their gradients.
        "inference_mode": not (several and strategy is Shards),
        "max_epochs": -1 if values.get("overfit_batches") else 1,
        "check_val_every_n_epoch": None,
        "val_check_interval": values.get("val_check_interval") or batches,
        "deterministic": values.get("deterministic", "warn" if accelerator == "cpu" else None),
    }
