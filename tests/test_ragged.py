"""A `Ragged` does what a list of lists does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hybrid_retrieval.ragged import Ragged, spans


def lists(seed: int, rows: int) -> list[list[int]]:
    random = np.random.default_rng(seed)
    return [random.integers(0, 1000, random.integers(0, 5)).tolist() for _ in range(rows)]


@pytest.mark.parametrize("rows", [0, 1, 7, 50])
def test_rows_lengths_and_positions(rows: int) -> None:
    expected = lists(rows, rows)
    ragged = Ragged.from_lists(expected, np.uint16)
    assert ragged.values.dtype == np.uint16
    assert ragged.tolist() == [ragged[row].tolist() for row in range(len(ragged))] == expected
    assert ragged.lengths.tolist() == [len(row) for row in expected]
    assert ragged.rows().tolist() == [number for number, row in enumerate(expected) for _ in row]
    assert ragged.positions().tolist() == [place for row in expected for place in range(len(row))]
    again = Ragged.of(ragged.values, ragged.lengths)
    assert again.tolist() == expected


def test_rows_are_gathered_in_any_order_and_more_than_once(tmp_path: Path) -> None:
    expected = lists(1, 20)
    whole = Ragged.from_lists(expected)
    np.save(tmp_path / "values.npy", whole.values)
    stored = Ragged(np.load(tmp_path / "values.npy", mmap_mode="r"), whole.offsets)
    for wanted in ([], [3], [19, 0, 7, 7, 2]):
        rows = np.array(wanted, np.int64)
        assert stored.gather(rows).tolist() == [expected[row] for row in wanted]
        assert stored.lengths_of(rows).tolist() == [len(expected[row]) for row in wanted]


def test_parts_are_joined() -> None:
    parts = [lists(2, 4), [], lists(3, 5)]
    assert Ragged.join([Ragged.from_lists(part) for part in parts]).tolist() == parts[0] + parts[2]


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_parts_are_merged_by_the_numbers_of_their_rows(parts: int) -> None:
    expected = lists(4, 30)
    part_of = np.random.default_rng(5).integers(0, parts, len(expected))
    numbers = [np.random.default_rng(part).permutation(np.flatnonzero(part_of == part)) for part in range(parts)]
    found = Ragged.merge(numbers, [Ragged.from_lists([expected[row] for row in rows]) for rows in numbers])
    assert found.tolist() == expected


def test_spans_are_runs_of_numbers_end_to_end() -> None:
    assert spans(np.array([5, 3, 0]), np.array([2, 0, 3])).tolist() == [5, 6, 0, 1, 2]
    assert spans(np.empty(0, np.int64), np.empty(0, np.int64)).tolist() == []
