"""Which of several machines this is, and where the first one is to be met."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

from hybrid_retrieval.errors import InputError

NODE = ("NODE_RANK", "GROUP_RANK", "SLURM_NODEID")
"""Variables that number a node, the first one that is set: a user's or torchrun's, torchrun's inside, Slurm's."""
PORTS = range(20_000, 30_000)
"""Where the nodes of a Slurm job meet: a function of its number, so that two jobs on one machine rarely clash."""


@dataclass(frozen=True)
class Rendezvous:
    """The number of this node, and the address and port of the first one."""

    node: int
    address: str
    port: int


def rendezvous(nodes: int, environment: Mapping[str, str] = os.environ) -> Rendezvous:
    """Where the processes of a run meet.

    Args:
        nodes: ``trainer.nodes``; one alone meets itself at a free port.

    Raises:
        InputError: several nodes, and the environment does not say which this is or where the first one is.
    """
    if nodes == 1:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            return Rendezvous(0, "127.0.0.1", int(free.getsockname()[1]))
    node = next((environment[name] for name in NODE if name in environment), None)
    listed = environment.get("SLURM_JOB_NODELIST")
    address = environment.get("MASTER_ADDR") or (SLURMEnvironment.resolve_root_node_address(listed) if listed else None)
    port = environment.get("MASTER_PORT") or _port_of_job(environment.get("SLURM_JOB_ID"))
    found = {"NODE_RANK": node, "MASTER_ADDR": address, "MASTER_PORT": port}
    missing = [name for name, value in found.items() if not value]
    if missing or node is None or address is None or port is None:
        raise InputError(
            f"trainer.nodes={nodes} needs {', '.join(missing)} in the environment of every node (Slurm and torchrun set them)"
        )
    for name, value in (("NODE_RANK", node), ("MASTER_PORT", port)):
        if not value.isdigit():
            raise InputError(f"{name}={value!r} in the environment is no number")
    if int(node) >= nodes:
        raise InputError(f"trainer.nodes={nodes}, but this is node {node}; expected 0..{nodes - 1}")
    return Rendezvous(int(node), address, int(port))


def _port_of_job(number: str | None) -> str | None:
    return str(PORTS[int(number) % len(PORTS)]) if number and number.isdigit() else None
