"""A real HTTP server that takes webhook calls."""

import base64
import queue
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import httpx
from standardwebhooks import Webhook, WebhookVerificationError

SECRET = "whsec_" + base64.b64encode(b"thirty-two bytes make a good key").decode()
"""The operator's, in the tests of ``serve``."""


class Call(NamedTuple):
    path: str
    headers: httpx.Headers
    body: bytes


@dataclass
class Receiver:
    """Answers every POST with ``answer``, which is given the handler and the call."""

    port: int = 0
    answer: Callable[[BaseHTTPRequestHandler, Call], None] = lambda handler, _: respond(handler)
    received: list[Call] = field(default_factory=list)
    calls: queue.Queue[Call] = field(default_factory=queue.Queue)
    """The same calls, to wait for."""

    def url(self, host: str = "127.0.0.1", scheme: str = "http") -> str:
        return f"{scheme}://{host}:{self.port}/hook?a=b"


def respond(
    handler: BaseHTTPRequestHandler, status: int = 204, body: bytes = b"", **headers: str
) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


class _Server(ThreadingHTTPServer):
    request_queue_size = 512

    def handle_error(self, *_: Any) -> None:
        pass  # a refused handshake


@contextmanager
def receiving(context: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """A running receiver; ``context``: speaks TLS."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            call = Call(self.path, httpx.Headers(list(self.headers.items())), body)
            receiver.received.append(call)
            receiver.calls.put(call)
            receiver.answer(self, call)

        def log_message(self, *_args: Any) -> None:
            pass

    with _Server(("127.0.0.1", 0), Handler) as server:
        receiver.port = server.server_port
        if context:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()


def verified(call: Call, *secrets: str) -> list[bool]:
    """For each of ``secrets``, whether a receiver that knows it takes the call."""
    results = []
    for each in secrets:
        try:
            Webhook(each).verify(call.body, dict(call.headers))
        except WebhookVerificationError:
            results.append(False)
        else:
            results.append(True)
    return results
