"""Early ends of a command through no fault of the program: the input is at fault, or it was told to end."""

from __future__ import annotations

import difflib
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NoReturn


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
    return next(filter(None, map(str.strip, str(error).splitlines())), type(error).__name__)[:160]


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
