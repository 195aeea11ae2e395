"""The lane of ``/health`` in front of Serve's proxy."""

import asyncio
import json
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import Message, Receive, Scope, Send

from sa_ray.serving.proxy_health import FRESH_S, STALE_S, HealthLane
from tests.support.clock import Clock

STRANGER = ("192.0.2.1", 1234)


class Ingress:
    """Answers ``GET /health``, with a number that grows; waits while ``busy``."""

    def __init__(self) -> None:
        self.asked: list[Scope] = []
        self.status = 200
        self.idle = asyncio.Event()
        self.idle.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.asked.append(scope)
        number = len(self.asked)
        await self.idle.wait()
        headers = {"X-Request-Id": f"inner-{number}"}
        await JSONResponse({"status": number}, self.status, headers)(scope, receive, send)


async def ask(
    lane: HealthLane,
    *headers: tuple[bytes, bytes],
    client: Any = STRANGER,
    path: str = "/health",
    method: str = "GET",
) -> tuple[int, Any, str]:
    """Status, the number told, and the request id of the answer."""
    messages: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        messages.append(message)

    scope = {
        "type": "http", "method": method, "path": path, "client": client, "headers": [*headers],
    }  # fmt: skip
    await lane(scope, receive, send)
    start, body = messages
    request_id = dict(start["headers"])[b"x-request-id"].decode()
    return start["status"], json.loads(body["body"])["status"], request_id


async def test_strangers_share_an_answer_while_it_is_fresh() -> None:
    clock, ingress = Clock(), Ingress()
    lane = HealthLane(ingress, clock)
    first = await asyncio.gather(*(ask(lane) for _ in range(50)))
    clock.now += FRESH_S / 2
    again = await ask(lane, (b"x-request-id", b"mine"))
    clock.now += FRESH_S
    later = await ask(lane)

    assert {(status, number) for status, number, _ in first} == {(200, 1)}
    assert len({request_id for *_, request_id in first}) == 50
    assert again == (200, 1, "mine")
    assert later[:2] == (200, 2)


async def test_the_last_answer_stands_in_while_the_ingress_is_busy_and_not_for_ever() -> None:
    clock, ingress = Clock(), Ingress()
    lane = HealthLane(ingress, clock, patience_s=0.01)
    await ask(lane)
    ingress.idle.clear()
    clock.now += STALE_S - 1
    busy = [await ask(lane) for _ in range(5)]
    asked = len(ingress.asked)
    clock.now += 2
    too_old = asyncio.create_task(ask(lane))
    await asyncio.wait({too_old}, timeout=0.1)
    waits = not too_old.done()
    ingress.idle.set()

    assert {one[:2] for one in busy} == {(200, 1)}
    assert asked == 2
    assert waits
    assert (await too_old)[0] == 200


async def test_an_error_is_told_at_once() -> None:
    clock, ingress = Clock(), Ingress()
    lane = HealthLane(ingress, clock)
    await ask(lane)
    clock.now += 2 * FRESH_S
    ingress.status = 503

    assert (await ask(lane))[0] == 503


async def test_this_machine_and_all_other_paths_ask_the_service() -> None:
    clock, ingress = Clock(), Ingress()
    lane = HealthLane(ingress, clock)
    await ask(lane)

    local = [await ask(lane, client=(host, 1)) for host in ("127.0.0.1", "::1")]
    other = await ask(lane, path="/v1/models")
    passed_on = await ask(lane, (b"x-forwarded-for", b"127.0.0.1"), client=("127.0.0.1", 1))

    assert [number for _, number, _ in local] == [2, 3]
    assert other[1] == 4
    assert passed_on[1] == 1


async def test_the_service_takes_the_asker_for_a_stranger_with_no_headers_of_any_client() -> None:
    """By a name of its own, one client could have all others refused."""
    ingress = Ingress()
    await ask(HealthLane(ingress), (b"host", b"evil.test"), (b"cookie", b"secret"))

    assert ingress.asked[0]["client"] is None
    assert ingress.asked[0]["headers"] == []


async def test_head_shares_the_answer_of_get() -> None:
    """The server leaves its body out."""
    ingress = Ingress()
    lane = HealthLane(ingress)

    assert (await ask(lane, method="HEAD"))[:2] == (200, 1)
    assert (await ask(lane))[:2] == (200, 1)
    assert [scope["method"] for scope in ingress.asked] == ["GET"]


async def test_a_web_page_asks_the_service_which_knows_whether_it_may_read() -> None:
    ingress, page = Ingress(), (b"origin", b"https://studio.test")
    lane = HealthLane(ingress)
    await ask(lane)

    assert (await ask(lane, page))[1] == 2
    assert page in ingress.asked[1]["headers"]
