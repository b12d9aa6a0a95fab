"""Sweeps that search: what a job returns, and what hydra/sweeper=optuna makes of it."""

from __future__ import annotations

import importlib.util
import json
from enum import Enum
from pathlib import Path

import pytest
import yaml

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.run import check_search
from tests.command_output import assert_one_line
from tests.conftest import SMALL, Command

optuna = pytest.mark.skipif(
    importlib.util.find_spec("hydra_plugins.hydra_optuna_sweeper") is None, reason="hydra-optuna-sweeper is not installed"
)
SEARCH = ["-m", *SMALL, "hydra/sweeper=optuna", "hydra.sweeper.n_trials=3", "hydra.sweeper.n_jobs=1", "hydra.sweep.dir=sweep"]


def test_a_search_for_the_worst_is_refused() -> None:
    direction = Enum("direction", "minimize maximize")
    assert not check_search({"max_batch_size": None}, "val/loss")
    for asked in (direction.minimize, "minimize"):
        assert check_search({"direction": asked}, "val/loss")
        with pytest.raises(InputError, match=r"monitor=val/multilingual/map needs hydra\.sweeper\.direction=maximize"):
            check_search({"direction": asked}, "val/multilingual/map")
    assert check_search({"direction": direction.maximize}, "val/multilingual/map")
    with pytest.raises(InputError, match=r"needs hydra\.sweeper\.direction=minimize"):
        check_search({"direction": direction.maximize}, "val/loss")


@optuna
@pytest.mark.slow
def test_optuna_finds_the_best_of_its_trials(command: Command, tmp_path: Path) -> None:
    done = command("run", *SEARCH, "optimizer.lr=tag(log,interval(1e-4,1e-1))", "hydra.sweeper.sampler.seed=1")
    assert done.returncode == 0, done.stderr
    trials = {}
    for number in range(3):
        run = tmp_path / "sweep" / str(number)
        metrics = json.loads((run / "metrics.json").read_text())
        trials[yaml.safe_load((run / "config.yaml").read_text())["optimizer"]["lr"]] = metrics["train/best_score"]
    assert len(set(trials.values())) == 3
    best = min(trials, key=lambda rate: trials[rate])
    found = yaml.safe_load((tmp_path / "sweep" / "optimization_results.yaml").read_text())
    assert found["best_value"] == trials[best]
    assert found["best_params"] == {"optimizer.lr": best}
    assert (tmp_path / "sweep" / "comparison.md").exists()


@optuna
@pytest.mark.slow
def test_optuna_is_told_in_one_line_what_it_cannot_go_by(command: Command) -> None:
    rate = "optimizer.lr=interval(0.001,0.1)"
    assert_one_line(command("run", *SEARCH, rate, "training.monitor=val/crosslingual/map"), "hydra.sweeper.direction=maximize")
    nothing = ("training.validation_batches=0", "training.validation_queries=0")
    assert_one_line(command("run", *SEARCH, rate, *nothing), "nothing was validated")
