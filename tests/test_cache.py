"""Built things appear whole or not at all."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from hybrid_retrieval.cache import Cache, file_state, folder_state, scratch, sweep
from hybrid_retrieval.errors import InputError

BUILD = """
import sys
from hybrid_retrieval.cache import Cache

def make(directory):
    (directory / "half").write_text("written")
    print("building", flush=True)
    sys.stdin.read()

Cache.at(sys.argv[1]).build(sys.argv[2], {"key": 1}, make)
"""


def test_a_thing_is_built_once_for_a_key(tmp_path: Path) -> None:
    cache, calls = Cache.at(tmp_path), []

    def make(directory: Path) -> None:
        calls.append(directory)
        (directory / "made").write_text(str(len(calls)))

    first = cache.build("kind", {"a": 1, "b": [2]}, make)
    assert first == cache.build("kind", {"b": [2], "a": 1}, make) == cache.directory("kind", {"a": 1, "b": [2]})
    assert (first / "made").read_text() == "1"
    assert cache.build("kind", {"a": 2, "b": [2]}, make) != first
    assert len(calls) == 2


@pytest.mark.parametrize("kind", ["kind", "datasets/kind"])
def test_what_a_build_left_is_swept_at_the_next_start_once_its_process_is_dead(kind: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", BUILD, str(tmp_path), kind]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as builder:
        assert builder.stdout is not None
        assert builder.stdout.readline() == "building\n"
        sweep(tmp_path)
        cache = Cache.at(tmp_path)
        assert [file.read_text() for file in tmp_path.rglob("half")] == ["written"]
        builder.kill()
    assert not cache.directory(kind, {"key": 1}).exists()
    assert list(tmp_path.rglob("half"))
    start = "import sys; from hybrid_retrieval.cache import Cache; Cache.at(sys.argv[1])"
    subprocess.run([sys.executable, "-c", start, str(tmp_path)], check=True)
    assert not [file for file in tmp_path.rglob("*") if file.is_file()]
    assert not list((tmp_path / kind).iterdir())
    built = cache.build(kind, {"key": 1}, lambda directory: (directory / "whole").touch())
    assert sorted(file.name for file in built.iterdir()) == ["key.json", "whole"]


def test_a_folder_that_is_swept_before_it_is_held_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = tempfile.mkdtemp

    def swept(**given: str) -> str:
        folder = make(**given)
        monkeypatch.setattr(tempfile, "mkdtemp", make)
        sweep(tmp_path)
        return folder

    monkeypatch.setattr(tempfile, "mkdtemp", swept)
    with scratch(tmp_path) as folder:
        sweep(tmp_path)
        assert list(tmp_path.iterdir()) == [folder]
    assert not list(tmp_path.iterdir())


def test_a_download_is_the_published_one_or_the_one_that_came_first(tmp_path: Path) -> None:
    cache, file = Cache.at(tmp_path / "cache"), tmp_path / "file"
    file.write_text("first")
    origin, known = ("address", "revision", "path"), cache.checksum(file)
    for _ in range(2):
        cache.check_pinned(origin, file)
        cache.check_pinned(origin, file, known)
    file.write_text("second")
    for published, when in ((None, "the first time"), (known, "at its publisher")):
        with pytest.raises(InputError, match=rf"file \(address revision path\) has .*, which {when}.* was {known[:12]}: "):
            cache.check_pinned(origin, file, published)
    cache.check_pinned(("address", "another revision", "path"), file)


def test_a_finished_build_is_moved_into_place_in_one_step(tmp_path: Path) -> None:
    made = []

    def make(directory: Path) -> None:
        (directory / "file").touch()
        made.append((directory.stat().st_ino, (directory / "file").stat().st_ino))

    built = Cache.at(tmp_path).build("kind", 1, make)
    assert made == [(built.stat().st_ino, (built / "file").stat().st_ino)]


def test_a_failed_build_leaves_nothing_at_all(tmp_path: Path) -> None:
    def make(directory: Path) -> None:
        (directory / "half").touch()
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        Cache.at(tmp_path).build("kind", 1, make)
    assert list((tmp_path / "kind").iterdir()) == []


def test_of_two_builds_at_once_the_first_to_finish_wins(tmp_path: Path) -> None:
    cache = Cache.at(tmp_path)

    def slow(directory: Path) -> None:
        cache.build("kind", 1, lambda other: (other / "first").touch())
        (directory / "second").touch()

    built = cache.build("kind", 1, slow)
    assert sorted(file.name for file in built.iterdir()) == ["first", "key.json"]
    assert [entry.name for entry in built.parent.iterdir()] == [built.name]


def test_an_unwritable_place_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match=r"paths\.cache=.*cannot be written"):
            Cache.at(place)


def test_states_change_with_the_files(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "er" / "file"
    file.parent.mkdir(parents=True)
    file.write_text("one")
    before = file_state(file), folder_state(tmp_path)
    assert before == (file_state(file), folder_state(tmp_path))
    file.write_text("three")
    resized = file_state(file), folder_state(tmp_path)
    os.utime(file, ns=(0, 0))
    touched = file_state(file), folder_state(tmp_path)
    (tmp_path / "deep" / "another").touch()
    for index in range(2):
        states = [before[index], resized[index], touched[index]]
        assert all(left != right for left, right in itertools.pairwise(states))
    assert folder_state(tmp_path) != touched[1]
