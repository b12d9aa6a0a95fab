"""Several nodes: where they meet, and that two of them train to the weights of one."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.training.nodes import Rendezvous, rendezvous
from tests.conftest import SMALL, Command, command_environment

TORCHRUN = {"GROUP_RANK": "1", "MASTER_ADDR": "first", "MASTER_PORT": "29500"}
SLURM = {"SLURM_NODEID": "2", "SLURM_JOB_NODELIST": "gpu[007-009,11]", "SLURM_JOB_ID": "10000123"}


def test_one_node_meets_itself_whatever_the_environment_says() -> None:
    found = rendezvous(1, TORCHRUN)
    assert (found.node, found.address) == (0, "127.0.0.1")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        (TORCHRUN, Rendezvous(1, "first", 29500)),
        (TORCHRUN | {"NODE_RANK": "0"}, Rendezvous(0, "first", 29500)),
        (SLURM, Rendezvous(2, "gpu007", 20123)),
        (SLURM | {"MASTER_ADDR": "other", "MASTER_PORT": "77"}, Rendezvous(2, "other", 77)),
    ],
)
def test_nodes_meet_where_the_environment_says(environment: dict[str, str], expected: Rendezvous) -> None:
    assert rendezvous(3, environment) == expected


@pytest.mark.parametrize(
    ("environment", "part"),
    [
        ({}, "NODE_RANK, MASTER_ADDR, MASTER_PORT"),
        ({"NODE_RANK": "1", "MASTER_ADDR": "first"}, "needs MASTER_PORT"),
        (TORCHRUN | {"NODE_RANK": "2"}, "this is node 2"),
        (TORCHRUN | {"MASTER_PORT": "http"}, "MASTER_PORT='http'"),
    ],
)
def test_an_environment_that_does_not_say_is_refused(environment: dict[str, str], part: str) -> None:
    with pytest.raises(InputError, match=part):
        rendezvous(2, environment)


def test_two_nodes_train_to_the_weights_of_one_and_only_the_first_writes(command: Command, cache: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    settings = [*SMALL, "resume=auto", "trainer.checkpoint_every=3"]
    assert command("run", *settings, "hydra.run.dir=one").returncode == 0

    def both(*more: str) -> None:
        nodes = [
            subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "hybrid_retrieval.run",
                    *settings,
                    "trainer.nodes=2",
                    f"hydra.run.dir=node{node}",
                    *more,
                ],
                cwd=tmp_path,
                env=command_environment(cache, NODE_RANK=str(node), MASTER_ADDR="127.0.0.1", MASTER_PORT=port),
                stderr=subprocess.PIPE,
                text=True,
            )
            for node in range(2)
        ]
        for node in nodes:
            errors = node.communicate(timeout=200)[1]
            assert node.returncode == 0, errors

    both()
    assert {path.name for path in (tmp_path / "node1").iterdir()} <= {"run.log", ".hydra"}
    assert json.loads((tmp_path / "node0" / "environment.json").read_text())["world_size"] == 2
    one, two = (
        torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for name in ("one", "node0")
    )
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, atol=2e-4, rtol=1e-3)
    # An unfinished run goes on, though the second node holds nothing to go on from.
    (tmp_path / "node0" / "metrics.json").unlink()
    both()
    assert json.loads((tmp_path / "node0" / "environment.json").read_text())["start_step"] == 12
