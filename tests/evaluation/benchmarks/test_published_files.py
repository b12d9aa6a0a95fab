"""Local copies first, then earlier downloads, then the publisher; checksums where they are known."""

from __future__ import annotations

import functools
import hashlib
import http.server
import threading
from pathlib import Path

import pytest

from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.evaluation.benchmarks import published_files
from hybrid_retrieval.evaluation.benchmarks.published_files import PublishedFile, PublishedFiles, expect_counts

KNOWN = hashlib.sha256(b"mine").hexdigest()


def files(tmp_path: Path, **sha256: str | None) -> PublishedFiles:
    paths = PathsConfig(data=str(tmp_path / "data"), cache=str(tmp_path / "cache"))
    published = {key: PublishedFile(f"{key}/x.txt", "http://127.0.0.1:9/x.txt", known) for key, known in sha256.items()}
    return PublishedFiles.of(paths, "bench", "folder", "publisher", "rev", published)


def put(root: Path, place: str, text: str) -> Path:
    (root / place).parent.mkdir(parents=True, exist_ok=True)
    (root / place).write_text(text)
    return root / place


def test_a_local_copy_goes_before_a_download(tmp_path: Path) -> None:
    one = files(tmp_path, a=None)
    assert not one.at_hand()
    downloaded = put(tmp_path / "cache" / "downloads" / "bench" / "rev", "a/x.txt", "theirs")
    assert one.at_hand()
    assert one.path("a") == downloaded
    local = put(tmp_path / "data" / "folder", "a/x.txt", "mine")
    assert one.path("a") == local


def test_each_file_is_looked_for_by_itself(tmp_path: Path) -> None:
    one = files(tmp_path, a=None, b=None)
    put(tmp_path / "data" / "folder", "a/x.txt", "mine")
    assert not one.at_hand()
    put(tmp_path / "cache" / "downloads" / "bench" / "rev", "b/x.txt", "theirs")
    assert one.at_hand()


def test_provenance_says_what_is_known(tmp_path: Path, caplog) -> None:
    put(tmp_path / "data" / "folder", "a/x.txt", "mine")
    put(tmp_path / "data" / "folder", "b/x.txt", "other")
    sums = {"a": KNOWN, "b": hashlib.sha256(b"other").hexdigest()}
    for known, agrees in (
        ({"a": KNOWN, "b": sums["b"]}, True),
        ({"a": KNOWN, "b": None}, None),
        ({"a": KNOWN, "b": KNOWN}, False),
    ):
        found = files(tmp_path, **known)
        assert found.provenance() == {"publisher": "publisher", "revision": "rev", "as_published": agrees, "sha256": sums}
        caplog.clear()
        found.path("b")
        assert ("b/x.txt is not the published one" in caplog.text) == (agrees is False)


def test_a_large_file_is_read_for_its_checksum_once(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(published_files, "LARGE", 3)
    put(tmp_path / "data" / "folder", "a/x.txt", "mine")
    one = files(tmp_path, a=None)
    assert one.provenance()["sha256"] == {"a": KNOWN}
    with monkeypatch.context() as patch:
        patch.setattr(published_files.hashlib, "file_digest", None)
        assert one.provenance()["sha256"] == {"a": KNOWN}
    put(tmp_path / "data" / "folder", "a/x.txt", "longer")
    assert one.provenance()["sha256"] == {"a": hashlib.sha256(b"longer").hexdigest()}


def test_a_file_that_cannot_be_fetched_is_named_with_its_place(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with pytest.raises(InputError, match=r"benchmark=bench .*http://127\.0\.0\.1:9/x\.txt at .*folder/a/x\.txt .*paths\.data"):
        files(tmp_path, a=None).path("a")


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def test_a_file_of_a_pinned_revision_is_fetched_and_its_checksum_recorded(tmp_path: Path, monkeypatch) -> None:
    put(tmp_path / "hub", "someone/set/resolve/rev/de/x.txt", "mine")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(tmp_path / "hub")))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(published_files, "HUB", f"http://127.0.0.1:{server.server_port}")
    try:
        one = PublishedFiles.of_hub(PathsConfig(cache=str(tmp_path / "cache")), "x", "someone/set", "rev", {"de": "de/x.txt"})
        assert not one.at_hand()
        assert one.path("de").read_text() == "mine"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert one.at_hand()
    assert one.provenance()["sha256"] == {"de": KNOWN}


def test_other_counts_than_the_published_are_refused() -> None:
    expect_counts("f", {"queries": 2, "passages": None}, {"queries": 2, "passages": 7})
    with pytest.raises(InputError, match=r"^f has 1,007 queries; published were 2$"):
        expect_counts("f", {"queries": 2}, {"queries": 1007})
