"""Early ends of a command through no fault of the program: the input is at fault, or it was told to end."""

from __future__ import annotations

import difflib
import os
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, TextIO


class InputError(Exception):
    """Bad config or bad input. The message is one line: the bad value, what was expected, the key to change.

    The command-line entries turn it into exit code 2 without a traceback; anything else is a bug (exit code 1).
    """


class DivergenceError(InputError):
    """Loss or weights are not finite: no further step makes sense."""


class Terminated(SystemExit):
    """SIGTERM came; exit code 143. Training raises it when the last checkpoint is written."""

    def __init__(self) -> None:
        super().__init__(143)


def exit_on_sigterm() -> None:
    """End this process with `Terminated` on SIGTERM, so that what is open is closed."""

    def end(*_: object) -> NoReturn:
        raise Terminated

    signal.signal(signal.SIGTERM, end)


class Lasting:
    """An output stream whose reader may leave, as ``| head`` does: what is written then is dropped, and the work goes on."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        with self._unread():
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._unread():
            self.stream.flush()

    @contextmanager
    def _unread(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())


def outlive_readers() -> None:
    """Go on when nobody reads this process's output any more, or never did (``>&-``)."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: no other file is written to by mistake
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not isinstance(stream, Lasting):
            setattr(sys, name, Lasting(stream or os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")))


def nearest(value: object, options: Iterable[object]) -> str:
    """``"; did you mean 'x'?"`` for the option closest to `value`, or the full list when none is close."""
    names = [str(option) for option in options]
    close = difflib.get_close_matches(str(value), names, n=1, cutoff=0.6)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; expected one of: {', '.join(sorted(names))}"


def choice(key: str, value: str, options: Iterable[str]) -> None:
    """Refuse a `value` of the config key `key` that is not one of `options`."""
    options = list(options)
    if value not in options:
        raise InputError(f"{key}={value!r} is unknown{nearest(value, options)}")
