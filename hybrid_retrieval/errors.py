"""Early ends of a command through no fault of the program: the input is at fault, or it was told to end."""

from __future__ import annotations

import ctypes
import difflib
import logging
import multiprocessing
import os
import re
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, TextIO

PR_SET_PDEATHSIG = 1
"""Of Linux's prctl: the signal that a process gets when its parent ends."""


class InputError(Exception):
    """Bad config or bad input. The message is one line: the bad value, what was expected, the key to change.

    The command-line entries turn it into exit code 2 without a traceback; anything else is a bug (exit code 1).
    """


class DivergenceError(InputError):
    """Loss or weights are not finite: no further step makes sense."""


class Terminated(SystemExit):
    """A signal came that asks to end; exit code 128 and its number. Training raises it when the last checkpoint is written."""

    def __init__(self, sent: int = signal.SIGTERM) -> None:
        super().__init__(128 + sent)
        self.what = "interrupted" if sent == signal.SIGINT else "terminated"


def exit_on_sigterm() -> None:
    """End this process with `Terminated` on SIGTERM, so that what is open is closed."""

    def end(*_: object) -> NoReturn:
        raise Terminated

    signal.signal(signal.SIGTERM, end)


@contextmanager
def reading(what: str, whole: bool = False) -> Iterator[None]:
    """Whatever fails in here is the fault of what is read: an `InputError` that begins with `what`.

    Args:
        whole: an `InputError` from within begins with it, too, for it does not say where its value stands.
    """
    try:
        yield
    except InputError as error:
        if not whole:
            raise
        raise InputError(f"{what}: {error}") from error
    except Exception as error:  # readers raise whatever the damage leads them to
        raise InputError(f"{what}: {first_line(error)}") from error


def first_line(error: Exception) -> str:
    """Another library's complaint, short enough for a one-line error."""
    said = getattr(error, "strerror", None) or str(error)
    return next(filter(None, map(str.strip, said.splitlines())), type(error).__name__)[:160]


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
        except OSError:  # its reader left, or the disk under it is full
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())


def outlive_readers() -> None:
    """Go on when nobody reads this process's output any more, or never did (``>&-``); its log is `Printable` from here on."""
    logging.setLogRecordFactory(Printable)
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: no other file is written to by mistake
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not isinstance(stream, Lasting):
            setattr(sys, name, Lasting(stream or os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")))


def end_with_parent() -> None:
    """Kill this process when the one that started it by `multiprocessing` is gone: at this call, and on Linux from then on.

    Its log is `Printable`, as its parent's is.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    logging.setLogRecordFactory(Printable)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if not parent.is_alive():
        os.kill(os.getpid(), signal.SIGKILL)


def printable(text: str) -> str:
    """One line of text that no terminal obeys: control characters, surrogates and marks of direction as their escapes."""
    return escaped(" ".join(text.split()))


def escaped(text: str, but: str = "") -> str:
    """`text` with what is not printable, `but` for some, as its escape."""
    return "".join(sign if sign.isprintable() or sign in but else sign.encode("unicode_escape").decode() for sign in text)


class Printable(logging.LogRecord):
    """A line of the log, or several, that no terminal obeys: names and messages of others may hold anything."""

    def getMessage(self) -> str:  # noqa: N802 (logging's)
        return escaped(super().getMessage(), but="\n\t")


def without_secret(key: str, url: str) -> None:
    """Refuse a URL that may hold a secret, which would go to files and logs; the message does not hold it."""
    if re.search(r"://[^/?#\s]*@", url) or (key.endswith("url") and re.search("[?#]", url)):
        raise InputError(
            f"{key}: expected http(s)://HOST/PATH without a password or a query; keys come from model.key_variable"
        )


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
