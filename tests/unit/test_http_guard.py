"""The guard: what it refuses, and how it answers for bugs."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from ray.exceptions import TaskCancelledError
from starlette.responses import StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sa_ray.serving import request_bounds
from sa_ray.serving.ingress.guard import Guard
from sa_ray.serving.request_bounds import (
    LARGER,
    MAX_BODY_BYTES,
    MAX_IN_BURST,
    MAX_LARGER_UNFINISHED,
    MAX_UNFINISHED,
)

JSON = ("content-type", "application/json")


async def read_all(receive: Receive) -> int:
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    return size


async def answer(send: Send, status: int, body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": body})


async def size_of_body(_scope: Scope, receive: Receive, send: Send) -> None:
    await answer(send, 200, b"%d" % await read_all(receive))


async def broken(_scope: Scope, _receive: Receive, _send: Send) -> None:
    raise RuntimeError("the password is hush")


async def broken_midway(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    raise RuntimeError("midway")


async def call(
    app: ASGIApp,
    *headers: tuple[str, str],
    method: str = "POST",
    path: str = "/jobs",
    chunks: Sequence[bytes] = (b"",),
    sent: list[Message] | None = None,
) -> list[Message]:
    """POST ``chunks`` through the guard; what was sent, also if it raises, goes to ``sent``."""
    sent = [] if sent is None else sent
    scope: dict[str, Any] = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "scheme": "http",
        "query_string": b"",
        "server": ("test", 80),
        "client": ("test", 1),
        "headers": [
            (name.encode(), value.encode())
            for name, value in (("x-request-id", "request-7"), *headers)
        ],
    }
    waiting = [
        {"type": "http.request", "body": chunk, "more_body": index < len(chunks)}
        for index, chunk in enumerate(chunks, 1)
    ]

    async def receive() -> Message:
        return waiting.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    await Guard(app, 1)(scope, receive, send)
    return sent


def error_of(sent: list[Message]) -> tuple[int, str]:
    """The status and code of the one answer, which must have the one shape."""
    start, body = sent
    error = json.loads(body["body"])["error"]
    assert set(error) == {"code", "message", "param", "request_id"}
    assert error["request_id"] == "request-7"
    return start["status"], error["code"]


async def test_a_body_within_the_limit_passes() -> None:
    half = b" " * (MAX_BODY_BYTES // 2)

    sent = await call(
        size_of_body, JSON, ("content-length", str(MAX_BODY_BYTES)), chunks=[half, half]
    )

    assert sent[0]["status"] == 200
    assert sent[1]["body"] == str(MAX_BODY_BYTES).encode()


@pytest.mark.parametrize("path", ["/jobs/batch", "/jobs/batch/", "/under/jobs/batch"])
async def test_a_batch_may_be_larger(path: str) -> None:
    most = LARGER["/jobs/batch"]
    chunked = ("transfer-encoding", "chunked")

    told = await call(
        size_of_body, JSON, ("content-length", str(most)), path=path, chunks=[b" " * most]
    )
    over = await call(broken, JSON, ("content-length", str(most + 1)), path=path)
    found = await call(broken, JSON, chunked, path=path, chunks=[b" " * most, b" ", b"never read"])

    assert told[1]["body"] == str(most).encode()
    assert error_of(over) == error_of(found) == (413, "payload_too_large")
    assert str(most) in json.loads(over[1]["body"])["error"]["message"]


@pytest.mark.parametrize("length", [str(MAX_BODY_BYTES + 1), "9" * 20, "9" * 21, "9" * 5000])
async def test_an_announced_oversize_is_refused_unread(length: str) -> None:
    sent = await call(broken, JSON, ("content-length", length))

    assert error_of(sent) == (413, "payload_too_large")


async def test_an_unannounced_oversize_is_refused_as_it_comes() -> None:
    chunks = [b" " * MAX_BODY_BYTES, b" ", b"never read"]

    sent = await call(broken, JSON, ("transfer-encoding", "chunked"), chunks=chunks)

    assert error_of(sent) == (413, "payload_too_large")


@pytest.mark.parametrize("method", ["GET", "DELETE", "OPTIONS"])
async def test_a_body_is_refused_where_none_is_taken(method: str) -> None:
    chunked = ("transfer-encoding", "chunked")

    announced = await call(broken, JSON, ("content-length", "1"), method=method)
    found = await call(broken, JSON, chunked, method=method, chunks=[b"", b" ", b"never read"])
    empty = await call(size_of_body, JSON, chunked, method=method, chunks=[b"", b""])
    none = await call(size_of_body, ("content-length", "0"), method=method)

    assert error_of(announced) == (400, "malformed_request")
    assert error_of(found) == (400, "malformed_request")
    assert [sent[0]["status"] for sent in (empty, none)] == [200, 200]


@pytest.mark.parametrize(
    ("path", "burst_s", "most"),
    [
        ("/jobs", 0.0, MAX_UNFINISHED),
        ("/jobs", 60.0, MAX_IN_BURST),
        ("/jobs/batch", 60.0, MAX_LARGER_UNFINISHED),
    ],
)
async def test_bodies_that_do_not_end_make_room_oldest_first(
    path: str, burst_s: float, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without what stands in front of the proxy, each takes a slot of the ingress."""
    monkeypatch.setattr(request_bounds, "BURST_S", burst_s)
    guard = Guard(size_of_body, 1)
    scope = {"type": "http", "method": "POST", "path": path, "query_string": b""}
    headers = [(b"content-type", b"application/json"), (b"content-length", b"100")]
    answered: list[int] = []

    async def ask(number: int) -> None:
        async def receive() -> Message:
            return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                assert message["status"] == 408
                answered.append(number)

        await guard({**scope, "headers": headers}, receive, send)

    asked = [asyncio.create_task(ask(number)) for number in range(most + 3)]
    await asyncio.wait(asked[:3], timeout=5)

    assert answered == [0, 1, 2]
    for task in asked:
        task.cancel()
    await asyncio.wait(asked)


