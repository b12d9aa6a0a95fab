"""A command in a fork is the command in an interpreter of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import command_environment
from tests.forks import Forks

PROGRAM = """
import atexit, os, sys, __main__

print(os.getcwd(), sys.argv, sys.path[0], __main__.__spec__.name, sys.stdin.read(), sorted(os.environ))
print("in words", file=sys.stderr)
atexit.register(print, "at the end")
sys.exit(*map(int, sys.argv[1:]))
"""


@pytest.mark.parametrize("arguments", [[], ["3"]])
def test_a_fork_prints_and_ends_as_an_interpreter_does(
    forks: Forks, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.setenv("SET_SINCE", "the forks began")
    (tmp_path / "program.py").write_text(PROGRAM)
    alone = subprocess.run(
        [sys.executable, "-m", "program", *arguments],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=command_environment(cache),
    )
    done = forks.run("program", *arguments, folder=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (alone.returncode, alone.stdout, alone.stderr)
