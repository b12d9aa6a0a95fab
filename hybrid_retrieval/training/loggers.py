"""Where a run is told of beside its own directory. A new logger is a subclass of `RunLogger` and a config that names it.

The command opens a run's loggers before training and closes them after its report. Training asks each for the logger that
Lightning writes curves to, in the same process or in the one of rank 0: such an instance is built anew from the config, so
what has to be known there, the id of a W&B run, lies in the run directory.
"""

from __future__ import annotations

import csv
import logging
import netrc
import os
import shutil
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger
from lightning.pytorch.loggers.logger import DummyLogger

from hybrid_retrieval.config import JobConfig, build
from hybrid_retrieval.errors import InputError, choice
from hybrid_retrieval.training.callbacks import MANIFEST
from hybrid_retrieval.training.checkpoint import read_checkpoint

if TYPE_CHECKING:
    import wandb

log = logging.getLogger(__name__)

CURVE_STEP = "trainer/global_step"
"""What Lightning's WandbLogger calls the optimizer step."""


class RunLogger(ABC):
    """One logger of a run; constructors take the config's values, the job and the run directory, and start nothing."""

    def __init__(self, job: JobConfig, run_dir: Path) -> None:
        self.job, self.run_dir = job, run_dir

    @contextmanager
    def opened(self, choices: Mapping[str, str], sweep: str | None) -> Iterator[None]:
        """From before training until after `record`; an exception that passes through says that the run failed.

        Args:
            choices: config group to the name of its choice.
            sweep: the name of the sweep that the job belongs to.
        """
        yield

    @abstractmethod
    def lightning(self) -> Logger:
        """The logger that Lightning writes to; asked for in the process of rank 0 while the run's logger is open."""

    @abstractmethod
    def record(self) -> None:
        """Tell of the run directory, when figures, tables and pictures lie in it."""


class RunLoggers:
    """All loggers of a run, for the command that runs it."""

    def __init__(self, job: JobConfig, run_dir: Path) -> None:
        self.loggers: Sequence[RunLogger] = [
            build(node, f"logger.{name}", job=job, run_dir=run_dir) for name, node in job.logger.items()
        ]

    @contextmanager
    def opened(self, choices: Mapping[str, str], sweep: str | None = None) -> Iterator[None]:
        """Hold them open; they are closed in the reverse order, on failure too."""
        with ExitStack() as stack:
            for logger in self.loggers:
                stack.enter_context(logger.opened(choices, sweep))
            yield

    def record(self) -> None:
        """Tell of the finished run directory."""
        for logger in self.loggers:
            logger.record()


class CsvLogger(RunLogger):
    """``metrics.csv`` in the run directory; a run that is gone on with keeps the rows of before."""

    def lightning(self) -> Logger:
        rows = _rows_before(self.run_dir)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*Experiment logs directory .* exists and is not empty.*")
            logger = CSVLogger(self.run_dir, name="", version="", flush_logs_every_n_steps=1)
            logger.experiment.metrics = rows
        return logger

    def record(self) -> None:
        """Nothing: the results lie beside ``metrics.csv`` already."""


def _rows_before(run_dir: Path) -> list[dict[str, float]]:
    """The rows of ``metrics.csv`` up to the last checkpoint: what came after it is trained, and logged, again."""
    path, checkpoint = run_dir / "metrics.csv", run_dir / "checkpoints" / "last.ckpt"
    if not path.exists() or not checkpoint.exists():
        return []
    done = int(read_checkpoint(checkpoint)["global_step"])
    with path.open(newline="") as file:
        rows = [
            {name: int(value) if name in ("epoch", "step") else float(value) for name, value in row.items() if value}
            for row in csv.DictReader(file)
        ]
    return [row for row in rows if row["step"] < done]


