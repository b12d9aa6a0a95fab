"""An embedding endpoint on the loopback interface that answers, or fails, as a test tells it to."""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

KEY = "sk-secret-0123456789"
WIDTH = 6
SOON = {"retry-after-ms": "10"}
"""Headers that let the `openai` package try again at once."""


def vector(text: str, width: int = WIDTH) -> list[float]:
    """What the server gives: a function of the text, of no particular length."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
    return np.random.default_rng(seed).standard_normal(width).round(4).tolist()


def unit(text: str) -> np.ndarray:
    values = np.array(vector(text))
    return values / np.linalg.norm(values)


def answer_to(body: dict[str, Any]) -> dict[str, Any]:
    """One token a word."""
    width = body.get("dimensions", WIDTH)
    data = [{"index": n, "embedding": vector(text, width)} for n, text in enumerate(body["input"])]
    return {"data": data, "model": body["model"], "usage": {"total_tokens": sum(len(t.split()) for t in body["input"])}}


@dataclass
class Dripped:
    """An answer that never ends: its head, then the same drop again and again."""

    head: bytes
    drop: bytes

    def send(self, connection: socket.socket) -> None:
        connection.sendall(self.head)
        end = time.monotonic() + 20
        while time.monotonic() < end:
            connection.sendall(self.drop)
            time.sleep(0.02)


class EndpointServer:
    """`faults` are used up first: (status, headers, text) or a function from a body to that, "drop", a `Dripped`, or None."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.times: list[float] = []
        self.faults: list[Any] = []
        self.under_way, self.most_under_way, self.delay = 0, 0, 0.0
        self.lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.handle(self)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        body = json.loads(request.rfile.read(int(request.headers["Content-Length"])))
        with self.lock:
            self.bodies.append({"path": request.path, **body})
            self.headers.append({name.lower(): value for name, value in request.headers.items()})
            self.times.append(time.monotonic())
            self.under_way += 1
            self.most_under_way = max(self.most_under_way, self.under_way)
            fault = self.faults.pop(0) if self.faults else None
        time.sleep(self.delay)
        with self.lock:
            self.under_way -= 1
        if fault == "drop":
            request.close_connection = True
            request.connection.close()
            return
        if isinstance(fault, Dripped):
            request.close_connection = True
            with contextlib.suppress(OSError):
                fault.send(request.connection)
            return
        status, headers, text = fault(body) if callable(fault) else fault or (200, {}, json.dumps(answer_to(body)))
        request.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers, "Content-Length": str(len(text.encode()))}.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(text.encode())

    @property
    def texts(self) -> list[str]:
        """All that was asked for."""
        return [text for body in self.bodies for text in body["input"]]

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()
