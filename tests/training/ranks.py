"""Processes of a gloo group that do what they are told, kept for a whole session.

They are forks of one server, which takes its seconds to import torch once.
"""

from __future__ import annotations

import io
import os
import socket
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing.connection import Connection
from typing import Any

import torch
import torch.distributed as dist
from torch.multiprocessing import get_context

PATIENCE = timedelta(seconds=120)


class Ranks:
    """`count` processes with one thread each; a context manager."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __enter__(self) -> Ranks:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        context = get_context("forkserver")
        context.set_forkserver_preload(["torch", "tests.training.ragged"])
        pipes = [context.Pipe() for _ in range(self.count)]
        self._ends = [mine for mine, _ in pipes]
        self._processes = [
            context.Process(target=_serve, args=(theirs, port, rank, self.count), daemon=True)
            for rank, (_, theirs) in enumerate(pipes)
        ]
        for process in self._processes:
            process.start()
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.join()

    def __call__(self, work: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        """What ``work(rank, *its arguments)`` returns on each rank."""
        for end, given in zip(self._ends, arguments, strict=True):
            end.send_bytes(_packed((work, given)))
        outcomes = []
        for rank, end in enumerate(self._ends):
            assert end.poll(PATIENCE.total_seconds()), f"rank {rank} says nothing"
            outcomes.append(_unpacked(end.recv_bytes()))
        for failed, outcome in outcomes:
            assert not failed, outcome
        return [outcome for _, outcome in outcomes]


def _serve(end: Connection, port: int, rank: int, ranks: int) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks)}
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=ranks, timeout=PATIENCE)
    while True:
        work, given = _unpacked(end.recv_bytes())
        try:
            outcome = False, work(rank, *given)
        except Exception:
            outcome = True, traceback.format_exc()
        end.send_bytes(_packed(outcome))


@contextmanager
def counted(names: Sequence[str]) -> Iterator[list[tuple[str, int]]]:
    """The collectives of these names that are called, in order, with the elements that each sends."""
    calls: list[tuple[str, int]] = []
    originals = {name: getattr(dist, name) for name in names if hasattr(dist, name)}

    def counting(name: str, collective: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **settings: Any) -> Any:
            sent = arguments[1] if name.startswith("all_gather") and len(arguments) > 1 else next(iter(arguments), None)
            calls.append((name, sent.numel() if isinstance(sent, torch.Tensor) else 0))
            return collective(*arguments, **settings)

        return call

    for name, collective in originals.items():
        setattr(dist, name, counting(name, collective))
    try:
        yield calls
    finally:
        for name, collective in originals.items():
            setattr(dist, name, collective)


def _packed(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def _unpacked(content: bytes) -> Any:
    return torch.load(io.BytesIO(content), weights_only=False)
