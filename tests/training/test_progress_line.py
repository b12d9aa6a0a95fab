"""What a run and a sweep say while they go on: to a terminal, to a log, and to nobody."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from hybrid_retrieval.progress import duration
from hybrid_retrieval.reporting.sweep import count_jobs
from tests.conftest import SMALL, Command, command_environment

WATCHED = [one for one in SMALL if not one.startswith("trainer.enable_progress_bar")]
JOB = [*WATCHED, "model=static", "trainer.max_steps=8", "trainer.val_check_interval=4", "callbacks.progress.seconds=0"]


@pytest.mark.parametrize(("overrides", "jobs"), [([], 1), (["a=1,2", "b=x,y,z", "c=[1,2]"], 6), (["a=range(4)", "b=1"], 4)])
def test_the_jobs_of_a_sweep_are_counted(overrides: list[str], jobs: int) -> None:
    assert count_jobs(OmegaConf.create({"params": None}), overrides) == jobs


def test_what_the_command_line_sweeps_over_replaces_what_the_config_does() -> None:
    sweeper = OmegaConf.create({"params": {"a": "1,2,3", "b": "1,2"}})
    assert count_jobs(sweeper, ["a=1"]) == 2
    assert count_jobs(OmegaConf.create({"n_trials": 7}), ["a=interval(0,1)"]) == 7
    assert count_jobs(sweeper, ["a=glob(*)"]) is None


def test_times_are_said_in_two_units() -> None:
    assert [duration(seconds) for seconds in (0.4, 59.6, 61, 3599, 3600, 7260)] == [
        *("0 s", "1 min 0 s", "1 min 1 s"),
        *("59 min 59 s", "1 h 0 min", "2 h 1 min"),
    ]


def test_without_a_terminal_a_log_has_the_telemetry_in_words(command: Command, tmp_path: Path) -> None:
    done = command("run", "-m", *JOB, "seed=1,2", "hydra.sweep.dir=sweep")
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"^run directory: ", done.stdout, re.MULTILINE)) == 2
    assert (tmp_path / "sweep" / "comparison.md").exists()
    assert (tmp_path / "sweep" / "held_out_comparison.png").exists()
    said = [line for line in done.stderr.splitlines() if " step " in line]
    telemetry = [json.loads(line) for line in (tmp_path / "sweep/1/telemetry.jsonl").read_text().splitlines()]
    last = [line for line in telemetry if "train/loss" in line][-1]
    mine = [last[f"train/accuracy@1/{stream}"] for stream in ("monolingual", "crosslingual") if f"train/loss/{stream}" in last]
    assert f"step 8 of 8 · loss {last['train/loss']:.3g} · accuracy@1" in said[-1]
    assert [f"{value:.2f}" for value in mine] == re.findall(r"(?:Mo\.|Cr\.) (\d\.\d\d)", said[-1])
    assert f"{last['train/pairs_per_second']:,.0f} pairs/s" in said[-1]
    assert any(re.search(r"step 4 of 8 · .* · val/loss \d.*pairs/s · \d+ s left$", line) for line in said)
    assert re.findall(r"job \d of \d", done.stderr) == ["job 1 of 2", "job 2 of 2"]
    assert "\x1b[3" not in done.stderr + done.stdout, "a colour"
    assert "Warning" not in done.stderr


def test_quiet_says_nothing_and_writes_everything(command: Command, tmp_path: Path) -> None:
    done = command("run", "--quiet", "-m", *JOB, "seed=1,2", "hydra.sweep.dir=sweep")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "sweep/comparison.html").is_file()
    assert "step 8 of 8" in (tmp_path / "sweep/1/run.log").read_text()
    refused = command("run", "--quiet", *JOB, "sampler=hybird")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "hybird" in refused.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="a pseudo-terminal is asked for")
@pytest.mark.slow
def test_on_a_terminal_it_is_one_line_in_its_place(cache: Path, tmp_path: Path) -> None:
    import pty

    process, terminal = pty.fork()
    if not process:
        environment = command_environment(cache, COLUMNS="150", TERM="xterm")
        os.chdir(tmp_path)
        os.execve(sys.executable, [sys.executable, "-m", "hybrid_retrieval.run", *JOB, "hydra.run.dir=run"], environment)
    shown = b""
    while True:
        try:
            part = os.read(terminal, 1 << 16)
        except OSError:
            break
        if not part:
            break
        shown += part
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0, shown.decode(errors="replace")[-2000:]
    text = shown.decode(errors="replace")
    assert re.search(r"training.*8/8.*loss.*accuracy@1.*pairs/s", text)
    assert not re.search(r" step \d+ of 8", text), "the log's lines, too"
