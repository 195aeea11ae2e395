"""A TCP proxy before a real server, to make the network and the server fail on purpose."""

import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Self

from sa_ray.local import free_port

DRAIN_TIMEOUT_S = 2.0

_FAULT = b"<Error><Code>InternalError</Code><Message>On purpose.</Message></Error>"
_ANSWER_500 = (
    b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/xml\r\n"
    b"Connection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(_FAULT), _FAULT)
)


class FaultProxy:
    """Passes connections on to ``port`` of this machine until told otherwise.

    A change breaks the connections there are, unless it says otherwise. The address stays the same.
    """

    def __init__(self, port: int) -> None:
        self._upstream = ("127.0.0.1", port)
        self._address = ("127.0.0.1", free_port())
        self._server: socketserver.ThreadingTCPServer | None = None
        self._open: set[socket.socket] = set()
        self._speaking = threading.Event()

    @property
    def port(self) -> int:
        return self._address[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._address[1]}"

    def __enter__(self) -> Self:
        self.pass_on()
        return self

    def __exit__(self, *_: object) -> None:
        self.refuse()

    def pass_on(self, *, delay_s: float = 0.0, damage: tuple[bytes, bytes] | None = None) -> None:
        """``delay_s``: how long each request waits. ``damage``: what is changed on its way there,
        and into what."""
        self._listen(lambda client: self._forward(client, delay_s, damage or (b"", b"")))
        self._speaking.set()

    def lead_new_connections_to(self, port: int) -> None:
        """As a name that has come to mean another server; connections that exist stay."""
        self._upstream = ("127.0.0.1", port)

    def fall_silent(self) -> None:
        """As a server whose machine died, or a route that was dropped: connections stay open, new
        ones are taken, and nothing is answered."""
        self._speaking.clear()

    def lose_answers(self, count: int) -> None:
        """The next ``count`` answers break their connections instead; their requests arrive."""
        left = iter(range(count))

        def carry(client: socket.socket, data: bytes) -> bytes:
            if next(left, None) is None:
                return data
            client.shutdown(socket.SHUT_RDWR)
            raise ConnectionAbortedError

        self._listen(lambda client: self._forward(client, 0.0, (b"", b""), carry))

    def answer_500(self) -> None:
        """As an S3 server that is broken."""
        self._listen(_answer_500)

    def refuse(self) -> None:
        """Nobody listens."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        self._speaking.set()
        for connection in tuple(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _listen(self, handler: Callable[[socket.socket], None]) -> None:
        self.refuse()
        proxy = self

        class Connection(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with proxy._held(self.request), suppress(OSError):
                    handler(self.request)

        self._server = _Server(self._address, Connection)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @contextmanager
    def _held(self, connection: socket.socket) -> Iterator[None]:
        self._open.add(connection)
        try:
            yield
        finally:
            self._open.discard(connection)

    def _forward(
        self,
        client: socket.socket,
        delay_s: float,
        damage: tuple[bytes, bytes],
        carry: Callable[[socket.socket, bytes], bytes] = lambda _, data: data,
    ) -> None:
        answered = threading.Event()
        answered.set()

        def to_server(data: bytes) -> bytes:
            self._speaking.wait()
            if answered.is_set():  # so this begins a request
                answered.clear()
                time.sleep(delay_s)
            return data.replace(*damage) if damage[0] else data

        def to_client(data: bytes) -> bytes:
            answered.set()
            self._speaking.wait()
            return carry(client, data)

        with socket.create_connection(self._upstream) as server, self._held(server):
            back = threading.Thread(target=_copy, args=(server, client, to_client))
            back.start()
            _copy(client, server, to_server)
            back.join()


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64


def _copy(source: socket.socket, sink: socket.socket, change: Callable[[bytes], bytes]) -> None:
    with suppress(OSError):
        try:
            while data := source.recv(1 << 16):
                sink.sendall(change(data))
        finally:  # also of a connection that was reset, as those of a killed process may be
            sink.shutdown(socket.SHUT_WR)


def _answer_500(client: socket.socket) -> None:
    client.settimeout(DRAIN_TIMEOUT_S)
    request = client.makefile("rb")
    while request.readline().strip():
        pass
    client.sendall(_ANSWER_500)
    # Closed with bytes unread, the connection would be reset before the answer is read.
    while request.read1(1 << 16):
        pass
