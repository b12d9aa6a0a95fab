"""Local copies first, then earlier downloads, then the publisher; checksums where they are known."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.evaluation.benchmarks.miracl import Miracl
from hybrid_retrieval.evaluation.benchmarks.published_files import (
    HubDataset,
    PublishedFile,
    PublishedFiles,
    Website,
    expect_count,
)
from tests.stand_in_hub import REVISION, stand_in_hub

KNOWN = hashlib.sha256(b"mine").hexdigest()
NOBODY = "http://127.0.0.1:9"


def files(tmp_path: Path, **sha256: str | None) -> PublishedFiles:
    paths = PathsConfig(data=str(tmp_path / "data"), cache=str(tmp_path / "cache"))
    published = {key: PublishedFile("there/x.txt", f"{key}/x.txt", known) for key, known in sha256.items()}
    return PublishedFiles(paths, "bench", Website(NOBODY, "rev"), published, "folder")


def put(root: Path, place: str, text: str) -> Path:
    (root / place).parent.mkdir(parents=True, exist_ok=True)
    (root / place).write_text(text)
    return root / place


def test_a_local_copy_goes_before_a_download(tmp_path: Path) -> None:
    one = files(tmp_path, a=None)
    assert not one.at_hand()
    downloaded = put(tmp_path / "cache" / "downloads" / "bench" / "rev", "there/x.txt", "theirs")
    assert one.at_hand()
    assert one.path("a") == downloaded
    local = put(tmp_path / "data" / "folder", "a/x.txt", "mine")
    assert one.path("a") == local


def test_each_file_is_looked_for_by_itself(tmp_path: Path) -> None:
    one = files(tmp_path, a=None, b=None)
    put(tmp_path / "data" / "folder", "a/x.txt", "mine")
    assert not one.at_hand()
    put(tmp_path / "cache" / "downloads" / "bench" / "rev", "there/x.txt", "theirs")
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
        assert found.provenance() == {"publisher": NOBODY, "revision": "rev", "as_published": agrees, "sha256": sums}
        caplog.clear()
        found.path("b")
        assert ("b/x.txt is not the published one" in caplog.text) == (agrees is False)


def test_a_large_file_is_read_for_its_checksum_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "data" / "folder", "a/x.txt", "mine")
    one = replace(files(tmp_path, a=None), large=3)
    assert one.provenance()["sha256"] == {"a": KNOWN}
    with monkeypatch.context() as patch:
        patch.setattr(hashlib, "file_digest", None)
        assert one.provenance()["sha256"] == {"a": KNOWN}
    put(tmp_path / "data" / "folder", "a/x.txt", "longer")
    assert one.provenance()["sha256"] == {"a": hashlib.sha256(b"longer").hexdigest()}


def test_a_file_that_cannot_be_fetched_is_named_with_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    message = r"http://127\.0\.0\.1:9/rev/there/x\.txt .*benchmark=bench .*folder/a/x\.txt .*paths\.data"
    with pytest.raises(InputError, match=message):
        files(tmp_path, a=None).path("a")


def test_a_file_on_the_hub_is_fetched_once_and_its_checksum_recorded(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with stand_in_hub({"someone/set": {"de/x.txt": b"mine"}}) as server:
        dataset = HubDataset("someone/set", REVISION, server.hub(tmp_path / "hub"))
        paths = PathsConfig(data=None, cache=str(tmp_path / "cache"))
        one = PublishedFiles(paths, "x", dataset, {"de": PublishedFile("de/x.txt")})
        assert not one.at_hand()
        assert one.path("de").read_text() == "mine"
    assert one.at_hand()
    assert one.provenance()["sha256"] == {"de": KNOWN}
    kept = one.path("de")
    other = replace(one, files={"de": PublishedFile("de/x.txt", sha256=hashlib.sha256(b"other").hexdigest())})
    with pytest.raises(InputError, match="which at its publisher was"):
        other.path("de")
    kept.write_text("changed")
    with pytest.raises(InputError, match=rf"x\.txt \(.*someone/set {REVISION} de/x\.txt\) has .*, which the first time"):
        one.path("de")
    assert one.provenance()["publisher"] == "https://huggingface.co/datasets/someone/set"


def test_gated_topics_of_miracl_are_read_with_a_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    place = "miracl-v1.0-sw/{0}/{0}.miracl-v1.0-sw-dev.tsv"
    held = {place.format("topics"): b"7\tZiwa gani?\n", place.format("qrels"): b"7 Q0 1#0 1\n"}
    with stand_in_hub({"miracl/miracl": held}, token="hf_mine") as server:
        benchmark = Miracl(PathsConfig(data=str(tmp_path / "data"), cache=str(tmp_path / "cache")), ["sw"])
        dataset = replace(benchmark.topics.publisher, revision=REVISION, hub=server.hub(tmp_path / "hub"))
        files = {key: replace(file, sha256=None) for key, file in benchmark.topics.files.items()}
        benchmark.topics = replace(benchmark.topics, publisher=dataset, files=files)
        with pytest.raises(InputError, match=r"gated .*HF_TOKEN.*benchmark=miracl reads it at miracl/topics\.miracl-v1\.0-sw"):
            benchmark.read_topics("sw")
        monkeypatch.setenv("HF_TOKEN", "hf_mine")
        assert benchmark.read_topics("sw") == ([("7", "Ziwa gani?")], [("7", "1#0", 1)])


def test_other_counts_than_the_published_are_refused() -> None:
    expect_count("f", "queries", 2, 2)
    expect_count("f", "passages", 7, None)
    with pytest.raises(InputError, match=r"^f has 1,007 queries; published were 2$"):
        expect_count("f", "queries", 1007, 2)
