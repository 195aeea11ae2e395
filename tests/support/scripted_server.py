"""A server that answers as a test has told it."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


@dataclass(frozen=True)
class Answer:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    """Bytes of the answer after which the connection ends; None: all of them."""


def refusal(status: int, code: str, **headers: str) -> Answer:
    error = {"code": code, "message": "Not now.", "param": None, "request_id": "r"}
    return Answer(status, json.dumps({"error": error}).encode(), headers)


@dataclass(frozen=True)
class Seen:
    method: str
    path: str
    headers: Message
    body: Any
    """What the JSON says, the bytes of another body, None without one."""
    at: float = field(default_factory=time.monotonic)

    @property
    def key(self) -> str | None:
        return self.headers["Idempotency-Key"]

    @property
    def authorization(self) -> str | None:
        return self.headers["Authorization"]


class Server:
    """Answers with ``script``, one after the other, and notes what it is asked."""

    def __init__(self) -> None:
        self.script: list[Answer] = []
        self.seen: list[Seen] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"] or 0))
                is_json = self.headers["Content-Type"] == "application/json"
                told = json.loads(body) if is_json else body or None
                server.seen.append(Seen(self.command, self.path, self.headers, told))
                answer = server.script.pop(0)
                if answer.cut == 0:
                    self.close_connection = True
                    return
                self.send_response(answer.status)
                for name, text in answer.headers.items():
                    self.send_header(name.replace("_", "-"), text)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body[: answer.cut])

            do_POST = do_DELETE = do_GET  # noqa: N815 - as the base class wants them

            def log_message(self, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def asked(self, *script: Answer) -> None:
        """Answer the next requests with ``script``."""
        self.script = list(script)


def serving() -> Iterator[Server]:
    server = Server()
    Thread(target=server.http.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.http.shutdown()
    server.http.server_close()


def as_json(body: object) -> Answer:
    return Answer(body=json.dumps(body).encode())
