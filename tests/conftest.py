"""What all tests share: jobs as a user would start them, in a cache that is thrown away."""

from __future__ import annotations

import importlib
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import open_dict

from hybrid_retrieval.command import hydra_command
from hybrid_retrieval.config import JobConfig, config_directory, job_config
from tests.forks import Forks

os.environ.setdefault("GOMP_SPINCOUNT", "2000")
os.environ["OMP_NUM_THREADS"] = "1"  # as in the commands: sums over other numbers of threads have other last bits

SMALL = [
    "dataset=synthetic",
    "dataset.items=300",
    "dataset.concepts=200",
    "benchmark=held_out",
    "model.vocabulary=800",
    "sampler.batch_size=16",
    "trainer.max_steps=12",
    "trainer.val_check_interval=6",
    "training.validation_queries=20",
    "training.checkpoint_every=4",
    "trainer.log_every_n_steps=1",
    "trainer.enable_progress_bar=false",
    "trainer.accelerator=cpu",
]
"""A job that is over in a second."""

RUN_DIR = "/run_directory"
"""Stands for the run directory in the config of the fixture `job`."""

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for the whole session: what is built once is reused, as a user's is."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def job(cache: Path, tmp_path: Path) -> Callable[..., JobConfig]:
    """A small job's config with overrides, as Hydra would compose it for the run directory `RUN_DIR`."""

    def compose(*overrides: str) -> JobConfig:
        with hydra.initialize_config_dir(str(config_directory()), version_base="1.3"):
            settings = [*SMALL, f"paths.cache={cache}", f"paths.runs={tmp_path}/runs", *overrides]
            composed = hydra.compose("config", settings, return_hydra_config=True)
        with open_dict(composed):
            composed.hydra.runtime.output_dir = RUN_DIR
        HydraConfig.instance().set_config(composed)
        with open_dict(composed):
            del composed.hydra
        return job_config(composed)

    return compose


@pytest.fixture(scope="session")
def forks(cache: Path) -> Iterator[Forks]:
    """Runs commands with the environment of `command_environment`."""
    with Forks(lambda: command_environment(cache)) as started:
        yield started


@pytest.fixture
def command(cache: Path, tmp_path: Path, forks: Forks) -> Command:
    """Runs ``python -m hybrid_retrieval.NAME ARGUMENTS`` in a scratch folder, with more environment.

    In an interpreter of its own where that is asked something, as ``PYTHONPROFILEIMPORTTIME``.
    """

    def run(name: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        if not any(key.startswith("PYTHON") for key in environment):
            return forks.run(f"hybrid_retrieval.{name}", *arguments, folder=tmp_path, **environment)
        return subprocess.run(
            [sys.executable, "-m", f"hybrid_retrieval.{name}", *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
            env=command_environment(cache, **environment),
        )

    return run


@pytest.fixture
def in_process(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Command]:
    """The same in this process: for the many commands that end before any work."""
    for name in os.environ:
        if name.startswith(("HYBRID_RETRIEVAL_", "HYDRA_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HYBRID_RETRIEVAL_CACHE", str(cache))
    monkeypatch.setenv("HYDRA_FULL_ERROR", "")
    monkeypatch.chdir(tmp_path)
    handlers, level = list(logging.root.handlers), logging.root.level

    def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        monkeypatch.setenv("HYDRA_FULL_ERROR", "")
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        module = importlib.import_module(f"hybrid_retrieval.{name}")
        code = 0
        try:
            hydra_command(module.main, {"run": "config"}.get(name, name))
        except SystemExit as end:
            code = int(end.code or 0)
        finally:
            GlobalHydra.instance().clear()
        printed = capsys.readouterr()
        return subprocess.CompletedProcess([name, *arguments], code, printed.out, printed.err)

    yield run
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


def command_environment(cache: Path, **more: str) -> dict[str, str]:
    """The environment of a command: nothing of the tester's own settings."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HYBRID_RETRIEVAL_", "HYDRA_", "WANDB_"))}
    source = str(Path(__file__).parents[1])
    return kept | {"HYBRID_RETRIEVAL_CACHE": str(cache), "WANDB_MODE": "offline", "PYTHONPATH": source} | more
