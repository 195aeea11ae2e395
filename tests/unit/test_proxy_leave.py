"""Answers of a proxy that Serve takes away."""

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sa_ray.serving.proxy_leave import ASK_EVERY_S, LastAnswers


class Proxy:
    """As Serve's: at `/-/healthz` it says whether it is there to stay."""

    def __init__(self) -> None:
        self.draining = False
        self.asked = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_health = scope["path"] == "/-/healthz"
        self.asked += is_health
        status = 503 if is_health and self.draining else 200
        await send({"type": "http.response.start", "status": status, "headers": [(b"a", b"b")]})
        await send({"type": "http.response.body", "body": b"healthz" if is_health else b"clip"})


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def proxy() -> Proxy:
    return Proxy()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def app(proxy: Proxy, clock: Clock) -> LastAnswers:
    return LastAnswers(proxy, clock)


async def get(app: ASGIApp, path: str = "/jobs") -> list[Message]:
    sent: list[Message] = []

    async def receive() -> Message:
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    await app({"type": "http", "method": "GET", "path": path, "headers": []}, receive, send)
    return sent


async def test_connections_are_kept_while_it_serves(app: LastAnswers) -> None:
    start, body = await get(app)

    assert start["headers"] == [(b"a", b"b")]
    assert body["body"] == b"clip"


async def test_they_end_with_their_next_answer_once_it_goes(
    app: LastAnswers, proxy: Proxy, clock: Clock
) -> None:
    await get(app)
    proxy.draining = True
    clock.now += ASK_EVERY_S

    start, body = await get(app)

    assert start["status"] == 200
    assert start["headers"] == [(b"a", b"b"), (b"connection", b"close")]
    assert body["body"] == b"clip"


async def test_they_are_kept_again_if_it_stays_after_all(
    app: LastAnswers, proxy: Proxy, clock: Clock
) -> None:
    proxy.draining = True
    await get(app)
    proxy.draining = False
    clock.now += ASK_EVERY_S

    start, _ = await get(app)

    assert start["headers"] == [(b"a", b"b")]


async def test_it_is_asked_once_a_second_at_most(
    app: LastAnswers, proxy: Proxy, clock: Clock
) -> None:
    for _ in range(20):
        await get(app)
        clock.now += ASK_EVERY_S / 10

    assert proxy.asked == 2
