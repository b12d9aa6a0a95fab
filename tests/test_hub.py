"""Hub files through the hub's own client: pinned, kept, with a token, and quick to fail."""

from __future__ import annotations

import re
import socket
import time
from pathlib import Path

import pytest

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.hub import Hub
from tests.stand_in_hub import REVISION, stand_in_hub

FILES = {
    "some/set": {"de/x.txt": b"hello"},
    "some/model": dict.fromkeys(
        (
            *("config.json", "tokenizer.json", "model.safetensors", "pytorch_model.bin", "onnx/model.onnx", "readme.md"),
            *("1_Pooling/config.json", "2_Dense/pytorch_model.bin", "3_Dense/model.safetensors", "3_Dense/pytorch_model.bin"),
        ),
        b"some",
    ),
}
NOBODY = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def test_a_file_is_fetched_once_and_then_needs_no_network(tmp_path: Path) -> None:
    with stand_in_hub(FILES) as server:
        hub = server.hub(tmp_path)
        assert hub.cached("some/set", "de/x.txt", REVISION) is None
        file = hub.dataset_file("some/set", "de/x.txt", REVISION, "advice")
        assert file.read_bytes() == b"hello"
        assert hub.cached("some/set", "de/x.txt", REVISION) == file
        assert hub.dataset_file("some/set", "de/x.txt", REVISION, "advice") == file
        assert server.asked == ["de/x.txt"]
    assert Hub(NOBODY, tmp_path).dataset_file("some/set", "de/x.txt", REVISION, "advice") == file


def test_a_gated_set_is_read_with_a_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with stand_in_hub(FILES, token="hf_mine") as server:
        hub = server.hub(tmp_path)
        with pytest.raises(InputError, match=r"x\.txt of some/set at \w+ is gated .*HF_TOKEN.*: do something else$") as caught:
            hub.dataset_file("some/set", "de/x.txt", REVISION, "do something else")
        assert "\n" not in str(caught.value)
        monkeypatch.setenv("HF_TOKEN", "hf_mine")
        assert hub.dataset_file("some/set", "de/x.txt", REVISION, "advice").read_bytes() == b"hello"


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with stand_in_hub(FILES) as server:
        with pytest.raises(InputError, match=r"x\.txt of some/other .*not on the hub for everybody .*HF_TOKEN.*: advice"):
            server.hub(tmp_path).dataset_file("some/other", "x.txt", REVISION, "advice")
        with pytest.raises(InputError, match=r"missing\.txt of some/set .*is not on the hub: advice"):
            server.hub(tmp_path).dataset_file("some/set", "missing.txt", REVISION, "advice")


@pytest.mark.parametrize("name", ["a/b/c", "/absent/folder", "../x", "a b/c"])
def test_what_no_repository_can_be_called_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    hub = Hub(NOBODY, tmp_path)
    for kind, asked in {
        "model": lambda: hub.model_directory(name, None, "advice"),
        "data set": lambda: hub.dataset_files(name, None, "advice"),
    }.items():
        with pytest.raises(InputError, match=rf"^{re.escape(repr(name))} is no name of a {kind} on the hub: advice$"):
            asked()


def test_a_model_comes_with_one_format_of_weights_and_is_kept(tmp_path: Path) -> None:
    with stand_in_hub(FILES) as server:
        directory = server.hub(tmp_path).model_directory("some/model", None, "advice")
    files = sorted(file.relative_to(directory).as_posix() for file in directory.rglob("*") if file.is_file())
    modules = ["1_Pooling/config.json", "2_Dense/pytorch_model.bin", "3_Dense/model.safetensors"]
    assert files == [*modules, "config.json", "model.safetensors", "tokenizer.json"]
    for revision in (None, REVISION):
        assert Hub(NOBODY, tmp_path).model_directory("some/model", revision, "advice") == directory


@pytest.mark.parametrize("answers", [False, True])
def test_a_hub_out_of_reach_fails_within_seconds(answers: bool, tmp_path: Path) -> None:
    """Nobody listens at the port, or somebody listens and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if answers:
            listener.listen()
        hub = Hub(f"http://127.0.0.1:{listener.getsockname()[1]}", tmp_path, patience=0.5)
        start = time.monotonic()
        with pytest.raises(InputError, match=r"^x of some/set at main cannot be had .*cannot be reached.*: advice$") as caught:
            hub.dataset_file("some/set", "x", "main", "advice")
        with pytest.raises(InputError, match=r"^some/model cannot be had .*cannot be reached.*: advice$"):
            hub.model_directory("some/model", None, "advice")
        assert time.monotonic() - start < 4
        assert "\n" not in str(caught.value)
