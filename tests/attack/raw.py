"""Requests as no library would send them, and what a service's processes hold afterwards."""

import contextlib
import json
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from http.client import HTTPResponse
from typing import Any

import psutil

PATIENCE_S = 60.0


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    text: str

    @property
    def error(self) -> dict[str, Any]:
        """The error of the one shape; anything else fails here."""
        error: dict[str, Any] = json.loads(self.text)["error"]
        assert set(error) == {"code", "message", "param", "request_id"}
        assert error["request_id"] == self.headers["x-request-id"]
        return error


def opened(port: int, *parts: bytes) -> socket.socket:
    """A connection to which ``parts`` have been sent."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
    for part in parts:
        connection.sendall(part)
    return connection


def answer(connection: socket.socket, method: str = "GET") -> Answer:
    """The next answer on a connection."""
    response = HTTPResponse(connection, method=method)
    response.begin()
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, headers, response.read().decode())


def asked(port: int, *lines: bytes, body: bytes = b"") -> Answer:
    """The answer to a request of these ``lines``, its head."""
    with opened(port, b"\r\n".join([*lines, b"Host: localhost", b"", body])) as connection:
        return answer(connection)


def flood(connection: socket.socket, parts: Iterable[bytes]) -> None:
    """Send ``parts`` for as long as the other side takes them."""
    with contextlib.suppress(ConnectionError):
        for part in parts:
            connection.sendall(part)


def chunked(mebibytes: int) -> Iterator[bytes]:
    chunk = b"100000\r\n" + b" " * (1 << 20) + b"\r\n"
    for _ in range(mebibytes):
        yield chunk
    yield b"0\r\n\r\n"


def ends(connection: socket.socket) -> bool:
    """Whether the other side closes the connection, in whatever way, without another word."""
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


def memory_of(processes: dict[int, str], *kinds: str) -> dict[str, int]:
    """Resident MiB of the processes that have one of ``kinds`` in their names."""
    held = dict.fromkeys(kinds, 0)
    for pid, name in processes.items():
        with contextlib.suppress(psutil.NoSuchProcess):  # it has ended meanwhile
            for kind in filter(name.__contains__, kinds):
                held[kind] += psutil.Process(pid).memory_info().rss
    return {kind: held_bytes >> 20 for kind, held_bytes in held.items()}
