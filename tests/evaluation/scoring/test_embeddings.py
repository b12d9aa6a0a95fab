"""Stored embeddings are those of the encoder, encoded once, also after a kill and by several processes."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from hybrid_retrieval.cache import SCRATCH, Cache, sweep
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.evaluation.scoring.embeddings import EmbeddingStore, embedding_store
from hybrid_retrieval.evaluation.scoring.vectors import Joined, as_float32, join, release
from hybrid_retrieval.models.encoder import Lost


class Hashing:
    """Embeddings by the text's digest; `limit` texts, then the process dies."""

    def __init__(self, name: str = "a", limit: int = 10**9, scale: float = 1) -> None:
        self.name, self.limit, self.scale, self.encoded = name, limit, scale, 0

    def fingerprint(self, role: str) -> str:
        return f"{self.name} {role}"

    def encode(self, texts: Sequence[str], role: str, label: str = "") -> np.ndarray:
        if self.encoded + len(texts) > self.limit:
            raise KeyboardInterrupt
        self.encoded += len(texts)
        rows = [np.frombuffer(hashlib.sha256(f"{role}{text}".encode()).digest()[:8], np.uint8) for text in texts]
        return (np.array(rows) / 16 * self.scale).astype(np.float32)


TEXTS = [f"text {number}" for number in range(50)]


def store_at(path: Path, dtype: str = "float16", devices: int = 1) -> EmbeddingStore:
    return EmbeddingStore(Cache.at(path), dtype, devices, rows=8)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_what_is_stored_is_what_the_encoder_gives_and_is_encoded_once(tmp_path: Path, dtype: str) -> None:
    store, encoder = store_at(tmp_path, dtype), Hashing()
    found = store.embed(encoder, TEXTS, "query")
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, Hashing().encode(TEXTS, "query").astype(dtype))
    assert encoder.encoded == len(TEXTS)
    again = Hashing()
    np.testing.assert_array_equal(store.embed(again, TEXTS, "query"), found)
    assert again.encoded == 0


@pytest.mark.parametrize("change", ["weights", "role", "dtype", "texts", "order", "boundary"])
def test_another_key_is_encoded_anew(tmp_path: Path, change: str) -> None:
    store = store_at(tmp_path)
    store.embed(Hashing(), TEXTS, "query")
    texts = {
        "texts": [*TEXTS[:-1], "other"],
        "order": TEXTS[::-1],
        "boundary": [TEXTS[0] + TEXTS[1][0], TEXTS[1][1:], *TEXTS[2:]],
    }.get(change, TEXTS)
    encoder = Hashing("b" if change == "weights" else "a")
    store = store_at(tmp_path, "float32" if change == "dtype" else "float16")
    store.embed(encoder, texts, "passage" if change == "role" else "query")
    assert encoder.encoded == len(TEXTS)


class Side:
    """Two encoders' embeddings side by side."""

    def __init__(self, *encoders: Hashing, scale: float = 1) -> None:
        self.encoders, self.scale = encoders, scale

    def fingerprint(self, role: str) -> str:
        return f"{[one.fingerprint(role) for one in self.encoders]} {self.scale}"

    def parts(self, label: str) -> list[tuple[Hashing, str]]:
        return [(one, label) for one in self.encoders]

    def join(self, vectors: Sequence[np.ndarray]) -> np.ndarray:
        return np.concatenate([vectors[0], vectors[1] * self.scale], 1, dtype=np.float32)

    def encode(self, texts: Sequence[str], role: str, label: str = "") -> np.ndarray:
        raise AssertionError("each part is kept by itself")


def test_what_is_made_of_others_takes_what_is_kept_of_them(tmp_path: Path) -> None:
    store, parts = store_at(tmp_path), (Hashing("a"), Hashing("b", scale=2))
    store.embed(parts[0], TEXTS, "query")
    for scale in (1, 3, 3):
        found = store.embed(Side(*parts, scale=scale), TEXTS, "query")
        whole = [Hashing("a").encode(TEXTS, "query"), Hashing("b", scale=2).encode(TEXTS, "query") * scale]
        np.testing.assert_array_equal(found, np.concatenate(whole, 1).astype(np.float16))
        assert [one.encoded for one in parts] == [len(TEXTS)] * 2


