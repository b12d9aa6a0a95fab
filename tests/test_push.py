"""A model to a hub: what arrives is what lay there, and what cannot be sent is refused in a line, with nothing sent."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hybrid_retrieval import push
from tests.conftest import SMALL, Command
from tests.stand_in_hub import LARGE, StandIn, stand_in_hub

TOKEN = "hf_secretsecret"
FILES = {
    "modules.json": b"[]",
    "README.md": b"---\nlicense: unknown\n---\n# A model\n",
    "model.safetensors": bytes(range(256)) * (LARGE // 64),
    "tokenizer.json": b"{}",
    "results/a b_ä.json": b'{"a": "\xff"}',
    "1_Pooling/config.json": b"",
}

Push = Callable[..., tuple[int, str]]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    for name, content in {**FILES, ".env": b"secret", "1_Pooling/.hidden": b"secret"}.items():
        path = tmp_path / "model" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "model"


@pytest.fixture
def pushed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Push:
    """Runs the command; the exit code, and all that it printed."""
    from huggingface_hub import constants

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))

    def run(*arguments: str) -> tuple[int, str]:
        try:
            code = push.main(arguments)
        except SystemExit as end:
            code = int(end.code or 0)
        printed = capfd.readouterr()
        return code, printed.out + printed.err

    return run


def refused(outcome: tuple[int, str], *parts: str) -> None:
    code, printed = outcome
    lines = [line for line in printed.splitlines() if line.startswith("error: ")]
    assert (code, len(lines)) == (2, 1), printed
    assert "Traceback" not in printed
    assert TOKEN not in printed
    for part in parts:
        assert part in lines[0]


def test_every_file_arrives_as_it_lay_there(pushed: Push, model: Path) -> None:
    with stand_in_hub({}, token=TOKEN) as server:
        code, printed = pushed(str(model), "me/mine", "--endpoint", server.address, "--private", "--revision", "v1/a")
    assert code == 0, printed
    assert f"pushed: {server.address}/me/mine/tree/v1/a\n" in printed
    assert server.repositories == {"me/mine": FILES}
    assert [*server.large.values()] == [FILES["model.safetensors"]]
    (created,) = [lines[0] for path, lines in server.posted if path == "/api/repos/create"]
    assert created["visibility"] == "private"
    paths = [path for path, _ in server.posted]
    assert "/api/models/me/mine/branch/v1%2Fa" in paths
    assert "/api/models/me/mine/commit/v1%2Fa" in paths
    assert TOKEN not in printed


def test_what_was_pushed_can_be_had(pushed: Push, model: Path, tmp_path: Path) -> None:
    with stand_in_hub({}) as server:
        assert pushed(str(model), "me/mine", "--endpoint", server.address)[0] == 0
        directory = server.hub(tmp_path / "cache").model_directory("me/mine", None, "advice")
    assert (directory / "model.safetensors").read_bytes() == FILES["model.safetensors"]


@pytest.mark.slow
def test_a_run_is_exported_first_with_its_card(pushed: Push, command: Command, tmp_path: Path) -> None:
    done = command("run", *SMALL, "model=static", "evaluation.bias=none", "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    with stand_in_hub({}, token=TOKEN) as server:
        code, printed = pushed(str(tmp_path / "run"), "me/mine", "--endpoint", server.address, "--licence", "apache-2.0")
    assert code == 0, printed
    arrived = server.repositories["me/mine"]
    assert {"modules.json", "model.safetensors", "tokenizer.json", "results/model_meta.json"} <= arrived.keys()
    assert b"license: apache-2.0\n" in arrived["README.md"]
    assert b'SentenceTransformer("me/mine")' in arrived["README.md"]


@pytest.fixture
def server() -> Iterator[StandIn]:
    """One that is sent nothing."""
    with stand_in_hub({}, token=TOKEN) as server:
        yield server
        assert not server.repositories
        assert not server.large


def test_a_push_without_a_token_is_refused(pushed: Push, model: Path, server: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    refused(pushed(str(model), "me/mine", "--endpoint", server.address), "needs a token: set HF_TOKEN", "hf auth login")
    assert not server.posted


def test_a_wrong_token_is_refused_and_not_printed(
    pushed: Push, model: Path, server: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_wrongwrong")
    code, printed = pushed(str(model), "me/mine", "--endpoint", server.address)
    refused((code, printed), "me/mine cannot be pushed to")
    assert "hf_wrong" not in printed


@pytest.mark.parametrize("name", ["mine", "me/mine/more", "me/", "/mine", "me/mi ne", "me/../x", "me/--x", "", "me/\x1b[31m"])
def test_a_name_that_no_model_can_have_is_refused(pushed: Push, model: Path, server: StandIn, name: str) -> None:
    refused(pushed(str(model), "--endpoint", server.address, "--", name), "is no name of a model")
    assert not server.posted


@pytest.mark.parametrize("absent", ["modules.json", "model.safetensors", None])
def test_a_directory_without_a_model_is_refused(pushed: Push, model: Path, server: StandIn, absent: str | None) -> None:
    if absent:
        (model / absent).unlink()
    place = model if absent else model / "nowhere"
    refused(pushed(str(place), "me/mine", "--endpoint", server.address), str(place), "hybrid-retrieval export wrote")
    assert not server.posted


@pytest.mark.parametrize("answers", [False, True])
def test_a_hub_that_does_not_answer_is_refused(
    pushed: Push, model: Path, answers: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hybrid_retrieval.hub import Hub

    monkeypatch.setattr(push, "Hub", lambda endpoint: Hub(endpoint, patience=0.5))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if answers:
            listener.listen()
        endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
        refused(pushed(str(model), "me/mine", "--endpoint", endpoint), "me/mine cannot be pushed", "cannot be reached")


@pytest.mark.parametrize("endpoint", ["ftp://x", "x", "http://me:secret@127.0.0.1", "https://x/?token=secret", "http://"])
def test_an_endpoint_that_is_none_is_refused(pushed: Push, model: Path, endpoint: str) -> None:
    code, printed = pushed(str(model), "me/mine", "--endpoint", endpoint)
    refused((code, printed), "expected http(s)://HOST without a password")
    assert "secret" not in printed


@pytest.mark.parametrize("revision", ["a b", "../x", "-x", ""])
def test_a_branch_that_is_none_is_refused(pushed: Push, model: Path, server: StandIn, revision: str) -> None:
    refused(pushed(str(model), "me/mine", "--endpoint", server.address, f"--revision={revision}"), "no name of a branch")
    assert not server.posted
