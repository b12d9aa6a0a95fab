"""Start and end of a command: Hydra composes, bad input is one line and exit code 2, a bug keeps its traceback."""

from __future__ import annotations

import errno
import os
import re
import sys
import textwrap
from collections.abc import Callable, Sequence
from typing import NoReturn

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hybrid_retrieval.config import config_directory
from hybrid_retrieval.errors import InputError, Terminated, exit_on_sigterm, nearest, outlive_readers, printable, without_secret
from hybrid_retrieval.progress import QUIET

MULTIRUN = {"-m", "--multirun"}
QUIETER = ("hydra.job_logging.handlers.console.level=WARNING", "hydra.hydra_logging.root.level=WARNING")
"""What --quiet says to Hydra: the files of a run have every line, the terminal warnings and errors."""
ELSEWHERE = re.compile("hydra/launcher=|-[cihs]|--(?!multirun)")
"""Arguments with which no job starts in this process."""
STORAGE_FAULTS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "it would be larger than a file may be",
    errno.EIO: "the disk fails",
    errno.EROFS: "the disk is read-only",
    errno.EACCES: "permission denied",
    errno.ENOTDIR: "a part of its path is no folder",
}

LONGEST = 900
"""Characters of an error's line."""


def hydra_command(task: Callable[[DictConfig], float | None], config_name: str) -> None:
    """Run `task` on the composed config, once or as a multirun, and exit as the contract says.

    What `task` returns is what a sweeper that searches (optuna) goes by.
    """
    full = os.environ.get("HYDRA_FULL_ERROR") == "1"
    outlive_readers()
    set_up_process()
    # Hydra's parser takes no overrides after a flag, and a trailing -m is what people type.
    arguments = sorted(quieted(sys.argv[1:]), key=lambda item: item not in MULTIRUN)
    # Any argument of Lightning's Trainer can be set, and few stand in conf/trainer: they are checked against its signature.
    sys.argv[1:] = [f"++{item}" if item.startswith("trainer.") else item for item in arguments]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises instead of printing and exiting with 1

    exit_on_sigterm()
    started = False

    def job(composed: DictConfig) -> float | None:
        nonlocal started
        started = True
        # A single job ends here; of a sweep's jobs the others go on, and the error comes out at the end.
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            return task(composed)
        if swept := HydraConfig.get().sweeper.get("params"):
            stop(f"{', '.join(f'{key}={value}' for key, value in swept.items())} is a sweep: add -m")
        if full:
            return task(composed)
        with_exit_code(lambda: task(composed), full)
        return None

    def start() -> None:
        for item in sys.argv[1:]:  # Hydra writes them to a file before anything is checked
            without_secret(*item.partition("=")[::2])
            if item.startswith("hydra.") and not item.isprintable():
                raise InputError(f"{item}: control characters, or bytes that are not UTF-8, cannot be part of a path")
        hydra.main(version_base="1.3", config_path=str(config_directory()), config_name=config_name)(job)()

    try:
        with_exit_code(start, full)
    except (HydraException, OmegaConfBaseException) as error:
        if full:
            raise
        stop(explain(error, config_name))
    except Exception as error:  # before any job: a choice or a directory that Hydra cannot make sense of
        if full or started:
            raise
        stop(f"the command line cannot be composed: {(str(error) or type(error).__name__).splitlines()[0]}")
    # Launchers but Hydra's own start jobs elsewhere.
    if not started and MULTIRUN & {*arguments} and not any(map(ELSEWHERE.match, arguments)):
        stop("the sweep has no job: a range, a choice or a glob on the command line is empty")


def quieted(arguments: Sequence[str]) -> list[str]:
    """The arguments without ``--quiet``; with it nothing but warnings and errors is printed from here on."""
    if "--quiet" not in arguments:
        return [*arguments]
    os.environ[QUIET] = "1"
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, sys.stdout.fileno())
    os.close(silent)
    return [item for item in arguments if item != "--quiet"] + [f"++{item}" for item in QUIETER]


