"""Downloads through what stands in front of Serve's proxy, over a real HTTP server."""

import asyncio
import re
import socket
from collections.abc import Callable
from contextlib import suppress

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from sa_ray.serving.proxy_downloads import HEADER, PIECE_BYTES, PacedDownloads
from tests.support.asgi_server import served

PIECES = 12
FILE = bytes(range(256)) * ((PIECES - 1) * PIECE_BYTES // 256) + b"the end"
PATH = f"/jobs/{'0' * 32}/audio"

Broken = Callable[[int], bool]


class Replica:
    """Answers as the ingress does: with one piece, or all of a part where no piece is asked for.

    ``breaks`` tells of each answer, by its number, whether it breaks off.
    """

    def __init__(self, breaks: Broken = lambda _: False) -> None:
        self.asked: list[dict[bytes, bytes]] = []
        self.left = asyncio.Event()
        self._breaks = breaks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        self.asked.append(headers)
        start, end = 0, len(FILE)
        own = []
        if found := re.fullmatch(rb"bytes=(\d+)-(\d+)", headers.get(b"range", b"")):
            start, end = int(found[1]), int(found[2]) + 1
            own.append((b"content-range", b"bytes %d-%d/%d" % (start, end - 1, len(FILE))))
        own.append((b"content-length", b"%d" % (end - start)))
        status = 206 if found else 200
        await send({"type": "http.response.start", "status": status, "headers": own})
        if self._breaks(len(self.asked)):
            return
        if HEADER in headers:
            end = min(end, start + PIECE_BYTES)
        await send({"type": "http.response.body", "body": FILE[start:end], "more_body": False})


async def get(port: int, path: str = PATH, **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as client:
        return await client.get(f"http://127.0.0.1:{port}{path}", headers=headers)


async def deaf(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A client that asks for the file and reads only the head of the answer."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    connection.setblocking(False)
    await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=connection, limit=1 << 12)
    writer.write(f"GET {PATH} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")
    return reader, writer


async def test_a_download_comes_in_pieces_and_is_whole() -> None:
    replica = Replica()
    async with served(PacedDownloads(replica)) as port:
        answer = await get(port, **{"X-Request-Id": "7"})

    assert answer.status_code == 200
    assert answer.content == FILE
    assert len(replica.asked) == PIECES
    assert {asked[b"x-request-id"] for asked in replica.asked} == {b"7"}


async def test_a_part_comes_in_pieces_too() -> None:
    replica = Replica()
    async with served(PacedDownloads(replica)) as port:
        part = await get(port, Range=f"bytes=5-{PIECE_BYTES + 9}")

    assert (part.status_code, part.content) == (206, FILE[5 : PIECE_BYTES + 10])
    assert part.headers["content-range"] == f"bytes 5-{PIECE_BYTES + 9}/{len(FILE)}"
    assert len(replica.asked) == 2


async def test_no_piece_is_fetched_for_a_client_that_takes_none() -> None:
    replica = Replica()
    async with served(PacedDownloads(replica)) as port:
        _, writer = await deaf(port)
        assert (await get(port)).content == FILE
        asked_for_both = len(replica.asked)
        writer.close()

    assert asked_for_both < PIECES + PIECES // 2  # the buffers of sockets take some


async def test_a_replica_hears_how_many_others_there_are_and_not_from_clients() -> None:
    replica = Replica()
    async with served(PacedDownloads(replica)) as port:
        connections = [await deaf(port) for _ in range(2)]
        await get(port, Range="bytes=0-0", **{HEADER.decode(): "0 0"})
        await get(port, "/jobs", **{HEADER.decode(): "0 0"})
        for _, writer in connections:
            writer.close()

    firsts = [asked[HEADER] for asked in replica.asked if HEADER in asked]
    assert firsts[:1] == [b"0 0"]
    assert firsts[-1] == b"2 2"
    assert HEADER not in replica.asked[-1]


async def test_a_client_that_takes_nothing_is_cut_off() -> None:
    app = PacedDownloads(Replica(), stall_s=0.1)
    async with served(app) as port:
        reader, writer = await deaf(port)
        while (await get(port, Range="bytes=0-0")).status_code and app.count:
            await asyncio.sleep(0.01)
        received = 0
        with suppress(ConnectionResetError):
            while data := await reader.read(1 << 16):
                received += len(data)
        writer.close()

    assert received < len(FILE)


@pytest.mark.parametrize("number", [1, 2])
async def test_a_piece_that_breaks_off_is_asked_for_again(number: int) -> None:
    async with served(PacedDownloads(Replica(lambda asked: asked == number))) as port:
        assert (await get(port)).content == FILE


async def test_a_download_whose_source_is_gone_falls_short() -> None:
    async with served(PacedDownloads(Replica(lambda asked: asked > 2))) as port:
        with pytest.raises(httpx.TransportError):
            await get(port)


async def test_what_is_no_file_comes_as_it_is() -> None:
    async def missing(_scope: Scope, _receive: Receive, send: Send) -> None:
        start: Message = {"type": "http.response.start", "status": 404, "headers": []}
        await send(start)
        await send({"type": "http.response.body", "body": b"no", "more_body": True})
        await send({"type": "http.response.body", "body": b"ne", "more_body": False})

    async with served(PacedDownloads(missing)) as port:
        answer = await get(port)

    assert (answer.status_code, answer.text) == (404, "none")
