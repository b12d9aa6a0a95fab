"""Ranges of edges and the replacement of repeated items, against loops."""

import numpy as np
import pytest

from hybrid_retrieval.sampling.availability import Cells
from hybrid_retrieval.sampling.batch import Draws, distinct
from hybrid_retrieval.sampling.hybrid import HybridWithinBatch
from hybrid_retrieval.sampling.sampler import XY

from .brute_force import build, full, ragged


def uneven(seed):
    """Cells with ranges of a few and of many thousand edges side by side, so that the guide to the search is coarse."""
    rng = np.random.default_rng(seed)
    languages = ["en", "de", "th"]
    rows = [(languages, languages, 3000)]
    for _ in range(30):
        some = [rng.choice(languages, size=rng.integers(1, 4), replace=False).tolist() for _ in range(2)]
        rows.append((*some, int(rng.choice([1, 1, 2, 500]))))
    return build((languages, rows, 1.0, 3), (languages, rows[::-1], 2.0, 0))


def edges_of(cell):
    return np.concatenate([np.arange(*bounds) for bounds in zip(cell.starts, cell.stops, strict=True)])


@pytest.mark.parametrize("make", [ragged, uneven])
@pytest.mark.parametrize("same", [True, False])
def test_edges_of_a_mixture_of_cells_are_those_of_each(make, same):
    members = make(2).available.cells(same_language=same)
    cells = Cells(members)
    expected = [edges_of(cell) for cell in members]
    for index, cell in enumerate(members):
        assert np.array_equal(cells.edges(np.full(cell.size, index), np.arange(cell.size)), expected[index])
    which = np.random.default_rng(0).integers(0, len(members), 5000)
    places = np.random.default_rng(1).integers(0, cells.sizes[which])
    one_by_one = [int(expected[cell][place]) for cell, place in zip(which, places, strict=True)]
    assert cells.edges(which, places).tolist() == one_by_one


@pytest.mark.parametrize("seed", range(4))
def test_distinct_items_are_counted_as_a_set_counts_them(seed):
    truth = ragged(seed)
    for same in (True, False):
        members = truth.available.cells(same_language=same)
        items = {(cell.set_index, edge) for cell in members for edge in edges_of(cell).tolist()}
        assert Cells(members).distinct_items == len(items)


@pytest.mark.parametrize("count", [3, 40, 150])
@pytest.mark.parametrize("shares", [(1.0, 0.0), (0.5, 0.5), (0.1, 0.9)])
def test_only_repeated_items_are_replaced_and_within_their_cell(count, shares):
    """Draws with repeats in each part and between the parts."""
    rng = np.random.default_rng(count)
    truth = ragged(1)
    parts = []
    for same, share in zip((True, False), shares, strict=True):
        cells = Cells(truth.available.cells(same_language=same))
        which = rng.integers(0, len(cells.sizes), round(share * count))
        parts.append(Draws(cells, which, cells.edges(which, rng.integers(0, cells.sizes[which]))))
    batch = distinct(parts, 1, 2)
    drawn = [
        (*part.cells.names[:, cell].tolist(), edge)
        for part in parts
        for cell, edge in zip(part.cell, part.edge.tolist(), strict=True)
    ]
    columns = (batch.set_index, batch.query_language, batch.passage_language, batch.edge)
    found = list(zip(*(column.tolist() for column in columns), strict=True))
    items = [(row[0], row[3]) for row in found]
    assert len(set(items)) == len(items)
    seen = set()
    for row, new in zip(drawn, found, strict=True):
        assert truth.exists(new[0], new[3], new[1], new[2])
        assert (row[1] == row[2]) == (new[1] == new[2])
        if (row[0], row[3]) not in seen:
            assert new == row
            seen.add((row[0], row[3]))
        elif new[:3] != row[:3]:  # only where its cell has nothing left
            assert all((row[0], edge) in set(items) for edge in truth.cell(*row[:3]))


def test_replacements_are_spread_over_the_cell():
    truth = build(full(["en", "de"], 1000))
    cells = Cells(truth.available.cells(same_language=False))
    counts = np.zeros(1000)
    for key in range(4000):
        draws = Draws(cells, np.zeros(5, np.int64), np.full(5, 7))
        counts[distinct([draws], key).edge] += 1
    assert counts[7] == 4000
    others = np.delete(counts, 7)
    assert others.sum() == 4000 * 4
    assert abs(others - 16).max() < 6 * 4


@pytest.mark.parametrize("sampler", [XY(300), HybridWithinBatch(300)])
def test_a_batch_of_nearly_all_items_keeps_its_language_pairs(sampler):
    """Most of what is drawn repeats an item; only the last few leave their cells."""
    composer = sampler.compose(build(full(["en", "de", "th"], 310)).available, seed=1)
    for step in range(5):
        batch = composer.batch(step)
        assert len(np.unique(batch.edge)) == 300
        pairs = batch.query_language * 3 + batch.passage_language
        for kind in (batch.query_language == batch.passage_language, batch.query_language != batch.passage_language):
            counts = np.unique(pairs[kind], return_counts=True)[1]
            assert counts.size == 0 or np.ptp(counts) <= 1