def set_up_process() -> None:
    """Set what torch's threads need of the process, and of those that it starts; to be called before torch is imported.

    Threads that spin long while they wait are ruinous as soon as another process wants their core; some microseconds keep the
    speed of a machine that nobody else uses.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")


def asked_by_name(group: str) -> bool:
    """Whether the command line chooses of a config group, rather than taking its default."""
    return any(item.lstrip("+").startswith(f"{group}=") for item in HydraConfig.get().overrides.task)


def with_exit_code(action: Callable[[], object], full: bool = False) -> None:
    """Run `action`; bad input and a full disk end the process with one line and code 2 (`full`: with a traceback)."""
    try:
        action()
    except InputError as error:
        if full:
            raise
        stop(str(error))
    except OSError as error:
        if full or error.errno not in STORAGE_FAULTS:
            raise
        stop(f"{error.filename2 or error.filename or 'a file'} cannot be written: {STORAGE_FAULTS[error.errno]}")
    except (MemoryError, RuntimeError) as error:
        if full or not (isinstance(error, MemoryError) or re.search(r"can't allocate memory|out of memory", str(error))):
            raise
        stop(f"there is not enough memory: {textwrap.shorten(str(error), 200)}; choose smaller sizes or batches")
    except Exception as error:
        code = re.search(r"\(os error (\d+)\)", str(error))  # as libraries in Rust say it
        if full or not code or int(code[1]) not in STORAGE_FAULTS:
            raise
        stop(f"a file cannot be written: {STORAGE_FAULTS[int(code[1])]}")
    except KeyboardInterrupt:
        stop("interrupted", 130)
    except Terminated:
        stop("terminated", 143)


def stop(message: str, code: int = 2) -> NoReturn:
    """Print one line and end; the middle of what nobody would read is left out."""
    line = printable(message)
    print(f"error: {line if len(line) <= LONGEST else f'{line[: LONGEST - 300]} ... {line[-300:]}'}", file=sys.stderr)
    sys.exit(code)


def explain(error: Exception, config_name: str, given: Sequence[str] | None = None) -> str:
    """A composition error in one line, with the nearest right name.

    Args:
        given: the overrides; those of the command line by default.
    """
    given = sys.argv[1:] if given is None else given
    text = str(error) or str(error.__cause__)
    if found := re.search(r"Could not find '([\w/.@-]+)/([\w.-]+)'", text):
        options = re.findall(r"^\t(\S+)$", text, re.MULTILINE)
        return f"{found[1]}={found[2]} is unknown{nearest(found[2], options)}"
    if found := re.search(r"Could not load '([\w.-]+)/([\w.-]+)'", text):
        options = [path.stem for path in (config_directory() / found[1]).glob("*.yaml")]
        return f"{found[1]}={found[2]} is unknown{nearest(found[2], options)}"
    if found := re.search(r"Could not override '([\w/.@-]+)'", text):
        return f"unknown config key {found[1]}{_nearest_key(found[1], config_name, given)}"
    if found := re.search(r"Key '([^']+)' is not in struct\s+full_key: (\S+)", text):
        return f"unknown config key {found[2]}{_nearest_key(found[2], config_name, given)}"
    if found := re.search(r"(?:Missing mandatory value|MissingMandatoryValue)\W+(\S+)", text):
        return f"config key {found[1]} is missing"
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("See https")]
    return "; ".join(lines[:3])


def _nearest_key(key: str, config_name: str, given: Sequence[str]) -> str:
    """A suggestion for an unknown key from the config composed without the overrides of values."""
    groups = [item for item in given if re.fullmatch(r"[\w/]+=[\w-]+", item) and item.split("=")[0] != key]
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_dir(str(config_directory()), version_base="1.3"):
            try:
                composed = hydra.compose(config_name, groups)
            except (HydraException, OmegaConfBaseException):
                composed = hydra.compose(config_name)
    except (HydraException, OmegaConfBaseException):
        return ""
    parent, _, last = key.rpartition(".")
    node = OmegaConf.select(composed, parent) if parent else composed
    if not isinstance(node, DictConfig):
        return _nearest_key(parent, config_name, given) if parent else ""
    return nearest(last, [str(name) for name in node])
