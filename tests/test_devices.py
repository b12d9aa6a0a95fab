"""Every tensor is on the device of those that it meets, seen without a GPU: see `fake_card`, which also says what is not."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fake_card import CASES

MISTAKE = "a batch left on the host"


@pytest.fixture(scope="module")
def errors() -> dict[str, str]:
    """By case, from a process of its own: a device that is registered stays so."""
    command = [sys.executable, "-m", "tests.fake_card"]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=300, check=True)
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("case", [case for case in CASES if case != MISTAKE])
def test_no_two_devices_meet(case: str, errors: dict[str, str]) -> None:
    assert not errors[case], errors[case]


def test_a_mistake_would_be_seen(errors: dict[str, str]) -> None:
    assert re.search("FakeTensorDeviceMismatchError|two different devices", errors[MISTAKE]), errors[MISTAKE]