class WandbRun(RunLogger):
    """One Weights & Biases run a job, its files under ``wandb/`` in the run directory.

    Config and curves, then the figures as its summary, the result tables, the pictures and the manifest. Jobs of a sweep
    are a group. The main process owns the run; with several devices rank 0 attaches to it.
    """

    def __init__(
        self,
        job: JobConfig,
        run_dir: Path,
        project: str = "hybrid_retrieval",
        entity: str | None = None,
        mode: str | None = None,
        tags: list[str] | None = None,
    ) -> None:
        """
        Args:
            mode: online or offline; by default what WANDB_MODE says (disabled, too), else online where there is an API key.
        """
        super().__init__(job, run_dir)
        if mode is not None:
            choice("logger.wandb.mode", mode, ["online", "offline"])
        self.project, self.entity, self.mode, self.tags = project, entity, mode, tags or []
        self._id_file = run_dir / "wandb" / "run_id"

    @contextmanager
    def opened(self, choices: Mapping[str, str], sweep: str | None) -> Iterator[None]:
        if self._mode() == "disabled":
            yield
            return
        run = self._start(choices, sweep)
        try:
            yield
        except BaseException as error:
            run.finish(exit_code=exit_code(error))
            raise
        run.finish(exit_code=0)

    def lightning(self) -> Logger:
        disabled = self._mode() == "disabled"
        return DummyLogger() if disabled else WandbLogger(experiment=self._run(), save_dir=self.run_dir, project=self.project)

    def record(self) -> None:
        if self._mode() == "disabled":
            return
        import wandb

        from hybrid_retrieval.reporting.run_directory import RunDirectory
        from hybrid_retrieval.reporting.tables import run_table

        directory, run = RunDirectory.open(self.run_dir), self._run()
        results: dict[str, Any] = {}
        for benchmark in directory.benchmarks:
            table = run_table(directory, benchmark)
            columns = [table.corner, *(column.name for column in table.columns)]
            results[f"results/{benchmark}"] = wandb.Table(columns, [[row.label, *row.values] for row in table.rows])
        for picture in sorted((self.run_dir / "figures").glob("*.png")):
            results[f"figures/{picture.stem}"] = wandb.Image(str(picture))
        manifest = self.run_dir / MANIFEST
        if manifest.exists():
            results["batches"] = wandb.Table(*pairs_drawn(manifest))
            copy = shutil.copyfile(manifest, Path(run.dir) / MANIFEST)
            run.save(str(copy), base_path=run.dir, policy="now")
        with _staging_in(self.run_dir / "wandb"):
            run.log(results)
        run.summary.update(dict(directory.metrics))

    def _start(self, choices: Mapping[str, str], sweep: str | None) -> wandb.Run:
        import wandb

        self._id_file.parent.mkdir(parents=True, exist_ok=True)
        try:
            run = wandb.init(
                id=self._id_file.read_text() if self._id_file.exists() else None,
                resume="allow",
                reinit="finish_previous",
                dir=str(self.run_dir),
                project=self.project,
                entity=self.entity,
                name=self.job.name or _name(choices, self.job.seed),
                group=sweep,
                tags=self.tags,
                config={**asdict(self.job), "choices": dict(choices)},
                mode=self._mode(),
            )
        except wandb.errors.Error as error:
            raise InputError(f"logger=wandb cannot start: {error} (logger.wandb.mode=offline needs no account)") from error
        self._id_file.write_text(run.id)
        run.define_metric(CURVE_STEP)
        run.define_metric("*", step_metric=CURVE_STEP, step_sync=True)
        where = f"offline, for `wandb sync {Path(run.dir).parent}`" if run.offline else run.url
        log.info("W&B run %s: %s", run.id, where)
        return run

    def _mode(self) -> Any:
        """The config's, else W&B's own (WANDB_MODE, its settings files); offline where that is the default and needs a key."""
        import wandb

        known = wandb.setup(_quiet()).settings
        if self.mode or os.environ.get("WANDB_MODE") or known.mode != "online":
            return self.mode or known.mode
        return "online" if has_credentials(known.base_url) else "offline"

    def _run(self) -> Any:
        """The open run: this process's, or the one of the process that started this."""
        import wandb

        name = self._id_file.read_text()
        if wandb.run is not None and wandb.run.id == name:
            return wandb.run
        return wandb.attach(name)  # type: ignore[attr-defined, unused-ignore]  # W&B's stub lacks it


def has_credentials(base_url: str) -> bool:
    """Whether the environment or the user's netrc file has a key for the W&B server at `base_url`."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    try:
        known = netrc.netrc(Path(os.environ.get("NETRC") or "~/.netrc").expanduser())
    except (OSError, netrc.NetrcParseError):
        return False
    return bool({"api.wandb.ai", urlsplit(base_url).netloc} & known.hosts.keys())


def exit_code(error: BaseException) -> int:
    """What the process that ends with `error` says (see `hybrid_retrieval.command`)."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    if isinstance(error, KeyboardInterrupt):
        return 130
    return 2 if isinstance(error, InputError) else 1


def pairs_drawn(manifest: Path) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows: how many pairs of each set, query language and passage language were trained on."""
    import pyarrow.parquet as pq

    keys = ["set", "query_language", "passage_language"]
    drawn = pq.read_table(manifest, columns=[*keys, "pairs"]).group_by(keys).aggregate([("pairs", "sum")])
    rows = drawn.sort_by([(key, "ascending") for key in keys]).to_pylist()
    return [*keys, "pairs"], [[row[key] for key in [*keys, "pairs_sum"]] for row in rows]


def _name(choices: Mapping[str, str], seed: int) -> str:
    chosen = [choices[group] for group in ("sampler", "model") if group in choices]
    return "-".join([*chosen, f"seed{seed}"])


def _quiet() -> wandb.Settings:
    """Warnings and errors only; the console stays the run's own; files are copied, so that an offline run is whole."""
    import wandb

    return wandb.Settings(console="off", quiet=True, show_info=False, symlink=False)


@contextmanager
def _staging_in(folder: Path) -> Iterator[None]:
    """Have W&B stage the files of tables in `folder`, not in the user's home."""
    before = os.environ.get("WANDB_DATA_DIR")
    if before is None:
        os.environ["WANDB_DATA_DIR"] = str(folder.resolve())
    try:
        yield
    finally:
        if before is None:
            del os.environ["WANDB_DATA_DIR"]
