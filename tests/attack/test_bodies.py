"""Bodies that never end, come slowly, or are larger than any that is taken."""

import contextlib
import socket
import time

import httpx
import pytest

from sa_ray.client import Client
from sa_ray.contracts import GenerationRequest

from .conftest import Target
from .raw import answer, asked, chunked, flood, memory_of, opened

pytestmark = pytest.mark.attack

UNFINISHED = 3000
"""More than there are slots in the ingress and places before it."""

MOST_MIB = 50
"""That a process may grow by."""

HELD_BY = ("haproxy", "ingress")

HEAD = b"\r\nHost: localhost\r\nContent-Type: application/json\r\n"


def test_bodies_that_do_not_end_keep_nobody_out_and_are_ended(target: Target) -> None:
    before = memory_of(target.processes, *HELD_BY)
    unfinished = b"POST /jobs HTTP/1.1" + HEAD + b'Content-Length: 200000\r\n\r\n{"prompt": "'
    with contextlib.ExitStack() as held:
        connections = [
            held.enter_context(opened(target.service.port, unfinished))
            for _ in range(UNFINISHED)
        ]  # fmt: skip
        with Client(target.service.base_url, timeout_s=30, retry_s=0) as client:
            health = client.health()
            job = client.wait(client.submit(GenerationRequest(prompt="a bell", duration=1)).id)
        last = connections[-1]
        # The last one goes on, at a byte a second.
        last.settimeout(1)
        for _ in range(60):
            last.sendall(b"x")
            with contextlib.suppress(TimeoutError):
                last.recv(1, socket.MSG_PEEK)
                break
        answers = [answer(connection) for connection in connections]
    after = memory_of(target.processes, *HELD_BY)

    assert health.status == "ok"
    assert job.status == "succeeded"
    assert {one.status for one in answers} == {408}
    assert {one.error["code"] for one in answers} == {"request_timeout"}
    assert all(after[kind] - before[kind] < 2 * MOST_MIB for kind in HELD_BY), (before, after)


@pytest.mark.parametrize(
    ("method", "status"),
    [("GET", 400), ("HEAD", 400), ("DELETE", 400), ("POST", 413), ("PUT", 413)],
)
def test_an_endless_body_is_refused_and_not_kept(target: Target, method: str, status: int) -> None:
    before = memory_of(target.processes, *HELD_BY)
    head = method.encode() + b" /jobs HTTP/1.1" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n"

    with opened(target.service.port, head) as connection:
        flood(connection, chunked(300))
        refusal = answer(connection, method)
    time.sleep(1)  # whatever was read goes through the processes meanwhile
    after = memory_of(target.processes, *HELD_BY)

    assert refusal.status == status
    assert method == "HEAD" or refusal.error["code"] in ("malformed_request", "payload_too_large")
    assert all(after[kind] - before[kind] < MOST_MIB for kind in HELD_BY), (before, after)


def test_a_body_that_is_announced_too_large_is_refused_unread(target: Target) -> None:
    size = b"Content-Length: 262145"
    expect = b"Expect: 100-continue"
    json = b"Content-Type: application/json"

    refusals = [
        asked(target.service.port, b"POST /jobs HTTP/1.1", json, size, expect),
        asked(target.service.port, b"DELETE /jobs/1 HTTP/1.1", b"Content-Length: 1", expect),
    ]

    assert [refusal.status for refusal in refusals] == [413, 400]
    assert "262144" in refusals[0].error["message"]
    assert "DELETE takes no body" in refusals[1].error["message"]


def test_a_client_that_leaves_in_its_body_is_forgotten(target: Target) -> None:
    head = b"POST /jobs HTTP/1.1" + HEAD + b"Content-Length: 1000\r\n\r\n{"
    for _ in range(200):
        opened(target.service.port, head).close()

    health = httpx.get(f"{target.service.base_url}/health", timeout=30)

    assert health.status_code == 200
