"""However training ends, it ends in one line and leaves no process: loader processes, ranks, faults on top of faults."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.loggers import CSVLogger

from hybrid_retrieval.errors import InputError, Terminated, end_with_parent
from hybrid_retrieval.training.exact import ended
from tests.conftest import SMALL
from tests.training.runs import await_write, finish, start, written

LONG = [*SMALL, "trainer.max_steps=5000", "trainer.val_check_interval=1000", "training.checkpoint_every=5", "hydra.run.dir=run"]


class FullDisk(CSVLogger):
    """A logger that cannot write from the third line on, nor at its end."""

    lines = 0

    def log_metrics(self, *_: Any, **__: Any) -> None:
        self.lines += 1
        if self.lines > 2:
            self.finalize("failed")

    def finalize(self, status: str) -> None:
        if self.lines > 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "metrics.csv")


def processes(session: int) -> list[int]:
    """Those of a session that are not over."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, of = path.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(of) == session and state != "Z":
            found.append(int(path.parent.name))
    return found


def children(process: int) -> list[int]:
    return [int(child) for path in Path(f"/proc/{process}/task").glob("*/children") for child in path.read_text().split()]


def ranks(parent: int) -> list[int]:
    return [child for child in children(parent) if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


def ended_in_one_line(process: subprocess.Popen[str], code: int) -> str:
    """The line; the process and all that it started are over within a minute."""
    try:
        process.wait(60)
        deadline = time.monotonic() + 10
        while processes(process.pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        left = processes(process.pid)
    finally:
        found, errors = finish(process)
    assert not left
    assert found == code, errors
    assert "Traceback" not in errors
    (line,) = [line for line in errors.splitlines() if line.startswith("error: ")]
    return line


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_killed_loader_process_ends_the_run_in_one_line(cache: Path, tmp_path: Path, workers: int) -> None:
    process = start(cache, tmp_path, *LONG, f"training.workers={workers}")
    await_write(tmp_path / "run" / "checkpoints" / "last.ckpt", process)
    os.kill(children(process.pid)[-1], signal.SIGKILL)
    line = ended_in_one_line(process, 2)
    assert f"training.workers={workers}: a loader process was killed by SIGKILL, out of memory?" in line


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.slow
def test_a_fault_on_the_way_out_of_a_fault_leaves_no_loader_process_to_wait_for(
    cache: Path, tmp_path: Path, workers: int
) -> None:
    full = "+logger.full={_target_: tests.training.test_ends.FullDisk, save_dir: run}"
    line = ended_in_one_line(start(cache, tmp_path, *LONG, full, f"training.workers={workers}"), 2)
    assert "metrics.csv cannot be written: the disk is full" in line


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_signal_to_all_processes_of_a_run_ends_them(
    cache: Path, tmp_path: Path, sent: signal.Signals, code: int, workers: int
) -> None:
    process = start(cache, tmp_path, *LONG, f"training.workers={workers}")
    await_write(tmp_path / "run" / "checkpoints" / "last.ckpt", process)
    os.killpg(process.pid, sent)
    ended_in_one_line(process, code)


@pytest.mark.slow
def test_loader_processes_end_with_a_training_process_that_is_killed(cache: Path, tmp_path: Path) -> None:
    process = start(cache, tmp_path, *LONG, "training.workers=2")
    await_write(tmp_path / "run" / "checkpoints" / "last.ckpt", process)
    process.kill()
    process.wait(10)
    time.sleep(1)
    assert not processes(process.pid)
    finish(process)


@pytest.mark.slow
def test_ranks_end_with_the_process_that_started_them(cache: Path, tmp_path: Path) -> None:
    """Also where SIGINT, which torch has the kernel send, is ignored, as in the background of a shell."""
    process = start(cache, tmp_path, *LONG, "trainer.devices=2", "training.workers=1", interrupted=False)
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    await_write(last, process)
    assert len(ranks(process.pid)) == 2
    process.kill()
    process.wait(10)
    time.sleep(1)
    assert not [one for one in processes(process.pid) if b"spawn_main" in Path(f"/proc/{one}/cmdline").read_bytes()]
    before = written(last)
    time.sleep(1)
    assert written(last) == before
    finish(process)


@pytest.mark.slow
def test_a_killed_rank_is_one_line(cache: Path, tmp_path: Path) -> None:
    process = start(cache, tmp_path, *LONG, "trainer.devices=2", "training.workers=1")
    await_write(tmp_path / "run" / "checkpoints" / "last.ckpt", process)
    os.kill(ranks(process.pid)[1], signal.SIGKILL)
    assert "trainer.devices=2: a process of the run was killed by SIGKILL" in ended_in_one_line(process, 2)


CHILD = """
import multiprocessing, os, sys, time
from hybrid_retrieval import errors
errors.sys = type("Other", (), {"platform": sys.argv[1]})

def child():
    print(os.getpid(), flush=True)
    while True:
        errors.end_with_parent()
        time.sleep(0.05 if sys.argv[1] == "other" else 60)

if __name__ == "__main__":
    multiprocessing.get_context("fork").Process(target=child).start()
    time.sleep(60)
"""


@pytest.mark.parametrize("platform", ["linux", "other"])
def test_a_process_ends_with_its_parent_by_the_kernel_or_at_the_next_step(platform: str) -> None:
    parent = subprocess.Popen([sys.executable, "-c", CHILD, platform], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    time.sleep(0.3)
    assert Path(f"/proc/{child}").exists()
    parent.kill()
    parent.wait(10)
    deadline = time.monotonic() + 10
    while (path := Path(f"/proc/{child}/stat")).exists() and path.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    parent.stdout.close()


def test_a_process_that_nobody_started_by_multiprocessing_goes_on() -> None:
    end_with_parent()


@pytest.mark.parametrize("first", [KeyboardInterrupt(), Terminated(), InputError("the first")])
def test_what_training_ended_for_is_not_hidden_by_what_fails_on_the_way_out(first: BaseException) -> None:
    def fail_twice() -> None:
        try:
            raise first
        finally:
            raise RuntimeError("the second")

    with pytest.raises(type(first)) as caught, ended([]):
        fail_twice()
    assert caught.value is first


def test_processes_that_never_started_or_are_over_are_no_fault_of_the_end() -> None:
    context = multiprocessing.get_context("fork")
    sleeping, unstarted = context.Process(target=time.sleep, args=(60,)), context.Process(target=time.sleep)
    sleeping.start()
    with pytest.raises(ZeroDivisionError), ended([unstarted, sleeping]):
        raise ZeroDivisionError
    assert sleeping.exitcode == -signal.SIGKILL
