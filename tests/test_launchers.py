"""Sweeps wherever they run: in this process, by joblib, by submitit, and with several devices a job."""

from __future__ import annotations

import importlib.util
import json
import subprocess
from pathlib import Path

import hydra
import pytest
import yaml
from hydra.utils import instantiate

from hybrid_retrieval.config import config_directory
from tests.conftest import SMALL, Command

SWEEP = [*SMALL, "sampler=x_x_mono,hybrid", "hydra.sweep.dir=sweep"]


def needs(plugin: str) -> pytest.MarkDecorator:
    """Skip where an extra is not installed."""
    return pytest.mark.skipif(importlib.util.find_spec(f"hydra_plugins.{plugin}") is None, reason=f"{plugin} is not installed")


def assert_swept(done: subprocess.CompletedProcess[str], sweep: Path) -> None:
    """Two jobs of different samplers, finished, scored and compared."""
    assert done.returncode == 0, done.stderr
    for number, sampler in enumerate(("x_x_mono", "hybrid")):
        config = yaml.safe_load((sweep / str(number) / "config.yaml").read_text())
        assert config["choices"]["sampler"] == sampler
        metrics = json.loads((sweep / str(number) / "metrics.json").read_text())
        assert metrics["train/steps"] == 12
        assert 0 < metrics["held_out/monolingual/map"] <= 1
    compared = (sweep / "comparison.md").read_text()
    assert "x_x_mono" in compared
    assert "hybrid" in compared


@needs("hydra_joblib_launcher")
@pytest.mark.slow
def test_joblib_runs_a_sweep_in_processes_of_its_own(command: Command, tmp_path: Path) -> None:
    done = command("run", "-m", *SWEEP, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    assert_swept(done, tmp_path / "sweep")


@needs("hydra_submitit_launcher")
@pytest.mark.slow
def test_submitit_runs_a_sweep_on_this_machine(command: Command, tmp_path: Path) -> None:
    done = command("run", "-m", *SWEEP, "hydra/launcher=submitit_local")
    assert_swept(done, tmp_path / "sweep")
    assert list((tmp_path / "sweep" / ".submitit").iterdir())


@needs("hydra_submitit_launcher")
def test_the_slurm_launcher_asks_for_a_card_for_each_process_of_a_job_and_queues_it_again() -> None:
    with hydra.initialize_config_dir(str(config_directory()), version_base="1.3"):
        composed = hydra.compose(
            "config", ["hydra/launcher=slurm", "trainer.devices=4", "hydra.sweep.dir=sweep"], return_hydra_config=True
        )
    launcher = instantiate(composed.hydra.launcher)
    assert type(launcher).__name__ == "SlurmLauncher"
    assert (launcher.params["gpus_per_node"], launcher.params["tasks_per_node"]) == (4, 1)
    assert launcher.params["max_num_timeout"] > 0


@pytest.mark.slow
def test_a_sweep_of_jobs_on_two_devices_each(command: Command, tmp_path: Path) -> None:
    """Each job's processes start from its resolved config. A replay of the command line would start sweeps within the sweep."""
    done = command("run", "-m", *SWEEP, "trainer=ddp", "trainer.devices=2", "trainer.log_every_n_steps=4")
    assert_swept(done, tmp_path / "sweep")
    assert done.stdout.count("run directory: ") == 2
    assert sorted(path.name for path in (tmp_path / "sweep").iterdir() if path.is_dir()) == ["0", "1"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sweep"]
    for number in ("0", "1"):
        run = tmp_path / "sweep" / number
        assert json.loads((run / "environment.json").read_text())["world_size"] == 2
        (file,) = run.rglob("metrics*.csv")  # by one rank only
        rows = [line.split(",") for line in file.read_text().splitlines()]
        step, loss = rows[0].index("step"), rows[0].index("train/loss")
        logged = [row[step] for row in rows[1:] if row[loss]]
        assert logged
        assert len(logged) == len(set(logged))
