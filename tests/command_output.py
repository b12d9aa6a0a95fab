"""How a command ended, as a user sees it."""

from __future__ import annotations

import subprocess


def assert_one_line(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    """Exit code 2, one error line with all `parts`, no traceback."""
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 2, done.stderr
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    for part in parts:
        assert part in lines[0], lines[0]


def last_line(text: str) -> str:
    return text.strip().splitlines()[-1]
