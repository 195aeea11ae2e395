"""Files go through the proxy and into the ingress as they come, a few at once and none slowly."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sa_ray.errors import OverloadedError, PayloadTooLargeError, RequestTimeoutError
from sa_ray.serving import streamed_bodies
from sa_ray.serving.ingress.guard import Guard
from sa_ray.serving.proxy_front import BoundedBodies
from sa_ray.serving.streamed_bodies import (
    HEADER,
    MAX_AT_ONCE,
    MAX_OF_CLIENT,
    WINDOW_BYTES,
    StreamedBodies,
    StreamedBody,
)

TYPE = (b"content-type", b"audio/wav")
PIECE = 64 << 10


def scope(*headers: tuple[bytes, bytes], client: str = "1.2.3.4", path: str = "") -> Scope:
    return {
        "type": "http",
        "method": "POST",
        "path": path or "/v1/uploads",
        "root_path": "",
        "query_string": b"",
        "scheme": "http",
        "server": ("test", 80),
        "client": (client, 1),
        "headers": [TYPE, *headers],
    }


def body_of(size: int) -> Receive:
    left = size

    async def receive() -> Message:
        nonlocal left
        await asyncio.sleep(0)
        part = min(left, PIECE)
        left -= part
        return {"type": "http.request", "body": bytes(part), "more_body": left > 0}

    return receive


async def silent() -> Message:
    return await asyncio.Event().wait()  # type: ignore[return-value]


async def read(receive: Receive) -> int:
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return -1
        size += len(message["body"])
        more = message["more_body"]
    return size


async def answer(send: Send, text: bytes) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": text})


async def size_of_body(_scope: Scope, receive: Receive, send: Send) -> None:
    await answer(send, b"%d" % await read(receive))


async def asked(app: ASGIApp, scope: Scope, receive: Receive) -> list[Message]:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent


@asynccontextmanager
async def waiting(bodies: StreamedBodies, clients: Sequence[str]) -> AsyncIterator[Any]:
    """Bodies of ``clients`` of which nothing comes."""

    async def wait(client: str) -> int:
        with bodies.opened(scope(client=client), silent) as body:
            return await read(body.receive)

    tasks = [asyncio.create_task(wait(client)) for client in clients]
    await asyncio.sleep(0)
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class SlowIngress:
    """Serve and an ingress that takes its time: what is passed on is kept until it is taken."""

    def __init__(self) -> None:
        self.app = Guard(self.take, max_upload_mb=10)
        self.kept = self.most = self.total = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        queue: asyncio.Queue[Message] = asyncio.Queue()

        async def pass_on() -> None:
            while True:
                message = await receive()
                self.kept += len(message.get("body", b""))
                self.most = max(self.most, self.kept)
                queue.put_nowait(message)
                if message["type"] != "http.request" or not message["more_body"]:
                    return

        passing = asyncio.create_task(pass_on())

        async def get() -> Message:
            for _ in range(20):  # everything that may be passed on is
                await asyncio.sleep(0)
            message = await queue.get()
            self.kept -= len(message.get("body", b""))
            return message

        await self.app(scope, get, send)
        await passing

    async def take(self, _scope: Scope, receive: Receive, send: Send) -> None:
        self.total = await read(receive)
        await answer(send, b"taken")


async def test_no_more_is_passed_on_than_the_ingress_can_take() -> None:
    ingress = SlowIngress()

    sent = await asked(BoundedBodies(ingress), scope(), body_of(5 * WINDOW_BYTES + 1))

    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert ingress.total == 5 * WINDOW_BYTES + 1
    assert WINDOW_BYTES // 2 < ingress.most <= WINDOW_BYTES + PIECE


async def test_an_ingress_behind_another_proxy_tells_nobody_what_it_took() -> None:
    sent = await asked(Guard(size_of_body, 10), scope(), body_of(3 * WINDOW_BYTES))

    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert sent[1]["body"] == b"%d" % (3 * WINDOW_BYTES)


async def test_a_client_cannot_ask_for_what_is_between_proxy_and_ingress() -> None:
    async def headers(scope: Scope, _receive: Receive, send: Send) -> None:
        await answer(send, b",".join(value for name, value in scope["headers"] if name == HEADER))

    sent = await asked(BoundedBodies(headers), scope((HEADER, b"7")), body_of(1))

    assert sent[1]["body"] == b"1"


@pytest.mark.parametrize("length", [b"1146881", b"9" * 5_000])
async def test_a_file_that_is_announced_as_too_large_is_refused_unread(length: bytes) -> None:
    told = scope((b"content-length", length))

    with pytest.raises(PayloadTooLargeError) as refusal, StreamedBodies(1).opened(told, silent):
        pass
    assert "STABLE_AUDIO_MAX_UPLOAD_MB" in refusal.value.message


async def test_a_file_is_refused_at_the_first_byte_too_many() -> None:
    receive = body_of(100 << 20)
    with StreamedBodies(1).opened(scope(), receive) as body:
        with pytest.raises(PayloadTooLargeError):
            await read(body.receive)
        assert body.size <= (1 << 20) + 2 * PIECE


async def test_a_file_that_comes_too_slowly_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streamed_bodies, "GRACE_S", 0.01)

    with pytest.raises(RequestTimeoutError) as refusal:
        await asked(BoundedBodies(size_of_body), scope(), silent)
    assert refusal.value.retry_after_s


async def test_only_the_time_of_the_client_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streamed_bodies, "GRACE_S", 0.5)
    monkeypatch.setattr(streamed_bodies, "MIN_RATE", 1 << 40)
    with StreamedBodies().opened(scope(), body_of(3 * PIECE)) as body:
        await body.receive()
        await asyncio.sleep(0.6)  # the service is busy

        assert await read(body.receive) == 2 * PIECE


async def test_the_slowest_makes_room_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streamed_bodies, "FAIR_AFTER_S", 0.0)
    bodies = StreamedBodies()

    async with waiting(bodies, [f"10.0.0.{n}" for n in range(MAX_AT_ONCE)]) as tasks:
        with bodies.opened(scope(), body_of(PIECE)) as body:
            assert await read(body.receive) == PIECE
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)

        assert [type(task.exception()) for task in done] == [RequestTimeoutError]


async def test_nobody_makes_room_who_is_not_slow_or_is_worked_on() -> None:
    bodies = StreamedBodies()
    async with waiting(bodies, [f"10.0.0.{n}" for n in range(MAX_AT_ONCE)]):
        with pytest.raises(OverloadedError) as refusal, bodies.opened(scope(), silent):
            pass
    assert refusal.value.retry_after_s

    with bodies.opened(scope(), silent):  # they have gone
        pass


async def test_one_address_cannot_take_all_places() -> None:
    bodies = StreamedBodies()
    async with waiting(bodies, ["10.0.0.1"] * MAX_OF_CLIENT):
        with (
            pytest.raises(OverloadedError, match="your address"),
            bodies.opened(scope(client="10.0.0.1"), silent),
        ):
            pass
        with bodies.opened(scope(client="10.0.0.2"), body_of(1)) as body:
            assert await read(body.receive) == 1


async def test_a_client_that_leaves_is_not_answered() -> None:
    async def leaves() -> Message:
        return {"type": "http.disconnect"}

    assert await asked(Guard(size_of_body, 1), scope(), leaves) == []
    # What is inside hears of it as of any other.
    sent = await asked(BoundedBodies(size_of_body), scope(), leaves)
    assert sent == []


async def test_after_the_file_the_client_is_still_heard() -> None:
    messages = iter([{"type": "http.request", "body": b"x", "more_body": False}])

    async def receive() -> Message:
        return next(messages, {"type": "http.disconnect"})

    body = StreamedBody(receive, "", None, set())

    assert await read(body.receive) == 1
    assert await body.receive() == {"type": "http.disconnect"}


async def test_other_paths_are_bounded_as_ever() -> None:
    for path in ("/v1/uploads/x", "/jobs", "/v1/audio/generations"):
        told = scope((b"content-length", b"300000"), path=path)
        with pytest.raises(PayloadTooLargeError, match="262144"):
            await asked(BoundedBodies(size_of_body), told, silent)
