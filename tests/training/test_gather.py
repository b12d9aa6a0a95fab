"""What ranks tell each other: rows end to end, and sums of gradients of every kind."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hybrid_retrieval.training.engine import BUCKET_BYTES, gather_rows, sum_gradients, world
from tests.training.ranks import Ranks

RANKS = 4
ROWS = [(3, 0, 2, 1), (0, 0, 1, 0), (2, 2, 2, 2), (0, 0, 0, 0)]

PARAMETERS: dict[str, tuple[list[int], list[str | None]]] = {
    "dense on all": ([5, 4], ["dense", "dense", "dense", "dense"]),
    "dense on one": ([3], [None, "dense", None, None]),
    "on none": ([2, 2], [None, None, None, None]),
    "a scalar": ([], ["dense", None, "dense", None]),
    "half precision": ([6], ["dense", "dense", None, None]),
    "double": ([70], ["dense", "dense", "dense", "dense"]),
    "not contiguous": ([4, 6], ["transposed", "dense", "transposed", None]),
    "rows on all": ([9, 4], ["rows", "rows", "rows", "rows"]),
    "rows on one": ([9, 4], [None, None, "rows", None]),
    "repeated rows": ([9, 2], ["repeated", "rows", "repeated", None]),
    "rows, but empty": ([9, 4], ["empty", None, "empty", None]),
    "rows on some": ([9, 4], ["empty", "rows", "empty", None]),
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


def exchange(rank: int) -> tuple[list[Tensor], list[dict[str, Tensor | None]]]:
    """What a rank gets of all rows, and of sums that travel in large and in small pieces."""
    assert world() == (rank, RANKS)
    gathered = [
        gather_rows(rows_of(rank, counts, dtype, width), counts)
        for counts in ROWS
        for dtype in (torch.float32, torch.int64)
        for width in (0, 3)
    ]
    summed = []
    for size in (BUCKET_BYTES, 50):
        mine = parameters(rank)
        sum_gradients(list(mine.values()), size)
        summed.append({name: value.grad for name, value in mine.items()})
    return gathered, summed


Outcome = tuple[list[Tensor], list[dict[str, Tensor | None]]]


@pytest.fixture(scope="module")
def outcomes(four_ranks: Ranks) -> list[Outcome]:
    """Rows and sums as each rank has them."""
    return four_ranks(exchange, [()] * RANKS)


def test_rows_lie_end_to_end(outcomes: list[Outcome]) -> None:
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
def test_gradients_are_summed(outcomes: list[Outcome], name: str) -> None:
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


def test_ranks_agree_to_the_bit(outcomes: list[Outcome]) -> None:
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
