"""A kept HTTP/1.1 connection that costs the client next to nothing.

The client shares the cores with the servers, so bodies are counted and thrown away as they come: a
clip of 5 s costs it about 0.1 ms of CPU.
"""

import asyncio
from contextlib import suppress
from typing import NamedTuple, cast

END_OF_HEAD = b"\r\n\r\n"
BUFFER_BYTES = 1 << 18
KEPT_BYTES = 1 << 16
"""Bodies up to this size are kept: JSON, not audio."""

TIMEOUT_S = 120.0


class Answer(NamedTuple):
    """``body``: empty where it is larger than ``KEPT_BYTES``. ``size``: its bytes all the same."""

    status: int
    head: bytes
    body: bytes
    size: int

    def header(self, name: str) -> str | None:
        """Return the header called ``name``, in lower case; None if there is none."""
        at = self.head.lower().find(b"\r\n" + name.encode() + b":")
        if at < 0:
            return None
        line = self.head[at + 2 :].split(b"\r\n", 1)[0]
        return line.split(b":", 1)[1].decode("latin-1").strip()


class Connection(asyncio.BufferedProtocol):
    """One connection, for one request at a time. Reads only answers that tell their length."""

    def __init__(self) -> None:
        self._buffer = memoryview(bytearray(BUFFER_BYTES))
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[Answer] | None = None
        self._head = b""
        self._partial = bytearray()
        self._size = self._left = 0
        self.is_open = False

    @classmethod
    async def to(cls, host: str, port: int) -> "Connection":
        """Connect. Raises ``OSError`` if nobody listens."""
        loop = asyncio.get_running_loop()
        return (await loop.create_connection(cls, host, port))[1]

    async def exchange(self, request: bytes, timeout_s: float = TIMEOUT_S) -> Answer:
        """Send ``request`` and return its answer.

        Raises ``ConnectionError`` if the connection ends before that, and ``TimeoutError``, after
        which the connection is closed.
        """
        if self._transport is None or not self.is_open:
            raise ConnectionError("The connection is closed.")
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        try:
            async with asyncio.timeout(timeout_s):
                return await self._answer
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self.is_open = False
        if self._transport:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is not a subclass
        self.is_open = True

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        if self._answer and not self._answer.done():
            self._answer.set_exception(exc or ConnectionResetError("The server hung up."))

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        data = self._buffer[:nbytes]
        if self._head:
            self._take(data)
            return
        self._partial += data
        at = self._partial.find(END_OF_HEAD)
        if at < 0:
            return
        end = at + len(END_OF_HEAD)
        self._head, rest = bytes(self._partial[:end]), bytes(self._partial[end:])
        self._partial.clear()
        length = Answer(0, self._head, b"", 0).header("content-length")
        if length is None:
            self._fail("an answer without Content-Length")
            return
        self._size = self._left = int(length)
        self._take(memoryview(rest))

    def _take(self, data: memoryview) -> None:
        self._left -= len(data)
        if self._size <= KEPT_BYTES:
            self._partial += data
        if self._left > 0:
            return
        head, body = self._head, bytes(self._partial)
        self._head = b""
        self._partial.clear()
        if b"connection: close" in head.lower():
            self.close()
        if self._answer and not self._answer.done():
            self._answer.set_result(Answer(int(head[9:12]), head, body, self._size))

    def _fail(self, reason: str) -> None:
        self.close()
        if self._answer and not self._answer.done():
            with suppress(asyncio.InvalidStateError):
                self._answer.set_exception(ConnectionError(reason))


class Connections:
    """Open connections to one server, to be used again; more are opened when none is free."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._free: list[Connection] = []
        self.opened = 0

    async def exchange(self, request: bytes, timeout_s: float = TIMEOUT_S) -> Answer:
        """As ``Connection.exchange``. A kept connection that the server has closed is replaced."""
        while self._free:
            connection = self._free.pop()
            if connection.is_open:
                break
        else:
            self.opened += 1
            connection = await Connection.to(self._host, self._port)
        answer = await connection.exchange(request, timeout_s)
        self._free.append(connection)
        return answer

    def close(self) -> None:
        while self._free:
            self._free.pop().close()
