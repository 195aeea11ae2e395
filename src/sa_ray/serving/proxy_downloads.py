"""Send downloads at the pace of their clients, from within Serve's HTTP proxy.

What a replica sends is buffered there until the client takes it, however much it is, and the
replica hears nothing of it. So a download is fetched in pieces, each once its client has taken the
one before; a client that takes nothing holds one piece, and no slot of a replica.
"""

import asyncio
import re
from collections import Counter
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sa_ray.serving.client_address import address_of
from sa_ray.serving.request_bounds import replay

DOWNLOAD = re.compile(r"(?:/[^/]+)*/jobs/[^/]+/audio/?")
"""Matches the paths of downloads, under any prefix."""

HEADER = b"x-download-piece"
"""Header that asks for one piece. Its value tells how many other downloads are open in this proxy,
in all and to this client; `` next`` behind that marks the pieces after a download's first. What a
client says of it is dropped."""

NEXT = " next"

PIECE_BYTES = 2 << 20
"""Most bytes that a download holds while its client takes none."""

SLICE_BYTES = 1 << 16
MAX_FAILURES = 2
"""Most times in a row that a piece is asked for again."""

RETRY_S = 0.5
STALL_S = 60.0
"""Seconds within which a client has to take ``SLICE_BYTES``: else its connection is cut."""


def goes_on(scope: Scope) -> bool:
    """Return whether a request that has passed here is for a piece after a download's first."""
    if scope["method"] != "GET" or not DOWNLOAD.fullmatch(scope["path"]):
        return False
    return any(name == HEADER and value.endswith(NEXT.encode()) for name, value in scope["headers"])


class PacedDownloads:
    """Middleware that fetches downloads in pieces, each once the client has taken the one before.

    Outside of all that replaces ``send``: it has to reach the connection, to cut it off.
    """

    def __init__(self, app: ASGIApp, stall_s: float = STALL_S) -> None:
        self._app = app
        self._stall_s = stall_s
        self._open: Counter[str] = Counter()

    @property
    def count(self) -> int:
        """How many are under way."""
        return self._open.total()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = [(name, value) for name, value in scope["headers"] if name != HEADER]
        if scope.get("method") != "GET" or not DOWNLOAD.fullmatch(scope["path"]):
            await self._app({**scope, "headers": headers}, receive, send)
            return
        client = address_of(scope)
        others = f"{self.count} {self._open[client]}"
        self._open[client] += 1
        leaves = asyncio.create_task(_leaves(receive))
        try:
            client_side = _ClientSide(send, leaves, self._stall_s)
            await _Download(self._app, {**scope, "headers": headers}, client_side).send(others)
        finally:
            leaves.cancel()
            self._open[client] -= 1
            self._open += Counter()  # forgets clients that have none


async def _leaves(receive: Receive) -> None:
    """Return once the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


class _ClientSide:
    """The connection to the client, which is cut if it takes nothing for ``stall_s`` seconds."""

    def __init__(self, send: Send, leaves: "asyncio.Task[None]", stall_s: float) -> None:
        self._send = send
        self._leaves = leaves
        self._stall_s = stall_s
        self._is_cut = False

    @property
    def has_left(self) -> bool:
        return self._is_cut or self._leaves.done()

    async def left(self) -> None:
        await asyncio.wait([self._leaves])

    async def send(self, message: Message) -> None:
        if self.has_left:
            return
        try:
            async with asyncio.timeout(self._stall_s):
                await self._send(message)
        except TimeoutError:
            self.cut()

    def cut(self) -> None:
        """Drop the connection and all that waits to be sent on it."""
        self._is_cut = True
        exchange: Any = getattr(self._send, "__self__", None)
        transport = getattr(exchange, "transport", None)
        if transport is None:
            raise ConnectionAbortedError("the client takes no more of the download")
        transport.abort()


class _Download:
    """One download; ``send`` fetches it from ``app`` and sends it to the client."""

    def __init__(self, app: ASGIApp, scope: Scope, client: _ClientSide) -> None:
        self._app = app
        self._scope = scope
        self._client = client
        self._position = self._end = 0
        """Bytes of the file, from the next to be sent to the last."""
        self._is_part = False

    async def send(self, others: str) -> None:
        await self._fetch(self._scope["headers"], others, self._take_first)
        failures = 0
        while self._position < self._end and not self._client.has_left:
            before = self._position
            await self._fetch(self._headers_of_rest(), f"0 0{NEXT}", self._take_next)
            failures = 0 if self._position > before else failures + 1
            if failures > MAX_FAILURES:
                self._client.cut()
            elif failures:
                await asyncio.sleep(RETRY_S)

    def _headers_of_rest(self) -> list[tuple[bytes, bytes]]:
        part = f"bytes={self._position}-{self._end - 1}".encode()
        kept = [(name, value) for name, value in self._scope["headers"] if name != b"range"]
        return [*kept, (b"range", part)]

    async def _fetch(self, headers: list[tuple[bytes, bytes]], others: str, take: Send) -> None:
        async def left() -> Message:
            await self._client.left()
            return {"type": "http.disconnect"}

        scope = {**self._scope, "headers": [*headers, (HEADER, others.encode())]}
        await self._app(scope, replay(b"", left), take)

    async def _take_first(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = {name.lower(): value for name, value in message["headers"]}
            self._position, self._end = _extent(message["status"], headers)
            await self._client.send(message)
        elif self._end:
            await self._pass_on(message)
        else:
            await self._client.send(message)

    async def _take_next(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._is_part = message["status"] == 206
        elif self._is_part:
            await self._pass_on(message)

    async def _pass_on(self, message: Message) -> None:
        body = message.get("body", b"")
        for start in range(0, len(body), SLICE_BYTES):
            part = body[start : start + SLICE_BYTES]
            self._position += len(part)
            await self._client.send(
                {
                    "type": "http.response.body",
                    "body": part,
                    "more_body": self._position < self._end,
                }
            )


def _extent(status: int, headers: dict[bytes, bytes]) -> tuple[int, int]:
    """Return where in the file the answer starts and ends; (0, 0) if it is no part of a file."""
    length = int(headers.get(b"content-length", b"0"))
    if status == 200:
        return 0, length
    if status == 206:
        start = int(headers[b"content-range"].removeprefix(b"bytes ").partition(b"-")[0])
        return start, start + length
    return 0, 0
