"""What stands in front of Serve's proxy: headers that it cannot read, clients of HTTP/1.0."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from sa_ray.serving.proxy_front import middlewares


def in_front_of(proxy: ASGIApp) -> ASGIApp:
    """The proxy with all that Serve puts around it, as Serve does."""
    for middleware in middlewares():
        proxy = middleware.cls(proxy, *middleware.args, **middleware.kwargs)
    return proxy


async def forwarded(*headers: tuple[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    """The headers that come through to the proxy."""
    seen: list[Scope] = []

    async def proxy(scope: Scope, _receive: Receive, _send: Send) -> None:
        seen.append(scope)

    async def unused(*_: object) -> None:
        raise AssertionError

    await in_front_of(proxy)({"type": "http", "headers": [*headers]}, unused, unused)
    return seen[0]["headers"]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "value", [b"", b"  ", "å".encode("latin-1"), "å".encode(), b"\xff\xfe", b"a\x00b", b"x" * 256]
)
@pytest.mark.parametrize("name", [b"x-request-id", b"x-session-id"])
async def test_a_header_that_cannot_be_read_is_as_good_as_none(name: bytes, value: bytes) -> None:
    other = (b"accept", value)

    assert await forwarded((name, value), other) == [other]


async def test_all_others_come_through() -> None:
    headers = [(b"x-request-id", b"request 7"), (b"x-other", b"\xff"), (b"host", b"test")]

    assert await forwarded(*headers) == headers


@asynccontextmanager
async def served(app: ASGIApp) -> AsyncIterator[int]:
    """The port of a server of ``app``, of the kind that Serve's proxy is."""
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=0, lifespan="off", log_config=None)
    )
    with suppress(asyncio.CancelledError):
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        try:
            yield server.servers[0].sockets[0].getsockname()[1]
        finally:
            server.should_exit = True
            await serving


async def answer(port: int, request: bytes) -> tuple[bytes, bytes]:
    """Head and body of the answer, up to the end of the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return head.lower(), body


async def stream(scope: Scope, _receive: Receive, send: Send) -> None:
    headers = [(b"content-length", b"9")] if scope["path"] == "/known" else []
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for part in (b"one ", b"", b"two", b" 3"):
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body"})


@pytest.mark.parametrize("keep_alive", [b"", b"Connection: keep-alive\r\n"])
async def test_a_stream_to_http_1_0_is_not_framed(keep_alive: bytes) -> None:
    async with served(in_front_of(stream)) as port:
        head, body = await answer(port, b"GET / HTTP/1.0\r\n" + keep_alive + b"\r\n")

    assert b"transfer-encoding" not in head
    assert b"connection: close" in head
    assert body == b"one two 3"


async def test_a_body_of_known_length_and_http_1_1_are_as_ever() -> None:
    async with served(in_front_of(stream)) as port:
        known = await answer(port, b"GET /known HTTP/1.0\r\n\r\n")
        chunked = await answer(port, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")

    assert b"content-length: 9" in known[0]
    assert known[1] == b"one two 3"
    assert b"transfer-encoding: chunked" in chunked[0]
    assert chunked[1].startswith(b"4\r\none \r\n")
