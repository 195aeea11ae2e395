"""What stands in front of Serve's proxy: headers, ids, errors, clients of HTTP/1.0."""

import asyncio
import json
import uuid

import httpx
import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sa_ray.serving import request_bounds
from sa_ray.serving.ingress.app import build_http_app
from sa_ray.serving.proxy_front import middlewares
from sa_ray.serving.request_bounds import MAX_UNFINISHED
from sa_ray.settings import LimitSettings, load_settings
from tests.support.asgi_server import served


def in_front_of(proxy: ASGIApp) -> ASGIApp:
    """The proxy with all that Serve puts around it, as Serve does."""
    for middleware in middlewares():
        proxy = middleware.cls(proxy, *middleware.args, **middleware.kwargs)
    return proxy


Headers = list[tuple[bytes, bytes]]


async def through(proxy: ASGIApp, *headers: tuple[bytes, bytes]) -> list[Message]:
    """What comes of a GET with ``headers`` that ``proxy`` answers."""
    sent: list[Message] = []

    async def unused() -> Message:
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/jobs", "headers": [*headers]}
    await in_front_of(proxy)(scope, unused, send)
    return sent


async def forwarded(*headers: tuple[bytes, bytes]) -> tuple[Headers, dict[bytes, bytes]]:
    """The headers that come through to the proxy, and those of the answer."""
    seen: list[Scope] = []

    async def proxy(scope: Scope, _receive: Receive, send: Send) -> None:
        seen.append(scope)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    start, _ = await through(proxy, *headers)
    return seen[0]["headers"], dict(start["headers"])


@pytest.mark.parametrize("value", [b"1", b"?1", b"", "å".encode(), b"\xff\xfe", b"x" * 256])
@pytest.mark.parametrize(
    "name",
    [
        b"x-request-timeout-seconds",
        b"x-request-disconnect-disabled",
        b"x-session-id",
        b"x_session_id",
        b"serve_multiplexed_model_id",
        b"serve-multiplexed-model-id",
    ],
)
async def test_no_header_leads_serve(name: bytes, value: bytes) -> None:
    other = (b"accept", value)

    headers, _ = await forwarded((name, value), other)

    assert [header for header in headers if header[0] != b"x-request-id"] == [other]


@pytest.mark.parametrize(
    "value", [b"", b"  ", "å".encode("latin-1"), "å".encode(), b"\xff\xfe", b"a\x00b", b"x" * 129]
)
async def test_an_id_that_cannot_be_repeated_is_dropped(value: bytes) -> None:
    [own], answered = await forwarded((b"x-request-id", value), (b"x-client-request-id", b"mine"))

    assert own[0] == b"x-request-id"
    assert uuid.UUID(own[1].decode())
    assert b"x-client-request-id" not in answered


async def test_a_sound_id_goes_on_and_comes_back_beside_ours() -> None:
    headers, answered = await forwarded((b"x-request-id", b"request 7"), (b"x-other", b"\xff"))

    assert headers[0] == (b"x-other", b"\xff")
    assert headers[2] == (b"x-client-request-id", b"request 7")
    assert uuid.UUID(dict(headers)[b"x-request-id"].decode())
    assert answered[b"x-client-request-id"] == b"request 7"


@pytest.mark.parametrize(
    ("status", "code", "retry_after"),
    [
        (404, "not_deployed", b"1"),
        (408, "request_timeout", None),
        (429, "overloaded", b"7"),
        (503, "unavailable", b"7"),
        (500, "internal_error", None),
    ],
)
async def test_what_serve_says_in_plain_text_has_the_one_shape(
    status: int, code: str, retry_after: bytes | None
) -> None:
    async def proxy(_scope: Scope, _receive: Receive, send: Send) -> None:
        headers = [[b"content-type", b"text/plain; charset=utf-8"], [b"retry-after", b"7"]]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"Something of Ray's."})

    start, body = await through(proxy)
    error = json.loads(body["body"])["error"]

    # Who asks for a job meanwhile must not take it for gone.
    assert start["status"] == (503 if status == 404 else status)
    assert error["code"] == code
    assert dict(start["headers"]).get(b"retry-after") == retry_after
    assert error["request_id"].encode() == dict(start["headers"])[b"x-request-id"]
    assert "Ray's" not in error["message"]


async def test_the_errors_of_the_service_are_left_as_they_are() -> None:
    own = [(b"content-type", b"application/json")]

    async def proxy(scope: Scope, _receive: Receive, send: Send) -> None:
        status = 503 if scope["path"] == "/jobs" else 200
        await send({"type": "http.response.start", "status": status, "headers": own})
        await send({"type": "http.response.body", "body": b"{}"})

    start, body = await through(proxy)

    assert (start["status"], start["headers"], body["body"]) == (503, own, b"{}")


async def test_a_page_is_told_what_it_may_not() -> None:
    edge = load_settings({"allowed_origins": "https://studio.example"}).edge
    asks = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    transport = httpx.ASGITransport(in_front_of(build_http_app(edge, LimitSettings())))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        answer = await client.options("/jobs", headers=asks)

    assert answer.status_code == 400
    assert answer.text == "Disallowed CORS origin"


async def test_no_answer_and_no_error_of_serve_is_a_bare_500() -> None:
    async def lost(_scope: Scope, _receive: Receive, _send: Send) -> None:
        pass

    async def failing(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise UnicodeDecodeError("utf-8", b"secret", 0, 1, "bad")

    answers = [await through(lost), await through(failing)]

    assert [start["status"] for start, _ in answers] == [502, 500]
    codes = [json.loads(body["body"])["error"]["code"] for _, body in answers]
    assert codes == ["service_lost", "internal_error"]
    assert b"secret" not in answers[1][1]["body"]


async def answer(port: int, request: bytes) -> tuple[bytes, bytes]:
    """Head and body of the answer, up to the end of the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return head.lower(), body


async def test_a_crowd_whose_bodies_come_after_their_heads_is_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """More at once than may be waited for in the long run."""
    monkeypatch.setattr(request_bounds, "BURST_S", 60)
    heads = asyncio.Event()

    async def reads(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def counted(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal begun
        begun += 1
        if begun == len(clients):
            heads.set()
        await front(scope, receive, send)

    begun, front = 0, in_front_of(reads)
    async with served(counted) as port, asyncio.timeout(60):
        clients = [
            await asyncio.open_connection("127.0.0.1", port) for _ in range(2 * MAX_UNFINISHED)
        ]
        for _, writer in clients:
            writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n")
        await heads.wait()
        for _, writer in clients:
            writer.write(b"{}")
        statuses = {(await reader.readline()).split()[1] for reader, _ in clients}
        for _, writer in clients:
            writer.close()

    assert statuses == {b"200"}


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
