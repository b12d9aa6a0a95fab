"""The manifest says what was drawn, by brute force over the batches."""

from collections import Counter

import pyarrow.parquet as pq
import pytest

from hybrid_retrieval.sampling.hybrid import Hybrid
from hybrid_retrieval.sampling.manifest import SCHEMA, Manifest

STEPS = 13


def fresh(truth):
    return Manifest([part.name for part in truth.available.sets], truth.available.languages)


@pytest.fixture
def drawn(truth):
    """A manifest of some batches, and the same counts by brute force."""
    composer = Hybrid(batch_size=24, alpha=0.3).compose(truth.available, seed=1)
    languages = truth.available.languages
    names = [part.name for part in truth.available.sets]
    manifest, counts = fresh(truth), Counter()
    for step in range(STEPS):
        batch = composer.batch(step)
        manifest.add(step, batch)
        for index, query, passage in zip(batch.set_index, batch.query_language, batch.passage_language, strict=True):
            counts[step, names[index], languages[query], languages[passage]] += 1
    return manifest, counts


def read(path):
    return {tuple(row.values())[:4]: row["pairs"] for row in pq.read_table(path).to_pylist()}


def test_the_file_has_the_brute_force_counts(drawn, tmp_path):
    manifest, counts = drawn
    manifest.write(tmp_path / "m.parquet")
    assert pq.read_schema(tmp_path / "m.parquet").equals(SCHEMA)
    assert read(tmp_path / "m.parquet") == counts
    assert pq.read_table(tmp_path / "m.parquet").num_rows == len(counts)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checksums.json", "m.parquet"]


def test_restoring_and_writing_again_changes_nothing(drawn, tmp_path, truth):
    manifest, counts = drawn
    manifest.write(tmp_path / "m.parquet")
    again = fresh(truth)
    again.restore(tmp_path / "m.parquet", before=STEPS)
    again.write(tmp_path / "n.parquet")
    assert read(tmp_path / "n.parquet") == counts
    assert again.summary() == manifest.summary()


def test_restoring_drops_the_steps_that_are_drawn_again(drawn, tmp_path, truth):
    manifest, counts = drawn
    manifest.write(tmp_path / "m.parquet")
    again = fresh(truth)
    again.restore(tmp_path / "m.parquet", before=5)
    assert set(again.rows[0].tolist()) == set(range(5))
    composer = Hybrid(batch_size=24, alpha=0.3).compose(truth.available, seed=1)
    for step in range(5, STEPS):
        again.add(step, composer.batch(step))
    again.write(tmp_path / "m.parquet")
    assert read(tmp_path / "m.parquet") == counts


def test_restoring_from_no_file_is_a_fresh_start(tmp_path):
    manifest = Manifest(["a"], ["en"])
    manifest.restore(tmp_path / "none.parquet", before=3)
    manifest.write(tmp_path / "m.parquet")
    assert read(tmp_path / "m.parquet") == {}
    again = Manifest(["a"], ["en"])
    again.restore(tmp_path / "m.parquet", before=3)
    assert again.summary() == {
        "steps": 0,
        "pairs": 0,
        "monolingual_pair_share": 0,
        "monolingual_batch_share": 0,
        "cells": 0,
        "fewest_pairs_of_a_cell": 0,
        "most_pairs_of_a_cell": 0,
    }


def test_the_summary_is_the_brute_force_one(drawn):
    manifest, counts = drawn
    of_cell, same = Counter(), 0
    mixed = set()
    for (step, name, query, passage), pairs in counts.items():
        of_cell[name, query, passage] += pairs
        same += pairs * (query == passage)
        mixed |= {step} - {step if query == passage else None}
    assert manifest.summary() == {
        "steps": STEPS,
        "pairs": STEPS * 24,
        "monolingual_pair_share": same / (STEPS * 24),
        "monolingual_batch_share": (STEPS - len(mixed)) / STEPS,
        "cells": len(of_cell),
        "fewest_pairs_of_a_cell": min(of_cell.values()),
        "most_pairs_of_a_cell": max(of_cell.values()),
    }
