"""Written files are whole, whatever happens."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.files import CHECKSUMS, check_recorded, read_recorded, recorded, replaced, write_text

KILLED = """
import os, signal, sys
from pathlib import Path
from hybrid_retrieval.files import replaced

with replaced(Path(sys.argv[1])) as part:
    part.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_file_is_replaced_by_what_was_written(tmp_path: Path) -> None:
    assert write_text(tmp_path / "file", "old") == tmp_path / "file"
    with replaced(tmp_path / "file") as part:
        part.write_text("new")
        assert (tmp_path / "file").read_text() == "old"
    assert (tmp_path / "file").read_text() == "new"
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "old")
    with pytest.raises(TypeError), replaced(tmp_path / "file") as part:
        part.write_text(1)
    assert (tmp_path / "file").read_text() == "old"
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_a_kill_leaves_the_old_file(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "old")
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "file")], check=False)
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / "file").read_text() == "old"


def record(path: Path, text: str) -> None:
    with recorded(path) as part:
        part.write_text(text)


def test_a_recorded_file_is_known_again_and_another_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "file"
    record(path, "a")
    record(tmp_path / "other", "b")
    check_recorded(path)
    path.write_text("b")
    with pytest.raises(InputError, match=rf"^{path} is not the file that was written"):
        check_recorded(path)
    record(path, "c")
    check_recorded(path)
    path.write_text("a")  # of before
    with pytest.raises(InputError):
        check_recorded(path)
    (tmp_path / CHECKSUMS).unlink()
    check_recorded(path)


def test_the_record_holds_wherever_a_write_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files take their place in three steps: the record of both, the file, the record of the new one."""
    path, original, ended = tmp_path / "file", Path.replace, []
    record(path, "0")
    for number, last in enumerate([1, 2, 3, 1, 1, 2, 2, 3, 4], 1):
        left = [last]

        def replace(self: Path, target: Path, left: list[int] = left) -> Path:
            left[0] -= 1
            if not left[0]:
                raise KeyboardInterrupt
            return original(self, target)

        monkeypatch.setattr(Path, "replace", replace)
        try:
            record(path, str(number))
        except KeyboardInterrupt:
            ended.append(path.read_text())
        check_recorded(path)
    assert ended == ["0", "0", "3", "3", "3", "3", "3", "8"]


def test_a_folder_without_a_record_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    check_recorded(tmp_path / "absent")
    for name in ("a", "b"):
        (tmp_path / name).write_text("mine")
        check_recorded(tmp_path / name)
    assert caplog.messages == [f"{tmp_path}: not checked: no checksums.json"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty; expected JSON: its writing was cut off; restore it from a copy"),
        (b"\n ", "is empty; expected JSON"),
        (bytes(2048), "holds 2,048 NUL characters; expected JSON: its writing was cut off"),
        (b'{"a": 1', "cannot be read as JSON (was it cut off? restore it from a copy"),
        (b"null", "is empty; expected a mapping"),
    ],
)
def test_how_a_file_was_damaged_and_what_to_do_is_said(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "environment.json"
    path.write_bytes(content)
    with pytest.raises(InputError) as refused:
        read_recorded(path)
    assert str(refused.value).startswith(f"{path} {said}")
    (tmp_path / CHECKSUMS).write_bytes(content)
    with pytest.raises(InputError, match=r"; without checksums\.json, nothing in its folder is checked$"):
        check_recorded(path)