async def test_a_body_that_comes_too_slowly_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sa_ray.serving.request_bounds.BODY_GRACE_S", 0.01)

    async def dripping() -> Message:
        await asyncio.sleep(0.001)
        return {"type": "http.request", "body": b" ", "more_body": True}

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"content-type", b"application/json"), (b"transfer-encoding", b"chunked"),
               (b"x-request-id", b"request-7")]  # fmt: skip
    scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": headers}
    await Guard(broken, 1)(scope, dripping, send)

    assert error_of(sent) == (408, "request_timeout")
    assert (b"retry-after", b"1") in sent[0]["headers"]


@pytest.mark.parametrize(
    "headers",
    [
        [("content-type", "text/plain"), ("content-length", "2")],
        [
            ("content-type", "application/x-www-form-urlencoded"),
            ("transfer-encoding", "chunked"),
        ],
        [("content-length", "2")],
    ],
)
async def test_a_body_of_another_type_is_refused(headers: list[tuple[str, str]]) -> None:
    assert error_of(await call(broken, *headers, chunks=[b"{}"])) == (415, "unsupported_media_type")


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate, gzip", "GZIP"])
async def test_an_encoded_body_is_refused_with_the_fix(encoding: str) -> None:
    headers = [JSON, ("content-encoding", encoding), ("content-length", "20")]

    sent = await call(broken, *headers, chunks=[b"\x1f\x8b"])

    assert error_of(sent) == (415, "unsupported_media_type")
    assert b"Content-Encoding" in sent[1]["body"]


@pytest.mark.parametrize("encoding", ["identity", ""])
async def test_a_body_that_says_it_is_not_encoded_passes(encoding: str) -> None:
    headers = [JSON, ("content-encoding", encoding), ("content-length", "2")]

    assert (await call(size_of_body, *headers, chunks=[b"{}"]))[0]["status"] == 200


async def test_a_charset_in_the_type_is_fine() -> None:
    sent = await call(
        size_of_body,
        ("content-type", "Application/JSON; charset=utf-8"),
        ("content-length", "2"),
        chunks=[b"{}"],
    )

    assert sent[0]["status"] == 200


async def test_a_bug_is_answered_with_the_one_shape_and_told_to_the_log_only(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("sa_ray"), "propagate", True)

    sent = await call(broken)

    assert error_of(sent) == (500, "internal_error")
    for leak in (b"hush", b"RuntimeError", b"Traceback"):
        assert leak not in sent[1]["body"]
    assert "hush" in caplog.text


async def test_a_bug_in_a_started_response_breaks_it_off() -> None:
    sent: list[Message] = []

    with pytest.raises(RuntimeError, match="midway"):
        await call(broken_midway, sent=sent)

    assert [message["type"] for message in sent] == ["http.response.start"]


async def test_a_client_that_leaves_during_a_stream_is_no_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Serve says so by an error of Ray's."""

    async def endless() -> AsyncIterator[bytes]:
        yield b"some"
        await asyncio.Event().wait()

    async def receive() -> Message:
        raise TaskCancelledError

    async def send(message: Message) -> None:
        pass

    scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": []}

    async with asyncio.timeout(30):
        await Guard(StreamingResponse(endless()), 1)(scope, receive, send)

    assert caplog.records == []
