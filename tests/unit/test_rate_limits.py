"""Limits of keys: requests in a minute over all replicas, and those under way at once."""

import asyncio
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from sa_ray.access import RequestAllowances, RequestCounts, Taken
from sa_ray.contracts.access import ANYBODY, Caller, Limits
from sa_ray.errors import RateLimitedError, UnavailableError
from sa_ray.serving.ingress.auth import CALLER
from sa_ray.serving.ingress.rate_limits import RateLimits
from sa_ray.serving.proxy_downloads import PIECE_BYTES, PacedDownloads
from tests.support.asgi_server import served
from tests.support.clock import Clock


def key(name: str = "alice", **limits: Any) -> Caller:
    return Caller(name=name, scopes=frozenset(), limits=Limits(**limits))


async def passed(allowances: RequestAllowances, caller: Caller, tries: int) -> int:
    count = 0
    for _ in range(tries):
        try:
            await allowances.take(caller)
        except RateLimitedError:
            continue
        count += 1
    return count


class Counting:
    """The count, and how often it was asked."""

    def __init__(self, clock: Clock) -> None:
        self.counts = RequestCounts(clock)
        self.asked = 0

    async def take_requests(self, key: str, limit: int, wanted: int) -> Taken:
        self.asked += 1
        return await self.counts.take_requests(key, limit, wanted)


@pytest.mark.parametrize("limit", [1, 7, 60, 600])
async def test_a_key_has_its_requests_in_each_minute(limit: int) -> None:
    clock = Clock()
    allowances = RequestAllowances(RequestCounts(clock), lambda: 1, clock)

    for _ in range(3):
        assert await passed(allowances, key(requests_per_minute=limit), 2 * limit) == limit
        assert await passed(allowances, key("bob", requests_per_minute=limit), 1) == 1
        clock.now += 60


async def test_all_replicas_count_together() -> None:
    clock = Clock()
    counts = RequestCounts(clock)
    alice = key(requests_per_minute=200)
    replicas = [RequestAllowances(counts, lambda: 4, clock) for _ in range(4)]

    total = 0
    for _ in range(200):
        for replica in replicas:
            total += await passed(replica, alice, 1)

    assert total == 200


async def test_few_requests_ask_for_the_count_and_a_flood_none() -> None:
    clock = Clock()
    counting = Counting(clock)
    allowances = RequestAllowances(counting, lambda: 1, clock)
    alice = key(requests_per_minute=600)

    assert await passed(allowances, alice, 600) == 600
    assert counting.asked <= 20
    await passed(allowances, alice, 10_000)
    assert counting.asked <= 21


async def test_a_crowd_at_once_passes_as_one_after_the_other() -> None:
    clock = Clock()
    allowances = RequestAllowances(Counting(clock), lambda: 1, clock)
    alice = key(requests_per_minute=100)

    counts = await asyncio.gather(*(passed(allowances, alice, 1) for _ in range(300)))

    assert sum(counts) == 100


async def test_without_limits_nothing_is_counted() -> None:
    clock = Clock()
    counting = Counting(clock)
    allowances = RequestAllowances(counting, lambda: 1, clock)

    assert await allowances.take(ANYBODY) is None
    assert await allowances.take(key()) is None
    with allowances.one_more(ANYBODY), allowances.one_more(ANYBODY):
        assert counting.asked == 0


@pytest.mark.parametrize(
    "error", [UnavailableError("The jobs actor is restarting."), AttributeError("take_requests")]
)
async def test_a_count_that_does_not_answer_stops_nobody(error: Exception) -> None:
    class Away:
        async def take_requests(self, key: str, limit: int, wanted: int) -> Taken:
            raise error

    clock = Clock()
    allowances = RequestAllowances(Away(), lambda: 1, clock)

    left = await allowances.take(key(requests_per_minute=60))

    assert left


@pytest.mark.parametrize(("limit", "replicas", "share"), [(4, 1, 4), (4, 2, 2), (1, 2, 1)])
def test_a_replica_lets_its_share_be_under_way(limit: int, replicas: int, share: int) -> None:
    allowances = RequestAllowances(RequestCounts(), lambda: replicas)
    alice = key(concurrent_requests=limit)

    for _ in range(2):
        with ExitStack() as under_way:
            for _ in range(share):
                under_way.enter_context(allowances.one_more(alice))
            with (
                pytest.raises(RateLimitedError, match="concurrent_requests") as refused,
                allowances.one_more(alice),
            ):
                pass
            assert refused.value.retry_after_s == 1
            with allowances.one_more(key("bob", concurrent_requests=limit)):
                pass


def test_a_share_follows_the_number_of_replicas() -> None:
    replicas = 1
    allowances = RequestAllowances(RequestCounts(), lambda: replicas)
    alice = key(concurrent_requests=4)

    def begun(under_way: ExitStack) -> int:
        """Begin as many as may be."""
        for count in range(10):
            try:
                under_way.enter_context(allowances.one_more(alice))
            except RateLimitedError:
                return count
        return 10

    with ExitStack() as before:
        assert begun(before) == 4
        replicas = 2
        with ExitStack() as after:
            assert begun(after) == 0, "those under way count, and go on"
    with ExitStack() as under_way:
        assert begun(under_way) == 2
        replicas = 1
        assert begun(under_way) == 2


async def test_an_answer_says_what_is_left_and_a_refusal_when_to_come_again() -> None:
    bodies = 0

    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal bodies
        await receive()
        bodies += 1
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    clock = Clock()
    limited = RateLimits(app, RequestAllowances(RequestCounts(clock), lambda: 1, clock))
    alice = key(requests_per_minute=2)

    async def as_alice(scope: Scope, receive: Receive, send: Send) -> None:
        await limited({**scope, CALLER: alice}, receive, send)

    transport = httpx.ASGITransport(as_alice)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        first, second, third = [await client.post("/jobs", content=b"{}") for _ in range(3)]

    assert [answer.status_code for answer in (first, second, third)] == [200, 200, 429]
    assert first.headers["RateLimit-Policy"] == '"requests";q=2;w=60'
    assert first.headers["RateLimit"] == '"requests";r=1;t=60'
    assert third.headers["RateLimit"] == '"requests";r=0;t=60'
    assert third.headers["Retry-After"] == "60"
    assert third.json()["error"]["code"] == "rate_limited"
    assert "requests_per_minute" in third.json()["error"]["message"]
    assert bodies == 2


async def test_a_download_is_one_request_in_however_many_pieces() -> None:
    size = 4 * PIECE_BYTES

    async def ingress(scope: Scope, receive: Receive, send: Send) -> None:
        part = dict(scope["headers"]).get(b"range", b"bytes=0-").removeprefix(b"bytes=")
        start = int(part.partition(b"-")[0])
        headers = [
            (b"content-range", b"bytes %d-%d/%d" % (start, size - 1, size)),
            (b"content-length", b"%d" % (size - start)),
        ]
        status = 206 if start else 200
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"x" * PIECE_BYTES})

    limited = RateLimits(ingress, RequestAllowances(RequestCounts(), lambda: 1, Clock()))

    async def as_alice(scope: Scope, receive: Receive, send: Send) -> None:
        await limited({**scope, CALLER: key(requests_per_minute=2)}, receive, send)

    async with (
        served(PacedDownloads(as_alice)) as port,
        httpx.AsyncClient(trust_env=False, base_url=f"http://127.0.0.1:{port}") as client,
    ):
        answers = [
            await client.get("/jobs/1/audio", headers={"x-download-piece": "0 0 next"})
            for _ in range(3)
        ]

    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert len(answers[0].content) == size
