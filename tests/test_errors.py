"""What a command says, a terminal does not obey."""

from __future__ import annotations

import logging
import multiprocessing
import sys
from collections.abc import Iterator

import pytest

from hybrid_retrieval.errors import end_with_parent, outlive_readers
from tests.conftest import SMALL, Command

BELL = "\x1b]0;owned\x07"


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, getattr(sys, name))
    before = logging.getLogRecordFactory()
    yield
    logging.setLogRecordFactory(before)


def test_a_log_line_holds_nothing_that_a_terminal_obeys(caplog: pytest.LogCaptureFixture) -> None:
    outlive_readers()
    logging.getLogger("of.others").warning("%s: a\u202eb\r\nsecond\tline", BELL)
    assert caplog.messages == ["\\x1b]0;owned\\x07: a\\u202eb\\r\nsecond\tline"]


def say() -> None:
    end_with_parent()
    logging.getLogger("of.others").warning(BELL)


def test_nor_does_that_of_a_process_that_a_command_starts(capfd: pytest.CaptureFixture[str]) -> None:
    process = multiprocessing.get_context("spawn").Process(target=say)
    process.start()
    process.join()
    assert "\\x1b]0;owned\\x07" in (said := capfd.readouterr().err)
    assert "\x1b" not in said


def test_a_name_of_a_data_set_is_logged_without_its_escapes(in_process: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the data set's own name passes no check: it is set here behind the config's back."""
    from hybrid_retrieval.data.sources.synthetic import Synthetic

    monkeypatch.setattr(Synthetic, "name", f"set{BELL}")
    done = in_process("run", *SMALL, "dataset.seed=5", "model.max_passage_length=4", "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    assert "set\\x1b]0;owned\\x07 passages: texts cut" in done.stderr
    assert "\x1b" not in done.stderr
