"""Ways to start many devices: where they meet, and that all of them come to the same weights in one run directory."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.training.ranks import joined_ranks, meeting_point, this_node
from tests.command_output import assert_one_line
from tests.conftest import SMALL, Command, command_environment
from tests.forks import Forks
from tests.training.runs import STATIC, assert_close_weights, assert_equal, environment, finish, start, weights

SLURM = {"SLURM_NODEID": "2", "SLURM_JOB_NODELIST": "gpu[007-009,11]", "SLURM_JOB_ID": "10000123"}
TASKS = {**SLURM, "SLURM_NTASKS": "8", "SLURM_PROCID": "5", "SLURM_LOCALID": "1"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"MASTER_ADDR": "first", "MASTER_PORT": "29500"}, ("first", "29500")),
        (SLURM, ("gpu007", "20123")),
        (SLURM | {"MASTER_ADDR": "other", "MASTER_PORT": "77"}, ("other", "77")),
    ],
)
def test_nodes_meet_where_the_environment_says(given: dict[str, str], expected: tuple[str, str]) -> None:
    assert meeting_point(given) == expected


@pytest.mark.parametrize(
    ("given", "part"),
    [
        ({}, "need MASTER_ADDR"),
        ({"MASTER_ADDR": "first"}, "need MASTER_PORT"),
        ({"MASTER_ADDR": "first", "MASTER_PORT": "http"}, "MASTER_PORT='http'"),
    ],
)
def test_an_environment_that_does_not_say_where_is_refused(given: dict[str, str], part: str) -> None:
    with pytest.raises(InputError, match=part):
        meeting_point(given)


def test_a_node_knows_its_number() -> None:
    assert this_node(1, SLURM) == 0
    assert this_node(3, SLURM) == 2
    assert this_node(3, SLURM | {"NODE_RANK": "1"}) == 1
    for given in ({}, {"NODE_RANK": "3"}, {"NODE_RANK": "first"}):
        with pytest.raises(InputError, match="num_nodes=3 needs NODE_RANK"):
            this_node(3, given)


def test_a_process_is_a_rank_where_torchrun_or_slurm_made_it_one() -> None:
    assert joined_ranks(2, 1, {}) is None
    assert joined_ranks(2, 1, {"TORCHELASTIC_RUN_ID": "x"}) == {}
    found = joined_ranks(2, 4, TASKS)
    assert found is not None
    assert {name: found[name] for name in ("RANK", "LOCAL_RANK", "GROUP_RANK", "WORLD_SIZE")} == {
        "RANK": "5",
        "LOCAL_RANK": "1",
        "GROUP_RANK": "2",
        "WORLD_SIZE": "8",
    }
    # One task a node, or a job alone in an allocation: this process starts its ranks by itself.
    assert joined_ranks(8, 4, TASKS) is None
    assert joined_ranks(1, 1, TASKS | {"SLURM_NTASKS": "1"}) is None


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


JOB = [*SMALL, *STATIC, "callbacks=[best,ema]", "trainer.accumulate_grad_batches=2"]


def one_command(cache: Path, folder: Path, *arguments: str) -> None:
    process = start(cache, folder, *JOB, "trainer.devices=2", *arguments)
    code, errors = finish(process)
    assert code == 0, errors


def sweep(cache: Path, folder: Path, *arguments: str) -> None:
    """The same under ``-m``: a job's ranks start from its resolved config, and not the sweep anew."""
    one_command(cache, folder, "-m", "hydra.sweep.dir=runs/sweep", *arguments)


def torchrun(cache: Path, folder: Path, *arguments: str) -> None:
    launcher = ["torch.distributed.run", "--nproc-per-node=2", "-m", "hybrid_retrieval.run"]
    done = subprocess.run(
        [sys.executable, "-m", *launcher, *JOB, *arguments],
        cwd=folder,
        env=command_environment(cache, PET_MASTER_PORT=free_port()),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("run directory: ") == 1


def slurm(cache: Path, folder: Path, *arguments: str) -> None:
    """One task a device."""
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "SLURM_JOB_ID": "7", "SLURM_NTASKS": "2"}
    tasks = [
        start(
            cache,
            folder,
            *(*JOB, "trainer.devices=2", *arguments),
            **{**meeting, "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank), "SLURM_NODEID": "0"},
        )
        for rank in range(2)
    ]
    for task in tasks:
        code, errors = finish(task)
        assert code == 0, errors


def two_nodes(cache: Path, folder: Path, *arguments: str) -> None:
    """One command a machine, here twice on this one."""
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    nodes = [start(cache, folder, *JOB, "trainer.num_nodes=2", *arguments, **meeting, NODE_RANK=str(node)) for node in range(2)]
    for node in nodes:
        code, errors = finish(node)
        assert code == 0, errors


@pytest.fixture(scope="module")
def alone(forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run on one device, and then what the first way on two came to."""
    folder = tmp_path_factory.mktemp("ways")
    done = forks.run("hybrid_retrieval.run", *JOB, "hydra.run.dir=alone", folder=folder)
    assert done.returncode == 0, done.stderr
    return folder / "alone"


@pytest.mark.slow
@pytest.mark.parametrize("way", [torchrun, sweep, slurm, one_command, two_nodes])
def test_two_processes_come_to_the_same_weights_in_one_run_directory(
    cache: Path, tmp_path: Path, alone: Path, way: Callable[..., None]
) -> None:
    """Laws 1 and 4; where the processes have a run directory of their own each, by the clock, the first one's is the run's."""
    way(cache, tmp_path)
    (run,) = {path.parent for path in tmp_path.rglob("environment.json")}
    assert {path.name for path in tmp_path.iterdir()} == {"runs"}
    assert len(list(run.parent.glob("*/"))) == 1
    assert environment(run)["world_size"] == 2
    assert_close_weights(alone, run)
    assert_close_weights(alone, run, "best")
    assert (run / "batch_manifest.parquet").read_bytes() == (alone / "batch_manifest.parquet").read_bytes()
    first = alone.parent / "weights.pt"
    if first.exists():  # to the bit, however two processes were started
        assert_equal(weights(run), torch.load(first))
    else:
        torch.save(weights(run), first)


@pytest.mark.slow
def test_an_unfinished_run_on_two_nodes_goes_on_though_the_second_holds_nothing(
    command: Command, cache: Path, tmp_path: Path
) -> None:
    settings = ["resume=auto", "training.checkpoint_every=3", "hydra.run.dir=${oc.env:NODE_RANK}"]
    two_nodes(cache, tmp_path, *settings)
    assert {path.name for path in (tmp_path / "1").glob("*")} <= {"run.log", ".hydra"}
    (tmp_path / "0" / "metrics.json").unlink()
    two_nodes(cache, tmp_path, *settings)
    assert environment(tmp_path / "0")["start_step"] == 12


def test_a_number_of_processes_that_the_config_does_not_ask_for_is_refused(
    in_process: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    monkeypatch.setenv("WORLD_SIZE", "2")
    refused = in_process("run", *JOB, "trainer.devices=3", "sampler.batch_size=12")
    assert_one_line(refused, "trainer.devices=3 x trainer.num_nodes=1, but 2 processes were started")
