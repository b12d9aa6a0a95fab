"""What ranks tell each other: rows end to end, and sums of gradients of every kind."""

from __future__ import annotations

import os
import socket
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from hybrid_retrieval.training.gather import gather_rows, sum_gradients, world
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from hybrid_retrieval.training import gather

RANKS = 3
ROWS = [(3, 0, 2), (0, 0, 1), (2, 2, 2), (0, 0, 0)]
PATIENCE = timedelta(seconds=120)

PARAMETERS: dict[str, tuple[list[int], list[str | None]]] = {
    "dense on all": ([5, 4], ["dense", "dense", "dense"]),
    "dense on one": ([3], [None, "dense", None]),
    "on none": ([2, 2], [None, None, None]),
    "a scalar": ([], ["dense", None, "dense"]),
    "half precision": ([6], ["dense", "dense", None]),
    "double": ([70], ["dense", "dense", "dense"]),
    "not contiguous": ([4, 6], ["transposed", "dense", "transposed"]),
    "rows on all": ([9, 4], ["rows", "rows", "rows"]),
    "rows on one": ([9, 4], [None, None, "rows"]),
    "repeated rows": ([9, 2], ["repeated", "rows", "repeated"]),
    "rows, but empty": ([9, 4], ["empty", None, "empty"]),
    "rows on some": ([9, 4], ["empty", "rows", "empty"]),
}
"""Name: shape, and the kind of gradient that each rank has."""
DTYPES = {"half precision": torch.bfloat16, "double": torch.float64}


def rows_of(rank: int, counts: tuple[int, ...], dtype: torch.dtype, width: int) -> Tensor:
    """A rank's own rows, all different."""
    values = torch.arange(counts[rank] * max(width, 1)) + 100 * rank
    return (values.view(-1, width) if width else values).to(dtype)


def gradient(name: str, rank: int) -> Tensor | None:
    """The gradient of a parameter on a rank."""
    shape, kinds = PARAMETERS[name]
    generator = torch.Generator().manual_seed(1000 * rank + list(PARAMETERS).index(name))
    dtype = DTYPES.get(name, torch.float32)
    match kinds[rank]:
        case None:
            return None
        case "dense":
            return torch.randn(shape, generator=generator).to(dtype)
        case "transposed":
            return torch.randn(shape[::-1], generator=generator).to(dtype).T
        case kind:
            places = {"rows": [7, 2, rank], "repeated": [4, 4, 0, 4], "empty": []}[kind]
            values = torch.randn(len(places), *shape[1:], generator=generator)
            found = torch.sparse_coo_tensor(torch.tensor([places], dtype=torch.long), values, shape, check_invariants=True)
            return found.coalesce() if kind == "empty" else found


def parameters(rank: int) -> dict[str, Tensor]:
    """Every kind of parameter with a rank's gradients."""
    found = {}
    for name, (shape, _) in PARAMETERS.items():
        found[name] = torch.zeros(shape, dtype=DTYPES.get(name, torch.float32), requires_grad=True)
        found[name].grad = gradient(name, rank)
    return found


def one_rank(rank: int, port: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=RANKS, timeout=PATIENCE)
    assert world() == (rank, RANKS)
    gathered = [
        gather_rows(rows_of(rank, counts, dtype, width), counts)
        for counts in ROWS
        for dtype in (torch.float32, torch.int64)
        for width in (0, 3)
    ]
    summed = []
    for size in (gather.BUCKET_BYTES, 50):
        gather.BUCKET_BYTES = size
        mine = parameters(rank)
        sum_gradients(list(mine.values()))
        summed.append({name: value.grad for name, value in mine.items()})
    torch.save((gathered, summed), folder / f"{rank}.pt")
    dist.barrier()
    os._exit(0)  # see test_law_4


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[list[Tensor], list[dict[str, Tensor | None]]]]:
    """Rows and sums as each rank has them."""
    folder = tmp_path_factory.mktemp("gathered")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spawn(one_rank, (port, folder), nprocs=RANKS)  # type: ignore[no-untyped-call]
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(RANKS)]


def test_rows_lie_end_to_end(outcomes: list[tuple[list[Tensor], object]]) -> None:
    wanted = [
        torch.cat([rows_of(rank, counts, dtype, width) for rank in range(RANKS)])
        for counts in ROWS
        for dtype in (torch.float32, torch.int64)
        for width in (0, 3)
    ]
    for gathered, _ in outcomes:
        for found, expected in zip(gathered, wanted, strict=True):
            assert found.dtype == expected.dtype
            assert torch.equal(found, expected)


@pytest.mark.parametrize("name", PARAMETERS)
def test_gradients_are_summed(outcomes: list[tuple[object, list[dict[str, Tensor | None]]]], name: str) -> None:
    every = [found for rank in range(RANKS) if (found := gradient(name, rank)) is not None]
    for _, passes in outcomes:
        for found in (summed[name] for summed in passes):
            if not every:
                assert found is None
                continue
            assert found is not None
            assert found.is_sparse == every[0].is_sparse
            expected = torch.stack([one.to_dense() for one in every]).sum(0)
            torch.testing.assert_close(found.to_dense(), expected)
            if found.is_sparse:
                assert found.is_coalesced()
                touched = {row for one in every for row in one.coalesce().indices()[0].tolist()}
                assert set(found.indices()[0].tolist()) == touched


def test_ranks_agree_to_the_bit(outcomes: list[tuple[object, list[dict[str, Tensor | None]]]]) -> None:
    """Weights would drift apart otherwise."""
    for _, passes in outcomes[1:]:
        for name, value in passes[0].items():
            first = outcomes[0][1][0][name]
            assert (value is None and first is None) or torch.equal(value.to_dense(), first.to_dense())  # type: ignore[union-attr]


def test_one_rank_alone_says_nothing() -> None:
    assert world() == (0, 1)
    mine = parameters(0)
    before = {name: value.grad for name, value in mine.items()}
    sum_gradients(list(mine.values()))
    assert all(value.grad is before[name] for name, value in mine.items())
    rows = rows_of(0, (4,), torch.float32, 3)
    assert torch.equal(gather_rows(rows, [4]), rows)
