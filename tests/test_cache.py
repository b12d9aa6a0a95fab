"""Built things appear whole or not at all."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hybrid_retrieval.cache import Cache, file_state, folder_state
from hybrid_retrieval.errors import InputError

KILLED_BUILD = """
import os, signal, sys
from hybrid_retrieval.cache import Cache

def make(directory):
    (directory / "half").write_text("written")
    os.kill(os.getpid(), signal.SIGKILL)

Cache.at(sys.argv[1]).build("kind", {"key": 1}, make)
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


def test_a_killed_build_leaves_nothing_under_its_name(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED_BUILD, str(tmp_path)], check=False)
    assert done.returncode == -signal.SIGKILL
    cache = Cache.at(tmp_path)
    assert not cache.directory("kind", {"key": 1}).exists()
    built = cache.build("kind", {"key": 1}, lambda directory: (directory / "whole").touch())
    assert sorted(file.name for file in built.iterdir()) == ["key.json", "whole"]


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
