"""Commands as ``python -m`` runs them, in forks of a process that has imported the libraries already.

What a command does is what its own interpreter would do, down to the way it ends; the seconds that importing takes are
spent once for all commands of a session. What a test says about the interpreter's start (its environment, what is imported)
needs an interpreter of its own.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import runpy
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

LIBRARIES = (
    *("lightning.pytorch", "transformers", "pandas", "altair", "rich.table", "pyarrow.parquet", "hydra", "scipy.stats"),
    *("hybrid_retrieval.training.fit", "hybrid_retrieval.benchmarking", "hybrid_retrieval.reporting.run_report"),
)
"""What most commands import."""


class Forks:
    """The process that is forked, a context manager; `environment` gives that of a command."""

    def __init__(self, environment: Callable[[], dict[str, str]]) -> None:
        self._environment = environment

    def __enter__(self) -> Forks:
        self._server = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=self._environment(),
            start_new_session=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._server.pid, signal.SIGKILL)
        self._server.wait()

    def run(
        self, module: str, *arguments: str, folder: Path, timeout: float = 300, **more: str
    ) -> subprocess.CompletedProcess[str]:
        """``python -m MODULE ARGUMENTS`` in a folder, with more environment, and what it printed."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        with tempfile.TemporaryDirectory() as work:
            out, err = Path(work) / "out", Path(work) / "err"
            request = {"module": module, "arguments": arguments, "folder": str(folder), "out": str(out), "err": str(err)}
            print(json.dumps(request | {"environment": self._environment() | more}), file=self._server.stdin, flush=True)
            if not select.select([self._server.stdout], [], [], timeout)[0]:
                self.__exit__()
                self.__enter__()  # what hangs is gone, and its answer is nobody else's
                raise subprocess.TimeoutExpired([module, *arguments], timeout)
            code = int(self._server.stdout.readline())
            return subprocess.CompletedProcess([module, *arguments], code, out.read_text(), err.read_text())


def serve() -> None:
    """Fork for each line of the input, and say how the fork ended; in a fork, run what the line asks for."""
    for name in LIBRARIES:
        importlib.import_module(name)
    for line in sys.stdin:
        asked = json.loads(line)
        child = os.fork()
        if child == 0:
            _become(asked)
            return
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _become(asked: dict[str, Any]) -> None:
    os.environ.clear()
    os.environ.update(asked["environment"])
    os.chdir(asked["folder"])
    for number, place in enumerate((os.devnull, asked["out"], asked["err"])):
        opened = os.open(place, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    sys.path[0] = asked["folder"]
    sys.argv[1:] = asked["arguments"]
    runpy.run_module(asked["module"], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    serve()
