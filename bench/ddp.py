"""GradCache on two gloo processes, a global batch of 256, negatives of both; beside sentence-transformers under DDP.

The peer: its cached loss with ``gather_across_devices=True`` over DistributedDataParallel. Each process has one thread on
either side; both sides run in the same two processes, in turn, and the slower process's time counts.
"""

from __future__ import annotations

import json
import os
import socket
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from bench.row import Row, Timings, interleaved
from bench.side_by_side import batches, check_agreement, rates
from bench.texts import SMALL, model_directory, texts

RANKS, SIZE, ROUNDS = 2, 256, 3
MINI_BATCH = {"mini_batch_size": 32}


def ddp_gradcache() -> Row:
    model_directory(shape=SMALL), texts()
    with socket.socket() as free, tempfile.TemporaryDirectory() as folder:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        spawn(_rank, (port, folder, SIZE, ROUNDS), nprocs=RANKS)
        record = json.loads((Path(folder) / "record.json").read_text())
    mine, theirs = Timings(record["ours"]), Timings(record["peer"])
    details = {"ours": mine.details(), "peer": theirs.details(), "peer_settings": MINI_BATCH, "text": texts().origin}
    details["loss_without_dropout"] = record["agreement"]
    return Row("ddp_gradcache", "pairs/s", *rates(SIZE, mine, theirs), 2.5, less_is_better=False, details=details)


def _rank(rank: int, port: int, folder: str, size: int, rounds: int) -> None:
    """One of the processes."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": str(RANKS)}
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // RANKS))
    from bench.engine import Ours
    from bench.peer import Peer

    text, directory, share = texts(), model_directory(shape=SMALL), size // RANKS
    # Before there is a group: each rank alone, on the same pairs.
    agreement = check_agreement(Ours(directory, text, cached=True), Peer(directory, text, cached=MINI_BATCH), range(16))
    dist.init_process_group("gloo", rank=rank, world_size=RANKS)
    try:
        sides = Ours(directory, text, cached=True), Peer(directory, text, cached=MINI_BATCH, ranks=RANKS)
        orders = batches(text, size), batches(text, size)

        def ours() -> None:
            sides[0].step(next(orders[0]))
            dist.barrier()

        def peer() -> None:
            sides[1].step(next(orders[1])[rank * share : (rank + 1) * share])
            dist.barrier()

        mine, theirs = interleaved(ours, peer, rounds)
        if rank == 0:
            record = {"ours": list(mine.seconds), "peer": list(theirs.seconds), "agreement": agreement}
            (Path(folder) / "record.json").write_text(json.dumps(record))
    finally:
        dist.destroy_process_group()
