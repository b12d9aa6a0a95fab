"""The ranks of a run: how they are started, or find that torchrun or Slurm has started them, how they meet, and how they end.

They are started from the resolved config: Lightning's launcher replays the command line, which under ``--multirun`` starts the
sweep anew (Hydra issue 2070). They end with the process that started them.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.queues import SimpleQueue
from typing import Any

import torch
import torch.distributed as dist
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from torch.multiprocessing import get_context
from torch.multiprocessing.spawn import ProcessContext, ProcessExitedException, spawn

from hybrid_retrieval.errors import InputError, Terminated, end_with_parent, exit_on_sigterm

GRACE_SECONDS, GRACE_AFTER_FAULT = 30.0, 8.0
"""Time that ranks have to leave after the first one has, on SIGTERM and otherwise; twice that if they ignore it."""
PORTS = range(20_000, 30_000)
"""Ports of Slurm jobs: a function of the job's number, so that two jobs on one machine rarely clash."""


def joined_ranks(devices: int, nodes: int, environment: Mapping[str, str] = os.environ) -> dict[str, str] | None:
    """The variables that make this process one rank of a run, in torchrun's names; None where it is to start ranks.

    torchrun sets them; Slurm with one task a device says the same in its own words.
    """
    if "TORCHELASTIC_RUN_ID" in environment:
        return {}
    tasks = environment.get("SLURM_NTASKS")
    if devices * nodes > 1 and tasks == str(devices * nodes) and "SLURM_PROCID" in environment:
        address, port = meeting_point(environment)
        return {
            "RANK": environment["SLURM_PROCID"],
            "LOCAL_RANK": environment["SLURM_LOCALID"],
            "GROUP_RANK": environment["SLURM_NODEID"],
            "WORLD_SIZE": str(devices * nodes),
            "MASTER_ADDR": address,
            "MASTER_PORT": port,
        }
    return None


def meeting_point(environment: Mapping[str, str]) -> tuple[str, str]:
    """Address and port of rank 0, from the user's variables or Slurm's.

    Raises:
        InputError: the environment does not say.
    """
    listed, job = environment.get("SLURM_JOB_NODELIST"), environment.get("SLURM_JOB_ID", "")
    address = environment.get("MASTER_ADDR") or (SLURMEnvironment.resolve_root_node_address(listed) if listed else None)
    port = environment.get("MASTER_PORT") or (str(PORTS[int(job) % len(PORTS)]) if job.isdigit() else None)
    for name, value in (("MASTER_ADDR", address), ("MASTER_PORT", port)):
        if not value:
            raise InputError(f"several nodes need {name} in the environment of each (Slurm and torchrun set it)")
    assert address is not None
    assert port is not None
    if not port.isdigit():
        raise InputError(f"MASTER_PORT={port!r} in the environment is no number")
    return address, port


def this_node(nodes: int, environment: Mapping[str, str] = os.environ) -> int:
    """The number of this node among several, as the user or Slurm (one task a node) gives it."""
    if nodes == 1:
        return 0
    number = environment.get("NODE_RANK") or environment.get("SLURM_NODEID")
    if number is None or not number.isdigit() or int(number) >= nodes:
        raise InputError(
            f"trainer.num_nodes={nodes} needs NODE_RANK in the environment of every node, 0..{nodes - 1}; it is {number}"
        )
    return int(number)


def start_ranks(run: Callable[..., object], arguments: tuple[Any, ...], devices: int, nodes: int) -> None:
    """Call ``run(*arguments)`` in one process for each device of this node; signals are passed on, and no rank outlives it.

    Raises:
        Terminated: a signal ended them.
        InputError: a rank found bad input.
    """
    node = this_node(nodes)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address, port = meeting_point(os.environ) if nodes > 1 else ("127.0.0.1", str(free.getsockname()[1]))
    ranks: ProcessContext | None = None
    messages = get_context("spawn").SimpleQueue()
    asked = 0

    def terminate() -> None:
        for process in ranks.processes if ranks else []:
            process.terminate()

    def pass_on(sent: int, _: object) -> None:
        nonlocal asked
        if asked == sent == signal.SIGINT:
            raise KeyboardInterrupt
        asked = sent
        terminate()

    before = {sent: signal.getsignal(sent) for sent in (signal.SIGTERM, signal.SIGINT)}
    for sent, handler in before.items():
        if handler != signal.SIG_IGN:
            signal.signal(sent, pass_on)
    try:
        given = {"WORLD_SIZE": str(devices * nodes), "GROUP_RANK": str(node), "MASTER_ADDR": address, "MASTER_PORT": port}
        ranks = spawn(_spawned, (run, arguments, devices, given, messages), devices, join=False)  # type: ignore[no-untyped-call]
        if asked:  # while they were started
            terminate()
        while not ranks.join(timeout=1.0, grace_period=GRACE_SECONDS if asked else GRACE_AFTER_FAULT):
            pass
        if asked:  # when their last step was done
            raise Terminated(asked)
    except ProcessExitedException as end:
        if asked or end.exit_code == Terminated().code:
            raise Terminated(asked or signal.SIGTERM) from end
        if not messages.empty():
            raise InputError(messages.get()) from end
        if end.exit_code < 0:
            raise InputError(
                f"trainer.devices={devices}: a process of the run was killed by {signal.Signals(-end.exit_code).name}, out of "
                "memory? resume=auto goes on from the last checkpoint"
            ) from end
        raise
    finally:
        for sent, handler in before.items():
            signal.signal(sent, handler)
        for process in ranks.processes if ranks else []:
            process.kill()
            process.join()


def _spawned(
    local_rank: int,
    run: Callable[..., object],
    arguments: tuple[Any, ...],
    devices: int,
    given: dict[str, str],
    messages: SimpleQueue[str],
) -> None:
    exit_on_sigterm()
    end_with_parent()
    rank = int(given["GROUP_RANK"]) * devices + local_rank
    os.environ |= given | {"LOCAL_RANK": str(local_rank), "RANK": str(rank)}
    try:
        run(*arguments)
    except InputError as error:
        messages.put(str(error))
        sys.exit(2)


def join_group(devices: int | Sequence[int], accelerator: str) -> int:
    """Enter the process group of a run's ranks, by the variables of the environment; the number of this one."""
    numbers = range(devices) if isinstance(devices, int) else devices
    cuda = torch.cuda.is_available() and accelerator != "cpu"
    if cuda:
        torch.cuda.set_device(numbers[int(os.environ["LOCAL_RANK"])])
    else:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // len(numbers)))
    dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo")
    return dist.get_rank()


def leave_group() -> None:
    """Leave the process group together, once all are trained; nothing in a process alone."""
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()
        # A gloo thread that still drops its last work needs the interpreter's lock, which the main thread holds when it joins
        # that thread at exit: leave it the time.
        time.sleep(0.5)


def agreed(value: Any) -> Any:
    """The value of rank 0: what it settled, its run directory, where it resumes from. A collective operation."""
    told = [value]
    dist.broadcast_object_list(told, 0)
    return told[0]
