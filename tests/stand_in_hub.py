"""A server on this machine that answers the hub's client: a few files, one revision, gated where a token is asked for."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hybrid_retrieval.hub import Hub

REVISION = "0123456789abcdef0123456789abcdef01234567"


class StandIn(http.server.ThreadingHTTPServer):
    """What it holds by repository and path, and what it was asked for."""

    def __init__(self, repositories: Mapping[str, Mapping[str, bytes]], token: str | None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories, self.token = repositories, token
        self.asked: list[str] = []

    def hub(self, cache: Path) -> Hub:
        """A reader of it."""
        return Hub(f"http://127.0.0.1:{self.server_port}", cache)


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
    """The parts of the hub's interface that its client uses to list and to download."""

    server: StandIn

    def do_HEAD(self) -> None:
        self.reply(body=False)

    def do_GET(self) -> None:
        self.reply(body=True)

    def reply(self, body: bool) -> None:
        parts = self.path.partition("?")[0].removeprefix("/api").removeprefix("/models").removeprefix("/datasets").split("/")
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
