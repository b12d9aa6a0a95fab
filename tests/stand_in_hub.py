"""A server on this machine that answers the hub's client: a few files, one revision, gated where a token is asked for.

What is pushed to it can be had from it again; files of `LARGE` bytes and more travel as the hub's large ones do.
"""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from hybrid_retrieval.hub import Hub

REVISION = "0123456789abcdef0123456789abcdef01234567"
LARGE = 10_000


class StandIn(http.server.ThreadingHTTPServer):
    """What it holds by repository and path, and what it was asked for."""

    def __init__(self, repositories: Mapping[str, Mapping[str, bytes]], token: str | None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[str, dict[str, bytes]]
        self.repositories, self.token = {name: dict(files) for name, files in repositories.items()}, token
        self.asked: list[str] = []
        self.posted: list[tuple[str, Any]] = []
        """Addresses, and the lines of JSON that were sent to them."""
        self.large: dict[str, bytes] = {}
        """Content by its SHA-256 that waits for a commit."""

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def hub(self, cache: Path) -> Hub:
        """A reader of it."""
        return Hub(self.address, cache)


@contextmanager
def stand_in_hub(repositories: Mapping[str, Mapping[str, bytes]], token: str | None = None) -> Iterator[StandIn]:
    """Serve {repository: {path: content}}, only to who has the `token`."""
    with StandIn(repositories, token) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class Handler(http.server.BaseHTTPRequestHandler):
    """The parts of the hub's interface that its client uses to list, to download and to push."""

    server: StandIn

    def do_HEAD(self) -> None:
        self.reply(body=False)

    def do_GET(self) -> None:
        self.reply(body=True)

    def reply(self, body: bool) -> None:
        path = unquote(self.path.partition("?")[0])
        parts = path.removeprefix("/api").removeprefix("/models").removeprefix("/datasets").split("/")
        files = self.server.repositories.get("/".join(parts[1:3]))
        if self.server.token and self.headers["Authorization"] != f"Bearer {self.server.token}":
            self.answer(401, {"X-Error-Code": "GatedRepo", "X-Error-Message": "ask first"})
        elif len(parts) > 2 and files is None:
            self.answer(401, {"X-Error-Code": "RepoNotFound"})
        elif files is None:
            self.answer(200, {})
        elif "tree" in parts:
            self.json([{"type": "file", "path": path, "size": len(files[path]), "oid": path} for path in files], body)
        elif "resolve" not in parts:
            self.json({"id": "/".join(parts[1:3]), "sha": REVISION, "siblings": [{"rfilename": path} for path in files]}, body)
        elif (path := "/".join(parts[5:])) in files:
            if body:
                self.server.asked.append(path)
            self.answer(200, {"ETag": f'"{hash(files[path])}"', "X-Repo-Commit": REVISION}, files[path], body)
        else:
            self.answer(404, {"X-Error-Code": "EntryNotFound"})

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"] or 0))
        lines = [json.loads(line) for line in content.splitlines()]
        self.server.posted.append((self.path, lines))
        parts = self.path.removeprefix("/api").removeprefix("/models").strip("/").split("/")
        name = "/".join(parts[:2]).removesuffix(".git")
        if self.server.token and self.headers["Authorization"] != f"Bearer {self.server.token}":
            self.answer(401, {"X-Error-Message": "Invalid username or password."})
        elif parts == ["repos", "create"]:
            made = f"{lines[0]['organization']}/{lines[0]['name']}"
            self.server.repositories.setdefault(made, {})
            self.json({"url": f"{self.server.address}/{made}", "name": made}, True)
        elif parts[2:3] == ["preupload"]:
            modes = {one["path"]: "lfs" if one["size"] >= LARGE else "regular" for one in lines[0]["files"]}
            self.json({"files": [{"path": path, "uploadMode": modes[path], "shouldIgnore": False} for path in modes]}, True)
        elif parts[-2:] == ["objects", "batch"]:
            hrefs = {one["oid"]: f"{self.server.address}/large/{one['oid']}" for one in lines[0]["objects"]}
            wanted = [{**one, "actions": {"upload": {"href": hrefs[one["oid"]]}}} for one in lines[0]["objects"]]
            self.json({"transfer": "basic", "objects": wanted}, True)
        elif parts[2:3] == ["commit"]:
            for line in lines[1:]:
                value, is_large = line["value"], line["key"] == "lfsFile"
                sent = self.server.large[value["oid"]] if is_large else base64.b64decode(value["content"])
                self.server.repositories[name][value["path"]] = sent
            self.json({"commitUrl": f"{self.server.address}/{name}/commit/{REVISION}", "commitOid": REVISION}, True)
        else:  # a branch; metadata to check
            self.json({}, True)

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        oid = self.path.rpartition("/")[2]
        assert hashlib.sha256(content).hexdigest() == oid
        self.server.large[oid] = content
        self.answer(200, {})

    def json(self, record: Any, body: bool) -> None:
        self.answer(200, {"Content-Type": "application/json"}, json.dumps(record).encode(), body)

    def answer(self, status: int, headers: Mapping[str, str], content: bytes = b"", body: bool = True) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass
