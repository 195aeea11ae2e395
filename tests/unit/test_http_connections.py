"""Connections of a server as Serve's proxy makes it: what each may send, and when it is closed."""

import asyncio
import json
import socket
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from sa_ray.serving import http_connections
from sa_ray.serving.proxy_front import middlewares
from tests.support.asgi_server import served

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


async def refusing(_scope: Scope, _receive: Receive, send: Send) -> None:
    """Answers without a look at the body."""
    headers = [(b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"ok"})


async def waiting(_scope: Scope, receive: Receive, _send: Send) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


@asynccontextmanager
async def guarded(app: ASGIApp = refusing) -> AsyncIterator[int]:
    """The port of a server that is made after Serve asked for what stands in front."""
    middlewares()
    async with served(app, timeout_keep_alive=1) as port:
        yield port


async def sent(port: int, *parts: bytes) -> bytes:
    """All that comes back for ``parts`` until the connection ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    received = asyncio.create_task(reader.read())
    try:
        async with asyncio.timeout(30):
            for part in parts:
                writer.write(part)
                await writer.drain()
            return await received
    except ConnectionResetError:  # more was on its way
        return b""
    finally:
        received.cancel()
        writer.close()


def error_of(answer: bytes) -> tuple[int, str]:
    """Status and code of an error, which must have the one shape."""
    head, _, body = answer.partition(b"\r\n\r\n")
    error = json.loads(body)["error"]
    assert set(error) == {"code", "message", "param", "request_id"}
    assert uuid.UUID(error["request_id"])
    assert b"x-request-id: " + error["request_id"].encode() in head
    return int(head.split()[1]), error["code"]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_connections, "HEAD_S", 0.1)
    monkeypatch.setattr(http_connections, "LINGER_S", 0.1)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("part", [b"", b"\r\n", b"GET / HT", b"GET / HTTP/1.1\r\nHost: "], ids=repr)
async def test_a_head_that_does_not_end_is_closed(part: bytes) -> None:
    async with guarded() as port:
        assert await sent(port, part) == b""


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("rest", [b"\r\n", b"GET / HTTP/1.1\r\nHost: "], ids=repr)
async def test_so_is_one_after_an_answer(rest: bytes) -> None:
    async with guarded() as port:
        assert (await sent(port, GET, rest)).endswith(b"ok")


@pytest.mark.usefixtures("impatient")
async def test_what_is_left_of_a_body_nobody_reads_is_closed() -> None:
    async with guarded() as port:
        assert (await sent(port, CHUNKED, b"1\r\na\r\n")).endswith(b"ok")


async def test_the_rest_of_a_refused_body_is_dropped_and_the_next_request_answered() -> None:
    body = b"100000\r\n" + b" " * (1 << 20) + b"\r\n0\r\n\r\n"
    close = GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")

    async with guarded() as port:
        assert (await sent(port, CHUNKED, body, close)).count(b"200 OK") == 2


@pytest.mark.parametrize(
    ("part", "status"),
    [
        (b"X-Long: " + b"a" * 40_000 + b"\r\n\r\n", 431),
        (b"X-Short: a\r\n" * 4_000 + b"\r\n", 431),
        (b"bad\r\n\r\n", 400),
        (b"Transfer-Encoding: chunked\r\n\r\n0\r\nTrailer: a\r\n\r\n", 400),
        (b"Transfer-Encoding: chunked\r\n\r\nnot hexadecimal\r\n", 400),
    ],
)
async def test_what_is_too_large_or_not_http_is_refused_in_the_one_shape(
    part: bytes, status: int
) -> None:
    async with guarded(waiting) as port:
        answer = await sent(port, b"POST / HTTP/1.1\r\nHost: a\r\n", part)

    assert error_of(answer)[0] == status


@pytest.mark.parametrize(
    "part",
    [
        b"GET / HTTP/1.1\r\nX-Endless: " + b"a" * 1_000_000,
        CHUNKED + b"0\r\nX-Endless: " + b"a" * 1_000_000,
        CHUNKED + b"1;" + b"extension" * 100_000,
    ],
    ids=["header", "trailer", "extension"],
)
async def test_what_has_no_end_ends_the_connection(
    part: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_connections, "HEAD_S", 1000)
    async with guarded(waiting) as port:
        answer = await sent(port, part)

    assert answer == b"" or error_of(answer) == (431, "headers_too_large")


async def test_a_request_ahead_of_an_answer_is_dropped_and_the_connection_closed() -> None:
    async with guarded() as port:
        assert (await sent(port, GET * 1000)).count(b"200 OK") == 1


async def test_a_client_that_leaves_is_noticed_whatever_it_sent_ahead() -> None:
    left = asyncio.Event()

    async def until_left(scope: Scope, receive: Receive, send: Send) -> None:
        await waiting(scope, receive, send)
        left.set()

    async with guarded(until_left) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET * 1000)
        writer.close()
        async with asyncio.timeout(30):
            await left.wait()


async def test_many_connections_without_a_request_make_room_oldest_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_connections, "MAX_WAITING", 2)
    async with guarded() as port:
        connections = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        oldest, *others = connections

        assert await oldest[0].read() == b""
        for reader, writer in others:
            writer.write(GET)
            assert b"200 OK" in await reader.readuntil(b"ok")
        for _, writer in connections:
            writer.close()


async def deaf(port: int, request: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A client that reads only the head of the answer."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    connection.setblocking(False)
    await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=connection, limit=1 << 12)
    writer.write(request)
    await reader.readuntil(b"\r\n\r\n")
    return reader, writer


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("keep", [b"keep-alive", b"close"])
async def test_who_takes_nothing_of_an_answer_is_cut_off(
    parts: int, keep: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the application waits to send more, or has sent all."""
    monkeypatch.setattr(http_connections, "STALL_S", 0.1)
    connections: set[object] = set()

    async def long(_scope: Scope, _receive: Receive, send: Send) -> None:
        nonlocal connections
        connections = send.__self__.on_response.__self__.connections  # type: ignore[attr-defined]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for more in range(parts, 0, -1):
            body = b" " * (16 << 20)
            await send({"type": "http.response.body", "body": body, "more_body": more > 1})

    async with guarded(long) as port, asyncio.timeout(30):
        request = GET.removesuffix(b"\r\n") + b"Connection: " + keep + b"\r\n\r\n"
        _, writer = await deaf(port, request)
        assert connections
        while connections:
            await asyncio.sleep(0.01)
        writer.close()


async def test_many_who_take_nothing_make_room_longest_behind_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_connections, "MAX_UNTAKEN", 2)
    connections: set[object] = set()

    async def long(_scope: Scope, _receive: Receive, send: Send) -> None:
        nonlocal connections
        connections = send.__self__.on_response.__self__.connections  # type: ignore[attr-defined]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b" " * (16 << 20)})

    async with guarded(long) as port, asyncio.timeout(30):
        first = await deaf(port, GET)
        others = [await deaf(port, GET) for _ in range(2)]
        while len(connections) > len(others):
            await asyncio.sleep(0.01)

        with suppress(ConnectionResetError):
            while await first[0].read(1 << 16):
                pass
        assert len(connections) == len(others)
        for _, writer in (first, *others):
            writer.close()


async def test_who_takes_an_answer_slowly_gets_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it takes, as long as something is taken in each ``STALL_S`` seconds."""
    monkeypatch.setattr(http_connections, "STALL_S", 1.0)
    monkeypatch.setattr(http_connections, "STALL_BYTES", 1)

    async def long(_scope: Scope, _receive: Receive, send: Send) -> None:
        headers = [(b"content-length", b"%d" % (16 << 20))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b" " * (16 << 20)})

    async with guarded(long) as port, asyncio.timeout(60):
        reader, writer = await deaf(port, GET)
        received = 0
        while received < 16 << 20:
            received += len(await reader.read(1 << 14))
            await asyncio.sleep(0.001)
        writer.close()


async def test_an_upgrade_is_ignored() -> None:
    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n"

    async with guarded() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET.removesuffix(b"\r\n") + upgrade)

        assert b"200 OK" in await reader.readuntil(b"ok")
        writer.close()