def test_what_is_made_of_others_and_known_needs_them_no_more(tmp_path: Path) -> None:
    known = store_at(tmp_path).embed(Side(Hashing(), Hashing("b")), TEXTS, "query")
    for folder in (tmp_path / "embeddings").iterdir():
        if np.load(folder / "vectors.npy", mmap_mode="r").shape[1] < known.shape[1]:
            shutil.rmtree(folder)
    found = store_at(tmp_path).embed(Side(Hashing(limit=0), Hashing("b", limit=0)), TEXTS, "query")
    np.testing.assert_array_equal(found, known)


def test_what_the_parts_lose_is_said_again_where_they_are_kept(tmp_path: Path) -> None:
    said: list[str] = []

    class Losing(Hashing):
        lost = Lost(1, 1)

        def say(self, label: str, role: str, lost: Lost) -> None:
            said.append(f"{label}: {lost.cut}")

    store_at(tmp_path).embed(Side(Losing("a"), Losing("b")), TEXTS, "query")
    for _ in range(2):
        said.clear()
        store_at(tmp_path).embed(Side(Losing("a"), Losing("b")), TEXTS, "query", "texts")
    blocks = -(-len(TEXTS) // 8)
    assert said == [f"texts (encoded before): {blocks}"] * 2


def test_a_killed_process_goes_on_where_it_was(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        store.embed(Hashing(limit=30), TEXTS, "query")
    rest = Hashing()
    found = store.embed(rest, TEXTS, "query")
    assert rest.encoded == 50 - 24
    np.testing.assert_array_equal(found, Hashing().encode(TEXTS, "query").astype(np.float16))


def test_killed_in_its_first_block_it_leaves_nothing(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        store.embed(Hashing(limit=3), TEXTS, "query")
    assert not list((tmp_path / "embeddings").iterdir())


def test_two_processes_give_what_one_gives(tmp_path: Path) -> None:
    alone = store_at(tmp_path / "one").embed(Hashing(), TEXTS, "passage")
    together = store_at(tmp_path / "two", devices=2).embed(Hashing(), TEXTS, "passage")
    np.testing.assert_array_equal(alone, together)


def test_without_a_fingerprint_nothing_is_reused(tmp_path: Path) -> None:
    class Nameless:
        encoded = 0

        def encode(self, texts: Sequence[str], role: str, label: str = "") -> np.ndarray:
            self.encoded += len(texts)
            return np.ones((len(texts), 2), np.float32)

    store, encoder = store_at(tmp_path), Nameless()
    store.embed(encoder, TEXTS, "query")
    store.embed(encoder, TEXTS, "query")
    assert encoder.encoded == 2 * len(TEXTS)


def test_what_float16_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"evaluation\.dtype=float32"):
        store_at(tmp_path).embed(Hashing(scale=1e5), TEXTS, "query")
    store_at(tmp_path, "float32").embed(Hashing(scale=1e5), TEXTS, "query")


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    encoder = Hashing()
    with pytest.raises(InputError, match=r"paths.cache=.* has no space for 0\.1 GB of embeddings"):
        store_at(tmp_path).embed(encoder, TEXTS, "query")
    assert encoder.encoded == 8


def test_a_store_that_is_not_kept_goes_away(tmp_path: Path) -> None:
    for kept in (False, True):
        with embedding_store(str(tmp_path), "float16", 1, kept) as store:
            store.embed(Hashing(), TEXTS, "query")
        assert bool(list(tmp_path.rglob("vectors.npy"))) == kept


def test_arrays_end_to_end_are_read_as_one() -> None:
    rng = np.random.default_rng(0)
    parts = [rng.standard_normal((rows, 3), np.float32) for rows in (4, 0, 5, 1)]
    whole, joined = np.concatenate(parts), Joined(parts)
    np.testing.assert_array_equal(join(parts), whole)
    assert (len(joined), joined.shape, joined.nbytes) == (10, (10, 3), whole.nbytes)
    for start in range(11):
        for stop in range(start, 11):
            np.testing.assert_array_equal(joined[start:stop], whole[start:stop])
    np.testing.assert_array_equal(np.asarray(joined), whole)
    rows = rng.integers(0, 10, 30)
    np.testing.assert_array_equal(joined[rows], whole[rows])


def test_pages_that_were_let_go_are_read_again(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    whole = rng.standard_normal((9000, 7), np.float32).astype(np.float16)
    np.save(tmp_path / "a.npy", whole)
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    for rows in (slice(0, 9000), slice(3, 8000), slice(5, 5), slice(8999, 9000)):
        for vectors in (mapped, Joined([mapped, mapped]), whole):
            assert as_float32(vectors[rows]).shape == (rows.stop - rows.start, 7)
            release(vectors, rows)
    np.testing.assert_array_equal(mapped, whole)


class Losing(Hashing):
    """Loses a token of every text; `strict` makes that an error."""

    strict, lost = False, Lost()

    def encode(self, texts: Sequence[str], role: str, label: str = "") -> np.ndarray:
        self.lost = Lost(len(texts), len(texts), 10 * len(texts), 1, 0)
        return super().encode(texts, role, label)

    def say(self, label: str, role: str, lost: Lost) -> None:
        self.said = [*getattr(self, "said", []), (label, lost)]
        if self.strict:
            raise InputError("strict")


def test_what_was_lost_is_said_of_texts_that_were_encoded_before(tmp_path: Path) -> None:
    first = Losing(limit=30)
    with pytest.raises(KeyboardInterrupt):
        store_at(tmp_path).embed(first, TEXTS, "query", "set")
    rest, again, strict = Losing(), Losing(), Losing()
    store_at(tmp_path).embed(rest, TEXTS, "query", "set")
    assert rest.said == [("set (encoded before)", Lost(24, 24, 240, 3, 0))]
    store_at(tmp_path).embed(again, TEXTS, "query", "set")
    assert again.said == [("set (encoded before)", Lost(50, 50, 500, 7, 0))]
    store_at(tmp_path).embed(again, TEXTS, "query")
    assert len(again.said) == 1
    strict.strict = True
    with pytest.raises(InputError, match="strict"):
        store_at(tmp_path).embed(strict, TEXTS, "query", "set")


@pytest.mark.slow
def test_what_was_lost_in_two_processes_is_said_of_both(tmp_path: Path) -> None:
    both = Losing()
    store_at(tmp_path, devices=2).embed(both, TEXTS, "query", "set")
    assert both.said == [("set (encoded before)", Lost(42, 42, 420, 6, 0))]


def test_what_was_lost_is_said_once_by_a_store(tmp_path: Path) -> None:
    store, encoder = store_at(tmp_path), Losing()
    for _ in range(3):
        store.embed(encoder, TEXTS, "query", "set")
    assert not hasattr(encoder, "said")  # the encoder spoke when it encoded
    store, encoder = store_at(tmp_path), Losing()
    store.embed(encoder, TEXTS, "query")
    for _ in range(3):
        store.embed(encoder, TEXTS, "query", "set")
    assert len(encoder.said) == 1


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    store.embed(Hashing(), TEXTS, "query")
    (file,) = tmp_path.rglob("vectors.npy")
    whole = file.read_bytes()
    file.write_bytes(whole[:300])
    with pytest.raises(InputError, match=r"is damaged \(.*\): remove it"):
        store.embed(Hashing(), TEXTS, "query")
    file.write_bytes(whole)
    (tmp_path / file.parent / "block-0.json").write_text("{")
    with pytest.raises(InputError, match=r"is damaged \(.*\): remove it"):
        store_at(tmp_path).embed(Losing(), TEXTS, "query", "set")


def test_embeddings_that_are_not_kept_are_swept_after_a_kill_only(tmp_path: Path) -> None:
    with embedding_store(str(tmp_path), "float16", 1, False) as store:
        store.embed(Hashing(), TEXTS, "query")
        sweep(tmp_path)
        assert list(store.cache.root.rglob("vectors.npy"))
        (tmp_path / f"{SCRATCH}left").mkdir()
    assert [path.name for path in tmp_path.iterdir()] == [f"{SCRATCH}left"]
    sweep(tmp_path)
    assert not list(tmp_path.iterdir())


def test_weights_are_looked_at_once(tmp_path: Path) -> None:
    class Counting(Hashing):
        asked = 0

        def fingerprint(self, role: str) -> str:
            self.asked += 1
            return super().fingerprint(role)

    store, encoder = store_at(tmp_path), Counting()
    for texts in (TEXTS, TEXTS[:9], TEXTS[9:]):
        store.embed(encoder, texts, "query")
    assert encoder.asked == 1
